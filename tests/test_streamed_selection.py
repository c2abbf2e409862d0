"""Selection that never gathers what it does not need says, bit for bit, what gathering all of it says."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_recipes import COMMON, data_set, layer

from labelwise import files, loop, units
from labelwise.files import table_files
from labelwise.project import opening
from labelwise.project.round import Round
from labelwise.stages import candidates, selector_inputs
from labelwise.targets.frequency import frequency, frequency_of
from labelwise.types import Boxes, Detections, ImageOutputs, Labels, LabelwiseError, Rects
from labelwise.units import Candidates


def detections(rng: np.random.Generator, n_images: int, *, width: int = 3) -> Detections:
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 4, n_images))]).astype(np.int64)
    n = int(offsets[-1])
    corner = rng.random((n, 2), dtype=np.float32) * 50
    probs = rng.random((n, 5), dtype=np.float32) + np.float32(0.01)
    said = ImageOutputs(
        rng.random((n_images, 4), dtype=np.float32), rng.random(n_images, dtype=np.float32), rng.random(n_images) < 0.7
    )
    return Detections(
        offsets,
        np.concatenate([corner, corner + 1 + rng.random((n, 2), dtype=np.float32)], axis=1),
        probs / probs.sum(axis=1, keepdims=True),
        rng.random(n, dtype=np.float32),
        rng.random((n, width), dtype=np.float32),
        per_image=said,
    )


# ---- tables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 6, 7, 40])
@pytest.mark.parametrize("group", [1, 7, 1000])
def test_a_table_that_is_written_and_read_in_parts_is_the_table(
    n: int, group: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_files, "ROWS", group)
    rng, path = np.random.default_rng(n), tmp_path / "t.parquet"
    text = np.array([f"row {k}" if k % 3 else "" for k in range(n)], object)
    table = {"a": rng.random(n), "b": rng.integers(0, 9, n), "c": rng.random(n).astype(np.float32), "t": text}
    cuts = [0, *sorted(rng.integers(0, n + 1, 3).tolist()), n]
    with files.writing(path) as writer:
        for a, b in pairwise(cuts):
            writer.append({name: column[a:b] for name, column in table.items()})
    found = files.TableFile(path)
    assert found.n_rows == n and list(found) == list(table) and "d" not in found
    for name, column in table.items():
        assert found[name].tolist() == files.read_table(path)[name].tolist() == column.tolist()
    for a, b in rng.integers(0, n + 1, (20, 2)).tolist():
        part = found.part(min(a, b), max(a, b), ("a", "t"))
        assert {k: v.tolist() for k, v in part.items()} == {k: table[k][min(a, b) : max(a, b)].tolist() for k in "at"}
    for k in rng.permutation(n).tolist():
        assert found.row(k) == {name: column[k] for name, column in table.items()}
    parts = list(found.parts(["c", "t"]))
    assert [start for start, _ in parts] == np.cumsum([0, *(len(part["t"]) for _, part in parts)])[:-1].tolist()
    assert max((len(part["t"]) for _, part in parts), default=0) <= group
    for rows in (rng.permutation(n), rng.permutation(n)[: n // 5], np.repeat(np.arange(n)[-1:], 2), np.arange(0)):
        fresh = files.TableFile(path)  # of which nothing is kept yet
        for name, column in zip("tcb", fresh.take(rows, "t", "c", "b"), strict=True):
            assert column.dtype == table[name].dtype and column.tolist() == table[name][rows].tolist()


@pytest.mark.parametrize("n", [0, 1, 7, 300])
@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize(("share", "value"), [(0, 0), (0.3, np.inf), (0.9, 0), (1, 0.5), (0.2, np.nan)])
def test_a_falling_order_in_parts_is_a_stable_sort(
    n: int, rows: int, share: float, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_files, "ROWS", rows)
    rng, path = np.random.default_rng(n), tmp_path / "t.parquet"
    score = np.where(rng.random(n) < share, value, rng.normal(size=n)) * rng.choice([-1, 1], n)  # 0.0 is -0.0
    table = {"number": np.arange(n), "score": score, "corner": rng.random(n).astype(np.float32)}
    files.write_table(path, table)
    first = rng.permutation(n)[: n // 9]
    rest = np.delete(np.arange(n), first)
    order = np.concatenate([first, rest[np.argsort(-score[rest], kind="stable")]])
    parts = list(files.falling(files.TableFile(path), "score", ["corner", "number"], first))
    assert list(parts[0]) == ["corner", "number"]
    for name in ("number", "corner"):
        joined = np.concatenate([part[name] for part in parts])
        assert joined.dtype == table[name].dtype and np.array_equal(joined, table[name][order])
    if n == 300 and rows == 1:
        assert max(len(part["number"]) for part in parts) < n / 4, "else this shows nothing"
    assert [one.name for one in tmp_path.iterdir()] == ["t.parquet"], "nothing else is left"


def test_a_random_order_does_not_hang_on_the_type_of_its_numbers() -> None:
    for n in (0, 1, 100, 70_000):
        short = np.random.default_rng([n, 5]).permutation(np.arange(n, dtype=np.int32))
        assert short.dtype == np.int32 and np.array_equal(short, np.random.default_rng([n, 5]).permutation(n))


def test_a_table_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "rounds" / "003" / "scores.parquet"
    with pytest.raises(ZeroDivisionError), files.writing(path) as writer:
        writer.append({"a": np.arange(table_files.ROWS + 1)})
        raise ZeroDivisionError
    assert not list(tmp_path.rglob("*.parquet*"))
    with pytest.raises(LabelwiseError, match=f"`labelwise redo 3 score -p {tmp_path}` writes it again"):
        files.TableFile(path)
    with files.writing(path) as writer:
        writer.append({"a": np.arange(10.0)})
    path.write_bytes(path.read_bytes()[:40] + b"x" + path.read_bytes()[41:])
    with pytest.raises(LabelwiseError, match="damaged"):
        _ = files.TableFile(path)["a"]


# ---- what selectors see -------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 30), max_size=6), st.integers(0, 2**32 - 1))
def test_a_frequency_of_parts_is_that_of_all(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, sum(sizes))
    confidences = rng.random(sum(sizes), dtype=np.float32)
    cuts = np.cumsum([0, *sizes])
    parts = [(labels[a:b], confidences[a:b]) for a, b in pairwise(cuts.tolist())]
    found, every = frequency_of(parts, 4), frequency(labels, confidences, 4)
    assert found.tobytes() == every.tobytes()
    weight = np.where(confidences >= np.float32(0.8), 1, np.where(confidences <= np.float32(0.1), 0, confidences))
    counts = np.bincount(labels, weight, 4)
    assert found.tobytes() == (counts / counts.sum() if counts.sum() else counts).tobytes()


def shards(rng: np.random.Generator) -> list[Candidates]:
    """Shards of candidates with none to several members each, shared by some, in two parts."""
    found, before = [], 0
    for first in range(0, 24, 6):
        parts = (detections(rng, 6), detections(rng, 6))
        n = 0 if first == 12 else int(rng.integers(1, 8))
        total = sum(map(len, parts))
        count = rng.integers(0, 4, n) if total else np.zeros(n, np.int64)
        members = rng.integers(0, max(total, 1), int(count.sum()))
        columns = first + np.sort(rng.integers(0, 6, n)), rng.integers(0, 99, n), rng.integers(0, 2, n)
        xyxy, offsets = rng.random((n, 4), dtype=np.float32), np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        found.append(Candidates(parts, *columns, xyxy, offsets, members, first, before + np.arange(total)))
        before += total
    return found


@pytest.mark.parametrize("seed", range(20))
def test_some_candidates_are_those_of_all(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order that is asked for, with all columns of their detections; read once for what is asked again."""
    rng, reads = np.random.default_rng(seed), list[Any]()
    made = shards(rng)

    def in_shards(_now: Any, _unit: Any, columns: Any) -> Iterator[Candidates]:
        reads.append(columns)
        yield from made

    monkeypatch.setattr(candidates, "in_shards", in_shards)
    every = candidates.gather(SimpleNamespace(units=["one"]), ())  # type: ignore[arg-type]
    path = tmp_path / "scores.parquet"
    files.write_table(path, {"image": every.image, "x1": every.xyxy[:, 0]})
    now: Any = SimpleNamespace(units=["one"], scores=files.TableFile(path), number=1)
    chosen, reads[:] = selector_inputs._Chosen(now), []
    for rows in (rng.permutation(len(every)), rng.permutation(len(every))[:3], rng.integers(0, len(every), 0)):
        found, at = chosen(rows, "features")
        assert np.array_equal(found.image[at], every.image[rows])
        offsets, members = found.members_of(at)
        all_offsets, all_members = every.members_of(rows)
        assert np.array_equal(offsets, all_offsets)
        assert found.numbers is not None and every.numbers is not None
        assert np.array_equal(found.numbers[members], every.numbers[all_members])
        for name in ("boxes", "probs", "scores", "labels", "features"):
            assert np.array_equal(found.column(name)[members], every.column(name)[all_members])
    assert reads == [("features",)], "of these three the last two are among the first"
    few, _ = selector_inputs._Chosen(now)(rng.permutation(len(every))[:2])
    assert sum(map(len, few.parts)) <= 6, "detections of no other candidate are held"
    files.write_table(path, {"image": every.image, "x1": every.xyxy[:, 0] + (np.arange(len(every)) == 1)})
    now.scores = files.TableFile(path)
    with pytest.raises(LabelwiseError, match="not those that were scored"):
        candidates.some_of(now, np.arange(1), ())


