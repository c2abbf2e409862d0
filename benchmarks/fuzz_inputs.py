"""What labelwise is given beside data sets, damaged for `fuzz.py`: run files, settings, predictions, answers, requests
of the page, arrays on disk.

A subject is a function that makes what it needs in a folder, once, and gives a function: from a random generator to
what was damaged, and a call that tries it. Right is: the call returns, or raises `LabelwiseError`; of a request, its
status is below 500, and has a message from 400 on.
"""

from __future__ import annotations

import json
import random
import shutil
import time
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w
import torch
from fuzz_layouts import layouts
from fuzz_values import arrays_damaged, bytes_damaged, value_damaged

import labelwise
from labelwise import catalog, config, files, loop
from labelwise.api import predictions as foreign
from labelwise.config import run_file
from labelwise.data import check as data_check
from labelwise.files.feature_files import FeatureFolder
from labelwise.project import glance, opening
from labelwise.types import Detections, LabelwiseError, Pool

Attempt = Callable[[], Any]
Damage = Callable[[random.Random], tuple[str, Attempt]]

CLASSES = ["cat", "dog", "hen"]
POOL = Pool(Path(), tuple(CLASSES), ("a.jpg", "b.jpg", "c.jpg"), np.array([100, 200, 50]), np.array([80, 100, 50]))


def data_set(folder: Path, name: str = "coco") -> Path:
    """One of the small data sets of `fuzz_layouts`."""
    for file, content in layouts()[name].items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    return folder


# ---- run files ----------------------------------------------------------------------------------------------------


def run_tables() -> list[dict[str, Any]]:
    """The settings of every recipe, as tables."""
    found = [config.layers(catalog.recipe_files(name)) for name in catalog.recipes()]
    return [
        {**raw, "data": raw.get("data", {"root": "data", "test_split": "test", "classes": ["cat"]})} for raw in found
    ]


def toml(raw: Any) -> bytes:
    """TOML; JSON of what TOML cannot say, which YAML can read."""
    try:
        return tomli_w.dumps(raw).encode("utf-8", "surrogatepass")
    except (TypeError, AttributeError, ValueError, RecursionError):
        return json.dumps(raw, default=str).encode()


def settings_damaged(
    raw: dict[str, Any], rng: random.Random, write: Callable[[Any], bytes] = toml
) -> tuple[bytes, str]:
    """A run file of damaged settings, or a damaged run file."""
    if rng.random() < 0.35:
        return bytes_damaged(write(raw), rng)
    changed, how = value_damaged(raw, rng)
    if rng.random() < 0.3:
        changed, more = value_damaged(changed, rng)
        how += f"; {more}"
    return write(changed), how


def yaml_of(raw: Any) -> bytes:
    """YAML, as JSON says it."""
    return json.dumps(raw, default=str).encode()


def run_file_alone(folder: Path) -> Damage:
    """A run file is loaded and written again, with settings of the command line over it."""
    tables, place = run_tables(), folder / "run.toml"

    def damage(rng: random.Random) -> tuple[str, Attempt]:
        raw = json.loads(json.dumps(rng.choice(tables)))
        path = place.with_suffix(rng.choice((".toml", ".toml", ".toml", ".yaml")))
        content, how = settings_damaged(raw, rng, toml if path.suffix == ".toml" else yaml_of)
        settings = [setting(raw, rng)] if rng.random() < 0.3 else []

        def attempt() -> None:
            path.write_bytes(content)
            run = config.load(path, settings)
            path.write_text(config.dump(run), encoding="utf-8")
            assert config.load(place if path.suffix == ".toml" else _moved(path, place)) == run

        return f"{path.suffix} {how} {settings}", attempt

    return damage


def _moved(path: Path, to: Path) -> Path:
    shutil.copy(path, to)  # what is written is TOML, whatever was read
    return to


def setting(raw: dict[str, Any], rng: random.Random) -> str:
    """A damaged `--set` of some key of these settings."""
    keys, table = [], raw
    while isinstance(table, dict) and table:
        keys.append(rng.choice(sorted(table)))
        table = table[keys[-1]]
    odd = ("", "x", "-1", "nan", "inf", "[]", "[[1]]", "{a = 1}", '"', "1e400", "9" * 300, "true", "1979-05-27", "\0")
    key = rng.choice((".".join(keys), ".".join(keys[:1]), ".".join(keys) + ".x", keys[-1], "", ".", "a..b", " x "))
    return f"{key}{rng.choice(('=', '=', '=', ''))}{rng.choice(odd)}"


