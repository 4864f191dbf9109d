"""Objects in an S3 bucket, named by their content: the port `Shelves`.

An object is written to a file nearby, since its name is known only at its end, and is durable once the
bucket has answered. A second upload of the same bytes replaces them by themselves and makes them young,
which a sweeper heeds. Uploads that break off stay invisible; a lifecycle rule of the bucket
(AbortIncompleteMultipartUpload) frees what they hold.

The library's threads do not survive a fork: a process that forks does so before it asks the bucket anything.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import S3Store

from orchestrator.domain.errors import Broken, Fault, Transient
from orchestrator.store.cache import FileCache
from orchestrator.store.spool import ABANDONED_S, DIGEST_LENGTH, Spool, free_bytes, is_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from obstore import ObjectMeta
    from obstore.store import ClientConfig, RetryConfig, S3Config

    from orchestrator.keeping import ObjectWriter
    from orchestrator.store.spool import Written

_PART_BYTES: Final = 5 << 20
_PARTS_AT_ONCE: Final = 4
_CHUNK_BYTES: Final = 1 << 20
_KEYS_AT_ONCE: Final = 1000
_CONNECT_S: Final = 5.0
_LONGEST_TRANSFER_S: Final = 3600.0
_CLOCK: Final = "clock"


class BucketObjects:
    """Objects under `prefix/<first two digits>/<digest>` of `s3://bucket/prefix`.

    `folder` holds uploads under way and a cache of `cache_bytes`. An `endpoint` of http:// is asked in the clear,
    every other by TLS only. Without keys the library finds the machine's own role. A call is given up when the
    bucket was silent for `patience_s`.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        *,
        cache_bytes: int,
        endpoint: str = "",
        region: str = "us-east-1",
        key_id: str = "",
        secret: str = "",
        patience_s: float = 20.0,
    ) -> None:
        place = urlsplit(url)
        config: S3Config = {"region": region}
        if endpoint:
            config["endpoint"] = endpoint
        if key_id:
            config |= {"access_key_id": key_id, "secret_access_key": secret}
        self._bucket = S3Store(
            place.netloc,
            prefix=place.path.strip("/") or None,
            config=config,
            client_options=_client(patience_s, allow_http=endpoint.startswith("http://")),
            retry_config=_retry(patience_s),
        )
        self._folder = folder
        (folder / "incoming").mkdir(parents=True, exist_ok=True)
        self._spool = Spool(folder / "incoming")
        self._spool.sweep(ABANDONED_S)
        self._cache = FileCache(folder / "cache", cache_bytes)

    def begin(self) -> ObjectWriter:
        return self._spool.begin(self._upload)

    def _upload(self, written: Written) -> None:
        try:
            self._bucket.put(_key(written.digest), written.path, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)
        except (BaseError, OSError) as error:
            raise Transient(Fault.OBJECTS_UNREACHABLE, f"the bucket took no object: {_reason(error)}") from error
        self._cache.keep(written.path, written.digest, in_use=False)

    def read(self, digest: str) -> bytes:
        return self._nearby(digest).read_bytes()

    def path(self, digest: str) -> str:
        return str(self._nearby(digest))

    def _nearby(self, digest: str) -> Path:
        if not is_digest(digest):
            raise _not_found(digest)
        return self._cache.find(digest) or self._fetch(digest)

    def _fetch(self, digest: str) -> Path:
        """Bring the object into the cache, checked on its way."""
        fetched: list[Path] = []

        def keep(written: Written) -> None:
            if written.digest != digest:
                raise Broken(Fault.OBJECT_DAMAGED, f"object {digest} has changed in the bucket")
            fetched.append(self._cache.keep(written.path, digest, in_use=True))

        self._copy(digest, self._spool.begin(keep))
        return fetched[0]

    def _copy(self, digest: str, writer: ObjectWriter) -> None:
        try:
            for part in self._parts(digest):
                writer.write(part)
            writer.commit()
        finally:
            writer.discard()

    def _parts(self, digest: str) -> Iterator[bytes]:
        try:
            for part in self._bucket.get(_key(digest)).stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(part)
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise _unreachable(error) from error
            raise _not_found(digest) from error
        except (BaseError, OSError) as error:
            raise _unreachable(error) from error

    def holds(self, digest: str) -> bool:
        return is_digest(digest) and self._stamp(digest) != ""

    def _stamp(self, digest: str) -> str:
        """When the object was last written, by the bucket's clock; empty when it is not there."""
        try:
            return _written_at(self._bucket.head(_key(digest))).isoformat()
        except FileNotFoundError:
            return ""
        except (BaseError, OSError) as error:
            raise _unreachable(error) from error

    def free_bytes(self) -> int:
        return free_bytes(self._folder)

    def old(self, shelf: str, age_s: float) -> dict[str, str]:
        """By the bucket's clock, which a small object written now tells."""
        try:
            pages = self._bucket.list(f"{shelf}/", chunk_size=_KEYS_AT_ONCE)
            listed = ((meta["path"].rpartition("/")[2], _written_at(meta)) for page in pages for meta in page)
            found = [(name, written) for name, written in listed if is_digest(name)]
            if not found:
                return {}
            self._bucket.put(_CLOCK, b"")
            before = _written_at(self._bucket.head(_CLOCK)) - timedelta(seconds=age_s)
        except (BaseError, OSError) as error:
            raise _unreachable(error) from error
        return {digest: written.isoformat() for digest, written in found if written <= before}

    def remove(self, digest: str, stamp: str) -> bool:
        if self._stamp(digest) != stamp:
            return False
        try:
            self._bucket.delete(_key(digest))
        except (BaseError, OSError) as error:
            raise _unreachable(error) from error
        self._cache.drop(digest)
        return True

    def sweep(self, age_s: float = ABANDONED_S) -> int:
        return self._spool.sweep(age_s)


def _client(patience_s: float, *, allow_http: bool) -> ClientConfig:
    return {
        "allow_http": allow_http,
        "connect_timeout": timedelta(seconds=min(_CONNECT_S, patience_s)),
        "read_timeout": timedelta(seconds=patience_s),
        "timeout": timedelta(seconds=_LONGEST_TRANSFER_S),
    }


def _retry(patience_s: float) -> RetryConfig:
    return {"max_retries": 10, "retry_timeout": timedelta(seconds=patience_s)}


def _key(digest: str) -> str:
    return f"{digest[:2]}/{digest}"


def _written_at(meta: ObjectMeta) -> datetime:
    """In whole seconds, as a HEAD tells it; a listing may know more."""
    return meta["last_modified"].replace(microsecond=0)


def _not_found(digest: str) -> Broken:
    return Broken(Fault.NOT_FOUND, f"object {digest[:DIGEST_LENGTH]} is not stored")


def _unreachable(error: Exception) -> Transient:
    return Transient(Fault.OBJECTS_UNREACHABLE, f"the bucket cannot be asked: {_reason(error)}")


def _reason(error: Exception) -> str:
    """The bucket's own code for what is wrong, such as AccessDenied; the rest of its answer stays out."""
    code = re.search(r"<Code>(\w+)</Code>", str(error))
    return code[1] if code else "no answer"
