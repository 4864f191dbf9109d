"""`python -m workers --lanes cpu,gpu`: the worker as a child process that ends with its parent."""

from __future__ import annotations

import argparse
import sys

from workers.commands import worker
from workers.perform.confine import die_with_parent


def main() -> int:
    """Run the worker with the arguments of the command line."""
    die_with_parent()
    parser = argparse.ArgumentParser(prog="workers", description=worker.__doc__)
    worker.add_arguments(parser)
    return worker.run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