def run_file_changed(folder: Path) -> Damage:
    """A setting is changed in the text of a run file; the text reads as the settings do."""
    tables, path = run_tables(), folder / "run.toml"

    def damage(rng: random.Random) -> tuple[str, Attempt]:
        raw = rng.choice(tables)
        settings = [setting(raw, rng) for _ in range(rng.randrange(1, 3))]

        def attempt() -> None:
            path.write_text(run_file.text(raw, ["made"]), encoding="utf-8")
            changed = run_file.change(path, settings)
            run = config.load(path, settings)
            path.write_text(changed, encoding="utf-8")
            assert config.load(path) == run

        return f"{settings}", attempt

    return damage


def run_file_opened(folder: Path) -> Damage:
    """A project with such a run file is opened, and its run begun."""
    data = data_set(folder / "data")
    whole = folder / "whole"
    raw = config.layers(catalog.recipe_files("starter"))
    sections: dict[str, Any] = {"data": {"root": str(data), "test_share": 0.5, "test_seed": 1, "classes": []}}
    sections |= {"budget": {"start_images": 1, "per_round": [1], "unit": "boxes"}, "ask": {"who": "people"}}
    path = folder / "start.toml"
    path.write_text(tomli_w.dumps(raw | sections), encoding="utf-8")
    opened = opening.start(whole, str(path))
    loop.begin(opened)
    opened.project.close()
    settings = tomllib.loads((whole / "run.toml").read_text(encoding="utf-8"))

    def damage(rng: random.Random) -> tuple[str, Attempt]:
        section = rng.choice(("data", "data", "budget", "query", "ask", "labels", "train", "predict", ""))
        copy = json.loads(json.dumps(settings))
        if section and isinstance(copy.get(section), dict):
            copy[section], how = value_damaged(copy[section], rng)
        else:
            copy, how = value_damaged(copy, rng)
        content = toml(copy) if rng.random() < 0.8 else settings_damaged(copy, rng)[0]
        project = folder / "project"

        def attempt() -> None:
            shutil.rmtree(project, ignore_errors=True)
            shutil.copytree(whole, project)
            (project / "run.toml").write_bytes(content)
            seen = glance.look(project)
            if seen is not None:
                seen.project.close()
            context = opening.start(project, None)
            try:
                loop.begin(context)
            finally:
                context.project.close()

        return f"[{section}] {how}", attempt

    return damage


# ---- Python -------------------------------------------------------------------------------------------------------


def prediction_forms(n_images: int = 3) -> list[Any]:
    """Good predictions in every form but files, of images that are 50 pixels wide and high or more."""
    image = np.repeat(np.arange(n_images), 2)
    boxes = np.tile([[1.0, 2, 21, 22], [5, 5, 40, 44]], (n_images, 1))
    probs = np.tile([[0.6, 0.3, 0.1], [0.1, 0.1, 0.8]], (n_images, 1))
    scores, labels = probs.max(axis=1), probs.argmax(axis=1)
    views = {"view_iou": np.full((2, len(image)), 0.5), "view_probs": np.stack([probs] * 2)}
    more = {"features": np.ones((len(image), 2)), "tightness": np.full(len(image), 0.5)}
    columns = {"image": image, "boxes": boxes, "probs": probs, **views, **more}
    plain = {"image": image.tolist(), "boxes": boxes.tolist(), "scores": scores.tolist(), "labels": labels.tolist()}
    one = {"boxes": boxes[:2], "scores": scores[:2], "labels": labels[:2]}
    tensors = {"boxes": torch.tensor(boxes[:2]), "probs": torch.tensor(probs[:2])}
    by_name = {POOL.names[k]: dict(one) for k in range(n_images)}
    of_images = np.arange(2.0 * n_images).reshape(n_images, 2)
    with_images = columns | {"image_features": of_images, "view_scores": np.full((2, len(image)), 0.5)}
    listed = [dict(tensors) for _ in range(n_images)]
    return [columns, plain, listed, by_name, of_images, {"image_features": of_images}, with_images]


def predictions(_folder: Path) -> Damage:
    """Damaged arrays, lists and tables of predictions."""

    def damage(rng: random.Random) -> tuple[str, Attempt]:
        form = rng.choice(prediction_forms())
        changed, how = arrays_damaged(form, rng)

        def attempt() -> None:
            sane(foreign.read(changed, POOL))

        return how, attempt

    return damage


def sane(found: Detections) -> None:
    """What was taken is a table that the methods may compute with."""
    assert found.n_images == len(POOL)
    assert np.isfinite(found.boxes).all() and np.isfinite(found.scores).all() and np.isfinite(found.features).all()
    assert (found.probs >= 0).all() and np.allclose(found.probs.sum(axis=1), 1, atol=1e-3)


