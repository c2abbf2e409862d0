"""What mkdocs generates when it builds: the commands, the methods and their inputs, the differences from the papers.

mkdocs calls `on_page_markdown`; a page asks for a part by a line `<!-- generated: NAME -->`. Nothing generated is
committed, so nothing can be stale; but for the inputs in CONTRIBUTING's table, which `python docs/generate.py` writes.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

SOURCE = Path(__file__).parents[1] / "src"
sys.path.insert(0, str(SOURCE))

WANTED = re.compile(r"^<!-- generated: ([a-z]+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts the generated parts in their places."""
    return WANTED.sub(lambda found: PARTS[found[1]](), markdown)


def escaped(text: str) -> str:
    """Text for a table cell or a paragraph: nothing in it is markup, but code stays code."""
    parts = re.split(r"(`[^`]*`)", text)
    plain = [re.sub(r"([*_<>\[\]])", r"\\\1", part) if k % 2 == 0 else part for k, part in enumerate(parts)]
    return "".join(plain).replace("|", r"\|")


# --------------------------------------------------------------------------------------------------------- commands


def commands() -> Iterator[tuple[str, Any]]:
    """Name and click command of everything that `labelwise` does."""
    from typer.main import get_command

    from labelwise.cli import app

    yield from sorted(get_command(app).commands.items())  # type: ignore[attr-defined]


def options(command: Any) -> list[Any]:
    """A command's own parameters."""
    return [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]


def cli() -> str:
    """The reference of every command: what it does, an example, its arguments and options."""
    return "\n\n".join(f"## labelwise {name}\n\n{_command(command)}" for name, command in commands())


def _command(command: Any) -> str:
    said = re.sub(
        r"Example: `(.*?)`\s*$", r"Example:\n\n    \1", (command.help or "").replace("\f", ""), flags=re.DOTALL
    )
    lines = [said.strip(), ""]
    parameters = options(command)
    if parameters:
        lines += ["| argument or option | value | default | what it is |", "|---|---|---|---|"]
    for one in parameters:
        is_argument = one.param_type_name == "argument"
        name = one.name.upper() if is_argument else ", ".join([*one.opts, *one.secondary_opts])
        value = "" if getattr(one, "is_flag", False) else _type(one)
        default = "required" if one.required else _default(one.default)
        about = escaped(" ".join((getattr(one, "help", None) or "").split()))
        lines.append(f"| `{name}` | {escaped(value)} | {default} | {about} |")
    return "\n".join(lines)


def _type(parameter: Any) -> str:
    """What kind of value it takes. Typer says it by an annotation, Click by a type."""
    if parameter.metavar and "|" in parameter.metavar:  # names that are known by their files
        return str(parameter.metavar).strip("<>").replace("|", ", ")
    described = getattr(parameter, "type_descriptor", None)
    annotation = None if described is None else described.annotation
    if annotation is None:
        choices = getattr(parameter.type, "choices", None)
        name = ", ".join(map(str, choices)) if choices else str(parameter.type.name)
        return name + (" ..." if parameter.multiple or parameter.nargs == -1 else "")
    if get_origin(annotation) is list:
        return _named(get_args(annotation)[0]) + " ..."
    return _named(annotation)


