"""Asking of videos is thinned, tracking is not: which frames are asked, predicted, joined by flow, and lent boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_tracks_flow import clips_of as made_clips
from test_tracks_flow import panning, sizes
from test_video_flow import clips as clips  # a fixture
from test_video_flow import started

from labelwise import files, loop
from labelwise.config import run_file
from labelwise.data.video import every
from labelwise.project import opening
from labelwise.project.context import Context, askable
from labelwise.project.round import Round
from labelwise.stages import tracking
from labelwise.tracks import coherence, flow, follow
from labelwise.tracks.neighbours import around, pairs, reach
from labelwise.types import LabelwiseError, Pool, image_of

pytest.importorskip("cv2", reason="OpenCV is not installed: `uv sync --extra video`")

FAR = ["query.every_frames=9", "tracks.frames=2", "budget.start_images=2", "budget.per_round=[2]"]
"""Of clips of 10 frames the first and the last may be asked; two frames beside each are looked at."""


def asked_in(opened: Context, round_number: int) -> list[int]:
    return [opened.pool.number_of[query.image] for query in opened.project.ledger.queries(round_number)]


def test_the_frames_around_some_are_those_of_their_own_video() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        video = np.sort(rng.integers(0, 4, rng.integers(0, 30)))
        centres, far = rng.random(len(video)) < rng.random(), int(rng.integers(0, 6))
        slow = [
            any(centres[j] and video[j] == video[i] and abs(i - j) <= far for j in range(len(video)))
            for i in range(len(video))
        ]
        assert around(video, centres, far).tolist() == slow
        both = sum(centres[i] and centres[i + 1] and video[i] == video[i + 1] for i in range(len(video) - 1))
        assert pairs(video, centres) == both
    with pytest.raises(LabelwiseError, match="0 or more"):
        around(video, centres, -1)


def test_flow_of_some_frames_is_the_flow_of_all_there(tmp_path: Path) -> None:
    videos, read = made_clips(8, 5), panning((3, -2))
    wanted = np.array([1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], bool)
    seen: list[int] = []

    def noted(i: int) -> np.ndarray:
        seen.append(i)
        return read(i)

    rule = {"flow_px": 128, "cell_px": 8}
    whole = flow.compute(13, videos, *sizes(13), read, tmp_path, **rule)
    part = flow.compute(13, videos, *sizes(13), noted, tmp_path, **rule, wanted=wanted)
    assert sorted(seen) == np.flatnonzero(wanted).tolist(), "the others are not read"
    assert part.joined.tolist() == (whole.joined & wanted & np.append(wanted[1:], False)).tolist()
    assert part.joined.sum() == 3 and not part.problems
    for image in np.flatnonzero(part.joined).tolist():
        assert np.array_equal(part.between(image), whole.between(image))
    assert flow.open_flow(tmp_path, videos, *sizes(13), **rule).joined.tolist() == whole.joined.tolist()

    def unread(i: int) -> np.ndarray:
        raise AssertionError(f"{i} is read again")

    again = flow.compute(13, videos, *sizes(13), unread, tmp_path, **rule, wanted=wanted)
    assert again.joined.tolist() == part.joined.tolist()
    assert part.parts[0].stat().st_size == whole.parts[0].stat().st_size


@pytest.mark.parametrize("method", ["random_r", "temporal_coherence"])
def test_frames_between_are_never_asked_and_predicted_for_tracks_alone(
    clips: Path, tmp_path: Path, method: str
) -> None:
    opened = started(clips, tmp_path / method, method, *FAR)
    list(loop.run(opened))
    now, video = Round(opened, 1), opened.pool.clips.video  # type: ignore[union-attr]
    asked = asked_in(opened, 0) + asked_in(opened, 1)
    assert len(set(asked)) == 4 and now.askable[asked].all()
    assert np.flatnonzero(now.askable).tolist() == [0, 9, 10, 19, 20, 29]
    open_ones = now.askable.copy()
    open_ones[asked_in(opened, 0)] = False
    looked = around(video, open_ones, reach(2) if method == "temporal_coherence" else 0)
    found = now.detections()
    assert len(found) and looked[found.image].all()
    assert set(now.scores["image"].tolist()) == set(np.flatnonzero(open_ones).tolist())
    assert now.folder.predicted.exists() == (method == "temporal_coherence")
    assert method == "random_r" or now.predicted.tolist() == looked.tolist()


def test_a_frame_that_nobody_looked_at_is_no_frame_without_objects(clips: Path, tmp_path: Path) -> None:
    opened = started(clips, tmp_path / "tc", "temporal_coherence", *FAR)
    list(loop.run(opened))
    now = Round(opened, 1)
    nodes, links = now.errors, now.links
    assert now.predicted.sum() < len(opened.pool) and now.predicted[nodes["image"]].all(), "no candidate elsewhere"
    steps = np.abs(nodes["image"][links["a"]] - nodes["image"][links["b"]])
    assert set(steps.tolist()) == {1, 2}, "links are of the film's own frames"


def test_with_all_frames_in_reach_a_frame_is_judged_as_if_all_were_asked(clips: Path, tmp_path: Path) -> None:
    rule = ["budget.start_images=1", "budget.per_round=[2]", "query.every_frames=5", "tracks.frames=5"]
    opened = started(clips, tmp_path / "thin", "temporal_coherence", *rule)
    loop.begin(opened)
    for stage in loop.STAGES:
        loop.run_stage(opened, 0, stage)
    for stage in ("predict", "score"):
        loop.run_stage(opened, 1, stage)
    now, pool = Round(opened, 1), opened.pool
    found, moving = now.detections(), tracking.optical_flow(opened)
    tracks = follow.follow(found.offsets, found.boxes, moving, pool.width_px, pool.height_px, frames=5)
    whole = coherence.estimate(found.offsets, found.boxes, found.labels, tracks)
    scored = now.scores
    near = np.isin(pool.clips.video[scored["image"]], pool.clips.video[~now.predicted])  # type: ignore[union-attr]
    assert (~near).sum() >= 4, "five frames on either side of every fifth are all of them, where none is labelled"
    assert scored["score"][~near].tolist() == whole.fp[scored["image"]][~near].tolist()


@pytest.mark.parametrize(
    ("method", "settings"),
    [("random", ["budget.unit=queries"]), ("mural_random", ["budget.unit=queries"]), ("random_image", [])],
)
def test_boxes_and_regions_of_the_frames_between_are_not_asked_either(
    clips: Path, tmp_path: Path, method: str, settings: list[str]
) -> None:
    rule = ["query.every_frames=5", "budget.start_images=2", "budget.per_round=[3]"]
    opened = started(clips, tmp_path / "unit", method, *rule, *settings)
    list(loop.run(opened))
    asked = asked_in(opened, 0) + asked_in(opened, 1)
    assert len(asked) == 5 and askable(opened.pool, opened.run)[asked].all()


def test_lent_boxes_go_to_the_next_frames_of_the_film(clips: Path, tmp_path: Path) -> None:
    opened = started(clips, tmp_path / "lent", "random_r_propagate", *FAR)
    list(loop.run(opened))
    targets, known = files.read_targets(Round(opened, 1).folder.targets), set(asked_in(opened, 0) + asked_in(opened, 1))
    lent = set(targets.images[image_of(targets.offsets)[targets.origin == 1]].tolist())
    assert lent and all({image - 1, image + 1} & known for image in lent) and not lent & known


def perfect(pool: Pool, folder: Path) -> coherence.Estimate:
    """The verdicts on the ground truth as detections, by tracks over the frames of this pool."""
    truth, size = pool.truth, (pool.width_px, pool.height_px)
    assert truth is not None and pool.clips is not None

    def read(i: int) -> np.ndarray:
        import cv2

        return cv2.cvtColor(cv2.imread(str(pool.path(i))), cv2.COLOR_BGR2RGB)

    moving = flow.compute(len(pool), pool.clips, *size, read, folder)
    tracks = follow.follow(truth.offsets, truth.xyxy, moving, *size, frames=3)
    return coherence.estimate(truth.offsets, truth.xyxy, truth.labels, tracks)


def test_a_perfect_detector_has_no_false_alarms_at_the_films_rate(clips: Path, tmp_path: Path) -> None:
    film = started(clips, tmp_path / "film", "random_r").pool
    said = perfect(film, tmp_path / "flow")
    assert len(said.false_positive) > 50 and not said.false_positive.any() and not said.false_negative.any()


def test_tracks_over_a_thinned_pool_are_refused_and_old_projects_told(clips: Path, tmp_path: Path) -> None:
    for method in ("temporal_coherence", "random_r_propagate"):
        with pytest.raises(LabelwiseError, match=r"query\.every_frames=2"):
            started(clips, tmp_path / "new", method, "data.stride_frames=2")
    assert not (tmp_path / "new").exists()
    opened = started(clips, tmp_path / "old", "random_r", "data.stride_frames=2")
    assert len(opened.pool) == 15 and len(opened.test or ()) == 5, "without tracks a pool may be thinned"
    with pytest.raises(LabelwiseError, match="stride_frames=1"):
        opening.start(tmp_path / "old", None, ["query.score=temporal_coherence"])
    path = tmp_path / "old" / "run.toml"
    path.write_text(run_file.change(path, ["query.score=temporal_coherence"]))  # as an older labelwise did
    again, told = opening.start(tmp_path / "old", None), list[str]()
    again.tell = told.append
    list(loop.run(again))
    assert any("data.stride_frames = 2 takes away the frames between" in line for line in told)


def test_the_cost_of_tracks_is_told_beforehand(clips: Path, tmp_path: Path) -> None:
    opened, told = started(clips, tmp_path / "told", "temporal_coherence", *FAR), list[str]()
    opened.tell = told.append
    list(loop.run(opened))
    lines = [line for line in told if line.startswith("tracks:")]
    assert len(lines) == 2
    assert lines[0].startswith("tracks: 6 of 30 frames may be asked, each round predicts 18 frames; optical flow of 12")
    assert "min on one core" in lines[0] and "frames to predict" in lines[1] and "speed of the test" in lines[1]
    number = int(lines[1].split()[1])
    assert number == Round(opened, 1).predicted.sum()


def test_shares_are_of_the_frames_that_may_be_asked_and_the_test_has_its_own_stride(
    clips: Path, tmp_path: Path
) -> None:
    settings = ["query.every_frames=5", "budget.start_images=0.5", "data.test_stride_frames=3"]
    opened = started(clips, tmp_path / "shares", "random_r", *settings)
    assert len(opened.pool) == 30 and askable(opened.pool, opened.run).sum() == 6 and opened.first_images == 3
    assert opened.test is not None and opened.test.names == every(opened.test, 1).names and len(opened.test) == 4
    same = every(opened.pool, 5)
    assert same.names == tuple(np.array(opened.pool.names)[askable(opened.pool, opened.run)])