def prediction_files(folder: Path) -> Damage:
    """Damaged Parquet files and folders of shards."""
    columns = prediction_forms()[0]
    rows = {name: columns["boxes"][:, k] for k, name in enumerate(("x1", "y1", "x2", "y2"))}
    rows |= {"image": [POOL.names[k] for k in columns["image"]], "probs": list(columns["probs"])}
    rows |= {"features": list(columns["features"]), "view_iou": [[0.5, 0.5]] * len(columns["image"])}
    good, shards = foreign.read(columns, POOL), folder / "shards"
    files.write_detections(shards, good)
    whole = {path.name: path.read_bytes() for path in sorted(shards.iterdir())}
    table = folder / "p.parquet"

    def damage(rng: random.Random) -> tuple[str, Attempt]:
        kind = rng.random()
        if kind < 0.5:
            changed, how = arrays_damaged(dict(rows), rng)
        else:
            pq.write_table(pa.table(rows), table)
            name = rng.choice(sorted(whole))
            content, how = bytes_damaged(table.read_bytes() if kind < 0.75 else whole[name], rng)

        def attempt() -> None:
            if kind < 0.5:
                try:
                    pq.write_table(pa.table(changed), table)
                except Exception:  # no table, so nothing that anyone could give
                    return
            elif kind < 0.75:
                table.write_bytes(content)
            else:
                for other, body in whole.items():
                    (shards / other).write_bytes(content if other == name else body)
            sane(foreign.read(str(table) if kind < 0.75 else shards, POOL))

        return how, attempt

    return damage


def own_detector(folder: Path) -> labelwise.Project:
    """A project of two images whose first round is over and whose second has three questions open."""
    data = data_set(folder / "images", "yolo")
    images = sorted(data.rglob("*.jpg"))
    project = labelwise.open(folder / "project", images=images, classes=CLASSES)
    for query in project.ask(budget=1):
        project.answer(query)
    project.finish({"ap50": 0.5})
    project.ask(dict(prediction_forms(2)[0]), budget=3, score="random", select="top")
    return project


def python_calls(folder: Path) -> Damage:
    """Damaged arguments of the Python API, on a project that lives through all of them."""
    project = own_detector(folder)
    good = prediction_forms(2)[0]

    def damage(rng: random.Random) -> tuple[str, Attempt]:
        query = rng.choice(project.open_queries() or [project._query(1)])
        answer = {"verdict": "object", "boxes": [[1, 2, 21, 22]], "labels": ["cat"], "who": "me", "seconds": 1.0}
        calls: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
            "answer": (project.answer, {"query": query.id, **answer, "note": "ä"}),
            "made": (project.made, {"query": query, **answer, "boxes": np.array([[1.0, 2, 21, 22]])}),
            "ask": (project.ask, {"predictions": good, "budget": 3, "unit": "box", "score": "entropy", "select": "top",
                                  "threshold": 0.1, "aggregate": "mean", "scales": (1.5, 2.0)}),
            "targets": (project.targets, {"predictions": good, "policy": "hard", "threshold": 0.3,
                                          "images": "annotated", "regions": "coverage"}),
            "finish": (project.finish, {"metrics": {"ap50": 0.5, "ap": 0.3, "per_class_ap50": {"cat": 0.4}}}),
            "pixels": (project.pixels, {"image": project.images[0]}),
        }  # fmt: skip
        name = rng.choice([*calls, "answer", "made"])
        call, arguments = calls[name]
        changed, how = arrays_damaged(arguments, rng)
        if not isinstance(changed, dict) or set(changed) != set(arguments):  # of that Python takes care
            changed = arguments
        return f"{name}: {how}", lambda: call(**changed)

    return damage


# ---- the page -----------------------------------------------------------------------------------------------------


def page(folder: Path) -> Damage:
    """Damaged requests of a browser, after the owner has come in."""
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    from fastapi.testclient import TestClient

    from labelwise.web.server import Page, create

    project = own_detector(folder)
    served = Page(opening.start(project.folder, None))
    app = create(served)
    client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=True)
    secret = served.people.invite("Ada", "owner", time.time())
    client.post("/api/enter", json={"secret": secret})
    client.headers["x-csrf-token"] = client.get("/api/me").json()["csrf"]
    tab = "window-0001"
    want = {"tab": tab, "holding": [], "most": 3, "alike": False}

    def damage(rng: random.Random) -> tuple[str, Attempt]:
        given = client.post("/api/next", json=want).json()["queries"]
        if not given and client.post("/api/undo", json={"tab": tab}).status_code == 200:
            given = client.post("/api/next", json=want).json()["queries"]
        query = given[0] if given else {"query": 1, "lease": "x"}
        body = {"query": query["query"], "lease": query["lease"], "verdict": "object", "boxes": [[1, 2, 21, 22]]}
        bodies: dict[str, Any] = {
            "answers": {**want, **body, "labels": [0], "seconds": 1.5, "note": "ä", "classes": 3},
            "next": want,
            "undo": {"tab": tab},
            "heartbeat": {"tab": tab},
            "enter": {"secret": secret},
            "password": {"name": "Ada", "password": "a long enough word"},
            "owner/invite": {"name": "Bo"},
            "owner/classes": {"name": "fox", "none_so_far": False},
            "owner/revoke": {"name": "Bo"},
        }
        route = rng.choice([*bodies, "answers", "answers", "answers"])
        if rng.random() < 0.3:
            raw, how = bytes_damaged(json.dumps(bodies[route]).encode(), rng)
        else:
            changed, how = value_damaged(bodies[route], rng)
            raw = json.dumps(changed).encode("utf-8", "surrogatepass")

        def attempt() -> None:
            sender = TestClient(app, base_url="http://127.0.0.1") if route == "enter" else client  # it ends a session
            answer = sender.post(f"/api/{route}", content=raw, headers={"content-type": "application/json"})
            assert answer.status_code < 500, answer.text
            if answer.status_code >= 400:
                raise LabelwiseError(answer.json()["error"])

        return f"{route}: {how}", attempt

    return damage


