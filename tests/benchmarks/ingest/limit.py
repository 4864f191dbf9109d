"""What sockets and disk allow: takes C-STORE requests, keeps file and folder durable, and knows nothing of DICOM."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
from pathlib import Path

from tests.dicom_peers import RELEASED, associate_ac, store_rsp

BUFFER_BYTES = 1 << 20
PDU, PDV = struct.Struct(">BxL"), struct.Struct(">LBB")
LONGEST_PDU = 131_072
ASSOCIATE_RQ, P_DATA, RELEASE_RQ = 1, 4, 5


def exactly(connection: socket.socket, count: int) -> bytes:
    data = bytearray(count)
    view, at = memoryview(data), 0
    while at < count:
        received = connection.recv_into(view[at:])
        if not received:
            raise EOFError
        at += received
    return bytes(data)


def serve(connection: socket.socket, folder: Path, names: list[int]) -> None:
    """One association, one PDU at a time, each fragment written as it came."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    handle, at = -1, os.open(folder, os.O_RDONLY)
    name = ""
    try:
        while True:
            kind, length = PDU.unpack(exactly(connection, PDU.size))
            body = memoryview(exactly(connection, length))
            if kind == ASSOCIATE_RQ:
                connection.sendall(associate_ac(maximum_bytes=LONGEST_PDU))
            elif kind != P_DATA:
                connection.sendall(RELEASED)
                return
            elif body[5] & 1:
                names.append(0)
                name = f"{threading.get_ident()}-{len(names)}"
                handle = os.open(f"{name}.tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=at)
            else:
                os.write(handle, body[PDV.size :])
                if body[5] & 2:
                    os.fsync(handle)
                    os.close(handle)
                    os.rename(f"{name}.tmp", name, src_dir_fd=at, dst_dir_fd=at)
                    os.fsync(at)
                    connection.sendall(store_rsp(0))
    except EOFError:
        return
    finally:
        connection.close()
        os.close(at)


def main(folder: Path) -> None:
    folder.mkdir()
    listener = socket.create_server(("127.0.0.1", 0))
    names: list[int] = []

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, folder, names), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