def test_detections_at_every_scale_are_numbered_through_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trained detector finds others at another scale, more of them in one shard than at the first scale."""
    rng, scales = np.random.default_rng(0), (1.0, 2.0)
    at = {scale: [detections(rng, 4) for _ in range(3)] for scale in reversed(scales)}
    monkeypatch.setattr(candidates, "_done", lambda now: np.zeros(12, bool))
    query = SimpleNamespace(scales=scales, threshold=0.0, miss_rate=None)
    run = SimpleNamespace(query=query, reads_objects=False, classifies=False, data=SimpleNamespace(image_size_px=64))
    known = Labels(Boxes.empty(12), Rects.empty(12), Rects.empty(12), np.zeros(12, bool))
    now: Any = SimpleNamespace(
        run=run, known=known, askable=np.ones(12, bool), proposed=False,
        pool=SimpleNamespace(width_px=np.full(12, 64), height_px=np.full(12, 64)),
        shards=lambda columns, scale: ((4 * k, one) for k, one in enumerate(at[scale])),
    )  # fmt: skip
    numbers = [shard.numbers for shard in candidates.in_shards(now, units.find("region"), ())]
    found = np.concatenate([one for one in numbers if one is not None])
    first, second = (sum(map(len, at[scale])) for scale in scales)
    assert len(at[2.0][0]) > len(at[1.0][0]), "what is numbered by scale 1 would meet itself in the next shard"
    assert sorted(found.tolist()) == [*range(first), *range(1 << 40, (1 << 40) + second)]


def test_detections_of_some_images_are_those_of_all(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    found = detections(rng, 23)
    now = Round(SimpleNamespace(pool=range(25)), 1, live=tmp_path)  # type: ignore[arg-type]  # two came since
    files.write_detections(now.folder.predictions(), found, 5)
    for images in (rng.random(25) < 0.2, np.zeros(25, bool), np.arange(25) > 22, np.ones(25, bool)):
        some, every = now.detections_in(images), now.detections()
        every = every.take(images[every.image])
        for name in ("offsets", "boxes", "probs", "scores", "features"):
            assert np.array_equal(getattr(some, name), getattr(every, name))


def test_what_was_said_of_images_is_read_part_after_part(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    found = detections(rng, 23)
    now = Round(SimpleNamespace(pool=range(25)), 1, live=tmp_path)  # type: ignore[arg-type]  # two came since
    files.write_detections(now.folder.predictions(), found, 5)
    said = found.of_images(25).per_image
    assert said is not None
    for name in ("features", "predicted_loss", "seen"):
        assert np.array_equal(getattr(now.image_outputs, name), getattr(said, name))
    images = rng.permutation(25)[:9]
    assert np.array_equal(now.image_features(images), said.features[images])
    assert now.image_features(images[:0]).shape == (0, 4)


@pytest.mark.parametrize("recipe", ["coreset_box", "entropy_cb", "mural"])
def test_no_pick_hangs_on_how_much_is_read_at_once(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of 3 rows, and all at once."""
    data = layer(tmp_path, data_set(tmp_path / "data"))
    told = []
    for name, rows in (("parts", 3), ("whole", 1 << 16)):
        monkeypatch.setattr(table_files, "ROWS", rows)
        settings = [*COMMON, "predict.shard_images=2", "budget.per_round=[3, 3]"]
        opened = opening.start(tmp_path / name, f"{data}+{recipe}", settings)
        assert list(loop.run(opened)) == [0, 1, 2]
        tables = [files.read_table(opened.project.folder / f"rounds/001/{one}.parquet") for one in ("scores", "picks")]
        queries = [(q.rank, q.image, q.box, q.label, q.score, q.reason) for q in opened.project.ledger.queries()]
        told.append(([{k: v.tolist() for k, v in table.items()} for table in tables], queries))
    assert repr(told[0]) == repr(told[1]), "repr: NaN is no number"
    assert len(told[0][1]) >= 5 and len(told[0][0][1]["row"]) > 3
