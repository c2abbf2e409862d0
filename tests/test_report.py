"""The report page: it says what the runs say, asks nothing of the network, escapes data, and stands little or much."""

from __future__ import annotations

import dataclasses
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from labelwise.report import curves, gallery, page, reliability, spread, tables
from labelwise.report.comparison import pair, verdict
from labelwise.report.headroom import EVERYTHING_LABELLED, NO_NEW_LABEL
from labelwise.report.results import Calibration, GalleryItem, RoundResult, RunResult
from labelwise.types import LabelwiseError

NASTY = "<script>alert('x')</script>"
VOID = {"meta", "input", "br", "link", "img"}


class Page(HTMLParser):
    """Tables by caption, all attributes, all visible text; refuses tags that do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self._rows: list[list[str]] = []
        self._caption = ""
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self._rows = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        elif tag == "caption":
            self._caption = ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "table":
            assert self._caption not in self.tables, "captions tell tables apart"
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if "caption" in self._open:
            self._caption += data
        elif "td" in self._open or "th" in self._open:
            self._rows[-1][-1] += data


def result(number: int, quality: float | None, classes: tuple[str, ...] = ("a", "b"), **other: object) -> RoundResult:
    counts = {c: float(10 * (i + 1) + number) for i, c in enumerate(classes)}
    fields: dict[str, object] = {
        "cost_boxes": 100 + 50 * number,
        "cost_queries": 20 + 61 * number,
        "cost_images": 5 + number,
        "cost_seconds": 300.0 + 90 * number,
        "ap": None if quality is None else quality / 2,
        "quality": quality,
        "ap75": None,
        "per_class": dict.fromkeys(classes, quality),
        "class_counts_truth": counts,
        "class_counts_pseudo": counts,
        "class_counts_picks": counts if number else {},
        "class_counts_picks_unbalanced": counts if number else {},
        "answers": {"object": 50, "background": 11},
        "stage_seconds": {"predict": 6.0, "score": 0.2, "select": 0.1, "train": 3.7},
    }
    return RoundResult(number, **{**fields, **other})  # type: ignore[arg-type]


def run(
    name: str, seed: int, quality: list[float | None], classes: tuple[str, ...] = ("a", "b"), **other: object
) -> RunResult:
    rounds = [result(i, v, classes) for i, v in enumerate(quality)]
    return RunResult(name, seed, classes, rounds, **other)  # type: ignore[arg-type]


def item(label: str = "a", verdict: str = "object", size: tuple[int, int] = (60, 80)) -> GalleryItem:
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    boxes = np.array([[5, 6, 30, 40], [6, 7, 31, 41]], np.float32)
    return GalleryItem(
        image, "x.jpg", boxes[:1], [label], [verdict], boxes[1:], [label], np.ones(1, np.float32), boxes, ["a"] * 2
    )


def parsed(runs: list[RunResult], **other: object) -> Page:
    return Page(page.html(runs, title="t", **other))  # type: ignore[arg-type]


@pytest.fixture
def tables_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the drawing, which takes most of the time."""
    for place in (
        "curves.learning_curves",
        "histograms.class_histograms",
        "contrast.differences",
        "reliability._chart",
    ):
        monkeypatch.setattr(f"labelwise.report.{place}", lambda *_, **__: "<svg></svg>")


@pytest.mark.usefixtures("tables_only")
def test_tables_hold_the_numbers_of_the_runs() -> None:
    found = parsed([run("one", 3, [0.4123, 0.5])]).tables
    assert found["one: numbers of every round"] == [
        ["Round", "Boxes", "Queries", "Images", "Seconds", "AP50", "AP", "AP75"],
        ["0", "100", "20", "5", "300", "41.2", "20.6", "–"],
        ["1", "150", "81", "6", "390", "50.0", "25.0", "–"],
    ]
    assert found["AP50 per class and round"][1:] == [["a", "41.2", "50.0"], ["b", "41.2", "50.0"]]
    assert found["one: boxes per class, round 1"][1:] == [["b", *["21"] * 4], ["a", *["11"] * 4]]
    assert found["Answers by kind"][1:] == [["one", "100", "22"]]
    assert found["Time per stage"][1:] == [
        ["predict", "6.00 s (60.0%)"],
        ["score", "0.20 s (2.0%)"],
        ["select", "0.10 s (1.0%)"],
        ["train", "3.70 s (37.0%)"],
        ["score + select", "0.30 s (3.0%)"],
        ["whole round", "10.0 s"],
    ]
    assert "– means: not measured" in parsed([run("one", 3, [0.4])]).text


