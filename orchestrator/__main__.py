"""The `tendon` command: loads the one command that was named."""

from __future__ import annotations

import argparse
import ast
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.domain.errors import Fault, TendonError
from orchestrator.settings import InvalidSettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

_FAILED = 1
_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; exit code 0 fine, 1 failed, 2 usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    commands = {point.name: point for point in entry_points(group="tendon.commands")}
    if not given or given[0] not in commands:
        return _overview({name: point.value for name, point in commands.items()}, given)
    module = commands[given[0]].load()
    parser = argparse.ArgumentParser(
        prog=f"tendon {given[0]}",
        description=module.__doc__,
        epilog=f"example:\n  {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    try:
        return int(module.run(parser.parse_args(given[1:])))
    except TendonError as error:
        sys.stderr.write(f"tendon {given[0]}: {error}\n  What to do: {error.fault.value.remedy}\n")
        return _FAILED
    except InvalidSettingError as error:
        sys.stderr.write(f"tendon {given[0]}: {error} [{Fault.SETTING_INVALID.code}]\n")
        return _FAILED
    except KeyboardInterrupt:
        return _FAILED


def _overview(modules: dict[str, str], given: list[str]) -> int:
    lines = ["usage: tendon COMMAND [options]     (tendon COMMAND --help says more)", ""]
    lines += [f"  {name:<12}{_summary(module)}" for name, module in sorted(modules.items())]
    is_asked = given in ([], ["--help"], ["-h"])
    if not is_asked:
        lines.insert(0, f"tendon: there is no command {given[0]!r}")
    (sys.stdout if is_asked else sys.stderr).write("\n".join(lines) + "\n")
    return 0 if given and is_asked else _USAGE


def _summary(module: str) -> str:
    """The first line of a module's docstring, without importing the module."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return text.splitlines()[0] if text else ""


if __name__ == "__main__":
    sys.exit(main())
