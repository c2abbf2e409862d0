"""Which folders of a data set are its splits, by their names.

>>> [of_path(p) for p in ("train/a.jpg", "images/Val2017/a.jpg", "cats/train.jpg", "my_train/a.jpg")]
['train', 'Val2017', '', '']
"""

from __future__ import annotations

import re

NAMES = ("train", "training", "trainval", "val", "valid", "validation", "dev", "test", "testing", "eval")
_USUAL = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
_SPLIT = re.compile(rf"({'|'.join(NAMES)})[-_]?(\d{{4}})?", re.IGNORECASE)


def is_split(folder: str) -> bool:
    """Whether a folder has the name of a split; case and a year behind it do not count."""
    return _SPLIT.fullmatch(folder) is not None


def of_path(name: str) -> str:
    """The first folder of a path that is named like a split; empty where there is none."""
    return next((folder for folder in name.split("/")[:-1] if is_split(folder)), "")


def same(a: str, b: str) -> bool:
    """Whether two names mean one split: case does not count, nor a year that only one of them has.

    >>> same("train", "Train2017"), same("val", "valid"), same("train2014", "train2017")
    (True, True, False)
    """
    one, other = _SPLIT.fullmatch(a), _SPLIT.fullmatch(b)
    if one is None or other is None:
        return a == b
    years = one[2], other[2]
    return _USUAL.get(one[1].lower(), one[1].lower()) == _USUAL.get(other[1].lower(), other[1].lower()) and (
        None in years or years[0] == years[1]
    )


def in_order(found: set[str]) -> list[str]:
    """Splits in the usual order: train before val before test."""
    plain = {name: re.sub(r"[-_]?\d*$", "", name.lower()) for name in found}
    return sorted(found, key=lambda name: (NAMES.index(plain[name]) if plain[name] in NAMES else -1, name))
