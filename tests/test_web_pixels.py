"""Squares of large images and the likeliest classes of a query, as the server makes them."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_web import about, ask, site

from labelwise import files
from labelwise.project.round import Round
from labelwise.types import Detections, Query
from labelwise.types.overlap import iou_matrix

__all__ = ["site"]


def test_squares_put_together_are_the_image(site: Any) -> None:
    opened = site.open(images=2, size=(2300, 1100))
    ask(opened, about(0, opened))
    ada = site.browser()
    whole = np.zeros((1100, 2300, 3), np.uint8)
    for column, row in np.ndindex(3, 2):
        reply = ada.get(f"/api/images/0/tiles/{column}/{row}")
        assert reply.status_code == 200 and reply.headers["content-type"] == "image/jpeg"
        assert "max-age" in reply.headers["cache-control"]
        pixels = np.asarray(Image.open(io.BytesIO(reply.content)))
        whole[1024 * row : 1024 * row + pixels.shape[0], 1024 * column : 1024 * column + pixels.shape[1]] = pixels
    truth = opened.frame(0).astype(int)
    assert np.abs(whole - truth).mean() < 4, "but for what JPEG loses of noise"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/images/0/tiles/1/0", 404),
        ("/api/images/0/tiles/0/2147483647", 404),
        ("/api/images/9/tiles/0/0", 404),
        ("/api/images/-1/tiles/0/0", 422),
        ("/api/images/0/tiles/-1/0", 422),
        ("/api/images/0/tiles/0/..%2f..%2frun.toml", 404),
        ("/api/images/%2e%2e/tiles/0/0", 422),
    ],
)
def test_there_are_no_other_squares(site: Any, path: str, status: int) -> None:
    opened = site.open()
    ask(opened, about(0, opened))
    assert site.browser().get(path).status_code == status


def test_squares_are_for_who_is_in(site: Any) -> None:
    site.open()
    assert site.another_client().get("/api/images/0/tiles/0/0").status_code == 401


def test_an_image_is_cut_once_however_many_ask(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.open(images=2, size=(2100, 300))
    tiles, read = site.page.tiles, list[int]()
    pixels = site.page.shown.pixels
    monkeypatch.setattr(site.page.shown, "pixels", lambda number: read.append(number) or pixels(number))
    threads = [threading.Thread(target=tiles.jpeg, args=(0, k % 3, 0)) for k in range(9)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert read == [0]


def test_squares_are_kept_within_bounds(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from labelwise.web import tiles

    site.open(images=4)
    page = site.page
    one = len(page.tiles.jpeg(0, 0, 0))
    monkeypatch.setattr(tiles, "KEPT_BYTES", int(2.5 * one))
    for number in (1, 2, 3):
        page.tiles.jpeg(number, 0, 0)
    read = list[int]()
    monkeypatch.setattr(page.shown, "decoded", lambda number: read.append(number) or pytest.fail("is kept"))
    page.tiles.jpeg(3, 0, 0)
    with pytest.raises(pytest.fail.Exception):
        page.tiles.jpeg(0, 0, 0)
    assert read == [0]


def test_an_image_that_is_gone_has_no_squares(site: Any) -> None:
    opened = site.open()
    ask(opened, about(0, opened))
    ada = site.browser()
    Path(opened.pool.root, "images", "01.png").unlink(missing_ok=True)
    for path in Path(opened.pool.root).rglob("01.png"):
        path.unlink()
    assert ada.get("/api/images/1/tiles/0/0").status_code == 410


# ------------------------------------------------------------------------------------------------ the likeliest classes


def found(rng: np.random.Generator, images: int, n_classes: int) -> Detections:
    counts = rng.integers(0, 5, images)
    n = int(counts.sum())
    low = rng.random((n, 2)) * 20
    boxes = np.concatenate([low, low + 5 + rng.random((n, 2)) * 20], 1).astype(np.float32)
    probs = rng.random((n, n_classes)).astype(np.float32) + 0.01
    scores = rng.random(n).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    for k in range(images):  # within an image by falling score
        rows = slice(offsets[k], offsets[k + 1])
        scores[rows] = np.sort(scores[rows])[::-1]
    probs /= probs.sum(1, keepdims=True)
    return Detections(offsets, boxes, probs, scores, np.zeros((n, 0), np.float32))


def slowly(d: Detections, query: Query, image: int) -> list[tuple[int, float]]:
    """The obvious way: over boxes and classes, one after the other."""
    rows, share, total = range(d.offsets[image], d.offsets[image + 1]), dict[int, float](), 0.0
    asked = np.array([query.box or (0.0, 0.0, 1.0, 1.0)])
    ious = {k: float(iou_matrix(asked, d.boxes[k : k + 1].astype(float))[0, 0]) for k in rows}
    best = max(ious.values(), default=0.0)
    for k in rows:
        if query.box is None:
            weight = float(d.scores[k])
        elif query.label is None:
            weight = float(d.scores[k]) if ious[k] > 0 else 0.0
        else:
            weight = 1.0 if ious[k] == best >= 0.5 else 0.0
        total += weight
        for label in range(d.probs.shape[1]):
            share[label] = share.get(label, 0.0) + weight * float(d.probs[k, label])
    ranked = sorted(((-value / total, label) for label, value in share.items() if value > 0)) if total else []
    return [(label, -value) for value, label in ranked[:5]]


@pytest.mark.parametrize("seed", range(4))
def test_likeliest_classes_as_the_slow_way_has_them(site: Any, seed: int) -> None:
    opened = site.open()
    rng = np.random.default_rng(seed)
    predictions = found(rng, len(opened.pool), len(opened.pool.classes))
    files.write_detections(Round(opened, 1).folder.predictions(), predictions)
    predicted = site.page.shown.predicted
    predicted.of_round(1).result()
    for image in range(len(opened.pool)):
        of = slice(*predictions.offsets[image : image + 2])
        each = [(tuple(box), 0) for box in predictions.boxes[of].astype(float)]
        for box, label in [(None, None), ((3.0, 3.0, 15.0, 15.0), None), *each]:
            query = Query(1, 0, opened.pool.names[image], "box", box, label)
            got, wanted = predicted.likely(query, image), slowly(predictions, query, image)
            assert [k for k, _ in got] == [k for k, _ in wanted]
            np.testing.assert_allclose([p for _, p in got], [p for _, p in wanted], atol=1e-3)


def test_a_query_says_its_likeliest_classes_and_waits_for_none(site: Any) -> None:
    opened = site.open()
    ask(opened, about(0, opened))
    ada = site.browser()
    site.page.shown.predicted.of_round(1).result()
    assert ada.next()[0]["likely"] == [], "nothing was predicted"
