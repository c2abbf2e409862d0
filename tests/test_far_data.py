"""Data sets in object stores are made projects of, checked and opened as folders are: stores that fsspec opens, here
`gs://` by a stand-in file system, and `https://` (here http://) by a server of files.
"""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from test_recipes import COMMON, data_set
from typer.testing import CliRunner

import labelwise
from labelwise import config, loop
from labelwise.cli.console import app
from labelwise.data import bars, find, image_reader, image_store, mirror, mirror_files
from labelwise.project import data_root, opening, starter
from labelwise.project.context import silent
from labelwise.stages import training_export
from labelwise.study import label_review
from labelwise.types import LabelwiseError, Pool

pytest.importorskip("fsspec", reason="the extra s3 is not installed")
SETTINGS = [*COMMON, "budget.per_round=[4, 4]", "query.unit=image", "query.score=entropy", "query.select=top"]


@pytest.fixture(scope="module")
def bucket() -> Iterator[type]:
    """`gs://` is a file system in memory that says of an object what Google's does; nobody else's objects are in it."""
    from fsspec.implementations.memory import MemoryFileSystem

    class Bucket(MemoryFileSystem):
        protocol = ("gs", "gcs")
        store: ClassVar[dict[str, Any]] = {}
        pseudo_dirs: ClassVar[list[str]] = [""]
        fetched: ClassVar[list[tuple[str, int | None]]] = []

        def find(self, path: str, **how: Any) -> Any:
            return {name: self._said(name, about) for name, about in super().find(path, **how).items()}

        def _said(self, name: str, about: dict[str, Any]) -> dict[str, Any]:
            return {"name": name, "size": about["size"], "etag": str(hash(self.store[name].getvalue()))}

        def cat_file(self, path: str, start: int | None = None, end: int | None = None, **how: Any) -> bytes:
            self.fetched.append((path.rpartition("/")[2], end))
            return bytes(super().cat_file(path, start, end, **how))

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return str(super()._strip_protocol(path.replace("gs://", "memory://").replace("gcs://", "memory://")))

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(import_module("fsspec.registry")._registry, "gs", Bucket)
        yield Bucket


@pytest.fixture
def store(bucket: Any) -> Any:
    bucket.store.clear()
    bucket.fetched.clear()
    return bucket()


def upload(store: Any, folder: Path, to: str) -> str:
    """The URL of a folder, once it is there."""
    for path in folder.rglob("*"):
        if path.is_file():
            store.pipe_file(f"gs://{to}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return f"gs://{to}"


def made(home: Path, root: str, images: str | None = None) -> Path:
    return mirror.make(home, root, images, most_bytes=10**9, bar=silent)


def invoke(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "250"})


def test_gs_is_read_as_files_are(store: Any, tmp_path: Path) -> None:
    root = data_set(tmp_path / "data", images=4)
    url = upload(store, root, "bucket/set")
    here, there = find.read(root), find.read(made(tmp_path / "home", url))
    assert there.names == here.names and there.truth is not None and here.truth is not None
    assert np.array_equal(there.truth.xyxy, here.truth.xyxy)
    before = image_reader.load(there.path(1))
    assert np.array_equal(before, image_reader.load(here.path(1)))
    store.pipe_file(f"{url}/images/01.png", (root / "images" / "03.png").read_bytes())
    store.rm(f"{url}/images/02.png")
    folder = made(tmp_path / "home", url)
    assert not np.array_equal(image_reader.load(there.path(1)), before), "what changed is read anew"
    assert "missing image" in {problem.kind for problem in find.read(folder).problems}
    with pytest.raises(LabelwiseError, match=f"{url}/images/02.png: .*no such object"):
        image_reader.load(there.path(2))


def test_a_run_over_gs_is_that_over_files(store: Any, tmp_path: Path) -> None:
    root = data_set(tmp_path / "data")
    url = upload(store, root, "bucket")
    asked = {}
    for name, place in {"here": str(root), "there": url}.items():
        run = opening.start(tmp_path / name, "entropy_image", [*SETTINGS, f"data.root={place}"])
        assert list(loop.run(run)) == [0, 1, 2]
        asked[name] = [(q.round, q.rank, q.image, q.score) for q in run.project.ledger.queries()]
    assert len(asked["here"]) > 4 and asked["here"] == asked["there"]


