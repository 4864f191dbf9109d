"""As `tendon serve`, but with the worker of `tests.load.worker`."""

from __future__ import annotations

import os
import subprocess
import sys

from orchestrator.commands.role import announce, monitored, opened, stop_signal


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    stopping = stop_signal()
    with opened() as system:
        scp, rounds = system.scp(), system.rounds("serve")
        dicom_port = scp.start()
        rounds.start()
        worker = subprocess.Popen([sys.executable, "-m", "tests.load.worker", str(os.getpid())])
        try:
            with monitored(system, system.settings.admin_port, {}) as admin_port:
                announce(
                    f"Tendon receives as {system.settings.ae_title} on {system.settings.dicom_host}:{dicom_port}"
                    f" and answers monitors on http://{system.settings.admin_host}:{admin_port}/readyz"
                )
                stopping.wait()
        finally:
            scp.stop()
            worker.terminate()
            worker.wait()
            rounds.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
