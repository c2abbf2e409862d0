"""Images in an object store: a run over s3:// is that over the same files on disk, and no more is kept than may be."""

from __future__ import annotations

import io
import pickle
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from errno import EINVAL
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_recipes import COMMON, SIZE, data_set

from labelwise import files, loop
from labelwise.api.target import per_image
from labelwise.data import find, image_reader, image_store, mirror, mirror_files
from labelwise.errors import Unreachable
from labelwise.ledger import image_files
from labelwise.project import glance, opening
from labelwise.project.context import silent
from labelwise.project.round import Round
from labelwise.stages import training_export
from labelwise.types import LabelwiseError

pytest.importorskip("s3fs", reason="the extra s3 is not installed")
moto = pytest.importorskip("moto.server", reason="moto is not installed")
SETTINGS = [*COMMON, "budget.per_round=[4, 4]", "query.unit=image", "query.score=entropy", "query.select=top"]


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A client of a server of this process, which s3:// means as long as it runs."""
    import boto3
    import s3fs

    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        s3fs.S3FileSystem.clear_instance_cache()
        yield boto3.client("s3")
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def bucket(s3: Any, request: pytest.FixtureRequest) -> str:
    name = f"b{abs(hash(request.node.name))}"
    s3.create_bucket(Bucket=name)
    return name


def upload(s3: Any, bucket: str, folder: Path, prefix: str = "") -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            s3.upload_file(str(path), bucket, prefix + path.relative_to(folder).as_posix())


def made(home: Path, root: str, images: str | None = None, most_bytes: int = 10**9) -> Path:
    return mirror.make(home, root, images, most_bytes=most_bytes, bar=silent)


def asked(opened: Any) -> list[tuple[Any, ...]]:
    return [(q.round, q.rank, q.image, q.box, q.label, q.score) for q in opened.project.ledger.queries()]


def bytes_kept(home: Path) -> int:
    """What the files of the mirror below take, while nobody else may change them."""
    (database,) = home.rglob(mirror_files.DATABASE)
    with closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as locked:
        locked.execute("begin immediate")
        kept = sum(path.stat().st_size for path in database.parent.glob(f"{mirror_files.KEPT}/*/*"))
        assert kept == locked.execute("select bytes from total").fetchone()[0]
        locked.execute("rollback")
    return kept


def test_a_run_over_s3_is_that_over_files(s3: Any, bucket: str, tmp_path: Path) -> None:
    """Detections, scores, ranking, questions and test figures; with a cache that holds a part of the images alone."""
    root = data_set(tmp_path / "data")
    upload(s3, bucket, root, "set/")
    upload(s3, bucket, root / "images", "all/images/")
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(root / "annotations.json", alone)
    places = {
        "here": [f"data.root={root}"],
        "there": [f"data.root=s3://{bucket}/set", "data.store_gb=0.00002"],
        "images": [f"data.root={alone}", f"data.images=s3://{bucket}/all/"],
    }
    runs = {}
    for name, where in places.items():
        runs[name] = opening.start(tmp_path / name, "entropy_image", [*SETTINGS, *where, "data.test_share=0.25"])
        assert list(loop.run(runs[name])) == [0, 1, 2]
        assert glance.look(tmp_path / name) is not None, "status needs no store"
    known = asked(runs["here"])
    assert len(known) > 4
    for name in ("there", "images"):
        assert asked(runs[name]) == known
        for each in ("001", "002"):
            ours, theirs = (runs[one].project.folder / "rounds" / each for one in (name, "here"))
            for table in ("scores.parquet", "picks.parquet", "metrics.json"):
                assert (ours / table).read_bytes() == (theirs / table).read_bytes()
    assert 0 < bytes_kept(tmp_path / "there") <= 20_000 < bytes_kept(tmp_path / "images")
    assert not list((tmp_path / "there").rglob("*.png")), "images lie in the cache alone"


