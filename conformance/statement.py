"""The conformance statement: prose that people write, with tables between marks that the code fills."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from conformance.tables import TABLES

STATEMENT: Final = Path(__file__).with_name("statement.md")

_TABLE: Final = re.compile(r"(?P<mark><!-- table: (?P<name>[a-z-]+) -->\n).*?(?=<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """The statement with every table as the code has it now. Raises KeyError for a table that nothing makes."""
    return _TABLE.sub(lambda found: f"{found['mark']}\n{TABLES[found['name']]()}\n", text)


def rows(text: str, name: str) -> list[list[str]]:
    """The cells of a table in the statement, without its head."""
    (table,) = (found[0] for found in _TABLE.finditer(text) if found["name"] == name)
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