@pytest.mark.usefixtures("tables_only")
@pytest.mark.usefixtures("tables_only")
def test_the_bounds_of_a_comparison_are_told_apart_from_its_methods() -> None:
    methods = [run(n, s, [0.4, q]) for n, q in (("u", 0.56), ("cb", 0.44)) for s in (0, 1)]
    low = [run(NO_NEW_LABEL, s, [0.4, 0.5]) for s in (0, 1)]
    found = parsed([*methods, *low, *(run(EVERYTHING_LABELLED, s, [0.4, 0.58]) for s in (0, 1))])
    assert "lie 8.0 points of AP50" in found.text and "Less than 10 points of headroom decide nothing" in found.text
    shares = {row[0]: row[-1] for row in found.tables["Share of the headroom"]}
    assert (shares["u"], shares["cb"]) == ("75 %", "\N{MINUS SIGN}75 %")
    assert "Difference in AP50 to u" not in found.tables, "no method is called better or worse"
    assert not [word for word in ("highest for", "better than", "worse than", "#comparison") if word in found.text]
    with pytest.raises(LabelwiseError, match="Did you mean 'cb'"):
        parsed([*methods, *low, *(run(EVERYTHING_LABELLED, s, [0.4, 0.58]) for s in (0, 1))], baseline="cbb")
    found = parsed([*methods, *low, *(run(EVERYTHING_LABELLED, s, [0.4, 0.7]) for s in (0, 1))])
    assert "lie 20.0 points of AP50" in found.text and "highest for u" in found.text
    assert [row[0] for row in found.tables["Difference in AP50 to u"]] == ["Run", "cb"]


@pytest.mark.usefixtures("tables_only")
def test_seeds_are_averaged_and_the_best_round_is_stressed() -> None:
    runs = [run("u", s, [0.40, 0.50 + 0.02 * s]) for s in (2, 0, 1)] + [run("cb", s, [0.40, 0.60]) for s in (0, 1, 2)]
    text = page.html(runs, title="t")
    rows = Page(text).tables["AP50 by round, and its cost"]
    assert rows[2][:4] == ["u", "3", "40.0 ± 0.0", "52.0 ± 2.0"]  # 50, 52, 54: standard deviation 2
    assert rows[3][:4] == ["cb", "3", "40.0 ± 0.0", "60.0 ± 0.0"]
    assert "<strong>60.0 ± 0.0</strong>" in text and "<strong>40.0" not in text


def test_band_is_the_sample_standard_deviation_of_the_seeds_that_have_the_round() -> None:
    (group,) = spread.groups([run("u", 0, [0.4, 0.5, None]), run("u", 1, [0.6, float("nan")]), run("u", 2, [0.8, 0.7])])
    c = curves.curve(group, "quality", "cost_boxes")
    np.testing.assert_allclose(c.mean, [60, 60])
    np.testing.assert_allclose(c.std, [20, math.sqrt(200)])
    np.testing.assert_allclose(c.x, [100, 150])
    (single,) = spread.groups([run("u", 0, [0.4, 0.5])])
    assert np.isnan(curves.curve(single, "quality", "cost_queries").std).all()
    assert "Incomplete: seed 1 has 2 of 3 rounds; seed 2 has 2 of 3 rounds" in tables.rounds(group).note


