"""What lies in an object store, by the names of its files: those that a listing of fsspec gives, that pages of a web
server link to, or that a `files.txt` there lists.

Names are plain: of what a page links to, `%20` is a space.

Fails when: a web server's page of a folder links to more than the files in it, or to folders without
a slash at the end; these are taken for files, too.
"""

from __future__ import annotations

from pathlib import PureWindowsPath
from typing import Any
from urllib.parse import unquote

from labelwise.errors import LabelwiseError

LIST = "files.txt"
"""The file, at the root of a web server that shows no folders, that lists the others."""
DEPTH = 32
"""So deep lie folders of a web server at most; more of them are a link that leads back."""


def of_text(text: str, where: str) -> list[str] | None:
    """The names that a `files.txt` lists, without itself; None: it is a page, which some servers give for whatever is
    not there.

    Raises:
        LabelwiseError: a name may lie outside the data set.
    """
    if text.lstrip().startswith("<"):
        return None
    names = [line.removeprefix("./") for line in text.splitlines() if line]
    for name in names:
        if outside(name):
            raise LabelwiseError(
                f"{where}: {name!r} may lie outside the data set. List every file by its path relative to it, with "
                "forward slashes: no absolute path, no drive, no backslash"
            )
    return [name for name in names if name != LIST]


def of_store(fs: Any, base: str) -> dict[str, dict[str, Any]]:
    """What fsspec says of the files below a path, by their names relative to it; of a file itself, by its own name."""
    found = fs.find(base, detail=True)
    return {path.removeprefix(base).lstrip("/") or base.rpartition("/")[2]: about for path, about in found.items()}


def of_pages(fs: Any, base: str) -> dict[str, dict[str, Any]]:
    """`of_store` of a web server that shows folders: what their pages link to below `base`, each once. fsspec's own
    walk takes a folder whose page does not come for an empty one.

    Raises:
        OSError: a page does not come (aiohttp has errors of its own, too).
    """
    found: dict[str, dict[str, Any]] = {}
    root = str(fs.encode_url(base))  # as links name it
    seen, todo, here = {""}, [""], root.partition("://")[2]
    while todo:
        folder = todo.pop()
        try:
            links = fs.ls(f"{root}/{folder}".rstrip("/"), detail=True)
        except FileNotFoundError:
            if not folder:
                raise
            continue  # a link to nothing
        for about in links:
            link = about["name"].partition("://")[2].replace("&amp;", "&").replace("/./", "/")
            path = link.removeprefix(f"{here}/").rstrip("/")
            if path == link or "?" in path or "#" in path or hidden(unquote(path)):
                continue  # elsewhere: a folder above, the same page in another order, a place in it
            if about["type"] != "directory":
                found[unquote(path)] = about
            elif path not in seen:
                if path.count("/") > DEPTH:
                    raise LabelwiseError(
                        f"{base}/{path}: a folder there links to one above it. Remove that link, or list the files in "
                        f"{LIST}"
                    )
                seen.add(path)
                todo.append(path)
    found.pop(LIST, None)
    if found or not fs.isfile(base):
        return found
    return {base.rpartition("/")[2]: {}}


def hidden(name: str) -> bool:
    """Whether it is a hidden file, lies in a hidden folder, or above."""
    return any(part.startswith(".") for part in name.split("/"))


def outside(name: str) -> bool:
    """Whether, below a folder, it may name a place outside, here or on Windows (`..` is hidden anyway)."""
    return "\\" in name or "\0" in name or bool(PureWindowsPath(name).anchor)
