"""`python -m workers --lanes cpu,gpu`: the worker as a child process that ends with its parent."""

from __future__ import annotations

import argparse
import os
import sys

from workers.commands import worker
from workers.perform.confine import die_with_parent


def main() -> int:
    """Run the worker with the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="workers", description=worker.__doc__)
    parser.add_argument("--parent", type=int, default=os.getppid(), help="process to end with (default: the parent)")
    worker.add_arguments(parser)
    arguments = parser.parse_args()
    die_with_parent(arguments.parent)
    return worker.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