@contextmanager
def served(root: Path) -> Iterator[str]:
    """The URL of a server of the files of a folder that lists them in `files.txt`, and shows no folders."""
    import http.server

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(root))

        def log_message(self, *_said: Any) -> None:
            pass

        def list_directory(self, path: Any) -> None:
            self.send_error(403)

    names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]
    (root / "files.txt").write_text("\n".join(names))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def far(kind: str, store: Any, root: Path) -> Iterator[str]:
    if kind == "gs":
        yield upload(store, root, "bucket/set")
        return
    pytest.importorskip("aiohttp", reason="aiohttp, by which fsspec reads https://, is not installed")
    with served(root) as url:
        yield url


@pytest.mark.parametrize("kind", ["gs", "http"])
def test_init_of_a_url_is_that_of_the_folder(kind: str, store: Any, tmp_path: Path) -> None:
    """The same settings, pool and test part; then a run reads no header again."""
    root = data_set(tmp_path / "data")
    with far(kind, store, root) as url:
        here = starter.make(tmp_path / "here", root)
        there = starter.make(tmp_path / "there", url, bar=silent)
        assert there.test is not None and here.test is not None
        assert (there.pool.names, there.test.names) == (here.pool.names, here.test.names)
        said, known = (one.run.model_dump(exclude={"name": True, "data": {"root"}}) for one in (there, here))
        assert said == known and there.run.data.root == url
        assert config.load(tmp_path / "there" / "run.toml") == there.run
        assert (tmp_path / "there").stat().st_mode & 0o777 == 0o700
        store.fetched.clear()
        opened = opening.start(tmp_path / "there", None)
        assert set(opened.pool.names) == set(here.pool.names)
        if kind == "gs":
            assert not store.fetched
        told = invoke("init", tmp_path / "told", "--data", url)
        assert told.exit_code == 0, told.output
        assert f"{url}: coco" in told.output
        assert f"`labelwise init` of {url}" in (tmp_path / "told" / "run.toml").read_text()


def test_init_of_images_that_lie_elsewhere(store: Any, tmp_path: Path) -> None:
    """`data.images`, beside annotations on disk."""
    root = data_set(tmp_path / "data")
    url = upload(store, root / "images", "bucket/all/images").removesuffix("/images")
    file = tmp_path / "annotations.json"
    file.write_bytes((root / "annotations.json").read_bytes())
    made_ = starter.make(tmp_path / "p", file, settings=[f"data.images={url}"])
    assert (made_.run.data.root, made_.run.data.images) == (str(file), url)
    opened = opening.start(tmp_path / "p", None)
    assert opened.pool.names == made_.pool.names and image_reader.load(opened.pool.path(0)).size


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "nothing is there|no such object"),
        ({"a.mp4": b"1", "notes.txt": b"1"}, "no image is there, but a.mp4 .* copy them to a disk"),
        ({"a.png": b"1"}, "gs://bucket/set: not one of its images can be read"),
    ],
)
def test_of_a_project_that_cannot_be_made_nothing_stays(
    files: dict[str, bytes], says: str, store: Any, tmp_path: Path
) -> None:
    for name, content in files.items():
        store.pipe_file(f"gs://bucket/set/{name}", content)
    ways: list[Callable[[], object]] = [lambda: starter.make(tmp_path / "p", "gs://bucket/set", classes=["a"])]
    if "a.png" not in files:  # else a project without images, as of a folder
        ways.append(lambda: labelwise.open(tmp_path / "p", "gs://bucket/set", ["a"]))
    for make in ways:
        with pytest.raises(LabelwiseError, match=says) as told:
            make()
        assert "stores" not in str(told.value), "the user's own name of it"
        assert not (tmp_path / "p").exists()


