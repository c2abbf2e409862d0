"""What `fuzz.py` does to bytes, to plain values (TOML, JSON) and to arrays."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np

VALUES: tuple[Any, ...] = (
    *(None, "", "x", -1, 0.5, 1e308, 10**30, float("nan"), float("inf"), True, "nan", "1e400", "-0"),
    *([[]], [None], [1], {"a": 1}, "\ud800", "ä" * 300, "../../etc/passwd", "a\0b", "4294967295", 4294967295, [[[[]]]]),
)
TOKENS = (
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"nan", b"-inf", b"1e999", b"4294967295", b"-1", b"'", b'"', b"\\", b"\r"),
    *(b"&a;", b"<!ENTITY x 'y'>", b"*a", b"&a [*a, *a]", b"]" * 50, b"[" * 5000, b"{" * 5000, b"9" * 5000, b"\n\n"),
)
DTYPES = (
    *("float16", "float32", "int8", "uint8", "int64", "uint64", "bool", "complex64", "str", "object", "S3"),
    *("datetime64[s]", ">f8", "longdouble"),
)
NUMBERS = (float("nan"), float("inf"), -float("inf"), -1, 0, 1e308, 2**31, -(2**62), 1e-320, 0.5)


def bytes_damaged(raw: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Flipped, cut, doubled, re-encoded bytes; what was done."""
    how = rng.choice(("flip", "cut", "copy", "truncate", "insert", "swap", "encoding"))
    at, n = rng.randrange(len(raw) + 1), rng.randrange(1, 40)
    if how == "flip":
        changed = bytearray(raw)
        for _ in range(rng.randrange(1, 8)):
            if changed:
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        return bytes(changed), how
    if how == "cut":
        return raw[:at] + raw[at + n :], how
    if how == "copy":
        return raw[:at] + raw[at : at + n] * rng.randrange(2, 60) + raw[at + n :], how
    if how == "truncate":
        return raw[:at], how
    if how == "swap":
        other = rng.randrange(len(raw) + 1)
        return raw[:at] + raw[other : other + n] + raw[at + n :], how
    if how == "encoding":
        encoding = rng.choice(("utf-16", "utf-32", "utf-8-sig", "utf-16-le"))
        return raw.decode("latin-1").encode(encoding), how
    token = rng.choice(TOKENS)
    return raw[:at] + token + raw[at:], f"insert {token[:12]!r}"


def places(content: Any) -> list[tuple[Any, Any]]:
    """(table or list, key) of every value in it, from the top down."""
    found: list[tuple[Any, Any]] = []
    stack = [content]
    while stack:
        node = stack.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            found.append((node, key))
            stack.append(node[key])
    return found


def value_damaged(content: Any, rng: random.Random) -> tuple[Any, str]:
    """A copy with one value replaced, dropped, doubled, renamed or wrapped; what was done."""
    changed = copy.deepcopy(content)
    found = places(changed)
    if not found or rng.random() < 0.02:
        return rng.choice(VALUES), "another value in all"
    node, key = rng.choice(found)
    how = rng.choice(("replace", "replace", "replace", "drop", "double", "rename", "wrap", "nest", "add"))
    if how == "replace":
        value = rng.choice(VALUES)
        node[key] = value
        return changed, f"{key!r} = {value!r:.40}"
    if how == "drop":
        del node[key]
    elif how == "double" and isinstance(node, list):
        node.insert(key, node[key])
    elif how == "wrap":
        node[key] = rng.choice(([node[key]], {"name": node[key]}, {"a b": node[key]}, [node[key]] * 3))
    elif how == "nest":
        for _ in range(rng.choice((3, 150))):
            node[key] = [node[key]]
    elif how == "add" and isinstance(node, dict):
        node[rng.choice(("x", "", "a.b", "ä", "name", "\ud800", "a\nb", "data"))] = rng.choice(VALUES)
    elif isinstance(node, dict):
        node[f"{key}_"] = node.pop(key)
        how = "rename"
    return changed, f"{how} {key!r}"


def arrays_damaged(content: Any, rng: random.Random) -> tuple[Any, str]:
    """`value_damaged`, where arrays are damaged in their shape, type, numbers, memory and kind."""
    changed = copy.deepcopy(content)
    arrays = [
        (node, key)
        for node, key in places(changed)
        if isinstance(node[key], np.ndarray) or hasattr(node[key], "detach")
    ]
    if isinstance(changed, np.ndarray):
        return array_damaged(changed, rng)
    if not arrays or rng.random() < 0.25:
        return value_damaged(changed, rng)
    node, key = rng.choice(arrays)
    node[key], how = array_damaged(np.asarray(node[key]), rng)
    return changed, f"{key!r}: {how}"


def array_damaged(array: np.ndarray, rng: random.Random) -> tuple[Any, str]:
    """An array of another shape, type, content, memory or kind; what was done."""
    how = rng.choice(("shape", "dtype", "number", "rows", "memory", "kind", "object"))
    if how == "dtype":
        dtype = rng.choice(DTYPES)
        try:
            with np.errstate(all="ignore"):
                return array.astype(dtype), f"as {dtype}"
        except (TypeError, ValueError):
            return array.astype(object), "as object"
    if how == "number" and array.size:
        wide = array.astype(np.float64) if array.dtype.kind in "fiub" else array.astype(object)
        value = rng.choice(NUMBERS)
        wide.flat[rng.randrange(array.size)] = value
        return wide, f"a number is {value}"
    if how == "object" and array.size:
        wide = array.astype(object)
        wide.flat[rng.randrange(array.size)] = value = rng.choice(VALUES)
        return (wide.tolist() if rng.random() < 0.5 else wide), f"a number is {value!r:.30}"
    forms: dict[str, list[Any]] = {
        "shape": [array.T, array[None], array[..., None], array.ravel(), array[:0], array[..., :0], array[..., :1],
                  np.concatenate([array, array], axis=-1), array.reshape(-1)[:1].reshape(()), np.zeros((0, 0))],
        "rows": [array[1:], array[:-1], np.concatenate([array, array[:1]]), array[::-1], np.repeat(array, 2, axis=0)],
        "memory": [np.asfortranarray(array), np.repeat(array, 2, axis=0)[::2], np.broadcast_to(array[:1], array.shape),
                   np.ma.masked_array(array, mask=np.arange(array.size).reshape(array.shape) == 0)],
        "kind": [array.tolist(), tuple(array.tolist()), iter(array.tolist()), {0: array}, set(), str(array), None, 7,
                 [*array.tolist()[:-1], []], [*array.tolist(), None], b"bytes", object(), Ellipsis,
                 np.rec.fromarrays([array.ravel()])],
    }  # fmt: skip
    chosen = forms.get(how, forms["rows"])
    k = rng.randrange(len(chosen))
    return chosen[k], f"{how} {k} (was {array.dtype} {array.shape})"