def test_no_more_is_kept_than_may_be(s3: Any, bucket: str, tmp_path: Path) -> None:
    """At no instant, whoever reads; what is read is right, kept or not; two mirrors share one folder."""
    rng, contents = np.random.default_rng(0), {}
    for k in range(40):
        contents[f"{k:02}.png"] = rng.bytes(int(rng.integers(100, 3000)))
        s3.put_object(Bucket=bucket, Key=f"{k:02}.png", Body=contents[f"{k:02}.png"])
    s3.put_object(Bucket=bucket, Key="large.png", Body=bytes(20_000))
    most = 12_000
    folder = made(tmp_path, f"s3://{bucket}", most_bytes=most)
    peaks: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            peaks.append(bytes_kept(tmp_path))

    two = [image_store.Mirror(folder), image_store.Mirror(folder)]
    with ThreadPoolExecutor(6) as threads:
        watching = threads.submit(watch)
        names = rng.choice(sorted(contents), 160).tolist()
        found = list(threads.map(lambda k: two[k % 2].content(folder / names[k]), range(len(names))))
        stop.set()
        watching.result()
    assert found == [contents[name] for name in names]
    assert 6_000 < max(peaks) <= most and bytes_kept(tmp_path) > 6_000
    assert len(two[0].content(folder / "large.png")) == 20_000, "too large for the cache: read all the same"
    assert mirror_files.kept(folder, "large.png") is None
    again = made(tmp_path, f"s3://{bucket}", most_bytes=5_000)
    assert again == folder and bytes_kept(tmp_path) <= 5_000, "a lower bound holds at once"


def test_what_changed_in_the_store_is_read_anew(s3: Any, bucket: str, tmp_path: Path) -> None:
    root = data_set(tmp_path / "data", images=4)
    upload(s3, bucket, root)
    folder = made(tmp_path, f"s3://{bucket}")
    pool = find.read(folder)
    assert pool.truth is not None and len(pool) == 4
    before = image_reader.load(pool.path(1))
    assert image_reader.load(pool.path(1)).tolist() == before.tolist()
    notes = [path.stat().st_mtime_ns for path in folder.rglob("*.json")]
    shutil.copy(root / "images" / "03.png", root / "images" / "01.png")
    (root / "images" / "04.png").write_bytes((root / "images" / "00.png").read_bytes())
    upload(s3, bucket, root)
    s3.delete_object(Bucket=bucket, Key="images/02.png")
    made(tmp_path, f"s3://{bucket}")
    assert image_reader.load(pool.path(1)).tolist() != before.tolist()
    assert [path.stat().st_mtime_ns for path in folder.rglob("*.json")] == notes, "annotations that are the same stay"
    pool = find.read(folder)
    assert [Path(name).name for name in pool.names] == ["00.png", "01.png", "03.png"]
    assert "missing image" in {problem.kind for problem in pool.problems}


def test_another_machine_is_sent_the_list_and_keeps_a_part_of_its_own(s3: Any, bucket: str, tmp_path: Path) -> None:
    """It has no mirror; what it keeps is bounded and nobody else's, and an image that changed is fetched anew."""
    root = data_set(tmp_path / "data", images=6)
    upload(s3, bucket, root)
    folder = made(tmp_path / "here", f"s3://{bucket}", most_bytes=15_000)
    paths = [find.read(folder).path(k) for k in range(6)]
    known = [path.read_bytes() for path in sorted((root / "images").iterdir())]

    def arrive() -> None:
        mirror_here = image_store.of(paths[0])
        assert mirror_here is not None
        sent = pickle.loads(pickle.dumps(mirror_here.sent()))
        shutil.rmtree(tmp_path / "here")
        image_store.receive(sent, tmp_path / "there")

    try:
        arrive()
        for _ in range(2):
            assert [image_store.content(path) for path in paths] == known
        assert 5_000 < bytes_kept(tmp_path / "there") <= 15_000 < sum(map(len, known))
        assert image_reader.probe(paths[2])[:2] == SIZE and not (tmp_path / "here").exists()
        shutil.copy(root / "images" / "03.png", root / "images" / "01.png")
        (root / "images" / "02.png").unlink()
        s3.delete_object(Bucket=bucket, Key="images/02.png")
        upload(s3, bucket, root)
        image_store._received.clear()
        made(tmp_path / "here", f"s3://{bucket}")
        arrive()
        assert image_store.content(paths[1]) == known[3]
        with pytest.raises(LabelwiseError, match=f"s3://{bucket}/images/02.png: there is no such object"):
            image_store.content(paths[2])
    finally:
        image_store._received.clear()


