"""One stage for each way a pipeline can go wrong."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np

from orchestrator.domain import codes
from orchestrator.domain.errors import Fault, Unfit
from orchestrator.domain.result import Results, Segment


def bone(mask):
    return Results(segments=(Segment("Bone", codes.ANATOMICAL_STRUCTURE, codes.BONE, mask),))


def works(inputs, params, report):
    report(0.5, "half way")
    print("what a pipeline prints goes nowhere")
    print("not even here", file=sys.stderr)
    return bone(inputs["ct"].array > 300)


def opens_a_socket(inputs, params, report):
    with socket.create_connection(("127.0.0.1", int(os.environ.get("PORT", "9"))), timeout=2):
        return bone(inputs["ct"].array > 300)


def reads_the_environment(inputs, params, report):
    secrets = [name for name in os.environ if name.startswith(("TENDON", "HOME", "USER", "PATH"))]
    raise Unfit(Fault.OUT_OF_RANGE, f"found {secrets}")


def takes_all_memory(inputs, params, report):
    return bone(np.ones((4096, 1024, 1024), np.uint8) > 0)


def dies(inputs, params, report):
    os.kill(os.getpid(), 11)


def never_ends(inputs, params, report):
    while True:
        time.sleep(0.05)
        report(0.1, "still here")


def raises(inputs, params, report):
    raise ValueError("a text that quotes the images")


def is_unfit(inputs, params, report):
    raise Unfit(Fault.OUT_OF_RANGE, "not made for this")


def has_another_shape(inputs, params, report):
    return bone(np.ones((2, 2, 2), bool))


def finds_what_it_did_not_declare(inputs, params, report):
    mask = inputs["ct"].array > 300
    return Results(segments=(Segment("X", codes.ANATOMICAL_STRUCTURE, codes.LESION, mask),))


def load(weights_path, device):
    return f"a model of {device}"


def computes_on(inputs, params, report):
    raise Unfit(Fault.OUT_OF_RANGE, f"on {params['device']} with {params['model']}")


def blocks_every_signal(inputs, params, report):
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
    while True:
        time.sleep(0.05)


def is_stuck_in_c(inputs, params, report):
    sum(itertools.repeat(0))


def hangs_up(inputs, params, report):
    os.closerange(3, 1000)
    while True:
        time.sleep(0.05)


def stops_its_parent(inputs, params, report):
    os.kill(os.getppid(), signal.SIGSTOP)
    while True:
        time.sleep(0.05)


def leave_a_process():
    """Start a process in a session of its own that blocks what signals can be blocked; it keeps all pipes open."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
        Path(__file__).with_name(".left").write_text(f"{os.getpid()}\n")
        time.sleep(600)
    while not Path(__file__).with_name(".left").exists():
        time.sleep(0.005)


def leaves_a_process_behind(inputs, params, report):
    leave_a_process()
    return bone(inputs["ct"].array > 300)


def waits_for_its_process(inputs, params, report):
    leave_a_process()
    os.wait()
