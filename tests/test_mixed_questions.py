"""Reviews of doubtful labels among the new questions of a round: their share, their cost, what they mend, kills."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelwise import files, loop
from labelwise.ask import oracle
from labelwise.ledger.ledger import Ledger
from labelwise.ledger.reviews import REVIEWS
from labelwise.ledger.unreviewed import unreviewed
from labelwise.project import opening
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.stages.mixed_questions import spread
from labelwise.types import Answer, Cost, LabelwiseError, Query

ROUNDS = 2


def run_of(folder: Path, unit: str, *more: str, budget: str = "queries") -> Context:
    """A small run with a detector that finds boxes at random, or with a classifier."""
    recipe = folder.parent / f"{folder.name}.toml"
    if unit == "class":
        root = images_of_two_classes(folder.parent / "photos")
        text = (
            f'model = "classifier"\n[data]\nroot = "{root.as_posix()}"\nimage_size_px = 32\n[query]\nunit = "image"\n'
            'score = "entropy"\nselect = "top"\n[labels]\npolicy = "background"\n'
        )
    else:
        text = (
            'model = "fakes.detector"\n[data]\nscenes = {train = 24, test = 4, seed = 3, size_px = 96}\n'
            f'image_size_px = 96\n[query]\nunit = "{unit}"\nthreshold = 0.05\n[predict]\nviews = ["flip"]\n'
        )
    start = 16 if unit == "class" else 6
    text += f'[train]\nepochs = 1\n[budget]\nunit = "{budget}"\nstart_images = {start}\nper_round = {[10] * ROUNDS}\n'
    recipe.write_text('name = "mixed"\n' + text)
    return opening.start(folder, str(recipe), ["ask.review_share=0.4", *more])


def images_of_two_classes(root: Path) -> Path:
    from PIL import Image

    if not root.exists():
        for kind, level in (("cats", 60), ("dogs", 140)):
            (root / kind).mkdir(parents=True)
            for k in range(20):
                noise = np.random.default_rng(k + level).integers(0, 80, (32, 32, 3))
                Image.fromarray((noise + level).astype(np.uint8)).save(root / kind / f"{k:02d}.png")
    return root


@pytest.fixture(autouse=True)
def who_errs(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first round the oracle says a wrong class of every third object, and later what is right."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    right = oracle.answer

    def answer(query: Query, truth: Any, image: int, annotated: np.ndarray, **more: Any) -> Answer:
        said = right(query, truth, image, annotated, **more)
        if query.round:
            return said
        labels = [(k + 1) % 2 if (k + image) % 3 == 0 else k for k in said.labels]
        return Answer(said.query, said.verdict, said.boxes, labels)

    monkeypatch.setattr(oracle, "answer", answer)


def reviews(ledger: Ledger, round_number: int) -> list[Query]:
    return [query for query in ledger.queries(round_number) if "kind" in query.reason]


def fingerprint(opened: Context) -> dict[str, Any]:
    """What must not hang on when a run was killed; ids of rows do not count."""
    ledger = opened.project.ledger
    labels = ledger.labels(opened.pool)
    asked = [(q.round, q.rank, q.image, q.unit, q.box, q.label, q.score) for q in ledger.queries()]
    said = [ledger.verdicts(k) for k in range(opened.run.rounds)]
    rows = (labels.annotations, labels.coverage, labels.background)
    return {
        "labels": [getattr(one, "labels", one.xyxy).tolist() + one.xyxy.tolist() for one in rows],
        "asked": asked,
        "said": [list(one.values()) for one in said],
        "cost": ledger.cost_by_round(),
    }


@pytest.mark.parametrize("unit", ["box", "image", "region", "class"])
def test_a_share_of_the_questions_are_reviews_and_their_answers_stand(tmp_path: Path, unit: str) -> None:
    opened = run_of(tmp_path / "p", unit)
    assert list(loop.run(opened)) == [0, 1, 2]
    ledger, pool, seen = opened.project.ledger, opened.pool, set[float]()
    for number in (1, 2):
        asked, about = ledger.queries(number), reviews(ledger, number)
        assert len(asked) == ledger.cost_by_round()[number].queries == 10
        place = spread(10 - len(about), len(about), 0.4).tolist()
        assert [query in about for query in asked] == place, "each has its place in the ranking"
        assert len(about) == 4 or unit == "class", "of classes no more than are doubtful"
        labels = {query.reason[REVIEWS] for query in about if REVIEWS in query.reason}
        assert (labels or number == 2) and not labels & seen, "a label is asked about once"
        seen |= {float(label) for label in labels}
        assert {query.unit for query in about} == {"image" if unit == "class" else "box"}
    with ledger.read() as connection:
        left = unreviewed(connection, None, merged=False)["id"].tolist()
        old = connection.exec_driver_sql("SELECT supersedes FROM annotations WHERE supersedes IS NOT NULL").scalars()
        assert seen == set(map(float, old)) and not seen & set(left)
        mended = connection.exec_driver_sql(
            "SELECT n.image, n.x1, n.y1, n.x2, n.y2, n.label FROM annotations n WHERE supersedes IS NOT NULL"
        ).all()
    assert pool.truth is not None
    truth = {
        (pool.names[k], *map(float, box), label)
        for k, box, label in zip(pool.truth.image, pool.truth.xyxy.tolist(), pool.truth.labels.tolist(), strict=True)
    }
    cut = unit == "region"  # there an object is cropped to its region, and mended to its whole
    assert all(row[-1] is None or tuple(row) in truth for row in mended) and (
        cut or any(row[-1] is not None for row in mended)
    )
    opened.project.close()


def test_a_budget_in_boxes_pays_for_the_boxes_of_reviews(tmp_path: Path) -> None:
    opened = run_of(tmp_path / "p", "box", budget="boxes")
    assert list(loop.run(opened)) == [0, 1, 2]
    ledger = opened.project.ledger
    for number in (1, 2):
        assert ledger.cost_by_round().get(number, Cost()).boxes <= 10
        asked, about = ledger.queries(number), reviews(ledger, number)
        place = spread(len(asked) - len(about), len(about), 0.4).tolist()
        assert (about or number == 2) and [query in about for query in asked] == place


@pytest.mark.parametrize("unit", ["box", "region"])
def test_killed_between_any_two_writes_it_ends_the_same(
    tmp_path: Path, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = run_of(tmp_path / "calm", unit)
    list(loop.run(calm))
    expected = fingerprint(calm)
    calm.project.close()
    write, calls = Ledger.record_many, [0]
    for until in (1, 2, 3):
        folder = tmp_path / f"killed-{until}"
        calls[0] = 0

        def stop(ledger: Ledger, records: Any, origin: str, until: int = until) -> None:
            """Killed when the first of the answers that would be stored together is stored."""
            calls[0] += 1
            write(ledger, records[: 1 if calls[0] == until else len(records)], origin)
            if calls[0] == until:
                raise KeyboardInterrupt

        opened = run_of(folder, unit)
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "record_many", stop)
            while True:
                try:
                    list(loop.run(opened))
                    break
                except KeyboardInterrupt:
                    opened.project.close()
                    opened = opening.start(folder, None)
        assert fingerprint(opened) == expected, until
        opened.project.close()
        shutil.rmtree(folder)


def test_a_ranking_that_is_lost_is_made_again_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    opened = run_of(folder, "box")
    list(loop.run(opened))
    before = [files.read_table(Round(opened, k).folder.picks) for k in (1, 2)]
    opened.project.close()
    for number in (1, 2):
        (folder / "rounds" / f"{number:03d}" / "picks.parquet").unlink()
    opened = opening.start(folder, None)
    list(loop.run(opened))
    after = [files.read_table(Round(opened, k).folder.picks) for k in (1, 2)]
    for one, other in zip(before, after, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    opened.project.close()


def test_without_the_setting_a_ranking_has_no_column_of_it(tmp_path: Path) -> None:
    opened = run_of(tmp_path / "p", "box", "ask.review_share=0")
    list(loop.run(opened))
    picks = files.read_table(Round(opened, 1).folder.picks)
    assert "annotation" not in picks and not reviews(opened.project.ledger, 1)
    opened.project.close()


@pytest.mark.parametrize(
    "more, message",
    [
        (["budget.unit=images", "query.unit=image"], "costs no image"),
        (["ask.again=true"], "merge"),
        (["ask.again=true", "ask.merge=majority"], "people"),
        (["ask.review_share=0.95"], "0.9"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(tmp_path: Path, more: list[str], message: str) -> None:
    with pytest.raises(LabelwiseError, match=message):
        run_of(tmp_path / "p", "box", *more)


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.01, 0.9))
def test_others_have_their_share_of_every_beginning(n: int, more: int, share: float) -> None:
    place = spread(n, more, share)
    assert (~place).sum() == n and place.sum() <= more
    so_far = np.cumsum(place)
    most = share * np.arange(1, len(place) + 1)
    assert (so_far <= most + 1e-6).all(), "never more than its share"
    if place.sum() < more:
        assert place.sum() >= share / (1 - share) * n - 1 - 1e-6, "and as many as it allows"
