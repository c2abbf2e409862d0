"""The pages: every command in them exists with its options, the Python runs, nothing generated is missing."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from labelwise import catalog
from labelwise.config.inputs import INPUTS
from labelwise.signature import source

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "docs" / "how-to").glob("*.md"))
COMMAND = re.compile(r"(?:^ {4}|`)((?:[A-Z_]+=\S+ )*labelwise [a-z][^`\n]*)", re.MULTILINE)
PYTHON = re.compile(r"^```(python|py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Python with this checkout's labelwise."""
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


@cache
def generator() -> Any:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def commands() -> dict[str, Any]:
    return dict(generator().commands())


def lines(path: Path) -> list[str]:
    return COMMAND.findall(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [*PAGES, ROOT / "README.md"], ids=lambda p: p.name)
def test_every_command_and_option_exists(path: Path) -> None:
    for line in lines(path):
        words = [word for word in shlex.split(line, comments=True) if not re.match(r"[A-Z_]+=", word)]
        name, rest = words[1], words[2:]
        assert name in commands(), f"{line}: no command {name!r}"
        known = {"--help"}
        for one in generator().options(commands()[name]):
            known |= {*one.opts, *one.secondary_opts}
        used = {word.split("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
        assert used <= known, f"{line}: {name} has no {sorted(used - known)}; it has {sorted(known)}"


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_every_setting_and_recipe_in_a_command_exists(path: Path) -> None:
    """`--set key=value` is read and checked as the program does it, over the recipe that the line names."""
    from labelwise import config

    for line in lines(path):
        words = shlex.split(line, comments=True)
        settings = [words[k + 1] for k, word in enumerate(words) if word in ("--set", "-s")]
        recipe = "starter"
        if words[1] == "run" and len(words) > 2 and not words[2].startswith("-"):
            recipe = words[2]
        if "--recipe" in words:
            recipe = words[words.index("--recipe") + 1]
        if settings or recipe != "starter":
            config.load(catalog.recipe_files(recipe), settings)


def test_the_pages_hold_commands() -> None:
    assert sum(len(lines(path)) for path in PAGES) >= 30


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_python_in_a_page_compiles_and_imports_what_exists(path: Path) -> None:
    for _, code in PYTHON.findall(path.read_text(encoding="utf-8")):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("labelwise"):
                for alias in node.names:
                    found = importlib.util.find_spec(f"{node.module}.{alias.name}")
                    assert found is not None, f"{path.name}: {node.module}.{alias.name}"


def test_the_page_of_the_own_detector_runs(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for k in range(8):
        Image.new("RGB", (64, 48), (30 * k, 0, 0)).save(tmp_path / "images" / f"{k}.png")
    text = (ROOT / "docs" / "how-to" / "own-detector.md").read_text(encoding="utf-8")
    blocks = [code for kind, code in PYTHON.findall(text) if kind == "python"]
    assert len(blocks) >= 6
    (tmp_path / "page.py").write_text("\n".join(blocks), encoding="utf-8")
    done = run(["page.py"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("8 images\n")
    assert done.stdout.endswith("next is round 2\n")


def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for k in range(4):
        Image.new("RGB", (64, 48), (30 * k, 0, 0)).save(tmp_path / "images" / f"{k}.png")
    code = "\n".join(code for _, code in PYTHON.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    done = run(["-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[1 2]\n"


def test_the_command_reference_has_every_command_and_option() -> None:
    text = generator().cli()
    for name, command in commands().items():
        part = text.partition(f"## labelwise {name}\n")[2].partition("\n## ")[0]
        for one in generator().options(command):
            shown = one.name.upper() if one.param_type_name == "argument" else one.opts[0]
            assert f"`{shown}" in part, f"{name}: {shown}"
    assert len(commands()) >= 20


def test_the_table_of_methods_has_every_method_with_its_settings() -> None:
    text = generator().methods()
    for folder in catalog.VERBS:
        part = text.partition(f"## {folder}\n")[2].partition("\n## ")[0]
        for name in catalog.names(folder):
            row = next(line for line in part.splitlines() if line.startswith(f"| `{name}` |"))
            assert all(f"`{key}" in row for key in catalog.find(folder, name).settings), name
            assert len(re.findall(r"(?<!\\)\|", row)) == 6, row


def test_the_table_of_inputs_has_every_input() -> None:
    text = generator().inputs()
    for folder, menu in INPUTS.items():
        part = text.partition(f"### {folder}\n")[2].partition("\n### ")[0]
        rows = re.findall(r"^\| `(\w+)`", part, re.MULTILINE)
        assert rows == list(menu), folder
        assert all(len(re.findall(r"(?<!\\)\|", line)) == 5 for line in part.strip().splitlines())


def to_add() -> dict[str, list[str]]:
    """The rows of CONTRIBUTING's table by their file: what it is, file, function, inputs, settings."""
    lines = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("| to add a ... |")[2].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[: lines.index("")]]
    return {row[1].strip("`"): row for row in rows}


@pytest.mark.parametrize("folder", sorted(catalog.VERBS))
def test_the_table_of_contributing_tells_what_a_method_is(folder: str) -> None:
    """Its file, its functions and constants, the inputs on the menu, whether it has settings."""
    assert f"{folder}/NAME.py" in to_add(), f"CONTRIBUTING.md: no row says how to add to {folder}/"
    _, _, function, named, settings = to_add()[f"{folder}/NAME.py"]
    assert function.startswith(f"`{catalog.VERBS[folder]}(")
    methods = [catalog.find(folder, name) for name in catalog.names(folder)]
    if folder in INPUTS:
        assert named == generator().menu(folder), "CONTRIBUTING.md is stale: python docs/generate.py writes its inputs"
    else:
        used = {name for method in methods for name in method.inputs}
        assert used == set(re.findall(r"`(\w+)`", named)), folder
    assert (settings == "keyword-only") == any(method.settings for method in methods)
    for optional, name in re.findall(r"(optional (?:constant )?|)`([A-Z][A-Z_]+(?=`)|[a-z_]+(?=\())", function):
        lacking = [one.name for one in methods if not declares(catalog.PACKAGE / folder / f"{one.name}.py", name)]
        assert not lacking or (optional and len(lacking) < len(methods)), f"{folder}: {name} is not in {lacking}"


def declares(path: Path, name: str) -> bool:
    """Whether a file has a constant, an import or a function of this name."""
    functions = [node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if hasattr(node, "name")]
    return name in source(path) or name in functions


def test_the_table_of_contributing_names_files_that_exist() -> None:
    for file, (what, *_) in to_add().items():
        root = ROOT if file.endswith(".toml") else catalog.PACKAGE
        assert list(root.glob(file.replace("NAME", "*"))), f"CONTRIBUTING.md: to add a {what}: {file}"


def test_the_differences_of_the_papers_are_collected() -> None:
    text = generator().differences()
    for name in ("consistency", "balance_program", "cut", "rare_confidence", "noisy"):
        assert f"**{generator().escaped(name)}.**" in text
    assert "**dispersion.**" not in text, "it differs in nothing"
    doc = "One.\n\nSource: 000, Eq. 2,\nsection 3.\nDiffers from the paper: not\nat all.\nFails when: never.\n"
    assert generator().said(doc, "Source") == "000, Eq. 2, section 3."
    assert generator().said(doc, "Differs from the paper") == "not at all."


def test_every_page_stands_in_the_navigation() -> None:
    """Without mkdocs; a site with a page that nothing leads to is not built (`--strict`)."""
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r"^ +- [^:]+: (\S+\.md)$", nav, re.MULTILINE)
    assert sorted(listed) == sorted(path.relative_to(ROOT / "docs").as_posix() for path in PAGES)


def test_ci_has_what_builds_the_site() -> None:
    start = ast.parse((ROOT / "start.py").read_text(encoding="utf-8"))
    words = [
        [one.value for one in node.elts if isinstance(one, ast.Constant)]
        for node in ast.walk(start)
        if isinstance(node, ast.List)
    ]
    assert any({"--group", "docs"} <= set(one) for one in words), "else the next test is skipped in CI"


@pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("material") is None,
    reason="mkdocs-material is not installed (it is in the dependency group `docs`: uv run --group docs ...)",
)
def test_the_site_builds_with_strict_links(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) >= 9
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "<!-- generated" not in text, page
        fetched = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"?(https?:[^\s\">]+)", text)
        fetched += [url for link in re.findall(r"<link[^>]*>", text) if "canonical" not in link
                    for url in re.findall(r"href=\"?(https?:[^\s\">]+)", link)]  # fmt: skip
        assert not fetched, f"{page}: not usable offline: {fetched}"


def test_every_file_that_a_decision_names_exists() -> None:
    places = (ROOT, catalog.PACKAGE, catalog.PACKAGE / "web" / "static")
    for path in [*sorted((ROOT / "docs" / "decisions").glob("*.md")), ROOT / "CONTRIBUTING.md"]:
        for name in re.findall(r"`([\w/]+\.(?:py|js))`", path.read_text(encoding="utf-8")):
            found = "NAME" in name or any((place / name).exists() for place in places)
            assert found or "/" not in name, f"{path.name}: {name}"