# ---- arrays on disk -----------------------------------------------------------------------------------------------


def archives(folder: Path) -> Damage:
    """Damaged .npz files of images and labels."""
    rng_of_pixels = np.random.default_rng(0)
    pixels = rng_of_pixels.integers(0, 255, (4, 8, 9, 3), np.uint8)
    good = {"train_x": pixels, "train_y": np.array([0, 1, 1, 0]), "test_x": pixels[:2], "test_y": np.array([0, 1]),
            "classes": np.array(["cat", "dog"])}  # fmt: skip
    root = folder / "set"
    root.mkdir()

    def damage(rng: random.Random) -> tuple[str, Attempt]:
        save = rng.choice((np.savez, np.savez_compressed))
        with (root / "a.npz").open("wb") as file:
            save(file, **good)
        if rng.random() < 0.5:
            content, how = bytes_damaged((root / "a.npz").read_bytes(), rng)
        else:
            changed, how = arrays_damaged(dict(good), rng)
            content = b""

        def attempt() -> None:
            if content:
                (root / "a.npz").write_bytes(content)
            else:
                with (root / "a.npz").open("wb") as file:
                    try:
                        np.savez(file, **{str(key): np.asanyarray(value) for key, value in changed.items()})
                    except Exception:  # no archive
                        return
            json.dumps(data_check.look(root, full=True).as_json())

        return how, attempt

    return damage


def stored_features(folder: Path) -> Damage:
    """Damaged features on disk: the finished ones are an error or as they were in form, parts are left out."""
    rng_of_rows = np.random.default_rng(0)
    keys = np.arange(1, 7, dtype=np.uint64)
    rows = rng_of_rows.normal(size=(6, 2, 3)).astype(np.float32)
    whole, parts = FeatureFolder(folder / "whole"), FeatureFolder(folder / "parts")
    whole.finish(keys, iter([(keys, rows)]), (2, 3), {4: "broken"})
    parts.keep(keys[:3], rows[:3])
    parts.keep(keys[3:], rows[3:])
    stored = {path: path.read_bytes() for one in (whole, parts) for path in sorted(one.path.iterdir())}

    def damage(rng: random.Random) -> tuple[str, Attempt]:
        path = rng.choice(sorted(stored))
        if path.suffix == ".npz" and rng.random() < 0.4:
            changed, how = arrays_damaged({"keys": keys[:3], "features": rows[:3]}, rng)
            content = b""
        elif path.suffix == ".json" and rng.random() < 0.7:
            value, how = value_damaged(json.loads(stored[path]), rng)
            content = json.dumps(value).encode()
        else:
            content, how = bytes_damaged(stored[path], rng)

        def attempt() -> None:
            for one, body in stored.items():
                one.write_bytes(body)
            if content or path.suffix != ".npz":
                path.write_bytes(content)
            else:
                with path.open("wb") as file:
                    try:
                        np.savez(file, **{str(key): np.asanyarray(value) for key, value in changed.items()})
                    except Exception:  # no archive
                        return
            for one in (whole, parts):
                for there, features in one.computed():
                    assert len(there) == len(features)
                again = FeatureFolder(folder / "again")
                again.path.mkdir(exist_ok=True)
                again.finish(keys, one.computed(), (2, 3), {})
            whole.read()

        return f"{path.name}: {how}", attempt

    return damage


SUBJECTS: dict[str, Callable[[Path], Damage]] = {
    "run file": run_file_alone,
    "run file, changed": run_file_changed,
    "run file, opened": run_file_opened,
    "predictions": predictions,
    "prediction files": prediction_files,
    "python calls": python_calls,
    "page": page,
    "npz": archives,
    "stored features": stored_features,
}
