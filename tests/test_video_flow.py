"""A whole round on videos: moving squares in three clips, asked by every method of chapter 2, and the filmstrip."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelwise import files, loop
from labelwise.evaluate.true_errors import errors
from labelwise.project import opening
from labelwise.project.context import Context, clips_of
from labelwise.project.round import Round
from labelwise.report import page
from labelwise.stages import tracking
from labelwise.study import history
from labelwise.tracks import flow
from labelwise.types import LabelwiseError, image_of

pytest.importorskip("cv2", reason="OpenCV is not installed: `uv sync --extra video`")

SIDE_PX, FRAMES = 96, 10
SMALL = [
    "data.image_size_px=96",
    "train.epochs=1",
    "train.min_steps=2",
    "train.max_steps=2",
    "query.threshold=0.0",
    "budget.start_images=4",
    "budget.unit=frames",
    "budget.per_round=[3, 3]",
]


def write_clips(root: Path, split: str, clips: int, seed: int) -> None:
    """A red and a blue square that move over a textured ground, as a COCO file with video fields."""
    rng = np.random.default_rng([seed, clips])
    videos, images, annotations = [], [], []
    for clip in range(clips):
        videos.append({"id": clip, "name": f"clip{clip}"})
        ground = rng.integers(60, 190, (SIDE_PX // 4, SIDE_PX // 4, 3)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
        start, step = rng.integers(5, 40, (2, 2)), rng.integers(-2, 4, (2, 2))
        (root / split / f"clip{clip}").mkdir(parents=True)
        for frame in range(FRAMES):
            pixels = ground.copy()
            name = f"clip{clip}/{frame:06d}.png"
            images.append({"id": len(images), "file_name": name, "width": SIDE_PX, "height": SIDE_PX})
            images[-1] |= {"video_id": clip, "frame_id": frame}
            for kind, colour in enumerate(((220, 20, 20), (20, 20, 220))):
                x, y = np.clip(start[kind] + frame * step[kind], 0, SIDE_PX - 24).tolist()
                pixels[y : y + 20, x : x + 20] = colour
                annotations.append({"id": len(annotations), "image_id": images[-1]["id"], "category_id": kind})
                annotations[-1] |= {"bbox": [x, y, 20, 20], "area": 400, "iscrowd": 0}
            Image.fromarray(pixels).save(root / split / name)
    (root / "annotations").mkdir(exist_ok=True)
    content = {"videos": videos, "images": images, "annotations": annotations}
    content["categories"] = [{"id": 0, "name": "red"}, {"id": 1, "name": "blue"}]
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    write_clips(root, "train", 3, 0)
    write_clips(root, "test", 1, 1)
    return root


def started(clips: Path, folder: Path, method: str, *settings: str) -> Context:
    below = folder.parent / "below.toml"
    below.write_text(
        f'model = "fakes.squares"\n[data]\nroot = "{clips.as_posix()}"\npool_split = "train"\ntest_split = "test"\n'
    )
    return opening.start(folder, f"{below}+{method}", [*SMALL, *settings])


def test_a_run_by_temporal_coherence_judges_every_detection_and_shows_it(clips: Path, tmp_path: Path) -> None:
    opened = started(clips, tmp_path / "tc", "temporal_coherence")
    list(loop.run(opened))
    nodes, links = (
        files.read_table(Round(opened, 1).folder.path / name) for name in ("errors.parquet", "links.parquet")
    )
    found = files.read_detections(Round(opened, 1).folder.predictions(), columns=())
    of_detections = ~nodes["is_candidate"]
    assert of_detections.sum() == len(found) > 0, "labelled frames are predicted and judged too"
    truth = opened.pool.truth
    assert truth is not None
    wrong = errors(found.offsets, found.boxes, found.labels, found.scores, truth).false_positive
    said = nodes["wrong"][of_detections]
    assert wrong.sum() >= 4 and (said & wrong).sum() / wrong.sum() > 0.7, "most false alarms are found"
    assert (said & wrong).sum() / said.sum() > 0.7, "and little else"
    assert nodes["wrong"][~of_detections].any(), "missed squares, too"
    assert nodes["image"][of_detections].tolist() == image_of(found.offsets).tolist()
    assert len(links["a"]) and max(links["a"].max(), links["b"].max()) < len(nodes["image"])
    video = opened.pool.clips.video  # type: ignore[union-attr]
    a, b = nodes["image"][links["a"]], nodes["image"][links["b"]]
    assert (video[a] == video[b]).all() and (np.abs(a - b) <= 3).all()
    scored = files.read_table(Round(opened, 1).folder.scores)
    fp = np.bincount(nodes["image"][of_detections], nodes["wrong"][of_detections], minlength=len(opened.pool))
    assert scored["score"].tolist() == fp[scored["image"]].tolist()
    ledger = opened.project.ledger
    number_of = {name: i for i, name in enumerate(opened.pool.names)}
    before = {number_of[query.image] for query in ledger.queries(0)}
    asked = {number_of[query.image] for query in ledger.queries(1)}
    assert len(asked) == 3 and not asked & before
    films = history.films(opened, 2)
    assert films and all(any(frame.is_pick for frame in film.frames) for film in films)
    text = page.html([history.run_result(opened)], title="clips")
    assert "Filmstrips" in text and text.count('class="strip"') == len(films)


def test_the_second_round_computes_no_flow(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELWISE_CACHE", str(tmp_path / "shared"))
    list(loop.run(started(clips, tmp_path / "one", "temporal_coherence", "budget.per_round=[3]")))
    stamps = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "shared" / "flow").glob("*.npy")}
    list(loop.run(started(clips, tmp_path / "two", "temporal_coherence")))
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "shared" / "flow").glob("*.npy")}
    assert len(stamps) == 3 and after == stamps


@pytest.mark.parametrize(
    "method", ["random_r", "frame_entropy", "frame_margin", "oracle_fp", "oracle_fn", "temporal_coherence_siamese"]
)
def test_every_method_of_the_chapter_runs(clips: Path, tmp_path: Path, method: str) -> None:
    opened = started(clips, tmp_path / method, method, "budget.per_round=[3]")
    list(loop.run(opened))
    assert history.round_result(opened, 1).cost_images == 7
    assert {query.unit for query in opened.project.ledger.queries(1)} == {"image"}


def test_neighbours_borrow_boxes_and_are_trained_on(clips: Path, tmp_path: Path) -> None:
    opened = started(clips, tmp_path / "lent", "random_r_propagate", "budget.per_round=[3]")
    list(loop.run(opened))
    targets = files.read_targets(Round(opened, 1).folder.targets)
    lent = targets.origin == 1
    assert lent.any() and (targets.w_cls[lent] == 0.5).all() and (targets.w_cls[~lent] == 1).all()
    truth = opened.pool.truth
    assert truth is not None
    owner = targets.images[image_of(targets.offsets)]
    for row in np.flatnonzero(lent):
        own = slice(*truth.offsets[owner[row] : owner[row] + 2])
        true = truth.xyxy[own][truth.labels[own] == targets.labels[row]][0]
        assert np.abs(true - targets.boxes[row]).max() < 6, "the box has moved with its square"


def test_images_that_are_no_frames_are_refused(clips: Path, tmp_path: Path) -> None:
    still = tmp_path / "still"
    (still / "annotations").mkdir(parents=True)
    for split in ("train", "test"):
        content = json.loads((clips / "annotations" / f"instances_{split}.json").read_text())
        for image in content["images"]:
            del image["video_id"], image["frame_id"]
        (still / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        (still / split).symlink_to(clips / split)
    with pytest.raises(LabelwiseError, match="not frames of videos"):
        started(still, tmp_path / "refused", "temporal_coherence")
    with pytest.raises(LabelwiseError, match="every_frames"):
        started(clips, tmp_path / "drawn", "random_image", "data.most_images=5")


def test_raft_is_a_setting(clips: Path, tmp_path: Path) -> None:
    import torch
    from torchvision.models.optical_flow import raft_small

    with pytest.raises(LabelwiseError, match="raft_large need a file"):
        started(clips, tmp_path / "none", "temporal_coherence", "tracks.preset=raft_small")
    with pytest.raises(LabelwiseError, match="no such file"):
        started(clips, tmp_path / "none", "temporal_coherence", "tracks={preset='raft_small', flow_weights='x.pth'}")
    torch.manual_seed(0)
    torch.save(raft_small(weights=None).state_dict(), tmp_path / "raft.pth")
    rule = f"tracks={{preset='raft_small', flow_weights='{tmp_path / 'raft.pth'}', flow_px=64}}"
    opened = started(clips, tmp_path / "raft", "temporal_coherence", rule)
    moving = tracking.optical_flow(opened)
    assert len(moving.starts) == len(clips_of(opened.pool).names) + 1
    assert np.isfinite(moving.between(0).astype(np.float32)).all()


def test_runs_that_begin_together_share_the_flow(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELWISE_CACHE", str(tmp_path / "shared"))
    both = [started(clips, tmp_path / name, "temporal_coherence") for name in ("a", "b")]
    computed = []
    dis = flow.dis
    monkeypatch.setattr(flow, "dis", lambda preset: computed.append(preset) or dis(preset))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(tracking.optical_flow, both)
    assert len(computed) == len(clips_of(both[0].pool).names)
    assert [part.read_bytes() for part in first.parts] == [part.read_bytes() for part in second.parts]