@pytest.mark.usefixtures("tables_only")
def test_balance_is_computed_per_seed_and_not_of_pooled_counts() -> None:
    picks = [{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}]  # each run asks one class only: entropy 0, pooled ln 2
    runs = [RunResult("u", s, ["a", "b"], [result(1, 0.5, class_counts_picks=p)]) for s, p in enumerate(picks)]
    row = parsed(runs).tables["u: class balance of every round"][2]
    assert row[-3:] == ["1.00 ± 0.00 (1 absent)", "0.00 ± 0.00", "1.00 ± 0.00"]


@pytest.mark.usefixtures("tables_only")
def test_rare_classes_are_averaged_without_those_that_have_no_ground_truth() -> None:
    known = {"a": 0.9, "b": 0.2, "c": None}
    rare = RunResult("u", 0, ["a", "b", "c"], [result(0, 0.5, per_class=known)], rare_classes=["b", "c"])
    assert parsed([rare]).tables["u: numbers of every round"][1][-1] == "20.0"


@pytest.mark.parametrize("several", [False, True])
def test_nothing_is_asked_of_the_network_and_nothing_can_run(several: bool) -> None:
    runs = [run("u", s, [0.4, 0.5], gallery=[item()]) for s in range(2)] + [run("v", 0, [0.4])] * several
    text = page.html(runs, title="t")
    assert re.findall(r"(?i)https?:|//[a-z]|@import|<script|<link|<iframe|srcset|\son\w+=", text) == []
    for tag, name, value in Page(text).attributes:
        if name in ("src", "href", "xlink:href"):
            assert value.startswith(("#", "data:image/jpeg;base64,")), (tag, name, value[:60])
    ids = [value for _, name, value in Page(text).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {v[1:] for _, n, v in Page(text).attributes if n in ("href", "xlink:href") and v.startswith("#")}
    assert targets <= set(ids)
    assert "default-src 'none'" in text
    assert "var(--s1)" in text and "#0f0" not in text  # every placeholder colour became a colour of the page


def test_charts_and_pictures_have_text_alternatives_and_tables_have_headings() -> None:
    text = page.html([run("u", 0, [0.4, 0.5], gallery=[item(verdict="background")])], title="t")
    svgs = re.findall(r"<svg[^>]*>", text)
    assert svgs and all('aria-label="' in s or 'aria-hidden="true"' in s for s in svgs)
    assert 'aria-label="x.jpg: 1 pick of a (1 background), 1 pseudo label."' in text
    assert text.count("<table") == text.count("<caption>") == text.count("<thead>") > 5
    assert "✗ a" in text and "pseudo label: a, classification weight 1.00" in text


def test_text_from_data_is_escaped_everywhere() -> None:
    nasty = run(
        NASTY,
        0,
        [0.4, 0.5],
        (NASTY, "b&w", "$x_1$", "日本", "line\nbreak", "\udc80"),
        recipe=NASTY,
        settings={NASTY: {NASTY: NASTY}},
        versions={NASTY: NASTY},
        data=NASTY,
        budget_unit=NASTY,
        rare_classes=[NASTY],
        gallery=[dataclasses.replace(item(NASTY, NASTY), caption=NASTY)],
    )
    nasty = dataclasses.replace(nasty, rounds=[*nasty.rounds, result(2, 0.6, skipped=[(NASTY, NASTY)])])
    text = page.html([nasty, dataclasses.replace(nasty, seed=1), run("other", 0, [0.4])], title=NASTY)
    assert "<script" not in text.lower()
    assert Page(text).tables["Skipped images"][1][:2] == [NASTY, NASTY]
    assert "$x_1$" in Page(text).text


MANY = tuple(f"{'long ' * 9}{i}" for i in range(120))


@pytest.mark.parametrize(
    "runs",
    [
        [],
        [RunResult("u", 0, [], [])],
        [RunResult("u", 0, ["a"], []), RunResult("v", 0, ["a"], [])],
        [run("u", 0, [0.5], ("only",))],
        [run("u", 0, [None, None])],
        [run("u", 0, [0.0, float("nan")]), run("v", 0, [None])],
        [run("u" * 300, 0, [0.1, 0.2, 0.3], MANY)],
        [
            RunResult(
                "u", 0, ["a", "b"], [RoundResult(0, 0, 0, 0, 0.0)], gallery=[GalleryItem(np.zeros((1, 1, 3), np.uint8))]
            )
        ],
        [RunResult("u", 0, ["a"], [result(1, 0.5, ("a",), class_counts_picks={"a": 0.0}, class_counts_truth={})])],
        [RunResult(f"r{i}", s, [], [RoundResult(1, 5, 5, 5, 9.0, quality=0.5)]) for i in range(11) for s in range(2)],
    ],
    ids=[
        "no run",
        "no round",
        "two without rounds",
        "one class",
        "unmeasured",
        "nan",
        "120 long classes",
        "bare",
        "no picks",
        "11",
    ],
)
def test_little_or_much_still_gives_a_sound_page(runs: list[RunResult]) -> None:
    found = parsed(runs)
    assert all(word not in found.text.lower() for word in ("nan", "none,", "inf ", "traceback"))
    assert all(f"#{s}" in {v for _, n, v in found.attributes if n == "href"} for s in ("summary", "numbers", "gallery"))
    for rows in found.tables.values():
        assert len({len(row) for row in rows if "" not in row[:1]}) <= 2  # a row of spans, and all others alike


@pytest.mark.usefixtures("tables_only")
def test_a_large_gallery_stays_a_small_file_and_says_what_is_left_out() -> None:
    noise = [item(size=(900, 900)) for _ in range(30)]
    text = page.html([run("u", 0, [0.5], gallery=noise), run("v", 0, [0.5], gallery=noise)], title="t")
    assert len(text) < 5_000_000
    shown = text.count('class="picture"')
    assert 6 <= shown <= gallery.MOST_IMAGES
    assert sum(map(int, re.findall(r"(\d+) more images left out", text))) == 60 - shown


@pytest.mark.usefixtures("tables_only")
def test_comparison_pairs_by_seed_and_leaves_out_the_common_start() -> None:
    u = [run("u", s, [0.4, 0.50 + 0.01 * s, 0.60]) for s in range(9)]
    cb = [run("cb", s, [0.4, 0.52 + 0.01 * s, 0.62]) for s in (2, 1, *range(3, 9), 15)]  # seeds 1 to 8 are common
    found = parsed([*u, *cb], baseline="u")
    head, row = found.tables["Difference in AP50 to u"]
    assert head == ["Run", "Pairs", "Round 1", "Round 2", "Mean of rounds"]
    assert row == ["cb", "8", *["+2.0 [+2.0, +2.0]"] * 3]
    assert "cb is 2.0 AP50 better than u, 95 % CI 2.0 to 2.0 (8 seeds)" in found.text
    assert "Only common seeds are paired; left out, with u against cb: 0, 15" in found.text
    assert "cb against u: 1 common seed(s)" in parsed([*u, cb[0]]).text
    with pytest.raises(LabelwiseError, match="Did you mean 'cb'"):
        parsed([*u, *cb], baseline="cbb")


def test_paired_interval_covers_a_true_difference_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(2000):
        base = rng.normal(50, 5, (4, 3))
        p = pair(base + rng.normal(1.5, 2, (4, 3)), base)
        hits += bool(p.overall.low[0] <= 1.5 <= p.overall.high[0])
    assert 0.935 < hits / 2000 < 0.965


def test_paired_says_better_worse_or_that_nothing_can_be_said() -> None:
    # deviations -0.2, 0, 0.2 three times: s = sqrt(0.24 / 8), t(0.975; 8) = 2.306: 2.306 * 0.1732 / 3 = 0.133
    a = np.array([[1.0], [1.2], [0.8]] * 3)
    assert verdict(pair(a, 0 * a), "A", "B") == "A is 1.0 AP50 better than B, 95 % CI 0.9 to 1.1 (9 seeds)"
    assert verdict(pair(0 * a, a), "A", "B") == "A is 1.0 AP50 worse than B, 95 % CI 0.9 to 1.1 (9 seeds)"
    b = np.array([[1.0], [-1.0], [0.3]] * 3)
    assert verdict(pair(b, 0 * b), "A", "B").startswith("A against B: no difference that 9 seeds can show (mean +0.1")
    narrow = verdict(pair(a, 0 * a), "A", "B", effect=0.2)
    assert narrow.endswith("no verdict: the interval is 0.3 points wide, more than the effect of 0.2")
    few = verdict(pair(a[:7], 0 * a[:7]), "A", "B")
    assert few.endswith("(7 seeds); no verdict below 8 paired seeds") and "better" not in few
    for bad in (np.ones((1, 2)), np.ones((2, 0)), np.full((2, 2), np.nan), np.ones(3)):
        with pytest.raises(LabelwiseError, match=r"expected"):
            pair(bad, bad)


def test_the_same_runs_give_the_same_bytes_and_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    path, runs = tmp_path / "report.html", [run("u", 0, [0.4, 0.5], gallery=[item()])]
    page.write(path, runs, title="t")
    first = path.read_bytes()
    page.write(path, runs, title="t")
    assert path.read_bytes() == first

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    monkeypatch.setattr(page, "html", lambda *_, **__: "new")
    with pytest.raises(LabelwiseError, match="No space left"):
        page.write(path, runs, title="other")
    assert path.read_bytes() == first and [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_bad_records_are_refused_with_their_place() -> None:
    with pytest.raises(LabelwiseError, match=r"'u' is given twice with one seed"):
        parsed([run("u", 0, [0.5]), run("u", 0, [0.6])])
    with pytest.raises(LabelwiseError, match=r"'x.jpg'.*pick_boxes.*expected \[n, 4\]"):
        dataclasses.replace(item(), pick_verdicts=[])
    with pytest.raises(LabelwiseError, match="expected uint8"):
        dataclasses.replace(item(), image=np.zeros((4, 4), np.uint8))


def calibration(source: str, right: list[list[int]], checks: list[list[int]], **other: object) -> Calibration:
    """Two classes; counts in the bins 0.3-0.4 and 0.8-0.9, with confidences 0.35 and 0.85."""
    good, all_of_them = np.zeros((2, 2, 10), np.int64)
    good[:, [3, 8]], all_of_them[:, [3, 8]] = right, checks
    confidence = all_of_them * ((np.arange(10) + 0.5) / 10)
    fields = {"boxes": all_of_them.sum(axis=1), "objects": np.array([10, 10]), "hits": good.sum(axis=1), **other}
    return Calibration(source, checks=all_of_them, right=good, confidence=confidence, **fields)  # type: ignore[arg-type]


def with_pseudo(
    seed: int, *rounds: list[Calibration], classes: tuple[str, ...] = ("a", "b"), **other: object
) -> RunResult:
    made = [result(0, 0.3, classes)] + [
        result(k, 0.4, classes, calibration=c, **other) for k, c in enumerate(rounds, 1)
    ]
    return RunResult("own", seed, classes, made)


@pytest.mark.usefixtures("tables_only")
def test_pseudo_labels_have_a_section_with_both_sources() -> None:
    truth = calibration("ground truth", [[1, 3], [0, 2]], [[4, 4], [2, 2]])
    said = calibration("answers", [[1, 1], [0, 1]], [[2, 1], [1, 1]], answers=9, objects=np.array([0, 0]))
    found = parsed([with_pseudo(0, [dataclasses.replace(truth, weights=3), said], [truth])])
    assert found.tables["own: pseudo labels of every round"] == [
        ["", "By ground truth", "By later answers"],
        ["Round", "Pseudo boxes", "Precision", "Recall", "Answers", "Boxes checked", "Precision (95 %)", "Recall"],
        ["1", "12", "50.0", "30.0", "9", "5", "60.0 (23.1 to 88.2)", "–"],
        ["2", "12", "50.0", "30.0", "0", "0", "–", "–"],
    ]
    assert found.tables["own: pseudo labels per class, round 2, by ground truth"][1:] == [
        ["all", "12", "12", "6", "7.2", "50.0", "20", "6", "30.0"],
        ["a", "8", "8", "4", "4.8", "50.0", "10", "4", "40.0"],
        ["b", "4", "4", "2", "2.4", "50.0", "10", "2", "20.0"],
    ]
    assert found.tables["own: confidence of the pseudo labels, round 2, by ground truth"][1:] == [
        ["0.3–0.4", "6", "35.0", "16.7 (3.0 to 56.4)"],
        ["0.8–0.9", "6", "85.0", "83.3 (43.6 to 97.0)"],
    ]
    assert "Round 2, by ground truth: 6 of 12 pseudo boxes were right (50.0 %)" in found.text
    assert "10.0 points apart" in found.text, "(6 |1/6 - 0.35| + 6 |5/6 - 0.85|) / 12"
    assert "Answered boxes are chosen by the method" in found.text
    assert "Of 3 boxes no confidence is stored" in found.text


@pytest.mark.usefixtures("tables_only")
def test_without_ground_truth_the_answers_are_shown_and_without_pseudo_labels_nothing() -> None:
    said = calibration("answers", [[1, 1], [0, 1]], [[2, 1], [1, 1]], answers=9)
    found = parsed([with_pseudo(0, [said], [])])
    assert found.tables["own: pseudo labels per class, round 1, by answers"][1][:5] == ["all", "5", "5", "3", "2.8"]
    assert "By ground truth" not in found.text and "Answered boxes are chosen by the method" in found.text
    nothing = parsed([with_pseudo(0, [], [])])
    assert "Pseudo labels: are they right?" not in nothing.text and "#pseudo-labels" not in str(nothing.attributes)


@pytest.mark.usefixtures("tables_only")
def test_seeds_add_up_by_the_names_of_their_classes_and_growth_is_told() -> None:
    one = calibration("ground truth", [[1, 3], [0, 2]], [[4, 4], [2, 2]])
    seeds = [with_pseudo(0, [one]), with_pseudo(1, [one], classes=("b", "a"), sure_boxes=(14.0, 25.0))]
    found = parsed(seeds)
    shown = found.tables["own: pseudo labels per class, round 1, by ground truth"]
    assert [row[:4] for row in shown[1:]] == [["all", "24", "24", "12"], ["a", "12", "12", "6"], ["b", "12", "12", "6"]]
    assert found.tables["own: pseudo labels of every round"][2][-2:] == ["14.0", "25.0"]
    assert "sure of 14.0 boxes an image in the first tenth of the training and of 25.0 in the last" in found.text
    alone = parsed([with_pseudo(0, [], sure_boxes=(20.0, 12.0))])
    assert alone.tables["own: pseudo labels of every round"][2] == ["1", "–", "20.0", "12.0"]
    assert "not more than at its beginning" in alone.text


def test_the_chart_of_pseudo_labels_has_a_text_alternative_and_stands_empty_bins() -> None:
    nothing = calibration("ground truth", [[0, 0], [0, 0]], [[0, 0], [0, 0]], objects=np.array([0, 0]))
    some = calibration("ground truth", [[1, 3], [0, 2]], [[4, 4], [2, 2]])
    for rounds in ([nothing], [nothing, some], [some, nothing]):
        (found,) = reliability.reliabilities(spread.groups([with_pseudo(0, *([one] for one in rounds))]))
        assert found.chart is not None and found.chart.count("<svg") == found.chart.count("</svg>") == 1
        assert 'aria-label="Precision and recall of the pseudo labels' in found.chart
        assert found.tables[0].rows[rounds.index(nothing)][1:] == ["0", "–", "–"]
