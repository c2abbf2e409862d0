"""Labels that come with the images (`data.given`): what a run takes for known, and what it leaves out.

A reader says of which images it knows all objects (`Pool.complete`), the setting what that is worth. For people the
boxes become the ledger's before the first question, and the pool has no ground truth left: nobody can look it up by
accident. The simulated oracle answers from the ground truth, and cannot know images that nobody has looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from labelwise.config import Run
from labelwise.config.sections import Given as Word
from labelwise.data import long_tail
from labelwise.evaluate import looked_at
from labelwise.ledger import given_labels
from labelwise.ledger.ledger import Ledger
from labelwise.types import Boxes, LabelwiseError, Pool, Problem

LEFT_OUT = "image that the simulated oracle cannot know"
"""The kind of problem of a pool's images that `of_pool` leaves out."""
_NAMED = 3


def of_pool(pool: Pool, run: Run, known: Collection[str] = ()) -> Pool:
    """The pool as the run takes it; for the simulated oracle without the images that nobody has looked at, unless the
    project knows them already (`known`).

    Raises:
        LabelwiseError: nobody has looked at any.
    """
    word = run.data.given_of(run.data.pool_split)
    if word == "empty":
        return replace(pool, truth=None, crowd=None, complete=None)
    if word == "all" or pool.truth is None or pool.complete is None or run.given is not None or run.ask.who == "people":
        return replace(pool, complete=None) if word == "all" else pool
    before = set(known)
    unseen = ~pool.complete & ~np.array([name in before for name in pool.names], np.bool_)
    if not unseen.any():
        return pool
    if unseen.all():
        raise LabelwiseError(
            f"{pool.root}: nobody has looked at any of {len(pool)} images, so the simulated oracle cannot answer. Set "
            f'ask.who = "people", or, if an image without labels holds no object, {_ALL}'
        )
    what = f"{unseen.sum()} of {len(pool)} images, {pool.names[int(np.argmax(unseen))]} among them"
    handling = f'nobody has looked at them: left out (ask.who = "people" asks; if they hold nothing: {_ALL})'
    told = Problem(LEFT_OUT, str(pool.root), what, handling, int(unseen.sum()))
    return replace(long_tail.subset(pool, np.flatnonzero(~unseen)), problems=(*pool.problems, told))


_ALL = 'data.given = "all"'


def of_test(test: Pool | None, run: Run) -> Pool | None:
    """The test images as the run takes them: `complete` says of which all objects count, None: of all."""
    word = run.given_test
    if test is None or word == "empty":
        return None
    if word == "all":
        return replace(test, complete=None)
    partly = word == "partial" and not run.classifies
    return replace(test, complete=np.zeros(len(test), np.bool_)) if partly else test


def messages(pool: Pool) -> list[str]:
    """What was left out of a pool, for whoever starts a run."""
    return [f"{one.what}: {one.kind}; {one.handling}" for one in pool.problems if one.kind == LEFT_OUT]


def test_line(test: Pool) -> str | None:
    """How much of the test images was looked at; None: all."""
    if test.truth is None or test.complete is None or test.complete.all():
        return None
    whole, part = looked_at.images(test)
    said = f"over {int((whole | part).sum())} of {len(test)} test images"
    if (whole | part).sum() < len(test):
        said += ": nobody has looked at the others"
    if part.any():
        said += f"; in {int(part.sum())} of them only some objects are known, and only what hits one of these counts"
    return said


@dataclass(frozen=True, eq=False)
class Given:
    """The labels that came with a pool: boxes, and of which images these are all objects."""

    word: Word
    boxes: Boxes
    whole: Bool[np.ndarray, " images"]

    def enter(self, ledger: Ledger, pool: Pool, absent: Collection[int], tell: Callable[[str], None]) -> None:
        """Enters what is new into the ledger; tells what entered, and what is not as it was."""
        there = np.ones(len(pool), np.bool_)
        there[list(absent)] = False
        before = given_labels.total(ledger)
        done = given_labels.enter(ledger, pool, self.boxes, self.whole, there, self.word)
        if done.images:
            tell(
                f"{done.images} images came with {done.boxes} boxes, {done.whole} of them wholly labelled: they are in "
                "the ledger and cost nothing"
            )
        if before is not None and before.word != self.word:
            tell(
                f"data.given is {self.word!r} now, and {before.images} images have entered the ledger as "
                f"{before.word!r}: these stay as they are. For another start make a new project"
            )
        elif done.changed:
            tell(
                f"The labels that come with {_some(done.changed)} are not those that entered the ledger, which stay as "
                "they are: correct them on the page of `labelwise serve`, or make a new project"
            )
        if done.labelled:
            tell(f"{_some(done.labelled)} had labels in the ledger already: these count, not what came with the images")
        if done.images and done.later_classes:
            tell("A class was added to the list, for which nobody has looked there: these images are asked about, too")


def split(pool: Pool, run: Run) -> tuple[Pool, Given | None]:
    """A pool that people label, without ground truth, and the labels that came with it; else the pool as it is."""
    word = run.given
    if word is None or word == "empty" or pool.truth is None:
        return pool, None
    whole = np.ones(len(pool), np.bool_) if pool.complete is None else pool.complete.copy()
    whole[list(pool.unavailable)] = False
    if run.classifies:
        whole &= np.diff(pool.truth.offsets) > 0
    elif word == "partial":
        whole[:] = False
    return replace(pool, truth=None, complete=None), Given(word, pool.truth, whole)


def known_only(ledger: Ledger, run: Run, images: int) -> Bool[np.ndarray, " images"] | None:
    """In which images nothing is background but where somebody has looked, whatever the label policy; None: in none."""
    if run.given == "partial" and not run.classifies:
        return np.ones(images, np.bool_)
    total = given_labels.total(ledger) if run.given is not None else None
    if total is None or not total.partly:
        return None
    found = np.zeros(images, np.bool_)
    found[[i for i in total.partly if i < images]] = True
    return found


def _some(names: Collection[str]) -> str:
    first = list(names)[:_NAMED]
    more = f" and {len(names) - len(first)} more" if len(names) > len(first) else ""
    return f"{', '.join(first)}{more}"
