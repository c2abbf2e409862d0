"""What is delivered: version, licence, dependencies, and the private names of other packages that are used."""

from __future__ import annotations

import ast
import hashlib
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import labelwise

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "labelwise"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of the licence's text, as its foundation publishes it."""
PRIVATE = {
    ("torchvision.models._utils", "IntermediateLayerGetter"),
    ("torchvision.models.detection._utils", "BalancedPositiveNegativeSampler"),
    ("torchvision.models.detection._utils", "BoxCoder"),
    ("torchvision.models.detection._utils", "BoxLinearCoder"),
    ("torchvision.models.detection._utils", "Matcher"),
}
"""What is imported from others although they keep it to themselves: it may be gone in their next release."""


def private_imports(code: str) -> set[tuple[str, str]]:
    """Module and name of every import of a private module or name of another package."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {(node.module, alias.name) for alias in node.names}
    parts = {(one, (*one[0].split("."), one[1])) for one in found}
    return {
        one
        for one, names in parts
        if names[0] not in ("labelwise", "__future__") and any(re.match(r"_(?!_)", name) for name in names)
    }


def test_every_private_import_is_listed_and_there() -> None:
    code = "import a._b\nfrom c._d import e\nfrom f import _g\nfrom h import __i__\nfrom labelwise._j import k\n"
    assert private_imports(code) == {("a._b", ""), ("c._d", "e"), ("f", "_g")}
    used: set[tuple[str, str]] = set()
    for path in SOURCE.rglob("*.py"):
        used |= private_imports(path.read_text(encoding="utf-8"))
    assert used == PRIVATE
    for module, name in PRIVATE:
        assert hasattr(importlib.import_module(module), name), f"{module}.{name} is gone"


def test_what_is_used_privately_is_bounded_above() -> None:
    owners = {module.split(".")[0] for module, _ in PRIVATE} | {"torch"}  # the two are released together
    wanted = {re.split(r"[<>=\[]", one)[0]: one for one in PROJECT["project"]["dependencies"]}
    assert not [wanted[name] for name in owners if "<" not in wanted[name]]


def test_the_version_stands_in_one_place() -> None:
    assert "version" not in PROJECT["project"] and PROJECT["project"]["dynamic"] == ["version"]
    assert ROOT / PROJECT["tool"]["hatch"]["version"]["path"] == SOURCE / "__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+([a-z.]+\d+)?", labelwise.__version__)
    released = re.findall(r"^## (\S+) - (\d{4}-\d{2}-\d{2})$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert released and released[0][0] == labelwise.__version__, "the newest release of the changelog"
    assert released == sorted(released, key=lambda one: one[1], reverse=True)


def test_the_version_is_known_without_anything_else() -> None:
    code = (
        "import sys, labelwise; print(labelwise.__version__); "
        "print([m for m in sys.modules if m.startswith('labelwise.') or m in ('numpy', 'torch')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{labelwise.__version__}\n[]\n"


def test_the_licence_is_the_whole_text() -> None:
    assert PROJECT["project"]["license"] == "Apache-2.0" and PROJECT["project"]["license-files"] == ["LICENSE"]
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2


def checks() -> list[str]:
    """The commands of `start.py test` but the tests themselves, as one line each."""
    spec = ast.parse((ROOT / "start.py").read_text(encoding="utf-8"))
    [value] = [
        node.value
        for node in spec.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "CHECKS"
    ]
    return [" ".join(words) for words in ast.literal_eval(value) if words[0] != "pytest"]


def test_pre_commit_runs_what_ci_runs() -> None:
    settings = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repo in settings["repos"] for hook in repo["hooks"]]
    assert all(repo["repo"] == "local" for repo in settings["repos"]), "nothing is fetched from elsewhere"
    assert [re.sub(r"^uv run .*?--all-extras ", "", hook["entry"]) for hook in hooks] == checks()


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda p: p.name)
def test_the_files_of_the_forge_are_yaml(path: Path) -> None:
    assert yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_forge_runs_our_ci() -> None:
    settings = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = [step for job in settings["jobs"].values() for step in job["steps"]]
    assert [step["run"] for step in steps if step.get("run", "").strip() == ".ci/run"]
    systems = {one for job in settings["jobs"].values() for one in re.findall(r"ubuntu|macos|windows", str(job))}
    assert systems == {"ubuntu", "macos", "windows"}
    tests = {name for step in steps for name in re.findall(r"tests/\w+\.py", step.get("run", ""))}
    assert tests and all((ROOT / name).is_file() for name in tests)
