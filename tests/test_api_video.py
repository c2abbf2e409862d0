"""An own detector on videos: a film, a folder of films, folders of frames; tracks, restraint and lent boxes on its own
predictions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import labelwise
from labelwise.data.check import look
from labelwise.types import LabelwiseError

av = pytest.importorskip("av", reason="PyAV is not installed: uv sync --extra video")
pytest.importorskip("cv2", reason="OpenCV is not installed: uv sync --extra video")

CLASSES = ["red", "blue"]
WIDTH, HEIGHT, FRAMES, SIDE = 128, 96, 14, 24
START, STEP = {"red": (10, 8), "blue": (90, 66)}, {"red": (3, 2), "blue": (-3, 0)}
GHOST, LOST = 5, 9
"""Of the first film: where the detector sees what is not there, and where it misses the red square."""
INPUTS = ("film", "films", "frames")


def at(label: str, frame: int) -> list[float]:
    """Where a square is."""
    x, y = np.array(START[label]) + frame * np.array(STEP[label])
    return [float(x), float(y), float(x + SIDE), float(y + SIDE)]


def pictures(seed: int) -> Iterator[np.ndarray]:
    """A red and a blue square that move over a textured ground."""
    noise = np.random.default_rng(seed).integers(70, 150, (HEIGHT // 8, WIDTH // 8, 1)).repeat(3, 2)
    ground = np.kron(noise, np.ones((8, 8, 1))).astype(np.uint8)
    spots = np.kron(np.random.default_rng(7).integers(0, 2, (6, 6)), np.full((4, 4), 40))
    for frame in range(FRAMES):
        pixels = ground.copy()
        for label, colour in (("red", (230, 0, 20)), ("blue", (20, 0, 230))):
            x1, y1, x2, y2 = map(int, at(label, frame))
            pixels[y1:y2, x1:x2] = colour
            pixels[y1:y2, x1:x2, 1] = 2 * spots  # something for the flow to see
        yield pixels


def film(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"crf": "8"}
        for pixels in pictures(seed):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    film(root / "film" / "yard.mp4", 0)
    for seed, name in enumerate(("gate.mp4", "yard.mp4")):
        film(root / "films" / name, seed)
    for seed in range(2):
        (root / "frames" / f"cam{seed}").mkdir(parents=True)
        for frame, pixels in enumerate(pictures(seed)):
            Image.fromarray(pixels).save(root / "frames" / f"cam{seed}" / f"{frame + 1:04d}.png")
    return root


def images_of(data: Path, kind: str) -> Path:
    return data / "film" / "yard.mp4" if kind == "film" else data / kind


def detect(pixels: np.ndarray) -> dict[str, Any]:
    """Finds the squares by their colours."""
    boxes, labels = [], []
    for label, (strong, weak) in enumerate(((0, 2), (2, 0))):
        y, x = np.nonzero((pixels[..., strong] > 190) & (pixels[..., weak] < 60))
        if len(x):
            boxes.append([x.min(), y.min(), x.max() + 1, y.max() + 1])
            labels.append(label)
    return {"boxes": boxes, "scores": [0.9] * len(boxes), "labels": labels}


def predictions(project: labelwise.Project) -> dict[str, dict[str, Any]]:
    """What an own detector says of every frame, with one box too many and one too few."""
    found = {name: detect(pixels) for name, pixels in project.frames()}
    ghost = found[project.images[GHOST]]
    ghost["boxes"].append([2, 70, 22, 90])
    ghost["scores"].append(0.9)
    ghost["labels"].append(1)
    lost = found[project.images[LOST]]
    kept = [row for row, label in enumerate(lost["labels"]) if label]
    for column in lost.values():
        column[:] = [column[row] for row in kept]
    return found


def opened(tmp_path: Path, data: Path, kind: str, **settings: Any) -> labelwise.Project:
    return labelwise.open(tmp_path / "mine", images=images_of(data, kind), classes=CLASSES, **settings)


@pytest.mark.parametrize("kind", INPUTS)
def test_frames_come_in_order_with_their_pixels(tmp_path: Path, data: Path, kind: str) -> None:
    project = opened(tmp_path, data, kind)
    clips = project.pool.clips
    assert clips is not None and len(clips.names) == (1 if kind == "film" else 2)
    assert len(project.images) == FRAMES * len(clips.names)
    found = list(project.frames())
    assert not [*(tmp_path / "mine").rglob("*.ffv1")], "a film that is read once is not kept on disk"
    assert tuple(name for name, _ in found) == project.images
    for number, (name, pixels) in enumerate(found):
        red = detect(pixels)["boxes"][0]
        assert np.abs(np.array(red) - at("red", number % FRAMES)).max() <= 1
        assert (pixels == project.pixels(name)).all()
    some = project.images[3], project.images[1]
    assert [name for name, _ in project.frames(some)] == [some[1], some[0]]
    with pytest.raises(LabelwiseError, match=r"no image 'nowhere\.jpg' in the pool"):
        project.frames(["nowhere.jpg"])
    again = labelwise.open(tmp_path / "mine", images=images_of(data, kind), classes=CLASSES)
    assert again.images == project.images


@pytest.mark.parametrize("kind", INPUTS)
def test_two_rounds_on_given_detections(tmp_path: Path, data: Path, kind: str) -> None:
    project = opened(tmp_path, data, kind)
    said = predictions(project)
    for errors, frame in (("fp", GHOST), ("fn", LOST)):
        [query] = project.ask(
            said,
            budget=1,
            unit="frame",
            score={"name": "temporal_coherence", "errors": errors},
            select={"name": "temporal_spread", "exclude": 3},
        )
        assert query.image == project.images[frame], "the frame in which the detector contradicts its neighbours"
        assert query.score == 1
        project.answer(query, boxes=[at("red", frame), at("blue", frame)], labels=CLASSES)
        project.finish()
    assert project.cost.images == 2 and project.cost.boxes == 4
    kept = {int(path.stem) for path in (tmp_path / "mine").rglob("*.ffv1")}
    assert kept <= {GHOST, LOST}, "the flow reads a film once: no frame is kept on disk for it"


def test_frames_that_are_asked_keep_their_distance(tmp_path: Path, data: Path) -> None:
    project = opened(tmp_path, data, "films")
    asked = project.ask(predictions(project), budget=4, unit="frame", score="random", select="temporal_spread")
    clips = project.pool.clips
    assert clips is not None
    numbers = np.array([project.pool.number_of[query.image] for query in asked])
    assert np.bincount(clips.video[numbers]).tolist() == [2, 2], "both films in turn"
    apart = [np.ptp(clips.frame[numbers[clips.video[numbers] == film]]) for film in range(2)]
    assert min(apart) > 3


@pytest.mark.parametrize("kind", INPUTS)
def test_labelled_frames_lend_their_boxes(tmp_path: Path, data: Path, kind: str) -> None:
    project = opened(tmp_path, data, kind)
    [query] = project.ask(budget=1)
    frame = project.pool.number_of[query.image] % FRAMES
    project.answer(query, boxes=[at("red", frame), at("blue", frame)], labels=CLASSES)
    alone = project.targets(policy="ignore")
    assert [target.image for target in alone] == [query.image]
    lent = project.targets(policy="ignore", propagate={"frames": 2, "weight": 0.25})
    around = list(range(max(0, frame - 2), min(FRAMES, frame + 3)))
    by_frame = {project.pool.number_of[target.image] % FRAMES: target for target in lent}
    assert sorted(by_frame) == around
    for number, target in by_frame.items():
        assert target.labels.tolist() == [0, 1]
        expected = [at("red", number), at("blue", number)]
        assert np.abs(target.boxes - expected).max() <= 2, "they move with the squares"
        assert target.w_cls.tolist() == ([1, 1] if number == frame else [0.25, 0.25])


def test_predict_looks_at_labelled_frames_of_videos(tmp_path: Path, data: Path) -> None:
    from labelwise.adapters import callable as functions

    project = opened(tmp_path, data, "film")
    [query] = project.ask(budget=1)
    project.answer(query)
    project.finish()
    model = functions.detector(lambda images: [{**detect(one)} for one in images], CLASSES)
    every = project.predict(model)
    assert (np.diff(every.offsets) == 2).all()
    rest = project.predict(model, wholly_labelled=False)
    assert np.diff(rest.offsets)[project.pool.number_of[query.image]] == 0
    project.ask(every, budget=2, unit="frame", score="temporal_coherence", select="top")


@pytest.mark.parametrize("kind", INPUTS)
def test_asking_is_thinned_and_tracks_are_not(tmp_path: Path, data: Path, kind: str) -> None:
    """Every tenth frame may be asked: there is a ghost in frame 10, and frames 4 to 6 are not predicted."""
    project = opened(tmp_path, data, kind)
    said = predictions(project)
    number = {name: k % FRAMES for k, name in enumerate(project.images)}
    film = project.images[10].rpartition("#")[0] if "#" in project.images[10] else str(Path(project.images[10]).parent)
    said[project.images[10]]["boxes"].append([2, 70, 22, 90])
    said[project.images[10]]["scores"].append(0.9)
    said[project.images[10]]["labels"].append(1)
    needed = project.needed(every_frames=10)
    assert {number[name] for name in needed} == {*range(4), *range(7, 14)}
    part = {name: said[name] for name in needed}
    ask: dict[str, Any] = {"budget": 2, "unit": "frame", "score": "temporal_coherence", "select": "top"}
    with pytest.raises(LabelwiseError, match=r"predictions lack [36] of"):
        project.ask(part, **ask)
    first, second = project.ask(part, **ask, every_frames=10)
    assert first.image == project.images[10] and first.image.startswith(film) and first.score == 1
    assert {number[first.image], number[second.image]} <= {0, 10} and second.score == 0
    assert project.ask(part, **ask) == [first, second], "the setting stays"
    for query in (first, second):
        project.answer(query, "skipped")
    project.finish()
    nearer = project.needed(tracks={"frames": 2})
    assert {number[name] for name in nearer} == {0, 1, 2, 8, 9, 10, 11, 12}


def test_the_first_frames_are_thinned_too(tmp_path: Path, data: Path) -> None:
    project = opened(tmp_path, data, "films")
    first = project.ask(budget=50, every_frames=5)
    assert sorted(project.pool.number_of[query.image] % FRAMES for query in first) == [0, 0, 5, 5, 10, 10]


def test_mistakes_say_what_to_do(tmp_path: Path, data: Path) -> None:
    project = opened(tmp_path, data, "film")
    said = predictions(project)
    ask: dict[str, Any] = {"budget": 2, "unit": "frame", "score": "temporal_coherence", "select": "temporal_spread"}
    part = dict(list(said.items())[2:])
    with pytest.raises(LabelwiseError, match=r"lack 2 of the 14 frames .* first: yard\.mp4#000000\. .*needed"):
        project.ask(part, **ask)
    with pytest.raises(LabelwiseError, match="'siamese' looks at the features of labelwise's own detectors"):
        project.ask(said, **ask, tracks={"tracker": "siamese"})
    with pytest.raises(LabelwiseError, match=r"tracks\.theta"):
        project.ask(said, **ask, tracks={"theta": 2})
    with pytest.raises(LabelwiseError, match="propagate"):
        project.targets(propagate={"frames": 0})
    features = np.zeros((FRAMES, 4))
    with pytest.raises(LabelwiseError, match="needs 'estimated_fp', and predictions of image features alone"):
        project.ask(features, **ask)
    first = project.ask(said, **ask, tracks={"frames": 2})
    assert project.ask(said, **ask) == first, "the settings of the graph stay"
    with pytest.raises(LabelwiseError, match="round 1 has asked already, with other settings"):
        project.ask(said, **ask, tracks={"frames": 3})


def test_images_that_are_no_videos_say_so(tmp_path: Path, data: Path) -> None:
    project = opened(tmp_path, data, "frames", format="folder")
    assert project.pool.clips is None
    said = {name: detect(pixels) for name, pixels in project.frames()}
    with pytest.raises(LabelwiseError, match=r"score 'temporal_coherence' needs videos, .*format=\"frames\""):
        project.ask(said, budget=1, unit="frame", score="temporal_coherence", select="top")
    with pytest.raises(LabelwiseError, match="select 'temporal_spread' needs videos"):
        project.ask(said, budget=1, unit="frame", score="random", select="temporal_spread")
    with pytest.raises(LabelwiseError, match="every_frames needs videos"):
        project.ask(said, budget=1, every_frames=2)
    with pytest.raises(LabelwiseError, match="needed needs videos"):
        project.needed()
    with pytest.raises(LabelwiseError, match="propagate needs videos"):
        project.targets(propagate={"frames": 1})


def test_what_is_no_video_is_not_taken_for_one(tmp_path: Path, data: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("no video")
    (tmp_path / "both" / "films").mkdir(parents=True)
    (tmp_path / "both" / "films" / "a.mp4").write_bytes((data / "film" / "yard.mp4").read_bytes())
    (tmp_path / "both" / "stills").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "both" / "stills" / "a.png")
    for images, message in (
        (note, "is no video file; give a folder, a video file, or a list of paths"),
        (tmp_path / "gone", "no such folder; give a folder, a video file, or a list of paths"),
        ([data / "film" / "yard.mp4"], "is a video, and a list is of images"),
        (tmp_path / "both", 'holds videos and images; say which are meant: format="video" or format="folder"'),
    ):
        with pytest.raises(LabelwiseError, match=message):
            labelwise.open(tmp_path / "mine", images=images, classes=CLASSES)
        assert not (tmp_path / "mine").exists(), "nothing is written"
    stills = labelwise.open(tmp_path / "mine", images=tmp_path / "both", classes=CLASSES, format="folder")
    assert stills.images == ("stills/a.png",)


def test_a_frame_that_cannot_be_read_is_left_out_by_name(tmp_path: Path, data: Path) -> None:
    folder = tmp_path / "frames"
    (folder / "cam0").mkdir(parents=True)
    for path in (data / "frames" / "cam0").iterdir():
        (folder / "cam0" / path.name).write_bytes(path.read_bytes())
    project = labelwise.open(tmp_path / "mine", images=folder, classes=CLASSES)
    broken = folder / "cam0" / "0003.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.warns(UserWarning, match=r"cam0/0003\.png is left out: .*image can't be read"):
        names = [name for name, _ in project.frames()]
    assert names == [name for name in project.images if name != "cam0/0003.png"]


def test_one_film_is_a_data_set(tmp_path: Path, data: Path) -> None:
    (tmp_path / "yard.mp4").write_bytes(images_of(data, "film").read_bytes())
    (tmp_path / "bills.csv").write_text("not,ours\n")
    report = look(tmp_path / "yard.mp4")
    assert report.found.format == "video" and report.unused == {} and report.problems == ()
    assert [len(pool) for pool in report.found.pools.values()] == [FRAMES]