def test_errors_after_the_data_are_read_name_the_url(store: Any, tmp_path: Path) -> None:
    """When a project is made, and when it is opened."""
    root = data_set(tmp_path / "data", images=4)
    url = upload(store, root, "bucket/set")
    with pytest.raises(LabelwiseError, match=r"^gs://bucket/set: no split 'zoo'") as told:
        starter.make(tmp_path / "p", url, settings=["data.test_split=zoo"])
    assert "stores" not in str(told.value) and not (tmp_path / "p").exists()
    starter.make(tmp_path / "p", url)
    store.rm(f"{url}/annotations.json")
    with pytest.raises(LabelwiseError, match=url) as told:
        opening.start(tmp_path / "p", None)
    assert "stores" not in str(told.value)


def test_check_says_what_it_fetches(store: Any, tmp_path: Path) -> None:
    """Headers alone, unless everything is wanted; then what it says is what it says of a folder."""
    root = data_set(tmp_path / "data", images=4)
    large = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)).save(large, "PNG")
    (root / "images" / "large.png").write_bytes(large.getvalue())
    (root / "images" / "twice.png").write_bytes((root / "images" / "00.png").read_bytes())
    url = upload(store, root, "bucket/set")
    said = invoke("check", url)
    assert said.exit_code == 0, said.output
    assert "gs://bucket/set: 6 images" in said.output and "64 KB of each" in said.output
    assert "--contents" in said.output and "duplicate image" not in said.output
    whole = [name for name, end in store.fetched if end is None and name.endswith(".png")]
    assert not whole and "labelwise-" not in said.output
    here, there = (invoke("check", place, "--json", "--contents") for place in (root, url))
    assert here.exit_code == there.exit_code == 0
    assert json.loads(here.stdout) == json.loads(there.stdout), "what will be fetched is told beside it"
    assert "All of them are fetched" in there.stderr
    assert invoke("check", root, "--headers", "--json").stdout != here.stdout


