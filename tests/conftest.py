"""One torch thread per test process, and the real data where it is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """The real data sets beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("no real data: the folder ../shared/data is not there")
    return SHARED
