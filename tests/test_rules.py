"""The rules of the house, kept by a test and not by a promise (DESIGN section 2)."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "labelwise"
FILES = sorted(SOURCE.rglob("*.py"))
GROUND = {"errors", "types", "catalog", "config", "weights"}
"""What every room may import beside itself."""
MAY_IMPORT = {
    "errors": set(),
    "types": {"errors"},
    "signature": {"errors"},
    "catalog": {"errors", "signature"},
    "weights": {"errors", "types"},
    "config": {"errors", "types", "catalog", "signature", "ask", "units"},
    **dict.fromkeys(
        ("data", "models", "predict", "tracks", "score", "select", "labels", "train", "evaluate", "review"),
        GROUND,
    ),
    "bodies": GROUND,
    "ask": GROUND - {"config"} | {"units"},
    "report": GROUND,
    "generated": GROUND,
    "exchange": GROUND | {"data", "units"},
    "files": GROUND,
    "log": GROUND,
    "targets": GROUND | {"labels", "units"},
    "units": {"errors", "types", "catalog"},
    "ledger": GROUND | {"files", "units"},
    "queue": GROUND | {"ledger"},
    "merge": GROUND | {"ledger", "units"},
}
"""Which rooms a room may import: a stage's room the ground alone; those not named here stand above them."""
FREE = {"__init__", "__main__", "api", "adapters", "project", "stages", "loop", "study", "cli", "web"}
TORCH_FREE = {
    "weights",
    "score",
    "select",
    "labels",
    "targets",
    "units",
    "report",
    "ledger",
    "queue",
    "files",
    "log",
    "exchange",
    "merge",
    "review",
}
SAME_NAME = {"__init__.py", "coco.py"}  # COCO is one format: a data set's and a tool's files
"""Names that more than one file may have."""


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
def test_imports_point_one_way(path: Path) -> None:
    own = room(path)
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("labelwise.")}
    assert own in MAY_IMPORT or own in FREE, f"new room {own!r}"
    if own in MAY_IMPORT:
        assert rooms <= MAY_IMPORT[own] | {own}, f"{own} imports {sorted(rooms - MAY_IMPORT[own] - {own})}"


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


def test_no_two_files_have_one_name() -> None:
    names = Counter(path.name for path in FILES)
    assert sorted(name for name, count in names.items() if count > 1 and name not in SAME_NAME) == []


def own_names(tree: ast.Module) -> set[str]:
    """Names of functions, classes, fields and `self.` attributes of a file."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            found.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_nobody_touches_an_underscore_name_of_another_file(path: Path) -> None:
    """`ledger.read()` and `ledger.write()` are for everyone; what begins with `_` is for its own file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    private = {name for name in names if name.startswith("_") and not name.startswith("__")}
    public = {"_replace", "_asdict", "_post_nms_top_n", "_exit"}  # of named tuples; of torchvision; of os
    assert private - own_names(tree) - public == set()


def test_a_file_is_put_in_its_place_in_one_room() -> None:
    """Atomic writing is `types.disk`; the others rename what needs no force, or do not replace a file."""
    forces = [str(path.relative_to(SOURCE)) for path in FILES if "fsync(" in path.read_text(encoding="utf-8")]
    assert forces == ["types/disk.py"]


@pytest.mark.parametrize("path", [p for p in FILES if room(p) in ("select", "score")], ids=lambda p: p.stem)
def test_no_decision_hangs_on_a_bare_matrix_product(path: Path) -> None:
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    found = [node.lineno for node in tree if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)]
    allowed = path.stem in ("_product", "enms")  # enms compares cosines with a margin
    assert allowed or not found, "its last bits hang on the processor: see select/_product.py"


UNITS = {path.stem for path in (SOURCE / "units").glob("[a-z]*.py")}


