"""Pickles of plain data, read without running any of their code: dicts, lists, numbers, texts and arrays of bytes.

The house writes no pickle (DESIGN section 5); CIFAR is distributed as such. No name that a pickle asks for is ever
imported: the few that an array of bytes needs are answered with the stand-ins below, anything else is refused.
"""

from __future__ import annotations

import pickle
import pickletools
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from labelwise.types import LabelwiseError


def load(content: bytes, where: Path) -> dict[str, Any]:
    """The dict that a pickle holds; `where` names the file in errors. Texts that Python 2 wrote stay bytes.

    Raises:
        LabelwiseError: broken bytes, or a pickle that asks for anything but plain data.
    """
    try:
        for code, number, _ in pickletools.genops(content):
            if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(number, int) and number > len(content):
                raise pickle.UnpicklingError(f"it asks for room for {number} objects")
        found = _Plain(BytesIO(content), encoding="bytes").load()
    except MemoryError:
        raise
    except Exception as error:  # broken bytes raise nearly anything
        raise LabelwiseError(
            f"{where}: refused ({error or type(error).__name__}). Expected a pickle of plain dicts, "
            "lists and byte arrays; fetch the data set again from its source."
        ) from error
    if not isinstance(found, dict):
        raise LabelwiseError(f"{where}: holds a {type(found).__name__}; expected a dict. Fetch the data set again.")
    return {text(key): value.values if isinstance(value, _Array) else value for key, value in found.items()}


def text(value: object) -> str:
    """A text, whichever Python wrote it."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class _Dtype:
    """Stands for `numpy.dtype` while a pickle is read; the byte order of single bytes is of no interest."""

    __slots__ = ("code",)

    def __init__(self, code: bytes | str, *_: object) -> None:
        self.code = text(code)

    def __setstate__(self, state: object) -> None:
        pass


class _Array:
    """Stands for `numpy.ndarray` while a pickle is read: bytes in rows, nothing else."""

    __slots__ = ("values",)

    def __init__(self, *_: object) -> None:
        self.values = np.zeros(0, np.uint8)

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Dtype, bool, bytes | str]) -> None:
        _, shape, dtype, fortran, data = state
        if dtype.code not in ("u1", "uint8") or fortran:
            raise pickle.UnpicklingError(f"an array of {dtype.code}; expected bytes in rows")
        content = data.encode("latin1") if isinstance(data, str) else bytes(data)
        self.values = np.frombuffer(content, np.uint8).reshape(shape)


class _Plain(pickle.Unpickler):
    """Reads dicts, lists, numbers, texts and arrays of bytes; no name of a pickle is ever imported."""

    def find_class(self, module: str, name: str) -> Any:
        place = module.replace("numpy._core", "numpy.core"), name
        if place in (("numpy", "ndarray"), ("numpy.core.multiarray", "_reconstruct")):
            return _Array
        if place == ("numpy", "dtype"):
            return _Dtype
        if place == ("_codecs", "encode"):  # how Python 3 writes bytes for Python 2
            return lambda text, _encoding: text.encode("latin1")
        if place == ("numpy.core.numeric", "_frombuffer"):  # pickle protocol 5
            return _from_buffer
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _from_buffer(data: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, text(order) == "F", data))
    return array
