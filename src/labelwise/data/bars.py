"""Progress bars of what may take long while a data set is read or written: they show where it does.

Readers and writers count images deep inside; whoever calls them says by `shown` where bars go. Unless that is said
there are none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar

Bar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Opens a progress bar (description, total; 0: nobody knows) and gives the function that advances it."""
AFTER_S = 2.0


def silent(_description: str, _total: int) -> AbstractContextManager[Callable[[int], None]]:
    """No progress bar."""
    return nullcontext(lambda _n: None)


_BAR: ContextVar[Bar] = ContextVar("bar", default=silent)


@contextmanager
def shown(bar: Bar) -> Iterator[None]:
    """While it lasts, bars are opened by `bar`."""
    token = _BAR.set(bar)
    try:
        yield
    finally:
        _BAR.reset(token)


@contextmanager
def late(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar that opens once the work has taken `AFTER_S`; it gives the function that advances it."""
    start, done = time.perf_counter(), 0
    with ExitStack() as stack:
        advance: Callable[[int], None] | None = None

        def count(n: int) -> None:
            nonlocal advance, done
            done += n
            if advance is not None:
                advance(n)
            elif time.perf_counter() - start >= AFTER_S:
                advance = stack.enter_context(_BAR.get()(description, total))
                advance(done)

        yield count