def _is_unit(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value in UNITS


def _texts(node: ast.AST) -> list[str]:
    return [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def _compares(op: ast.cmpop, left: ast.expr, right: ast.expr) -> bool:
    """A unit's name on either side of == (alone or in a tuple), unless the other one is the tag of an XML element; or
    right of `in`. There "image", a column's name too, counts only among nothing but units, or in pairs.
    """
    literal = (ast.Constant, ast.Tuple, ast.List, ast.Set)
    if isinstance(op, (ast.Eq, ast.NotEq, ast.Is, ast.IsNot)):
        is_tag = any(isinstance(side, ast.Attribute) and side.attr == "tag" for side in (left, right))
        return not is_tag and any(isinstance(side, literal) and UNITS & set(_texts(side)) for side in (left, right))
    if not isinstance(op, (ast.In, ast.NotIn)) or isinstance(right, (ast.Name, ast.Attribute)):
        return False
    named = set(_texts(right))
    nested = isinstance(right, literal) and any(not isinstance(n, ast.Constant) for n in getattr(right, "elts", []))
    return bool(named & UNITS - {"image"}) or (bool(named & UNITS) and (nested or named <= UNITS))


def asks_for_a_unit_by_name(tree: ast.AST) -> list[int]:
    """Lines that look at a unit's name where they should ask the unit: a comparison, a case, a name for it, a list or
    pairs of units, a table by unit. Defaults, arguments and columns of that name are none.
    """
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left, ops, rest):
                bad = any(map(_compares, ops, [left, *rest], rest))
            case ast.Tuple(items) | ast.List(items) | ast.Set(items) if len(items) > 1:
                pairs = all(isinstance(one, ast.Tuple) and one.elts and _is_unit(one.elts[0]) for one in items)
                bad = pairs or all(map(_is_unit, items))
            case ast.Subscript(ast.Dict(keys)) | ast.Call(ast.Attribute(ast.Dict(keys), "get")):
                bad = any(map(_is_unit, filter(None, keys)))
            case ast.Dict(keys) if sum(map(_is_unit, filter(None, keys))) > 1:
                bad = {getattr(key, "value", None) for key in keys} <= UNITS | {"class"}  # as the page calls an image's
            case ast.Call(ast.Attribute(_, "startswith" | "endswith" | "removeprefix"), items):
                bad = any(map(_is_unit, items))
            case ast.Subscript(ast.Name("Literal"), index):
                bad = bool(UNITS & set(_texts(index)))
            case ast.MatchValue(value) | ast.Assign(_, value):
                bad = _is_unit(value)
            case _:
                bad = False
        found += [getattr(node, "lineno", 0)] * bad
    return sorted(set(found))


@pytest.mark.parametrize("path", [p for p in FILES if room(p) != "units"], ids=lambda p: str(p.relative_to(SOURCE)))
def test_nobody_asks_for_a_unit_by_its_name(path: Path) -> None:
    found = asks_for_a_unit_by_name(ast.parse(path.read_text(encoding="utf-8")))
    assert not found, f"lines {found}: ask `units.find(name)`, and add to units/_contract.py what it should say"


@pytest.mark.parametrize(
    "text",
    [
        'if query.unit == "box": ...',
        'if "region" != kind: ...',
        'if unit in ("image",): ...',
        'if unit in ("image", "region"): ...',
        'if unit in {"box", "frame"}: ...',
        'if (unit, budget) in (("image", "images"), ("image", "queries")): ...',
        'if (unit, budget) == ("image", "images"): ...',
        'SURE = {("image", "images"), ("box", "boxes")}',
        'if units == ["image"]: ...',
        'what = {"box": 1}[unit]',
        'what = {"region": 1}.get(unit, 2)',
        'WORDS = {"class": 1, "box": 2, "image": 3}',
        'OF_AREA = ["image", "region"]',
        'match unit:\n    case "box" | "region": ...',
        'BOX = "box"',
        'Unit = Literal["box", "image"]',
        'rows.where(q.unit == "region")',
        'unit.startswith("reg")\nunit.startswith("region")',
    ],
)
def test_whoever_does_is_found(text: str) -> None:
    assert asks_for_a_unit_by_name(ast.parse(text))


@pytest.mark.parametrize(
    "text",
    [
        'if "image" in predictions: ...',
        'table = {"image": image, "box": box, "label": 1}',
        'if name in ("image", "boxes", "rng"): ...',
        'for name in ("image", *CORNERS): ...',
        'if element.tag == "box": ...',
        'def ask(unit: str = "box"): ...',
        'Query(0, 0, "a.jpg", unit="image")',
        'class Rule:\n    unit: str = "box"',
        'scored["image"][rows]',
        'names = ("image", "label", "round")',
        'row = {"box": box, "class": name}',
        "if query.unit == units.FIRST: ...",
    ],
)
def test_a_column_or_a_default_of_that_name_is_none(text: str) -> None:
    assert not asks_for_a_unit_by_name(ast.parse(text))


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