def test_an_object_that_is_gone_is_an_image_that_is_gone(s3: Any, bucket: str, tmp_path: Path) -> None:
    """Gone before the run and in the middle of it; back when it is there again."""
    root = data_set(tmp_path / "data")
    upload(s3, bucket, root)
    settings = [*SETTINGS, f"data.root=s3://{bucket}"]
    opened = opening.start(tmp_path / "p", "entropy_image", settings)
    s3.delete_object(Bucket=bucket, Key="images/02.png")
    assert list(loop.run(opened)) == [0, 1, 2]
    skipped = opened.project.ledger.stage_done(1, "predict")["skipped"]
    assert len(skipped) == 1 and skipped[0][0].endswith("02.png")
    assert f"s3://{bucket}/images/02.png" in skipped[0][1] and "no such object" in skipped[0][1]
    assert not [row for row in asked(opened) if row[2].endswith("02.png")]
    opened = opening.start(tmp_path / "p", None)
    loop.begin(opened)
    states = image_files.unavailable(opened.project.ledger)
    assert [state.why for state in states.values()] == [image_files.GONE]
    upload(s3, bucket, root)
    opened = opening.start(tmp_path / "p", None)
    loop.begin(opened)
    assert not opened.pool.unavailable and not image_files.unavailable(opened.project.ledger)


class Broken:
    """A file system that refuses, or is not there, for so many calls."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times = error, times

    def cat_file(self, path: str, **_range: int) -> bytes:
        self.times -= 1
        if self.times >= 0:
            raise self.error
        return path.encode()


class Refused(Exception):
    status = 403


@pytest.mark.parametrize(
    ("error", "times", "kind", "says"),
    [
        (FileNotFoundError("x"), 1, LabelwiseError, "no such object"),
        (PermissionError("Access Denied"), 1, LabelwiseError, "may not be read .Access Denied.*credentials"),
        (Refused("Forbidden"), 1, LabelwiseError, "may not be read"),
        (ConnectionError("refused"), 3, Unreachable, "cannot be reached .*refused.*the same command again"),
        (ConnectionError("refused"), 2, None, ""),
    ],
)
def test_failures_say_what_to_do(
    error: Exception, times: int, kind: type[Exception] | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two failures of the network are waited for, the third is told, and is no fault of the image."""
    waits: list[float] = []
    monkeypatch.setattr(image_store.time, "sleep", waits.append)
    monkeypatch.setattr(image_store, "_opened", lambda _url: (Broken(error, times), "bucket"))
    place = image_store.Place("s3://bucket")
    if kind is None:
        assert place.content("a.png") == b"bucket/a.png" and waits == image_store.WAITS_S
        return
    with pytest.raises(kind, match=says) as told:
        place.content("a.png")
    assert "s3://bucket/a.png" in str(told.value)
    assert isinstance(told.value, Unreachable) == (kind is Unreachable)


def test_a_store_that_went_away_ends_the_stage_and_marks_no_image(
    s3: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = data_set(tmp_path / "data")
    upload(s3, bucket, root)
    settings = [*SETTINGS, f"data.root=s3://{bucket}", "data.store_gb=0"]
    opened = opening.start(tmp_path / "p", "entropy_image", settings)
    monkeypatch.setattr(image_store, "WAITS_S", [])
    reached = image_store._opened
    calls: list[str] = []

    def gone(url: str) -> tuple[Any, str]:
        calls.append(url)
        return reached(url) if len(calls) < 8 else (Broken(ConnectionError("no route"), 10**9), "bucket")

    monkeypatch.setattr(image_store, "_opened", gone)
    with pytest.raises(LabelwiseError, match=r"cannot be reached .*no route"):
        list(loop.run(opened))
    assert not image_files.unavailable(opened.project.ledger)
    monkeypatch.setattr(image_store, "_opened", reached)
    opened = opening.start(tmp_path / "p", None)
    assert list(loop.run(opened))[-1] == 2 and not opened.pool.unavailable


@pytest.mark.parametrize(
    ("root", "says"),
    [
        ("s3://no-such-bucket/x", "no such object|nothing is there"),
        ("zoo://a/b", "Give s3://"),
        ("gs://bucket/x", "pip install 'gcsfs'"),
    ],
)
def test_a_place_that_is_not_there_is_an_error_that_names_it(root: str, says: str, s3: Any, tmp_path: Path) -> None:
    with pytest.raises(LabelwiseError, match=says) as told:
        made(tmp_path, root)
    assert root in str(told.value)


def test_headers_are_read_from_the_first_bytes(s3: Any, bucket: str, tmp_path: Path) -> None:
    """Of a large JPEG or PNG a part is fetched; of other kinds, and of a header that is longer, the whole."""
    rng = np.random.default_rng(0)
    pixels = Image.fromarray(rng.integers(0, 255, (400, 300, 3), dtype=np.uint8))
    fetched: dict[str, list[int | None]] = {}
    for suffix, save in _kinds().items():
        file = io.BytesIO()
        save(pixels, file)
        s3.put_object(Bucket=bucket, Key=f"x{suffix}", Body=file.getvalue())
        assert len(file.getvalue()) > image_store.HEAD_BYTES
    folder = made(tmp_path, f"s3://{bucket}")
    content = image_store.Place.content

    def noted(self: image_store.Place, name: str, most: int | None = None) -> bytes:
        fetched.setdefault(name, []).append(most)
        return content(self, name, most)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_store.Place, "content", noted)
        for suffix in _kinds():
            assert image_reader.probe(folder / f"x{suffix}")[:2] == (300, 400)
    head = image_store.HEAD_BYTES
    assert fetched == {"x.jpg": [head], "x.png": [head], "x.bmp": [head, None], "x.jpeg": [head, None]}


