"""Every method recipe runs: on degenerate input with a fake detector, and with the real ones where they matter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelwise import catalog, config, loop
from labelwise.project import opening
from labelwise.report import page
from labelwise.study import history
from labelwise.types import LabelwiseError

DATA_LAYERS = {"demo", "patrol", "starter", "scenes", "scenes_voc", "bccd", "aquarium", "voc0712", "cityscapes"}
DATA_LAYERS |= {"cifar10", "mnist", "cifar10_paper", "cifar100_paper", "tiny_imagenet_paper", "cifar10_ssl_paper"}
DATA_LAYERS |= {"cifar100_ssl_paper", "tiny_imagenet_ssl_paper"}
CLASSIFIERS_ONLY = {"dispersion", "misclassified", "svm_margin", "teacher_dispersion", "teacher_entropy", "ceal"}
DATA_LAYERS |= {"cifar10_frozen", "mnist_frozen", "classes_frozen"}
DATA_LAYERS |= {"drones", "roads", "roads_paper", "imagenet_vid_paper", "starter_classes", "starter_frames"}
DATA_LAYERS |= {"starter_frozen", "fod_a_frozen"}
ONLY_WITH_FILES = {"frozen", "gpu"}
"""Methods that need files of weights (tests/test_frozen_detector.py and test_init.py look at them)."""
VIDEOS_ONLY = {"random_r", "frame_confidence", "frame_entropy", "frame_margin", "oracle_fp", "oracle_fn"}
VIDEOS_ONLY |= {"temporal_coherence", "temporal_coherence_siamese", "random_r_propagate"}
"""tests/test_video_flow.py runs these."""
METHODS = sorted(set(catalog.recipes()) - DATA_LAYERS - CLASSIFIERS_ONLY - VIDEOS_ONLY - ONLY_WITH_FILES)
SIZE = (48, 40)


def data_set(root: Path, *, classes: int = 3, images: int = 8, identical: bool = False, covering: bool = False) -> Path:
    """A small COCO data set, the same images for pool and test."""
    rng = np.random.default_rng(0)
    records, boxes = [], []
    (root / "images").mkdir(parents=True)
    for i in range(images):
        rng = np.random.default_rng(0 if identical else i)
        name = f"{i:02d}.png"
        Image.fromarray(rng.integers(0, 255, (*SIZE[::-1], 3), dtype=np.uint8)).save(root / "images" / name)
        records.append({"id": i, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
        for _ in range(1 if covering else 3):
            x, y = rng.integers(0, 20, 2).tolist()
            box = [0, 0, *SIZE] if covering else [x, y, *rng.integers(6, 20, 2).tolist()]
            boxes.append({"id": len(boxes), "image_id": i, "category_id": int(rng.integers(classes)), "bbox": box})
    table = {
        "images": records,
        "annotations": [{**b, "area": b["bbox"][2] * b["bbox"][3], "iscrowd": 0} for b in boxes],
        "categories": [{"id": c, "name": f"c{c}"} for c in range(classes)],
    }
    (root / "annotations.json").write_text(json.dumps(table))
    return root


CASES = {
    "ordinary": ({}, ["budget.per_round=[4, 4]"]),
    "nothing found": ({}, ["model.found=nothing"]),
    "one class": ({"classes": 1}, []),
    "identical images": ({"identical": True}, []),
    "a class never found": ({}, ["model.found=never"]),
    "boxes cover the image": ({"covering": True}, ["model.found=covering"]),
    "budget of 1": ({}, ["budget.per_round=[1]"]),
    "budget that nothing meets": ({}, ["budget.per_round=[9999]"]),
    "pool smaller than the start": ({}, ["budget.start_images=50"]),
}
COMMON = [
    "model.name=fakes.detector",
    "model.weights=none",
    "data.image_size_px=48",
    "data.cache_gb=0.1",
    "train.epochs=1",
    "train.batch_size=8",
    "query.threshold=0.05",
    "budget.start_images=3",
    "budget.per_round=[4]",
]


def contains(outer: tuple, inner: tuple) -> bool:
    return all(a <= b for a, b in zip(outer[:2], inner[:2], strict=True)) and all(
        a >= b for a, b in zip(outer[2:], inner[2:], strict=True)
    )


@pytest.fixture(scope="module")
def data_sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("data")
    return {case: data_set(root / str(k), **made) for k, (case, (made, _)) in enumerate(CASES.items())}


def layer(folder: Path, root: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "data.toml"
    path.write_text(f'[data]\nroot = "{root.as_posix()}"\n[predict]\nviews = ["flip", "downscale"]\n')
    return path


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_on_every_kind_of_input(method: str, case: str, data_sets: dict, tmp_path: Path) -> None:
    names = f"{layer(tmp_path, data_sets[case])}+{method}"
    opened = opening.start(tmp_path / "p", names, [*COMMON, *CASES[case][1]])
    assert list(loop.run(opened)) == list(range(opened.run.rounds))
    ledger, run = opened.project.ledger, opened.run
    queries = ledger.queries()
    assert len({(q.image, q.box) for q in queries if q.unit != "box"}) == sum(q.unit != "box" for q in queries)
    assert {q.unit for q in queries if q.round} <= set(run.query.asked)
    wholly = {q.image for q in queries if q.round == 0}
    assert not [q for q in queries if q.round and q.image in wholly], "a wholly labelled image was asked again"
    spent = ledger.cost_by_round()
    if case == "ordinary":
        done = (run.budget.unit == "seconds" and spent[1].seconds >= 4) or spent[1].boxes >= 4
        assert done or opened.project.ledger.stage_done(1, "ask")["ranking_exhausted"]
        assert len([q for q in queries if q.round]) > 0
    if case == "budget of 1" and run.query.asked == ("box",):
        assert all(cost.boxes <= 1 for round_number, cost in spent.items() if round_number)
    if case == "pool smaller than the start":
        assert all(q.round == 0 for q in queries)
    if case == "ordinary":
        shown = page.html([history.run_result(opened)], title=method)
        assert f"{method}</h1>" in shown and "Gallery" in shown
    regions: dict[str, list] = {}
    for query in queries:
        if query.unit == "region":
            inside = [r for r in regions.get(query.image, []) if contains(r, query.box)]
            assert not inside, "a region was asked that an answer had covered"
            regions.setdefault(query.image, []).append(query.box)
    truth = opened.pool.truth
    assert truth is not None and ledger.cost().boxes <= len(truth)
    opened.project.close()


@pytest.mark.parametrize("method", ["mc_dropout", "learning_loss", "ensemble", "lt_c", "mural", "box_coreset_damped"])
@pytest.mark.parametrize("model", ["retinanet", "faster_rcnn"])
def test_what_a_method_asks_of_a_model_both_detectors_give(
    method: str, model: str, data_sets: dict, tmp_path: Path
) -> None:
    names = f"{layer(tmp_path, data_sets['ordinary'])}+{method}"
    settings = [f"model.name={model}", "data.image_size_px=64", "predict.min_score=0.01", "query.threshold=0.01"]
    settings += ["train.epochs=1", "train.batch_size=4", "budget.start_images=4", "budget.per_round=[4]"]
    opened = opening.start(tmp_path / "p", names, [*settings, "model.score_threshold=0.01"])
    assert list(loop.run(opened)) == [0, 1]
    assert [q for q in opened.project.ledger.queries(1) if q.unit == opened.run.query.unit]
    opened.project.close()


@pytest.mark.parametrize("name", sorted(DATA_LAYERS))
def test_a_data_recipe_is_a_run_by_itself(name: str) -> None:
    """`labelwise compare` begins every method from it."""
    assert config.load(catalog.recipes()[name]).name


def test_every_recipe_says_what_it_is_and_how_to_run_it() -> None:
    for name, path in catalog.recipes().items():
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# ") and "# Run:" in text, name


def test_a_method_with_the_wrong_unit_is_refused(data_sets: dict, tmp_path: Path) -> None:
    names = [layer(tmp_path, data_sets["ordinary"]), catalog.recipes()["cald"]]
    with pytest.raises(LabelwiseError, match="scores whole images"):
        config.load(names, ["query.unit=box"])
    with pytest.raises(LabelwiseError, match="loss_head"):
        config.load([names[0], catalog.recipes()["learning_loss"]], ["model.loss_head=false"])
    with pytest.raises(LabelwiseError, match="images"):
        config.load([names[0], catalog.recipes()["mural"]], ["budget.unit=images"])


def test_class_balance_combines_with_every_unit(data_sets: dict, tmp_path: Path) -> None:
    for unit, score, select in (
        ("box", "margin", "kcenter"),
        ("image", "entropy", "kmeans_plusplus"),
        ("region", "confidence", "scale_aware"),
        ("region", "consistency", "quota"),
    ):
        path = tmp_path / f"{unit}_{select}.toml"
        path.write_text(f'[query]\nunit = "{unit}"\nscore = "{score}"\nselect = ["balance_frequency", "{select}"]\n')
        names = f"{layer(tmp_path, data_sets['ordinary'])}+{path}"
        opened = opening.start(tmp_path / unit / select, names, COMMON)
        assert list(loop.run(opened)) == [0, 1]
        assert opened.project.ledger.queries(1)[0].reason["score"] >= 0
        opened.project.close()


def test_a_selector_whose_picks_depend_on_the_budget_is_given_the_budget(data_sets: dict, tmp_path: Path) -> None:
    method = tmp_path / "quota.toml"
    method.write_text('[query]\nunit = "box"\nscore = "random"\nselect = "quota"\n')
    names = f"{layer(tmp_path, data_sets['ordinary'])}+{method}"
    opened = opening.start(tmp_path / "p", names, COMMON)
    list(loop.run(opened))
    reasons = [query.reason for query in opened.project.ledger.queries(1)]
    assert sum(r.get("quota", 0) > 0 for r in reasons[:4]) == 4, "the first budget's worth is shared out"
    assert max(r["quota"] for r in reasons[:4]) <= 4
    opened.project.close()


def test_unreadable_images_are_never_asked(tmp_path: Path) -> None:
    for method in ("vaal", "coreset_image", "cald"):
        root = data_set(tmp_path / method / "data")
        for name in ("02.png", "05.png", "06.png"):
            whole = (root / "images" / name).read_bytes()
            (root / "images" / name).write_bytes(whole[: len(whole) // 2])
        opened = opening.start(tmp_path / method / "p", f"{layer(tmp_path / method, root)}+{method}", COMMON)
        list(loop.run(opened))
        asked = {Path(query.image).name for query in opened.project.ledger.queries(1)}
        assert asked and not asked & {"02.png", "05.png", "06.png"}
        opened.project.close()


def test_a_name_alone_keeps_its_method_when_a_layer_sets_something_of_it(tmp_path: Path) -> None:
    below, above = tmp_path / "below.toml", tmp_path / "above.toml"
    below.write_text(f'model = "fakes.detector"\n[data]\nroot = "{tmp_path.as_posix()}"\n[predict]\nviews = ["flip"]\n')
    above.write_text("[model]\nloss_head = true\n")
    run = config.load([below, above])
    assert run.model.name == "fakes.detector" and run.model.settings == {"loss_head": True}
    for setting, message in (
        ("budget.per_round=[-5]", "greater than or equal to 0"),
        ("budget.per_round=[inf]", "finite"),
        ('query.select=[{name="top", keep=2}]', "keeps for nobody"),
        ("train.members=3", "nothing compares its members"),
    ):
        with pytest.raises(LabelwiseError, match=message):
            config.load([below], ["query.score=random", "query.select=top", "labels.policy=background", setting])
    with pytest.raises(LabelwiseError, match="chain of 2"):
        config.load([below, catalog.recipes()["cald"]], ["query.select.pool=2"])