def _named(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(map(str, get_args(annotation)))
    return {int: "integer", float: "number", str: "text", Path: "path"}.get(annotation, str(annotation))


def _default(value: Any) -> str:
    return "" if value is None or value is False or value == () or callable(value) else f"`{value}`"


# ---------------------------------------------------------------------------------------------------------- methods


def methods() -> str:
    """A table of methods per folder: what each is, its inputs, its settings, its source."""
    from labelwise import catalog

    parts = []
    for folder, verb in catalog.VERBS.items():
        rows = ["| name | what it is | inputs | settings | source |", "|---|---|---|---|---|"]
        for name in catalog.names(folder):
            found = catalog.find(folder, name)
            settings = ", ".join(
                f"`{key}`" if p.default is p.empty else f"`{key} = {p.default!r}`" for key, p in found.settings.items()
            ).replace("|", r"\|")
            inputs = ", ".join(f"`{one}`" for one in found.inputs)
            about, source = escaped(catalog.summary(folder, name)), escaped(catalog.origin(folder, name))
            missing = found.constant("CANNOT_CARRY", ())
            about += escaped(f" Not carried: {'; '.join(missing)}.") if missing else ""
            rows.append(f"| `{name}` | {about} | {inputs} | {settings} | {source} |")
        parts.append(f"## {folder}\n\nThe function is `{verb}`.\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


# ----------------------------------------------------------------------------------------------------------- inputs

AXES = {"boxes": "per box ", "candidates": "per candidate ", "images": "per image ", "pool": "per image ", "whole": ""}


def inputs() -> str:
    """The menu of inputs per folder: shape, what there is one of it for, what it is, what it takes."""
    from labelwise.config.inputs import INPUTS

    parts = []
    for folder, menu in INPUTS.items():
        rows = ["| input | one | what it is | what it takes |", "|---|---|---|---|"]
        for one in menu.values():
            takes = [f"`{word}`" for word in dict.fromkeys((one.column, one.column_of_images)) if word]
            takes += [*one.needs, *([f"{one.task} only"] if one.task else [])]
            axis = AXES[one.axis].strip() or "for all"
            rows.append(f"| {one} | {axis} | {escaped(one.meaning)} | {', '.join(takes)} |")
        parts.append(f"### {folder}\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def menu(folder: str) -> str:
    """The inputs of a folder in one line, for CONTRIBUTING's table."""
    from labelwise.config.inputs import INPUTS

    found: dict[str, list[str]] = {}
    for one in INPUTS[folder].values():
        found.setdefault(AXES[one.axis], []).append(str(one))
    return "; ".join(axis + ", ".join(names) for axis, names in found.items())


def contributing(text: str) -> str:
    """The text of CONTRIBUTING with the inputs of every folder as the menu has them."""
    from labelwise.config.inputs import INPUTS

    for folder in INPUTS:
        row = re.compile(rf"^(\|[^|]*\| `{folder}/NAME\.py` \|[^|]*\| )[^|]*( \|)", re.MULTILINE)
        text = row.sub(rf"\g<1>{menu(folder)}\g<2>", text)
    return text


# ------------------------------------------------------------------------------------------------------ differences


def docstrings() -> Iterator[tuple[str, str]]:
    """File (without suffix) and module docstring of everything that names a source."""
    package = SOURCE / "labelwise"
    for path in sorted(package.rglob("*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if re.search(r"\bSource: ", doc):
            yield path.relative_to(package).with_suffix("").as_posix(), doc


def said(doc: str, head: str) -> str:
    """A part of a docstring, from its head to the next one; empty where there is none."""
    found = re.search(
        rf"(?:^|(?<=[.] )){head}: (.*?)(?=^[A-Z][A-Za-z ]+: |^Worked by hand|^>>> |\n\n|\Z)",
        doc,
        re.MULTILINE | re.DOTALL,
    )
    return " ".join(found[1].split()) if found else ""


def differences() -> str:
    """Source and differences of every file that has both; by folder."""
    parts: list[str] = []
    before = ""
    for name, doc in docstrings():
        source, differs = said(doc, "Source"), said(doc, "Differs from the paper")
        if not differs or differs.lower().startswith("nothing"):
            continue
        folder = name.rpartition("/")[0] or name
        if folder != before:
            parts.append(f"### {folder}")
            before = folder
        parts.append(f"**{escaped(name.rpartition('/')[2])}.** {escaped(source)}\n\n> {escaped(differs)}")
    return "\n\n".join(parts)


PARTS: dict[str, Callable[[], str]] = {"cli": cli, "methods": methods, "inputs": inputs, "differences": differences}

if __name__ == "__main__":
    path = SOURCE.parent / "CONTRIBUTING.md"
    path.write_text(contributing(path.read_text(encoding="utf-8")), encoding="utf-8")
