"""The rules of the house, kept by a test and not by a promise (DESIGN section 2)."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "labelwise"
FILES = sorted(SOURCE.rglob("*.py"))
STAGES = {
    "data",
    "models",
    "predict",
    "tracks",
    "score",
    "select",
    "ask",
    "labels",
    "train",
    "evaluate",
    "report",
    "store",
}
BELOW = {"types", "catalog", "config"}
"""What a stage folder may import beside itself."""
TORCH_FREE = {"score", "select", "labels", "report", "store"}


def imports(path: Path) -> set[str]:
    """Every imported module, dotted."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_stage_imports_only_types_catalog_config_and_itself(path: Path) -> None:
    own = room(path)
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("labelwise.")}
    if own in STAGES:
        assert rooms <= BELOW | {own}, f"{own} imports {sorted(rooms - BELOW - {own})}"
    elif own == "config":
        assert rooms <= {"errors", "types", "catalog", "choice", "ask", "sections"}
    elif own in ("choice", "sections"):
        assert rooms <= {"errors", "types", "catalog", "choice"}
    elif own in ("signature", "catalog"):
        assert rooms <= {"errors", "signature"}
    elif own == "types":
        assert rooms <= {"types", "columns", "boxes", "clips"}
    elif own in ("columns", "boxes", "clips"):
        assert rooms <= {"errors", "columns"}
    elif own == "errors":
        assert not rooms
    else:
        assert own in {
            "__init__",
            "__main__",
            "api",
            "adapters",
            "context",
            "opening",
            "starter",
            "run_file",
            "menu",
            "stages",
            "loop",
            "changes",
            "repair",
            "history",
            "compare",
            "cli",
            "web",
            "advise",
        }, f"new room {own!r}"


@pytest.mark.parametrize("path", [p for p in FILES if room(p) in TORCH_FREE], ids=lambda p: str(p.relative_to(SOURCE)))
def test_rooms_without_a_model_do_not_import_torch(path: Path) -> None:
    assert not {name for name in imports(path) if name.split(".")[0] in ("torch", "torchvision")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 350
    assert path.stem not in ("core", "utils", "helpers", "base")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            doc = ast.get_docstring(node, clean=False)
            lines = (node.end_lineno or 0) - node.lineno + 1 - (doc.count("\n") + 1 if doc else 0)
            assert lines <= 62, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", [p for p in FILES if room(p) in ("select", "score")], ids=lambda p: p.stem)
def test_no_decision_hangs_on_a_bare_matrix_product(path: Path) -> None:
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    found = [node.lineno for node in tree if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)]
    allowed = path.stem in ("_product", "enms")  # enms compares cosines with a margin
    assert allowed or not found, "its last bits hang on the processor: see select/_product.py"


def test_the_loop_fits_one_page() -> None:
    assert len((SOURCE / "loop.py").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_nothing_touches_global_numpy_randomness(path: Path) -> None:
    used = set(re.findall(r"np\.random\.(\w+)", path.read_text(encoding="utf-8")))
    assert used <= {"default_rng", "Generator", "SeedSequence", "PCG64"}


def test_no_machine_paths_and_no_registry_hosts_in_the_repository() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    hosts = ("py" + "pi.org", "python" + "hosted.org", "npm" + "js.org")
    private = ("/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/")
    for name in listed:
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".csv", ".yml", "") and path.name != "uv.lock" and path.is_file():
            text = path.read_text(encoding="utf-8")
            assert not [h for h in (*hosts, *private) if h in text], name


def test_the_readme_names_the_commands_that_exist() -> None:
    from typer.main import get_command

    from labelwise.cli import app

    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    used = set(re.findall(r"(?:^    |`)labelwise ([a-z]+)", text, flags=re.M)) | set(
        re.findall(r"start\.py ([a-z]+)", text)
    )
    assert used
    assert used <= known | {"test"}
    assert "python3 start.py test" in text
    assert "python3 start.py test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
