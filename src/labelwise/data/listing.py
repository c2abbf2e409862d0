"""The files below a folder, walked once, and what readers keep while one command looks at a data set.

Hidden files and folders are not seen, nor what is no regular file (a FIFO would be waited for without end). Links to
folders are followed, each folder once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from itertools import chain
from pathlib import Path
from posixpath import splitext
from typing import Any, TypeVar, cast

from labelwise.data import image_reader, image_store

_SCOPE: ContextVar[dict[Hashable, Any] | None] = ContextVar("listing", default=None)
_T = TypeVar("_T")


class Listing:
    """`files` are all regular files below `root`, as sorted paths relative to it with forward slashes; `given`: the
    name of the file whose folder that is, if it was asked for a file.
    """

    def __init__(self, root: Path) -> None:
        self.root = root if root.is_dir() else root.parent
        self.given = None if root.is_dir() else root.name
        self.files: tuple[str, ...] = tuple(sorted({*_walk(self.root), *image_store.names_below(self.root)}))

    @cached_property
    def images(self) -> tuple[str, ...]:
        """Those whose name is that of an image, sorted."""
        return self.of(*image_reader.SUFFIXES)

    def of(self, *suffixes: str) -> tuple[str, ...]:
        """Those with one of these suffixes (lower case, with the dot), sorted; the file's own case does not count."""
        found = [self._by_suffix[suffix] for suffix in suffixes if suffix in self._by_suffix]
        return tuple(found[0]) if len(found) == 1 else tuple(sorted(chain.from_iterable(found)))

    @cached_property
    def _by_suffix(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.files:
            found.setdefault(suffix_of(name), []).append(name)
        return found

    @cached_property
    def folders(self) -> frozenset[str]:
        """Every folder that holds a file, here or below; the root is the empty text."""
        found = {""}
        for name in self.files:
            folder = name.rpartition("/")[0]
            while folder and folder not in found:
                found.add(folder)
                folder = folder.rpartition("/")[0]
        return frozenset(found)


def suffix_of(name: str) -> str:
    """Suffix of a file in lower case, with the dot.

    >>> suffix_of("a/b.tar.GZ"), suffix_of("a.b/README")
    ('.gz', '')
    """
    return splitext(name)[1].lower()


def _walk(root: Path) -> Iterator[str]:
    seen = {os.path.realpath(root)}
    stack = [("", str(root))]
    while stack:
        prefix, place = stack.pop()
        try:
            inside = list(os.scandir(place))
        except OSError:  # a folder that may not be read: nothing in it is used, and the images in it are missing
            continue
        for one in inside:
            if one.name.startswith("."):
                continue
            try:
                if one.is_dir():
                    real = os.path.realpath(one.path) if one.is_symlink() else one.path
                    if not one.is_symlink() or real not in seen:
                        seen.add(real)
                        stack.append((f"{prefix}{one.name}/", one.path))
                elif one.is_file():
                    yield prefix + one.name
            except OSError:  # a link in a circle
                continue


@contextmanager
def once() -> Iterator[None]:
    """While it lasts a folder is walked once and an annotation file is parsed once; then all of that is forgotten."""
    if _SCOPE.get() is not None:
        yield
        return
    token = _SCOPE.set({})
    try:
        yield
    finally:
        _SCOPE.reset(token)


def kept(key: Hashable, make: Callable[[], _T]) -> _T:
    """What `make` gives; within `once` it is made once for a key."""
    scope = _SCOPE.get()
    if scope is None:
        return make()
    if key not in scope:
        scope[key] = make()
    return cast(_T, scope[key])


def below(root: Path) -> Listing:
    """The files below a folder, or beside a file."""
    return kept(("listing", root), lambda: Listing(root))
