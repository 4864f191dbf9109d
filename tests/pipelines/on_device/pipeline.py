"""One stage for each thing that can happen in a long-lived process that computes on a device.

Hidden files beside this one are how a test and a stage meet: stages leave notes, and wait until a test lets them go on.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from orchestrator.domain import codes
from orchestrator.domain.errors import Fault, Unfit
from orchestrator.domain.result import Results, Segment

HERE = Path(__file__).parent
MB = 1 << 20


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


class AcceleratorError(RuntimeError):
    """The same."""


def note(what):
    with (HERE / ".notes").open("a") as notes:
        notes.write(f"{what}\n")


def wait_for(name):
    while not (HERE / f".{name}").exists():
        time.sleep(0.005)


def bone(inputs):
    mask = inputs["ct"].array > 300
    return Results(segments=(Segment("Bone", codes.ANATOMICAL_STRUCTURE, codes.BONE, mask),))


def load(weights_path, device):
    note(f"loaded {Path(weights_path).name or 'nothing'} on {device}")
    return np.ones(8 * MB, np.uint8)


def works(inputs, params, report):
    print("what a pipeline prints goes nowhere")
    report(0.5, "half way")
    note(f"computed on {params['device']}")
    return bone(inputs)


def uses_its_model(inputs, params, report):
    assert params["model"].sum() == 8 * MB
    assert params["model"] is params["model"]
    note(f"used its model in {os.getpid()}")
    return bone(inputs)


def waits(inputs, params, report):
    note("begun")
    wait_for("go")
    note("over")
    return bone(inputs)


def never_ends(inputs, params, report):
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
    note(f"begun in {os.getpid()}")
    while True:
        report(0.25, "still here")
        time.sleep(0.05)


def leaves_a_process_behind(inputs, params, report):
    code = "import time; time.sleep(600)"
    left = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    note(f"left {left.pid}")
    os.kill(os.getpid(), signal.SIGKILL)


def opens_a_socket(inputs, params, report):
    with socket.create_connection(("127.0.0.1", 9), timeout=2):
        return bone(inputs)


def reads_device_files(inputs, params, report):
    with Path("/dev/zero").open("r+b", buffering=0) as device:
        assert device.read(4) == bytes(4)
        assert device.write(bytes(4)) == 4
    secrets = [name for name in os.environ if name.startswith(("TENDON", "HOME", "USER", "PATH"))]
    assert secrets == []
    return bone(inputs)


def takes_all_memory(inputs, params, report):
    taken = []
    while True:
        taken.append(np.ones(20 * MB, np.uint8))
        time.sleep(0.01)


def lacks_device_memory_once(inputs, params, report):
    note(f"tried with a model of {params['model'].size} bytes on voxels up to {inputs['ct'].array.max():.0f}")
    tries = (HERE / ".notes").read_text().count("tried with")
    inputs["ct"].array[:] = 0
    if tries == 1:
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    return Results()


def lacks_device_memory(inputs, params, report):
    note("tried")
    raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def loses_the_device(inputs, params, report):
    note(f"lost in {os.getpid()}")
    raise AcceleratorError("CUDA error: an illegal memory access was encountered")


def dies(inputs, params, report):
    note("died")
    os.kill(os.getpid(), signal.SIGSEGV)


def leaves_without_a_word(inputs, params, report):
    os._exit(0)


def raises(inputs, params, report):
    raise ValueError("a text that quotes the images")


def is_unfit(inputs, params, report):
    raise Unfit(Fault.OUT_OF_RANGE, "not made for this")


def finds_what_it_did_not_declare(inputs, params, report):
    mask = inputs["ct"].array > 300
    return Results(segments=(Segment("X", codes.ANATOMICAL_STRUCTURE, codes.LESION, mask),))


def builds_on_a_result(inputs, params, report):
    (segment,) = inputs["bone"].segments
    note(f"found {segment.label}")
    return Results(segments=(segment,))
