"""Which images the first round asks about, before there is a model."""

from __future__ import annotations

import numpy as np

from labelwise import catalog
from labelwise.config.choice import Step
from labelwise.project import availability
from labelwise.project.round import Round
from labelwise.stages import classification, image_features


def drawn(now: Round) -> np.ndarray:
    """The images of the first round. Those that turn out to be unreadable are left out, and all are drawn again."""
    run, amount = now.run, now.context.first_images
    while True:
        pool, rng = now.pool, np.random.default_rng([run.seed, 0, 1])
        if run.start_step is not None:
            image = _covering(now, run.start_step, amount, rng)
        elif run.budget.start == "balanced":
            image = classification.balanced(pool, amount, rng, now.askable)
        else:
            order = rng.permutation(len(pool))
            image = order[(pool.available & now.askable & ~now.covered)[order]][:amount]
        if not availability.unreadable(now.context, image):
            break
    now.info["skipped"] = [(pool.names[i], why) for i, why in pool.unavailable.items()]
    return image


def _covering(now: Round, step: Step, amount: int, rng: np.random.Generator) -> np.ndarray:
    """Images that cover the frozen features of the pool, the first pick first."""
    still_open = now.pool.available & now.askable & ~now.covered
    rows = np.flatnonzero(still_open & image_features.readable(now.context))
    features = now.context.features("pool").of(rows)
    menu = {"features": features, "labelled_features": features[:0], "budget": min(amount, len(rows)), "rng": rng}
    picked: np.ndarray = rows[catalog.find("select", step.name).call(menu, step.settings)]
    return picked
