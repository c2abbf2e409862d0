"""Why a query is asked, in words: every method says it, and what it says is true of the candidate it is said of."""

from __future__ import annotations

import numpy as np
import pytest
from fakes.menu import made

from labelwise import catalog
from labelwise.config.inputs import INPUTS
from labelwise.types import LabelwiseError, phrases

CLASSES = ["WBC", "RBC", "Platelet", "Other", "None of these"]
SCORES, SELECTORS = catalog.names("score"), catalog.names("select")


def sentences(said: list[str], n: int) -> None:
    """A text per row: whole sentences, or nothing."""
    assert isinstance(said, list) and len(said) == n
    for text in said:
        assert isinstance(text, str) and text == text.strip()
        assert not text or (text[0].isupper() and text.endswith(".") and "nan" not in text and "  " not in text)


@pytest.mark.parametrize("name", SCORES)
def test_every_score_explains_itself(name: str) -> None:
    method = catalog.find("score", name)
    names = method.explains_by
    assert names is not None, f"score/{name}.py needs a function explain(...) -> list of sentences"
    always = {"probs", "scores", "labels", "counts", "classes", "value"}
    assert set(names) <= {*method.inputs, *method.settings, *always}, "it may ask for what the method itself is given"
    for n, classes in ((9, 5), (9, 1), (0, 5)):
        one_each = any(INPUTS["score"][key].axis == "pool" for key in method.inputs)  # of classifiers, boxes are images
        menu = made("score", n, classes, images=n if one_each else 4, V=3) | {"classes": CLASSES[:classes]}
        value = method.call(menu, {})
        said = method.explain(menu | {"value": value}, {})
        sentences(said, len(value))
        assert all(said), "a score says something of everything"


@pytest.mark.parametrize("name", SELECTORS)
def test_every_selector_explains_its_picks(name: str) -> None:
    method = catalog.find("select", name)
    assert method.explains_by is not None, f"select/{name}.py needs a function explain(...) -> list of sentences"
    for n, budget in ((20, 6), (1, 1), (3, 0)):
        menu = made("select", n, images=n + 5) | {"budget": budget}
        menu |= {"target": menu["target"] + budget / 5, "videos": np.sort(menu["videos"])}
        rows, reasons = method.call(menu, {}, explain=True)
        of_rows = [row for row in INPUTS["select"].values() if row.axis == "candidates" and row.name != "box_offsets"]
        picked = {row.name: menu[row.name].take(rows, row.position) for row in of_rows}
        given = {"classes": CLASSES, "nearest": ["a.jpg"] * len(rows)}
        assert set(method.explains_by) <= {*method.inputs, *method.settings, *reasons, *given, "labels", "counts"}
        sentences(method.explain(reasons | menu | picked | given, {}), len(rows))


def test_an_explanation_that_asks_for_too_much_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    method = catalog.find("score", "entropy")
    with pytest.raises(LabelwiseError, match="asks for classes; here there is only: probs"):
        method.explain({"probs": np.ones((1, 1))}, {})


def test_hesitation_names_the_classes_that_are_close() -> None:
    rows = [[0.42, 0.39, 0.19, 0, 0], [0.9, 0.1, 0, 0, 0], [1, 0, 0, 0, 0], [0.25, 0.24, 0.26, 0.25, 0]]
    assert phrases.hesitation(np.array(rows), CLASSES) == [
        "The model hesitates between WBC (42 %) and RBC (39 %).",
        "The model takes it for WBC (90 %), but it could be RBC (10 %).",
        "The model takes it for WBC (100 %).",
        "The model hesitates between 4 classes; Platelet (26 %) and WBC (25 %) come first.",
    ]


def test_rarity_is_said_of_what_is_rare_alone() -> None:
    counts = np.array([30, 70, 0])
    assert phrases.rarity(np.array([0, 1, 2]), counts, CLASSES) == [
        "WBC is rare: 30 % of the labels.",
        "",
        "Platelet is rare: none of the labels so far.",
    ]
    mix = np.array([[0.5, 0.5, 0], [0.05, 0.95, 0], [0, 0, 0]])
    assert phrases.rarity(mix, counts, CLASSES) == ["WBC is rare: 30 % of the labels.", "", ""]
    assert phrases.rarity(np.array([0]), np.zeros(3, int), CLASSES) == [""], "nothing is labelled: nothing is rare"
