"""Fill the tables of the conformance statement from the code: `python -m conformance`."""

from __future__ import annotations

from conformance.statement import STATEMENT, filled

if __name__ == "__main__":
    STATEMENT.write_text(filled(STATEMENT.read_text(encoding="utf-8")), encoding="utf-8")
