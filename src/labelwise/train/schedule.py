"""How many steps a round trains, how they fall into epochs, and the learning rate at each."""

from __future__ import annotations

import math
from dataclasses import dataclass

from labelwise.config.sections import Train


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a round. Every epoch has `per_epoch` of them; the last one may be cut short."""

    steps: int
    per_epoch: int

    @property
    def epochs(self) -> int:
        """Number of epochs, one that is cut included."""
        return -(-self.steps // self.per_epoch)

    def batches(self, epoch: int) -> int:
        """How many steps an epoch has.

        >>> [Plan(steps=7, per_epoch=3).batches(epoch) for epoch in range(3)]
        [3, 3, 1]
        """
        return min(self.per_epoch, self.steps - epoch * self.per_epoch)


def plan_of(n_images: int, rule: Train) -> Plan:
    """`rule.steps` exactly; else whole epochs: `rule.epochs`, stretched to `min_steps` and cut at `max_steps`.

    >>> plan_of(20, Train(steps=7, batch_size=8)), plan_of(20, Train(epochs=2, batch_size=8))
    (Plan(steps=7, per_epoch=3), Plan(steps=6, per_epoch=3))
    """
    per_epoch = max(1, math.ceil(n_images / rule.batch_size))
    if rule.steps is not None:
        return Plan(rule.steps, per_epoch)
    epochs = max(rule.epochs, math.ceil(rule.min_steps / per_epoch))
    if rule.max_steps is not None:
        epochs = max(1, min(epochs, round(rule.max_steps / per_epoch)))
    return Plan(epochs * per_epoch, per_epoch)


def learning_rate_factor(step: int, plan: Plan, rule: Train) -> float:
    """What the learning rate is multiplied by at `step`: linear warm-up, then the schedule."""
    warm_up = min(max(1, plan.steps // 10), 200)
    warm = min(1.0, (step + 1) / warm_up)
    if rule.schedule == "one_cycle":
        rest = max(0, step - warm_up) / max(1, plan.steps - warm_up)
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, rest)))
    if rule.schedule == "step":
        stretch = plan.steps / (plan.per_epoch * rule.epochs)  # the marks move with epochs stretched or cut
        passed = sum(step >= mark * stretch * plan.per_epoch for mark in rule.step_epochs)
        return warm * rule.step_factor**passed
    return warm
