"""What the estimates of `unit_choice` allow: intervals that hold what is not known, and draws that fill them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from labelwise.ask.cost import CostTable
from labelwise.study import unit_evidence
from labelwise.study.unit_choice import Estimate, Evidence, Prices, choose, exact, share, share_by_image
from labelwise.study.unit_evidence import Observed


def test_where_no_image_was_looked_over_right_pseudo_boxes_are_not_all_objects() -> None:
    """4 pseudo boxes an image, of which 3 in 4 are right: 3 to 6 objects, so that recall is 2/3 and not 1."""
    seen = replace(
        Observed.nothing(),
        confidence=np.full(98, 0.95),
        right=np.arange(98) < 74,  # (74 + 1) / (98 + 2)
        pseudo=np.full(50, 4),
        pseudo_scores=np.full(200, 0.95),
    )
    found = unit_evidence.found(seen, CostTable(), [2.0]).evidence
    assert (found.objects.value, found.objects.low, found.objects.high) == (4.5, 3.0, 6.0)
    assert found.recall.value == pytest.approx(2 / 3) and found.recall.low < 0.5 and found.recall.high > 0.85


def test_hits_of_one_image_are_alike_and_count_so() -> None:
    owner = np.repeat([3, 8, 9], 10)
    seen = replace(
        Observed.nothing(),
        is_hit=owner != 8, box_image=owner, box_round=np.ones(30, np.int64), box_seconds=np.full(30, 2.0),
    )  # fmt: skip
    found = unit_evidence.found(seen, CostTable(), [2.0]).evidence
    assert found.hit_rate == share_by_image(np.array([10, 0, 10]), np.array([10, 10, 10])) and found.questions == 10
    assert found.hit_rate.low < share(20, 30).low


@pytest.mark.parametrize("estimate", [share(10, 10), share(0, 10), share(1, 20), share(10, 20), share(0, 0)])
def test_draws_are_spread_as_the_interval_says(estimate: Estimate) -> None:
    """Without objects and with 1 s for any answer the hit rate is the boxes a second."""
    evidence = Evidence(exact(0.0), exact(1.0), exact(1.0), estimate, 1.0, exact(0.0))
    rate = choose(evidence, Prices(1.0, 1.0, 1.0, 1.0)).rates[2].per_1000_s
    assert rate.low / 1000 == pytest.approx(estimate.low, abs=0.04)
    assert rate.high / 1000 == pytest.approx(estimate.high, abs=0.04)