def _kinds() -> dict[str, Callable[[Image.Image, io.BytesIO], None]]:
    long = Image.Exif()
    long[0x010E] = "x" * 65_000
    return {
        ".jpg": lambda image, file: image.save(file, "JPEG", quality=95),
        ".png": lambda image, file: image.save(file, "PNG"),
        ".bmp": lambda image, file: image.save(file, "BMP"),
        ".jpeg": lambda image, file: image.save(file, "JPEG", quality=95, exif=long, icc_profile=bytes(60_000)),
    }


@contextmanager
def served(root: Path) -> Iterator[str]:
    """The URL of a server of the files of a folder, without pages of folders; a part of an empty file is refused."""
    import http.server

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(root))

        def log_message(self, *_said: Any) -> None:
            pass

        def do_GET(self) -> None:
            path = Path(self.translate_path(self.path))
            if self.headers.get("Range") and path.is_file() and not path.stat().st_size:
                self.send_error(416)
            else:
                super().do_GET()

        def list_directory(self, path: Any) -> None:
            self.send_error(403)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def listed(root: Path, start: str = "") -> None:
    """Writes `files.txt`."""
    names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]
    (root / "files.txt").write_text("\n".join(start + name for name in names))


def test_a_server_of_files_lists_them_in_a_text(tmp_path: Path) -> None:
    """https:// (here http://) without pages of folders."""
    root = data_set(tmp_path / "data", images=3)
    listed(root)
    with served(root) as url:
        pool = find.read(made(tmp_path / "home", url))
        here = find.read(root)
        assert pool.names == here.names and pool.truth is not None and here.truth is not None
        assert np.array_equal(pool.truth.xyxy, here.truth.xyxy)
        assert np.array_equal(image_reader.load(pool.path(2)), image_reader.load(here.path(2)))
        (root / pool.names[0]).unlink()
        with pytest.raises(LabelwiseError, match=f"{url}/.*no such object"):
            image_reader.load(pool.path(0))


def test_a_list_of_files_may_change(tmp_path: Path) -> None:
    """Names as `find .` gives them; nothing is said of a file, so annotations are fetched each time."""
    root = data_set(tmp_path / "data", images=3)
    listed(root, "./")
    with served(root) as url:
        assert len(find.read(made(tmp_path / "home", url))) == 3
        (root / "annotations.json").write_text((root / "annotations.json").read_text().replace("02.png", "gone.png"))
        folder = made(tmp_path / "home", url)
        assert "gone.png" in (folder / "annotations.json").read_text()
        (root / "files.txt").write_text("\n\n.hidden\n")
        with pytest.raises(LabelwiseError, match="nothing is there"):
            made(tmp_path / "home", url)


@pytest.mark.parametrize(
    "name", ["{out}", "./{out}", "../../../../out.txt", "a/../../out.txt", "a\\b.txt", "C:/x.txt", "c:x.txt"]
)
def test_a_server_cannot_write_outside_the_mirror(name: str, tmp_path: Path) -> None:
    """Nor remove what lies there; a name with `..` is not seen."""
    root, out = data_set(tmp_path / "data", images=1), tmp_path / "out.txt"
    out.write_text("mine")
    (root / "files.txt").write_text("annotations.json\n" + name.format(out=out))
    with served(root) as url:
        if ".." in name:
            made(tmp_path / "home", url)
        else:
            with pytest.raises(LabelwiseError, match=r"files\.txt: .* may lie outside the data set. List every file"):
                made(tmp_path / "home", url)
    assert out.read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} <= {"data", "home", "out.txt"}