@pytest.mark.parametrize("call", ["image/", "./image", "image"])
def test_a_folder_on_disk_is_called_as_it_is(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name may be a word of what is told."""
    file = data_set(tmp_path / "image", images=3) / "images" / "01.png"
    file.write_bytes(file.read_bytes()[:60])
    monkeypatch.chdir(tmp_path)
    (broken,) = json.loads(invoke("check", call, "--json").stdout)["problems"]
    assert (broken["kind"], broken["where"]) == ("unreadable image", "images/01.png")
    assert broken["what"].startswith("image/images/01.png: image can't be read")


def test_a_broken_image_is_called_by_its_url(store: Any, tmp_path: Path) -> None:
    root = data_set(tmp_path / "data", images=3)
    file = root / "images" / "01.png"
    file.write_bytes(file.read_bytes()[:60])
    url = upload(store, root, "bucket/set")
    problems = json.loads(invoke("check", url, "--contents", "--json").stdout)["problems"]
    (broken,) = (row for row in problems if row["kind"] == "unreadable image")
    assert broken["what"].startswith(f"{url}/images/01.png: image can't be read")


def test_an_annotation_file_that_is_broken_is_called_by_its_url(store: Any, tmp_path: Path) -> None:
    root = data_set(tmp_path / "data", images=3)
    for split in ("train", "val"):
        (root / split).mkdir()
        (root / "images" / f"0{split == 'val':d}.png").rename(root / split / f"{split}.png")
    (root / "annotations.json").rename(root / "instances_train.json")
    (root / "instances_val.json").write_text('{"images": 3, "annotations": [], "categories": []}')
    url = upload(store, root, "bucket/set")
    said = invoke("check", url, "--json", "--format", "coco")
    assert said.exit_code == 0, said.output
    assert f"{url}/instances_val.json" in said.stdout and "labelwise-" not in said.output


def test_nothing_stays_of_a_check_but_in_a_cache(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = upload(store, data_set(tmp_path / "data", images=3), "bucket/set")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    assert invoke("check", url, "--contents").exit_code == 0
    assert not list((tmp_path / "temporary").iterdir())
    store.fetched.clear()
    with data_root.readable(url) as root:
        pool = find.read(root)
        for _ in range(3):
            assert [image_reader.load(pool.path(k)).ndim for k in range(3)] == [3] * 3
    whole = [name for name, end in store.fetched if end is None]
    assert len(whole) == len(set(whole)) == 4, "meanwhile what is fetched is kept"
    assert not list((tmp_path / "temporary").iterdir())
    monkeypatch.setenv("LABELWISE_CACHE", str(tmp_path / "cache"))
    assert invoke("check", url, "--contents").exit_code == 0
    assert len(list((tmp_path / "cache").glob(f"stores/*/{mirror_files.KEPT}/*/*"))) == 3
    store.fetched.clear()
    assert invoke("check", url, "--contents").exit_code == 0
    assert not store.fetched


@pytest.mark.parametrize("kind", ["gs", "http"])
def test_open_takes_a_url(kind: str, store: Any, tmp_path: Path) -> None:
    root = data_set(tmp_path / "data") / "images"
    with far(kind, store, root) as url:
        with closing(labelwise.open(tmp_path / "p", url, ["a", "b"])) as project:
            assert len(project.images) == len(list(root.glob("*.png")))
            names = project.images
            assert np.array_equal(project.pixels(names[1]), image_reader.load(root / names[1]))
        with closing(labelwise.open(tmp_path / "p", f"{url}/")) as again:
            assert again.images == names
        with pytest.raises(LabelwiseError, match=f"is of the images in {url}, not {root}"):
            labelwise.open(tmp_path / "p", root)
        with pytest.raises(LabelwiseError, match="give the URL of the folder"):
            labelwise.open(tmp_path / "q", [f"{url}/{names[0]}"], ["a"])


@pytest.mark.parametrize("url", ["http://host/x", "s3://bucket/set"])
def test_a_url_is_a_text_and_no_path(url: str, tmp_path: Path) -> None:
    with pytest.raises(LabelwiseError, match=f'give it as text, "{url[:4].rstrip(":/")}.*://'):
        labelwise.open(tmp_path / "p", Path(url), ["a"])
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("kind", ["gs", "http"])
def test_a_url_of_one_image_is_told(kind: str, store: Any, tmp_path: Path) -> None:
    root = data_set(tmp_path / "data", images=3)
    said = "/images/01.png: is an image. Give the URL of the folder"
    with far(kind, store, root) as url, pytest.raises(LabelwiseError, match=said):
        made(tmp_path, f"{url}/images/01.png/")


def test_open_sees_frames_of_videos_in_a_store(store: Any, tmp_path: Path) -> None:
    pixels = Image.new("RGB", (20, 16))
    for clip in ("video_a", "video_b"):
        (tmp_path / "films" / clip).mkdir(parents=True)
        for k in range(4):
            pixels.save(tmp_path / "films" / clip / f"frame_{k:06}.png")
    url = upload(store, tmp_path / "films", "bucket/films")
    with closing(labelwise.open(tmp_path / "here", tmp_path / "films", ["a"])) as here:
        known = config.load(tmp_path / "here" / "run.toml").data.format
        with closing(labelwise.open(tmp_path / "there", url, ["a"])) as there:
            assert there.images == here.images
    assert config.load(tmp_path / "there" / "run.toml").data.format == known == "frames"


def test_a_store_is_converted(store: Any, tmp_path: Path) -> None:
    root = data_set(tmp_path / "data", images=3)
    url = upload(store, root, "bucket/set")
    for to in ("coco", "yolo", "voc"):
        said = invoke("convert", url, "--to", to, "-o", tmp_path / to)
        assert said.exit_code == 0, said.output
        assert len(find.read(tmp_path / to)) == 3
        assert len([path for path in (tmp_path / to).rglob("*.png") if not path.is_symlink()]) == 3


def test_bars_of_a_store_move_and_name_it(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of what is fetched, in place of one that nothing moves; of a folder one of the whole."""
    root = data_set(tmp_path / "data", images=3)
    url = upload(store, root, "bucket/set")
    monkeypatch.setattr(bars, "AFTER_S", 0.0)
    monkeypatch.setattr(label_review, "of_pool", lambda _pool, **_how: [])
    first = {f"list {url}": [0, 4], "fetch 1 annotation files": [1, 1], "read headers": [3, 3]}
    told: dict[str, tuple[dict[str, list[int]], ...]] = {
        "convert": (first | {"fetch images": [3, 3]}, {"read": [0, 1], "write": [3, 3]}),
        "review": (first, {f"read {root}": [0, 1]}),
    }
    for kind, place in enumerate((url, root)):
        for command, how in (
            ("convert", [place, "--to", "yolo", "-o", tmp_path / f"{kind}"]),
            ("review", ["--data", place]),
        ):
            seen = Seen()
            monkeypatch.setattr("labelwise.cli.data.bar", seen)
            monkeypatch.setattr("labelwise.cli.review.bar", seen)
            said = invoke(command, *how)
            assert said.exit_code == 0, said.output
            assert seen.bars == told[command][kind]


def test_labels_in_a_store_are_reviewed(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command (who doubts is another test's matter): the project that it makes is of the URL."""
    url = upload(store, data_set(tmp_path / "data", images=4), "bucket/set")

    def doubtful(pool: Pool, **_how: Any) -> list[label_review.Doubtful]:
        assert image_reader.pixels_of(pool, 0).size
        return [label_review.Doubtful("overlooked", 0.9, pool.names[1], (1.0, 2.0, 9.0, 9.0), None, 1)]

    monkeypatch.setattr(label_review, "of_pool", doubtful)
    said = invoke("review", "--data", url, "--project", tmp_path / "p")
    assert said.exit_code == 0, said.output
    assert f"{url}: 1 doubtful labels" in said.output.replace(f"{url} ", url) and "1 questions are open" in said.output
    opened = opening.start(tmp_path / "p", None)
    assert opened.run.data.root == url and [q.image for q in opened.project.ledger.queries()] == [opened.pool.names[1]]


class Seen:
    """Bars that were opened, and how far they came."""

    def __init__(self) -> None:
        self.bars: dict[str, list[int]] = {}

    @contextmanager
    def __call__(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        row = self.bars.setdefault(description, [total, 0])

        def advance(n: int) -> None:
            row[1] += n

        yield advance


def test_opening_and_exporting_show_bars_and_fetch_several_at_a_time(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the headers that are read, of what is asked and of what is exported, to every format."""
    url, seen = upload(store, data_set(tmp_path / "data"), "bucket"), Seen()
    monkeypatch.setattr(bars, "AFTER_S", 0.0)
    opened = opening.start(tmp_path / "p", "entropy_image", [*SETTINGS, f"data.root={url}", "data.store_gb=0"], seen)
    assert seen.bars == {f"list {url}": [0, 9], "fetch 1 annotation files": [1, 1], "read headers": [8, 8]}
    assert list(loop.run(opened)) == [0, 1, 2]
    assert {"read images", "look at images"} <= seen.bars.keys()
    begun: list[Path] = []
    two, content = threading.Event(), image_store.content

    def two_at_a_time(path: Path) -> bytes:
        begun.append(path)
        if len(begun) > 1:
            two.set()
        assert two.wait(20), "the first is waited for before the second is begun"
        return content(path)

    monkeypatch.setattr(image_store, "content", two_at_a_time)
    for to in ("coco", "yolo", "voc", "datasets"):
        seen.bars.clear()
        begun.clear()
        two.clear()
        training_export.write_set(opened, to, tmp_path / to)
        ((total, done),) = (row for what, row in seen.bars.items() if what == "fetch images")
        assert total == done > 4


def test_a_bar_shows_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    with bars.shown(seen):
        with bars.late("short", 3) as advance:
            advance(3)
        monkeypatch.setattr(bars, "AFTER_S", 0.01)
        with bars.late("long", 5) as advance:
            advance(2)
            time.sleep(0.02)
            for _ in range(3):
                advance(1)
    with bars.late("nobody", 1) as advance:
        time.sleep(0.02)
        advance(1)
    assert seen.bars == {"long": [5, 5]}
