"""Questions whose answer is settled, put among those that people are asked (`ask.known_share`).

There are as many as the share of the answers wants, so that the first one comes after some answers. Those that were
asked least often so far come first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import floor

import numpy as np

from labelwise.ledger import known_questions
from labelwise.project import settled
from labelwise.project.round import Round

MOST = 20
"""Known questions that are added at a time."""


def top_up(now: Round) -> None:
    """Adds as many known questions to the round as the answers so far want."""
    share, ledger = now.run.ask.known_share, now.ledger
    if not share:
        return
    with ledger.read() as connection:
        answered, asked = known_questions.counts(connection, now.number)
    missing = min(floor(share / (1 - share) * answered + 1e-9) - asked, MOST)
    if missing <= 0:
        return
    with ledger.read() as connection:
        before = Counter((one.query.image, one.query.box) for one in known_questions.every(connection))
    rng = np.random.default_rng([now.run.seed, now.number, 7, asked])
    found = [one for name in now.unit_names for one in settled.questions(now.context, name, rng)]
    found = sorted(found, key=lambda one: before[one.query.image, one.query.box])[:missing]
    if found:
        ranked = [replace(one, shown_rank=answered + k) for k, one in enumerate(found)]
        with ledger.write() as connection:
            known_questions.add(connection, now.number, ranked)