def test_names_of_a_bucket_stay_in_the_mirror(s3: Any, bucket: str, tmp_path: Path) -> None:
    for key in ("a.txt", "C:/b.txt", "..\\c.txt", "x/../../d.txt"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"1")
    assert list(image_store.Place(f"s3://{bucket}").list()) == ["a.txt"]


class OutOfRange(Exception):
    def __init__(self, **said: object) -> None:
        self.__dict__.update(said)


@pytest.mark.parametrize(
    "error", [OSError(EINVAL, "InvalidRange"), *(OutOfRange(**{key: 416}) for key in ("status", "code", "status_code"))]
)
def test_a_store_refuses_a_part_of_an_empty_object(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    class Empty:
        def cat_file(self, _path: str, start: int | None = None, end: int | None = None) -> bytes:
            if end is not None:
                raise error
            return b""

    monkeypatch.setattr(image_store, "_opened", lambda _url: (Empty(), "bucket"))
    assert image_store.Place("s3://bucket").content("a.png", 9) == b""


def test_an_empty_object_is_an_unreadable_image(s3: Any, bucket: str, tmp_path: Path) -> None:
    """Not the end of everything."""
    root = data_set(tmp_path / "data", images=3)
    (root / "images" / "01.png").write_bytes(b"")
    upload(s3, bucket, root)
    listed(root)
    with served(root) as url:
        for place in (f"s3://{bucket}", url):
            folder = made(tmp_path / "home", place)
            with pytest.raises(LabelwiseError, match=f"{place}/images/01.png: image can't be read") as told:
                image_reader.probe(folder / "images" / "01.png")
            assert not isinstance(told.value, Unreachable)
            assert len(find.read(folder)) == 2


def test_a_kept_file_that_was_cut_short_is_fetched_anew(s3: Any, bucket: str, tmp_path: Path) -> None:
    s3.put_object(Bucket=bucket, Key="a.png", Body=b"0123456789")
    folder = made(tmp_path, f"s3://{bucket}")
    store = image_store.Mirror(folder)
    assert store.content(folder / "a.png") == b"0123456789"
    (file,) = folder.glob(f"{mirror_files.KEPT}/*/*")
    for short in (b"", b"012"):
        file.write_bytes(short)
        assert store.head(folder / "a.png") == store.content(folder / "a.png") == b"0123456789"
        assert file.read_bytes() == b"0123456789" and bytes_kept(tmp_path) == 10


@pytest.mark.parametrize("tables", [False, True])
def test_a_mirror_that_was_begun_is_made(tables: bool, s3: Any, bucket: str, tmp_path: Path) -> None:
    """Killed before its tables were there, and before anything stood in them."""
    upload(s3, bucket, data_set(tmp_path / "data", images=3))
    folder = mirror.folder_of(tmp_path, f"s3://{bucket}", None)
    folder.mkdir(parents=True)
    (folder / mirror_files.DATABASE).touch()
    if tables:
        mirror_files.prepare(folder)
    image_store.forget()
    assert image_store.of(folder / "a.png") is None
    assert len(find.read(made(tmp_path, f"s3://{bucket}"))) == 3


def test_images_of_a_store_are_exported(s3: Any, bucket: str, tmp_path: Path) -> None:
    """They come along, linked or not; there is no file to point to."""
    root = data_set(tmp_path / "data")
    upload(s3, bucket, root)
    opened = opening.start(tmp_path / "p", "entropy_image", [*SETTINGS, f"data.root=s3://{bucket}"])
    assert list(loop.run(opened)) == [0, 1, 2]
    own = {image_reader.pixels_of(opened.pool, i).tobytes() for i in range(len(opened.pool))}
    for to, link in (("coco", False), ("yolo", True), ("voc", False), ("datasets", False)):
        notes = training_export.write_set(opened, to, tmp_path / to, copy_images=not link)
        pool = find.read(tmp_path / to)
        assert len(pool) > 4 and not any("not copied" in note for note in notes)
        assert {image_reader.pixels_of(pool, i).tobytes() for i in range(len(pool))} <= own
    targets = list(per_image(files.read_targets(Round(opened, 1).folder.targets), opened.pool))
    assert targets and all(target.path is None for target in targets)


@contextmanager
def shown(root: Path, answers: Callable[[str], int | None] = lambda _path: None) -> Iterator[str]:
    """The URL of a server that shows folders; of a path it may give that status, or (0) close the connection."""
    import http.server

    class Pages(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(root))

        def log_message(self, *_said: Any) -> None:
            pass

        def do_GET(self) -> None:
            status = answers(self.path)
            if status is None:
                super().do_GET()
            elif status == 200:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"<!doctype html><p>Welcome")
            elif status:
                self.send_error(status)
            else:
                self.close_connection = True

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


