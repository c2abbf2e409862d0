"""Every recipe of image classification runs, on degenerate data too; a killed training goes on to the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from labelwise import files, loop
from labelwise.cli import app
from labelwise.project import opening
from labelwise.project.round import Round
from labelwise.report import page
from labelwise.study import history, pick_accuracy
from labelwise.types import LabelwiseError

METHODS = [
    *("random_image", "confidence_image", "entropy_image", "margin_image", "coreset_image", "vaal", "mc_dropout"),
    *("ensemble", "bald_image", "dispersion", "misclassified", "svm_margin", "badge", "typiclust", "probcover"),
    *("coreset_milp", "entropy_cb", "entropy_cb_pseudo", "bald_cb", "vaal_cb", "kcenter_cb", "teacher_dispersion"),
    *("teacher_entropy", "ceal", "herding", "uncertainty_herding", "dropquery", "margin_kcenter"),
]
COMMON = [
    "model.name=classifier",
    "model.backbone=small",
    "model.width=4",
    "data.image_size_px=8",
    "data.format=arrays",
    "train.epochs=2",
    "train.batch_size=8",
    "train.pad_px=1",
    "budget.unit=images",
    "budget.start_images=6",
    "budget.per_round=[4]",
    "predict.shard_images=11",
]


def data_set(root: Path, *, classes: int = 3, images: int = 24, identical: bool = False, single: bool = False) -> Path:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (images, 8, 8), dtype=np.uint8)
    labels = np.arange(images) % classes
    if identical:
        pixels[:], labels = pixels[0], np.zeros(images, int) if classes == 1 else labels
    if single:
        labels = np.where(labels == classes - 1, 0, labels)
        labels[0] = classes - 1
    pixels[labels == 0] //= 3  # something to learn
    root.mkdir(parents=True)
    np.savez(root / "data.npz", train_x=pixels, train_y=labels, test_x=pixels[:9], test_y=labels[:9])
    return root


CASES = {
    "ordinary": ({}, ["budget.per_round=[4, 4]"]),
    "one class": ({"classes": 1}, []),
    "identical images": ({"identical": True}, []),
    "a class with one image": ({"single": True}, []),
    "budget of 1": ({}, ["budget.per_round=[1]"]),
    "budget above the pool": ({}, ["budget.per_round=[9999]"]),
    "pool smaller than the start": ({}, ["budget.start_images=50"]),
}


def settings(root: Path) -> list[str]:
    return [*COMMON, f'data.root="{root.as_posix()}"', "data.pool_split=train", "data.test_split=test"]


@pytest.fixture(scope="module")
def data_sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("data")
    return {case: data_set(root / str(k), **made) for k, (case, (made, _)) in enumerate(CASES.items())}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_on_every_kind_of_data(method: str, case: str, data_sets: dict, tmp_path: Path) -> None:
    opened = opening.start(tmp_path / "p", method, [*settings(data_sets[case]), *CASES[case][1]])
    assert list(loop.run(opened)) == list(range(opened.run.rounds))
    ledger = opened.project.ledger
    queries = ledger.queries()
    assert {q.unit for q in queries} == {"image"} and len({q.image for q in queries}) == len(queries)
    spent = {round_number: cost.images for round_number, cost in ledger.cost_by_round().items()}
    start = min(opened.run.budget.first(24), 24)
    left = 24 - start
    for round_number, amount in enumerate(opened.run.budget.per_round, 1):
        assert spent.get(round_number, 0) == min(amount, left)
        left -= min(int(amount), left)
    assert ledger.cost().boxes == sum(spent.values()), "one class per image"
    metrics = files.read_json(Round(opened, 0).folder.metrics)
    assert 0 <= metrics["accuracy"] <= 1
    if case == "ordinary":
        shown = page.html([history.run_result(opened)], title=method)
        assert "accuracy" in shown and "AP50" not in shown
    opened.project.close()


@pytest.mark.parametrize("method", ["teacher_dispersion", "teacher_entropy"])
def test_lent_classes_are_not_asked_in_that_round(method: str, data_sets: dict, tmp_path: Path) -> None:
    opened = opening.start(tmp_path / "p", method, [*settings(data_sets["ordinary"]), "labels.teacher.share=0.5"])
    list(loop.run(opened))
    lent = files.read_table(Round(opened, 0).folder.pseudo_labels)
    assert len(lent["image"]) == 12 and set(lent["label"].tolist()) <= {0, 1, 2}
    asked = {q.image for q in opened.project.ledger.queries(1)}
    assert len(asked) == 4 and not asked & {opened.pool.names[i] for i in lent["image"]}


def test_a_killed_training_records_the_same_history(data_sets: dict, tmp_path: Path) -> None:
    asked = [*settings(data_sets["ordinary"]), "train.epochs=6", "train.checkpoint_every_s=0"]
    whole = opening.start(tmp_path / "whole", "dispersion", asked)
    assert list(loop.run(whole)) == [0, 1]

    class Killed(BaseException):
        pass

    steps = 0

    def bar(name: str, _total: int):
        from contextlib import nullcontext

        def advance(n: int) -> None:
            nonlocal steps
            steps += n if ": train" in name else 0
            if steps == 4:
                steps += 1
                raise Killed

        return nullcontext(advance)

    killed = opening.start(tmp_path / "killed", "dispersion", asked, bar)
    with pytest.raises(Killed):
        list(loop.run(killed))
    assert list((Round(killed, 0).folder.path / "x").parent.glob("*partial*")), (
        "it was killed in the middle of a record"
    )
    killed.project.close()
    again = opening.start(tmp_path / "killed", None)
    assert list(loop.run(again)) == [0, 1]
    for round_number in (0, 1):
        for name in ("history.npy", "checkpoint.safetensors", "metrics.json"):
            assert (Round(whole, round_number).folder.path / name).read_bytes() == (
                Round(again, round_number).folder.path / name
            ).read_bytes(), (round_number, name)
    picks = [[(q.image, q.score) for q in one.project.ledger.queries()] for one in (whole, again)]
    assert picks[0] == picks[1]
    whole.project.close()
    again.project.close()


def test_the_first_images_of_a_long_tailed_pool_are_balanced(tmp_path: Path) -> None:
    root = data_set(tmp_path / "data", images=120)
    asked = [*settings(root), "data.imbalance=0.1", "budget.start=balanced", "budget.start_images=9"]
    opened = opening.start(tmp_path / "p", "random_image", asked)
    assert list(loop.run(opened)) == [0, 1]
    truth = opened.pool.truth
    assert truth is not None and sorted(np.bincount(truth.labels).tolist()) == [7, 40, 40]  # 3 in reserve + 0.1 * 40
    first = opened.project.ledger.annotation_rows(until_round=0)["label"]
    assert np.bincount(first).tolist() == [3, 3, 3]
    opened.project.close()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["query.unit=box"], 'set query.unit = "image"'),
        (["model.name=retinanet", "budget.unit=boxes"], 'model.name = "classifier"'),
        (["data.cache_gb=0.000001"], "Raise data.cache_gb"),
        (["budget.start=balanced", "budget.start_images=300"], "has fewer"),
        (["train.members=2", 'labels.teacher={by="entropy"}'], "labels.teacher"),
    ],
)
def test_what_cannot_be_run_says_so(given: list[str], message: str, data_sets: dict, tmp_path: Path) -> None:
    drop = {"model.backbone=small", "model.width=4"} if "model.name=retinanet" in given else set()
    asked = [s for s in settings(data_sets["ordinary"]) if s not in drop]
    with pytest.raises(LabelwiseError, match=message):
        list(loop.run(opening.start(tmp_path / "p", "random_image", [*asked, *given])))


def test_balance_tells_what_every_lambda_does(data_sets: dict, tmp_path: Path) -> None:
    opened = opening.start(tmp_path / "p", "entropy_image", settings(data_sets["ordinary"]))
    list(loop.run(opened))
    opened.project.close()
    shown = CliRunner().invoke(app, ["balance", "--project", str(tmp_path / "p")])
    assert shown.exit_code == 0 and "The smallest λ" in shown.output and "pseudo" in shown.output
    with pytest.raises(LabelwiseError, match="round 7 has no scores"):
        CliRunner().invoke(app, ["balance", "-p", str(tmp_path / "p"), "--round", "7"], catch_exceptions=False)


def test_advise_gives_its_evidence() -> None:
    few = CliRunner().invoke(app, ["advise", "--classes", "10", "--pool", "50000", "--budget", "100", "--pretrained"])
    many = CliRunner().invoke(app, ["advise", "--classes", "10", "--pool", "50000", "--budget", "5000", "--pretrained"])
    assert few.exit_code == many.exit_code == 0 and few.output != many.output and "Fig. 5.3" in many.output


def test_advise_measures_what_the_picks_of_a_project_teach(data_sets: dict, tmp_path: Path) -> None:
    asked = [*settings(data_sets["ordinary"]), "budget.per_round=[4, 4]"]
    opened = opening.start(tmp_path / "p", "entropy_image", asked)
    list(loop.run(opened))
    rows = pick_accuracy.of_project(opened)
    assert [row.round for row in rows] == [1, 2] and [row.picks for row in rows] == [4, 4]
    assert [row.labels for row in rows] == [6, 10] and [row.random for row in rows] == [18, 14]
    now, truth = Round(opened, 2), opened.pool.truth  # the same, image by image
    said = now.detections()
    guess = dict(zip(said.image.tolist(), said.labels.tolist(), strict=True))
    picks = [opened.pool.number_of[query.image] for query in now.queries()]
    assert truth is not None
    assert rows[1].picks_right == sum(guess[i] == truth.labels[i] for i in picks)
    assert rows[1].random_right == sum(guess[i] == truth.labels[i] for i in now.scores["image"].tolist())
    opened.project.close()
    shown = CliRunner().invoke(app, ["advise", "--project", str(tmp_path / "p")])
    assert shown.exit_code == 0, shown.output
    words = " ".join(shown.output.split())
    assert "Not known" in words and "Round 2" in words and "random images" in words


def test_pretrain_writes_a_body_that_a_run_starts_from(data_sets: dict, tmp_path: Path) -> None:
    pytest.importorskip("lightly", reason="SimSiam needs the extra ssl")
    weights = tmp_path / "simsiam.safetensors"
    given = [x for s in settings(data_sets["ordinary"]) for x in ("-s", s)]
    command = ["pretrain", "mnist", "-o", str(weights), "--epochs", "2", "--batch-size", "8", *given]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0 and "loss" in done.output and not list(tmp_path.glob("*unfinished*"))
    asked = [*settings(data_sets["ordinary"]), f"model.weights={weights}", "model.frozen=true"]
    opened = opening.start(tmp_path / "p", "svm_margin", asked)
    assert list(loop.run(opened)) == [0, 1]
    body, _ = files.read_tensors(weights)
    trained, _ = files.read_tensors(Round(opened, 1).folder.checkpoint())
    assert all(np.array_equal(trained[f"backbone.body.{name}"], value) for name, value in body.items())
    opened.project.close()
