"""The names of a pool: unique, and each finds its number, as in a dictionary."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelwise.types import LabelwiseError, Pool
from labelwise.types import pool as pools


def pool(names: list[str]) -> Pool:
    side = np.ones(len(names), np.int64)
    return Pool(Path("data"), ("cat",), tuple(names), side, side)


@given(st.lists(st.text(st.characters(), max_size=3)), st.lists(st.text(max_size=3)), st.sampled_from([1, 3, 2**61]))
def test_a_name_finds_its_number_as_in_a_dictionary(names: list[str], others: list[str], buckets: int) -> None:
    """Whatever the hashes: all the same, of three kinds, different."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pools, "hash", lambda name: hash(name) % buckets, raising=False)
        if len(set(names)) < len(names):
            with pytest.raises(LabelwiseError, match="image names are not unique"):
                pool(names)
        one = pool(list(dict.fromkeys(names)))
        expected = {name: k for k, name in enumerate(one.names)}
        assert dict(one.number_of) == expected and list(one.number_of) == list(expected)
        for name in [*names, *others]:
            assert one.number_of.get(name) == expected.get(name) and (name in one.number_of) == (name in expected)
        assert one.number_of.keys() ^ set(others) == expected.keys() ^ set(others)
        assert None not in one.number_of  # type: ignore[comparison-overlap]


def test_another_process_finds_names_by_its_own_hashes() -> None:
    """Python salts them for each."""
    one = pool(["a.png", "b.png"])
    assert one.number_of["b.png"] == 1
    program = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()).number_of['b.png'])"
    found = subprocess.run([sys.executable, "-c", program], input=pickle.dumps(one), capture_output=True, check=True)
    assert found.stdout.split() == [b"1"]
