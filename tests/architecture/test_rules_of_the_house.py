"""What holds for the whole tree: import rules, style, types, sizes, what pipelines may import, what must not land."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
MOST_LINES_PER_MODULE = 500
MOST_CODE_LINES_PER_FUNCTION = 40
MAY_BE_IMPORTED_BY_PIPELINES = ("orchestrator.domain", "workers.numeric", "numpy", "scipy", "skimage", "torch")


def modules(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


CHECKERS = ["ruff check .", "ruff format --check .", "mypy", "lint-imports"]


@pytest.mark.parametrize("command", CHECKERS)
def test_the_checkers_have_nothing_to_say(command):
    program, *arguments = command.split()
    ran = subprocess.run([BIN / program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "path", modules("orchestrator", "workers", "models", "migrations", "conformance", "tests"), ids=named
)
def test_modules_and_functions_stay_small(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES_PER_MODULE
    long = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = _code_lines(node, text.splitlines())
            if lines > MOST_CODE_LINES_PER_FUNCTION and not path.is_relative_to(ROOT / "migrations"):
                long[node.name] = lines
    assert long == {}


def _code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> int:
    """Lines of a function without its docstring, blank lines and comments."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    if not body:
        return 0
    inside = lines[body[0].lineno - 1 : node.end_lineno]
    return sum(1 for line in inside if line.strip() and not line.strip().startswith("#"))


@pytest.mark.parametrize("path", sorted((ROOT / "models").glob("*/pipeline.py")), ids=named)
def test_pipelines_import_the_domain_and_numbers_only(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    foreign = {
        name
        for name in imported
        if not name.startswith(MAY_BE_IMPORTED_BY_PIPELINES) and name.partition(".")[0] not in sys.stdlib_module_names
    }
    assert foreign == set()


def test_constraints_name_torch_without_label_or_hashes():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in pinned if "torch" in line] == ["torch==2.13.0"]
    assert [line for line in pinned if "+" in line or "--hash" in line or line.startswith(("nvidia", "triton"))] == []


def test_the_control_plane_does_not_load_torch_or_the_engine_room():
    code = (
        "import sys, orchestrator.assembly, orchestrator.commands.serve;"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'numba', 'workers', 'scipy', 'skimage')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
