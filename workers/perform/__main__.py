"""`python -m workers.perform`: the warm parent of the stages of the cpu lane."""

from __future__ import annotations

import sys

from workers.perform.stage import run_stage
from workers.perform.warm import serve

if __name__ == "__main__":
    sys.exit(serve(run_stage))
