"""Products of matrices, such that no pick hangs on the last bits of one (machinery, not a method).

A BLAS rounds differently for every processor, number of threads and place in the matrix. So a value that decides comes
from `dots`, which adds in one order, or from a formula in float64; `product` only says which rows to look at.
"""

from __future__ import annotations

import numpy as np


def dots(rows: np.ndarray, one: np.ndarray) -> np.ndarray:
    """The product of every row with one vector, added in NumPy's order; as fast as a BLAS, as both wait for memory."""
    found: np.ndarray = np.einsum("nd,d->n", rows, one)
    return found


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`a @ b` of finite numbers, for bounds; without a warning that would be false.

    OpenBLAS 0.3.31's SkylakeX kernel for a float32 matrix of 5 columns and a vector also computes with memory of its
    stack that nobody wrote. The numbers are right, but the processor may flag an invalid operation.
    """
    with np.errstate(invalid="ignore"):
        found: np.ndarray = a @ b
    return found
