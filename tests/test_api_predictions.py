"""Predictions of a foreign detector: every form gives one table; every mistake is an error that names its row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from labelwise import files
from labelwise.api.predictions import read, spread
from labelwise.types import Detections, LabelwiseError, Pool

POOL = Pool(
    Path(), ("cat", "dog", "hen"), ("a.jpg", "b.jpg", "c.jpg"), np.array([100, 200, 50]), np.array([80, 100, 50])
)
VIEW_IOU = np.array([[0.9, 0.0, 0.5]])


def columns() -> dict[str, Any]:
    """Two boxes of c.jpg, not by falling confidence, and one of a.jpg."""
    return {
        "image": ["c.jpg", "a.jpg", "c.jpg"],
        "boxes": np.array([[1, 2, 11, 12], [0, 0, 100, 80], [5, 5, 20, 30]], np.float64),
        "probs": np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]]),
        "features": np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        "view_iou": VIEW_IOU.copy(),
        "view_probs": np.array([[[0.5, 0.4, 0.1], [np.nan] * 3, [0.0, 0.0, 1.0]]]),
    }


def expected(found: Detections) -> None:
    assert found.offsets.tolist() == [0, 1, 1, 3]
    assert found.boxes.tolist() == [[0, 0, 100, 80], [5, 5, 20, 30], [1, 2, 11, 12]]
    np.testing.assert_allclose(found.scores, [0.7, 0.8, 0.6], rtol=1e-6)
    assert found.labels.tolist() == [1, 2, 0]


def test_columns() -> None:
    found = read(columns(), POOL)
    expected(found)
    assert found.features.tolist() == [[3, 4], [5, 6], [1, 2]]
    assert found.views is not None
    np.testing.assert_allclose(found.views.iou, [[0.0, 0.5, 0.9]], rtol=1e-6)
    np.testing.assert_allclose(found.views.scores, [[0, 1, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(found.views.probs[0, 0], [1 / 3] * 3, rtol=1e-6)  # no counterpart: nothing is known
    by_number = read(columns() | {"image": torch.tensor([2, 0, 2])}, POOL)
    expected(by_number)


def per_image() -> list[dict[str, Any]]:
    boxes, probs = columns()["boxes"], columns()["probs"]
    empty = {"boxes": torch.zeros(0, 4), "probs": torch.zeros(0, 3)}
    tensors = {"boxes": torch.tensor(boxes[[0, 2]]), "probs": torch.tensor(probs[[0, 2]])}
    return [{"boxes": boxes[1:2], "probs": probs[1:2]}, empty, tensors]


def test_one_entry_per_image_as_list_or_by_name() -> None:
    expected(read(per_image(), POOL))
    a, _, c = per_image()
    expected(read({"c.jpg": c, "a.jpg": a}, POOL))
    assert len(read([{"boxes": []}] * 3, POOL)) == 0
    with pytest.raises(LabelwiseError, match="a list of 2 images; expected one entry for each of the 3"):
        read([a, c], POOL)


def test_a_parquet_file_and_a_folder_of_shards(tmp_path: Path) -> None:
    table = columns()
    rows = {name: table["boxes"][:, k] for k, name in enumerate(("x1", "y1", "x2", "y2"))}
    rows |= {"image": table["image"], "probs": list(table["probs"]), "view_iou": [[0.9], [0.0], [0.5]]}
    pq.write_table(pa.table(rows), tmp_path / "p.parquet")
    found = read(str(tmp_path / "p.parquet"), POOL)
    expected(found)
    assert found.views is not None and found.views.probs.shape == (1, 3, 0)
    files.write_detections(tmp_path / "shards", found)
    expected(read(tmp_path / "shards", POOL))
    plain = {name: rows[name] for name in ("image", "x1", "y1", "x2", "y2")}
    labels = {"score": [0.6, 0.7, 0.8], "label": ["cat", "dog", "hen"]}
    pq.write_table(pa.table(plain | labels), tmp_path / "q.parquet")
    expected(read(tmp_path / "q.parquet", POOL))
    with pytest.raises(LabelwiseError, match=r"no\.parquet: cannot be read as a Parquet file"):
        read(tmp_path / "no.parquet", POOL)
    pq.write_table(pa.table({"image": ["a.jpg"]}), tmp_path / "r.parquet")
    with pytest.raises(LabelwiseError, match=r"r\.parquet: no column 'x1'"):
        read(tmp_path / "r.parquet", POOL)


def test_a_confidence_without_a_distribution_is_spread() -> None:
    table = columns()
    given = {"image": table["image"], "boxes": table["boxes"], "scores": [0.6, 0.1, 0.8], "labels": ["cat", 1, "hen"]}
    found = read(given, POOL)
    np.testing.assert_allclose(found.scores, [0.1, 0.8, 0.6], rtol=1e-6)
    assert found.labels.tolist() == [1, 2, 0]
    np.testing.assert_allclose(found.probs.sum(axis=1), 1, rtol=1e-6)
    assert spread(np.array([0.9], np.float32), np.array([0]), 1).tolist() == [[1.0]]


def changed(name: str, row: int, value: Any) -> dict[str, Any]:
    table = columns()
    table[name][row] = value
    return table


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (changed("boxes", 1, [0, np.nan, 5, 5]), r"row 1 \(image a.jpg\): box \[0, nan, 5, 5\]; expected finite"),
        (changed("boxes", 2, [5, 5, 5, 30]), r"row 2 \(image c.jpg\): box \[5, 5, 5, 30\]; expected x1 < x2"),
        (changed("boxes", 0, [1, 2, 60, 12]), r"row 0 \(image c.jpg\).*inside the image of 50 x 50 pixels"),
        (changed("image", 1, "d.jpg"), r"row 1: unknown image 'd.jpg' \(not in the pool\). Did you mean"),
        (changed("image", 1, 3), r"row 1: image 3; expected a name in the pool, or a number from 0 to 2"),
        (changed("probs", 2, [0.5, 0.5, 0.5]), r"row 2 \(image c.jpg\): probs \(they sum to 1.5\).*sums to 1"),
        (changed("probs", 2, [1.5, -0.5, 0]), r"row 2 .*: probs \[1.5, -0.5, 0\]; expected no negative"),
        (changed("probs", 0, [np.inf, 0, 0]), r"row 0 .*: probs \[inf, 0, 0\]; expected finite"),
        (changed("features", 0, [np.nan, 0]), r"row 0 .*: features \[nan, 0\]; expected finite"),
        (changed("view_iou", 0, [0.1, 0.2, 1.2]), r"row 2 .*: view_iou \[1.2\]; expected numbers in \[0, 1\]"),
        (changed("view_probs", 0, np.ones((3, 3))), r"row 0 .*: view_probs \(they sum to 3\)"),
        (columns() | {"probs": np.ones((3, 2)) / 2}, r"probs is float64 \(3, 2\); expected numbers \(3, 3\)"),
        (columns() | {"scores": [0.5, 2, 0.5]}, r"row 1 .*: scores \[2\]; expected numbers in \[0, 1\]"),
        (columns() | {"labels": [0, 1, 0]}, r"row 2 .*: label 0; expected the class of the largest probability"),
        (columns() | {"labels": [0, 1, 3]}, r"row 2 .*: class 3; expected 0 to 2"),
        (columns() | {"labels": ["cat", "dog", "hne"]}, "unknown class 'hne'.*Did you mean 'hen'"),
        (columns() | {"score": [1, 1, 1]}, "unknown column 'score'.*Did you mean 'scores'"),
        ({"image": ["a.jpg"], "boxes": [[0, 0, 1, 1]]}, "neither probs nor scores with labels"),
        ({"boxes": [[0, 0, 1, 1]]}, "no column 'image'"),
        ([*per_image()[:2], {"boxes": [[1, 1, 2, 2], [3, 3, 3, 9]], "probs": [[1, 0, 0]] * 2}], "c.jpg, box 1: box"),
        ([*per_image()[:2], {"probs": [[1, 0, 0]]}], "image 2: expected a dict with boxes"),
        (7, "got int; expected a dict of columns"),
    ],
)
def test_a_mistake_names_its_row(given: Any, message: str) -> None:
    with pytest.raises(LabelwiseError, match=message):
        read(given, POOL)


def test_rounding_at_the_edge_is_clipped() -> None:
    assert read(changed("boxes", 1, [-0.4, 0, 100.3, 80]), POOL).boxes[0].tolist() == [0, 0, 100, 80]


BOX = np.array([[1.0, 2, 11, 12]])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (columns() | {"image": 7}, "image is 7; expected a list or array"),
        (columns() | {"image": np.array(1)}, "image is .*; expected a list or array"),
        (columns() | {"tightness": np.full((1, 3), 0.5)}, r"tightness is float64 \(1, 3\); expected numbers \(3\)"),
        (columns() | {"features": [[1.0], [1.0, 2.0], []]}, "cannot make an array of list"),
        (columns() | {"features": np.full((3, 1), 1e300)}, r"features \[1e\+300\]; expected finite"),
        (columns() | {"view_iou": np.zeros((0, 3))}, r"view_iou has shape \(0, 3\); expected \(V, 3\)"),
        (columns() | {7: 1}, "unknown column '7'"),
        ({"image": ["a.jpg"], "boxes": BOX, "scores": [0.5], "labels": [[1]]}, r"class \[1\]; expected 0 to 2"),
        ({"image": ["a.jpg"], "boxes": BOX, "scores": [0.5], "labels": [float("inf")]}, "class inf; expected 0 to 2"),
        ({"image": ["a.jpg"], "boxes": BOX, "scores": [0.5], "labels": "a"}, "labels is 'a'; expected a list"),
        ({"a.jpg": {"boxes": 3.0, "scores": [], "labels": []}}, "boxes has shape"),
        ({"a.jpg": {"boxes": BOX, "scores": [0.5], "labels": [0]},
          "b.jpg": {"boxes": BOX[:, :3], "scores": [0.5], "labels": [0]}}, "boxes of the images do not go together"),
        (np.full((3, 2), 1e300), r"image_features has shape \(3, 2\); expected finite"),
        ("x" * 300, "cannot be read"),
    ],
)  # fmt: skip
def test_odd_values_are_refused_with_their_place(given: Any, message: str) -> None:
    with pytest.raises(LabelwiseError, match=message):
        read(given, POOL)


@pytest.mark.parametrize("column", ["x1", "probs", "view_iou"])
@pytest.mark.parametrize("values", [["a", "b", "c"], [[1.0], [], [2.0]], [[[1.0]], [[2.0]], [[3.0]]]])
def test_columns_of_a_parquet_file_that_are_no_numbers(tmp_path: Path, column: str, values: list[Any]) -> None:
    table = columns()
    rows = {name: table["boxes"][:, k] for k, name in enumerate(("x1", "y1", "x2", "y2"))}
    rows |= {"image": table["image"], "probs": list(table["probs"]), column: values}
    pq.write_table(pa.table(rows), tmp_path / "p.parquet")
    with pytest.raises(LabelwiseError, match=rf"{column} of row \d|{column}.*expected"):
        read(tmp_path / "p.parquet", POOL)


def test_a_detector_that_finds_nothing_anywhere() -> None:
    empty = {"image": [], "boxes": np.zeros((0, 4)), "probs": np.zeros((0, 3))}
    assert len(read(empty, POOL)) == 0
    assert read(empty, POOL).n_images == 3