ODD = ["a.png", "a.png#2.png", "b?x=1.png", "c%20d.png", "c d.png", "ü&é.png", "deep down/e+f.png", "deep down/1:2.png"]


@pytest.mark.parametrize("way", ["pages", "text"])
def test_a_web_server_gives_each_image_under_its_name(way: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "deep down").mkdir(parents=True)
    for k, name in enumerate(ODD):
        Image.new("RGB", (20 + k, 16)).save(root / name, "PNG")
    if way == "text":
        listed(root, "./")
    with shown(root) as url:
        folder = made(tmp_path / "home", url)
        assert image_store.names_below(folder) == sorted(ODD)
        for k, name in enumerate(ODD):
            assert image_reader.load(folder / name).shape[1] == 20 + k
        assert image_store.where(folder / "c d.png") == f"{url}/c d.png"


def test_pages_of_folders_are_walked_below_the_place_each_once(tmp_path: Path) -> None:
    """Links that lead above, to another order of the page or to nothing are none; those in a circle are an error."""
    root = tmp_path / "data"
    for name in ("set/a.png", "set/sub/b.png", "other/c.png", ".git/d.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"1")
    links = [
        "../",
        "/",
        "/set/",
        "?C=N;O=D",
        "#top",
        "./a.png",
        "sub/",
        "sub/",
        "gone/",
        "/other/",
        "/set/sub/",
        "a.png",
    ]
    (root / "set" / "index.html").write_text("".join(f'<a href="{link}">x</a>' for link in links))
    with shown(root) as url:
        assert image_store.Place(f"{url}/set").list().keys() == {"a.png", "sub/b.png"}
        assert image_store.Place(url).list().keys() == {"set/a.png", "set/sub/b.png", "other/c.png"}
        assert image_store.Place(f"{url}/set/a.png").list().keys() == {"a.png"}
        (root / "set").rename(root / "my set")
        (root / "my set" / "index.html").write_text('<a href="/my%20set/sub/">x</a><a href="/my%20set/a.png">x</a>')
        for place in ("my set", "my%20set"):
            assert image_store.Place(f"{url}/{place}").list().keys() == {"a.png", "sub/b.png"}
        (root / "other" / "back").symlink_to(root / "other")
        with pytest.raises(LabelwiseError, match="a folder there links to one above it"):
            image_store.Place(f"{url}/other").list()


@pytest.mark.parametrize("answer", [0, 503])
@pytest.mark.parametrize("lost", ["/files.txt", "/b/"])
def test_a_web_server_that_goes_away_is_not_an_empty_one(
    lost: str, answer: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its pages are read, or at the first of them."""
    monkeypatch.setattr(image_store, "WAITS_S", [])
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        (tmp_path / "data" / name).write_bytes(b"1")
    with (
        shown(tmp_path / "data", lambda path: answer if path == lost else None) as url,
        pytest.raises(Unreachable, match="the store cannot be reached"),
    ):
        image_store.Place(url).list()
    with pytest.raises(Unreachable, match=f"{url}.*the store cannot be reached"):
        image_store.Place(url).list()


def test_a_page_for_whatever_is_not_there_is_no_list_of_files(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_bytes(b"1")
    with shown(tmp_path / "data", lambda path: 200 if path == "/files.txt" else None) as url:
        assert image_store.Place(url).list().keys() == {"a.png"}


def test_a_list_of_files_is_none_of_the_files(tmp_path: Path) -> None:
    """`find . -type f > files.txt` lists it; another of that name, deeper, is a file as any other."""
    (tmp_path / "data" / "sub").mkdir(parents=True)
    for name in ("a.png", "files.txt", "sub/files.txt"):
        (tmp_path / "data" / name).write_bytes(b"1")
    listed(tmp_path / "data", "./")
    assert "./files.txt" in (tmp_path / "data" / "files.txt").read_text()
    with served(tmp_path / "data") as url:
        assert image_store.Place(url).list().keys() == {"a.png", "sub/files.txt"}
