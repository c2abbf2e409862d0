"""The menu of inputs: every method keeps to it, every row is true, a name that is not on it is refused."""

from __future__ import annotations

import typing
from pathlib import Path

import numpy as np
import pytest
from fakes.menu import made

from labelwise import catalog, config
from labelwise.api import arguments
from labelwise.config import inputs
from labelwise.config.inputs import INPUTS, Input
from labelwise.types import Detections, ImageOutputs, LabelwiseError, Views

METHODS = [(folder, name) for folder in INPUTS for name in catalog.names(folder)]
ROWS = [(folder, row) for folder, menu in INPUTS.items() for row in menu.values()]


def detections(n: int = 7, images: int = 3) -> Detections:
    """With every optional column."""
    of = made("score", n, 4, images=images)
    boxes = np.tile(np.array([0, 0, 5, 5], np.float32), (n, 1))
    matches = of["view_boxes"].astype(np.float32)
    views = Views(("a", "b", "c"), of["view_probs"], of["view_scores"], of["view_iou"], matches)
    loss = of["predicted_loss"].astype(np.float32)
    seen = ImageOutputs(of["image_features"], loss, np.ones(images, bool))
    columns = of["probs"], of["scores"], of["features"], views, of["tightness"], seen, of["quality"]
    return Detections(np.array([0, 2, 2, n]), boxes, *columns)


@pytest.mark.parametrize(("folder", "name"), METHODS, ids=["/".join(pair) for pair in METHODS])
def test_every_method_keeps_to_the_menu(folder: str, name: str) -> None:
    assert not inputs.problems(catalog.find(folder, name))


@pytest.mark.parametrize(("folder", "row"), ROWS, ids=[f"{folder}/{row.name}" for folder, row in ROWS])
def test_a_row_is_true(folder: str, row: Input) -> None:
    assert row.axis in typing.get_args(inputs.Axis) and row.values in typing.get_args(inputs.Values)
    assert set(row.needs) <= set(typing.get_args(inputs.Need))
    assert row.meaning and not row.meaning.endswith(".")
    value = made(folder, 9, images=9)[row.name]
    assert np.ndim(value) == len(row.shape.split()), "tests/fakes/menu.py makes it as the row says"
    if row.axis == "pool":
        assert value.shape[row.position] == 9
    if row.at:
        held = row.of(detections())
        assert held is not None and held.ndim == len(row.shape.split())
    for output in {row.column, row.column_of_images} - {""}:
        assert INPUTS["score"][output].at, "what predict keeps is a column of the detections, by its row for scores"


def test_an_input_that_a_setting_names_is_looked_at_only_where_it_does() -> None:
    def names(settings: dict[str, object] | None) -> list[str]:
        return [row.name for row in inputs.rows_of("labels", "dual", settings)]

    always = ["scores", "class_threshold"]
    assert names({}) == names({"box": "none", "upper": 0.4}) == always
    assert names({"box": "quality"}) == [*always, "quality"]
    assert names(None) == [*always, "consistency", "quality", "tightness"]
    arguments.check_inputs("labels", ["dual", {"name": "dual", "box": "consistency"}], detections())
    with pytest.raises(
        LabelwiseError, match=r"needs 'quality', which arrays of predictions do not carry; take one of .*dual"
    ):
        arguments.check_inputs("labels", {"name": "dual", "box": "quality"}, detections())


def test_what_detections_lack_is_none() -> None:
    nothing = np.zeros((0, 4), np.float32)
    bare = Detections(np.array([0]), nothing, nothing, nothing[:, 0], nothing[:, :0])
    assert INPUTS["score"]["view_iou"].of(bare) is None
    assert INPUTS["score"]["predicted_loss"].of(bare) is None
    assert INPUTS["score"]["probs"].of(bare).shape == (0, 4)


@pytest.fixture
def misspelt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own methods, whose inputs are not on the menu, or on another folder's."""
    (tmp_path / "my_lab").mkdir()
    for verb, parameters in (("score", "view_prob"), ("select", "scores, budgets"), ("weigh", "scores, features")):
        (tmp_path / "my_lab" / f"{verb}.py").write_text(f"def {verb}({parameters}): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("misspelt")
def test_an_input_that_is_not_on_the_menu_is_refused_with_the_nearest_that_is() -> None:
    own = ["query.score=my_lab.score", "query.select=my_lab.select", "labels.policy=my_lab.weigh"]
    with pytest.raises(LabelwiseError) as caught:
        config.load(catalog.recipe_files("bccd+u"), own)
    said = str(caught.value)
    assert "3 error(s)" in said
    assert "unknown input of score/my_lab.score 'view_prob'; known: " in said and "mean 'view_probs'?" in said
    assert "unknown input of select/my_lab.select 'budgets'; known: " in said and "mean 'budget'?" in said
    assert "unknown input of labels/my_lab.weigh 'features'; known: " in said
    with pytest.raises(LabelwiseError, match="Did you mean 'view_probs'"):
        arguments.check_inputs("score", "my_lab.score", detections())


def test_what_arrays_do_not_carry_is_refused_before_what_they_lack() -> None:
    with pytest.raises(LabelwiseError, match="needs 'history', which arrays of predictions do not carry"):
        arguments.check_inputs("score", "dispersion", detections())
    arguments.check_inputs("score", "enms", detections())
    arguments.check_inputs("select", "kcenter", detections(), "image")
