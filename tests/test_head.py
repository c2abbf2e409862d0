"""Heads on frozen features: against scikit-learn, and the whole loop with every method of whole images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from test_recipes_images import data_set

from labelwise import config, loop
from labelwise.config.sections import Train
from labelwise.files.round_files import STAGES
from labelwise.models.head import build
from labelwise.project import opening
from labelwise.project.round import Round
from labelwise.stages import checkpoints, image_features
from labelwise.study.compare import Comparison
from labelwise.train import fit_linear
from labelwise.train.feature_set import FeatureSet
from labelwise.train.fit import fit
from labelwise.types import LabelwiseError

COMMON = [
    *("model.name=head", "features.body=shufflenet_v2_x0_5", "features.weights=none", "features.size_px=32"),
    *("features.pca=6", "data.image_size_px=8", "data.format=arrays", "budget.unit=images", "budget.start_images=6"),
    *("budget.per_round=[4]", "predict.shard_images=11", "train.epochs=3", "train.batch_size=8", "train.lr=1.0"),
    *("train.optimiser=sgd", "data.pool_split=train", "data.test_split=test"),
]
METHODS = ("random_image", "entropy_image", "margin_image", "badge", "coreset_image", "typiclust", "probcover", "vaal")
METHODS += (
    "svm_margin",
    "bald_image",
    "ensemble",
    "entropy_cb",
    "kcenter_cb",
    "teacher_entropy",
    "ceal",
    "coreset_milp",
)
RECORDED = ("dispersion", "teacher_dispersion")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("data")
    return data_set(root / "d"), root / "features"


def start(folder: Path, method: str, shared: tuple[Path, Path], *more: str):
    data, features = shared
    places = [f'data.root="{data.as_posix()}"', f'features.folder="{features.as_posix()}"']
    return opening.start(folder, method, [*COMMON, *places, *more])


def samples(n: int, seed: int = 0, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    x = rng.normal(size=(n, 5)) + labels[:, None] * rng.normal(size=5)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


def outputs(model: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model.eval()(torch.from_numpy(x))[0].double().softmax(dim=1).numpy()


# -------------------------------------------------------------------------------------------------------------- solved


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_regression_is_that_of_scikit_learn(classes: int) -> None:
    (x, y), weights = samples(60, classes=classes), np.random.default_rng(1).uniform(0.1, 1, 60)
    model = build(classes, 5, c=3.0)
    assert model.solve(x, y, weights)["steps"] > 1
    wanted = LogisticRegression(C=3.0, max_iter=2000).fit(x.astype(np.float64), y, sample_weight=weights)
    assert np.allclose(outputs(model, x), wanted.predict_proba(x), atol=1e-5)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_support_vector_machine_is_that_of_scikit_learn(classes: int) -> None:
    x, y = samples(60, classes=classes)
    model = build(classes, 5, kind="svm", c=3.0)
    model.solve(x, y, np.ones(60))
    wanted = LinearSVC(C=3.0, dual="auto", random_state=0, max_iter=20_000).fit(x.astype(np.float64), y)
    assert np.array_equal(outputs(model, x).argmax(axis=1), wanted.predict(x))


@pytest.mark.parametrize("kind", ["logistic", "svm"])
def test_a_class_without_labels_has_probability_0_and_one_class_alone_all(kind: str) -> None:
    x, y = samples(40)
    y = np.where(y == 1, 3, y)
    model = build(5, 5, kind=kind)
    model.solve(x, y, np.ones(40))
    probs = outputs(model, x)
    assert probs.shape == (40, 5) and not probs[:, [1, 4]].any() and np.allclose(probs.sum(axis=1), 1)
    model.solve(x[:3], np.array([2, 2, 2]), np.ones(3))
    assert np.array_equal(outputs(model, x)[:, 2], np.ones(40))


def test_a_head_refuses_nothing_and_what_is_not_finite() -> None:
    x, y = samples(5)
    with pytest.raises(LabelwiseError, match="no image to train on"):
        build(4, 5).solve(x[:0], y[:0], np.ones(0))
    x[3, 1] = np.nan
    with pytest.raises(LabelwiseError, match="training row 3"):
        build(4, 5).solve(x, y, np.ones(5))


def test_weights_of_a_linear_layer_leave_samples_out() -> None:
    x, y = samples(6)
    model = build(4, 5, kind="linear").train()
    targets = {"labels": torch.from_numpy(y), "weights": torch.tensor([1.0, 1, 1, 0, 0, 0])}
    some = {name: value[:3] for name, value in targets.items()}
    both = [model(torch.from_numpy(x[:n]), t)["classification"].item() for n, t in ((6, targets), (3, some))]
    assert both[0] == pytest.approx(both[1])


class Table:
    """Features by number: image i has i in every column, its views 10 i + view."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, n: int, kept: int) -> None:
        self.n, self.kept = n, kept

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.views(rows.numpy())[:, 0])

    def views(self, images: np.ndarray) -> np.ndarray:
        column = 10 * images[:, None] + np.arange(1 + self.kept)
        return np.repeat(column[:, :, None], 2, axis=2).astype(np.float32)


@pytest.mark.parametrize("kept", [0, 3])
def test_a_batch_draws_among_the_kept_views(kept: int) -> None:
    data = FeatureSet(Table(9, kept), np.array([7, 2, 5]), np.array([0, 1, 1]), np.ones(3), None)
    rng = np.random.default_rng(0)
    drawn = np.concatenate([data.batch(np.array([0, 1, 2]), rng)[0][:, 0].numpy() - [70, 20, 50] for _ in range(40)])
    assert set(drawn.tolist()) == (set(range(1, kept + 1)) if kept else {0})
    features, labels, weights = data.samples()
    assert len(features) == 3 * (1 + kept) and weights.sum() == pytest.approx(3)
    assert labels.tolist() == np.repeat([0, 1, 1], 1 + kept).tolist()
    more = data.extended(np.array([1]), np.array([2]))
    assert more.inputs(np.array([3, 0]))[:, 0].tolist() == [10, 70]


@pytest.mark.parametrize("kept", [0, 2])
@pytest.mark.parametrize("schedule", ["one_cycle", "step"])
def test_the_quick_training_of_a_linear_layer_takes_the_steps_of_the_loop(kept: int, schedule: str) -> None:
    rng = np.random.default_rng(0)

    class Random(Table):
        table = rng.normal(size=(30, 1 + kept, 5)).astype(np.float32)

        def views(self, images: np.ndarray) -> np.ndarray:
            return self.table[images]

    data = FeatureSet(Random(30, kept), np.arange(3, 26), rng.integers(0, 4, 23), rng.uniform(0.2, 1, 23), None)
    rule = Train(
        epochs=5,
        batch_size=8,
        optimiser="sgd",
        lr=0.5,
        weight_decay=0.1,
        schedule=schedule,
        step_epochs=(2,),
        clip_norm=0.3,
    )
    trained, said, seen = [], [], []
    for train in (fit, fit_linear.fit):
        torch.manual_seed(1)
        model = build(4, 5, kind="linear")
        said.append(train(model, data, rule, seed=3, round_number=2, after_epoch=lambda _, e: seen.append(e)))
        trained.append(model.head)
    assert seen == [*range(5), *range(5)]
    assert torch.allclose(trained[0].weight, trained[1].weight, atol=1e-5)
    assert torch.allclose(trained[0].bias, trained[1].bias, atol=1e-5)
    for name in ("steps", "epochs", "loss", "loss_first", "loss_last"):
        assert said[0][name] == pytest.approx(said[1][name], abs=1e-5)
    assert not fit_linear.possible(build(4, 5, dropout=0.1), rule) and fit_linear.possible(model, rule)


# ------------------------------------------------------------------------------------------------------------ the loop


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_on_a_solved_head(method: str, shared: tuple[Path, Path], tmp_path: Path) -> None:
    opened = start(tmp_path / "p", method, shared)
    assert list(loop.run(opened)) == [0, 1]
    now = Round(opened, 1)
    assert len({q.image for q in opened.project.ledger.queries()}) == 10
    assert 0 <= now.metrics["accuracy"] <= 1
    assert not (now.folder.predictions() / "images-00000.parquet").exists(), "features are kept once, not per round"
    opened.project.close()


@pytest.mark.parametrize("method", [*RECORDED, "badge", "ensemble"])
def test_methods_run_on_a_linear_head_trained_by_steps(method: str, shared: tuple[Path, Path], tmp_path: Path) -> None:
    opened = start(tmp_path / "p", method, shared, "model.kind=linear", "features.views=2")
    assert list(loop.run(opened)) == [0, 1]
    if method in RECORDED:
        assert Round(opened, 0).history.shape == (3, len(opened.pool))
    opened.project.close()


@pytest.mark.parametrize("kind", ["logistic", "linear", "svm"])
def test_the_same_seed_picks_the_same_images_twice(kind: str, shared: tuple[Path, Path], tmp_path: Path) -> None:
    picks = []
    for name in "ab":
        opened = start(tmp_path / name, "entropy_image", shared, f"model.kind={kind}", "seed=3")
        list(loop.run(opened))
        picks.append([q.image for q in opened.project.ledger.queries()])
        opened.project.close()
    assert picks[0] == picks[1]


def test_members_of_an_ensemble_differ(shared: tuple[Path, Path], tmp_path: Path) -> None:
    opened = start(tmp_path / "p", "ensemble", shared, "budget.per_round=[]")
    list(loop.run(opened))
    weights = [m.head.weight for m in checkpoints.ensemble(Round(opened, 0))]
    assert len(weights) == 3 and not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])
    opened.project.close()


def test_a_classifier_selects_on_frozen_features_and_covers_at_the_start(
    shared: tuple[Path, Path], tmp_path: Path
) -> None:
    small = ("model.name=classifier", "model.backbone=small", "model.width=4", "train.epochs=1")
    wanted = (*small, "query.features=frozen", "budget.start=coverage")
    opened = start(tmp_path / "p", "coreset_image", shared, *wanted)
    assert list(loop.run(opened)) == [0, 1]
    now, features = Round(opened, 1), opened.features("pool").of(np.arange(24))
    assert "image_features" not in opened.run.outputs
    number = opened.pool.number_of
    asked = [number[q.image] for q in opened.project.ledger.queries()]
    for step in range(1, 10):  # of the farthest-first traversal from the image nearest to the mean
        far = ((features[:, None] - features[asked[:step]]) ** 2).sum(axis=2).min(axis=1)
        assert far[asked[step]] == pytest.approx(far.max(), abs=1e-6)
    assert np.array_equal(image_features.of_selectors(now, np.arange(24)), features)
    assert np.array_equal(image_features.of_selectors(now, image_features.labelled_images(now)), features[now.covered])
    opened.project.close()


def test_a_sample_is_of_the_seed_and_shares_the_features_of_the_whole(
    shared: tuple[Path, Path], tmp_path: Path
) -> None:
    pools = []
    for seed in (0, 1):
        opened = start(tmp_path / str(seed), "random_image", shared, f"seed={seed}", "data.sample=12")
        list(loop.run(opened))
        rows = opened.features("pool").rows
        assert len(opened.features("pool").table) == 24 and len(rows) == 12
        pools.append(opened.pool.names)
        opened.project.close()
        again = opening.start(tmp_path / str(seed), None)
        assert again.pool.names == pools[-1]
        again.project.close()
    assert pools[0] != pools[1]


def test_a_long_tail_keeps_the_features_of_the_whole(shared: tuple[Path, Path], tmp_path: Path) -> None:
    opened = start(tmp_path / "p", "entropy_cb", shared, "data.imbalance=0.5", "budget.start=balanced")
    assert list(loop.run(opened)) == [0, 1]
    assert len(opened.pool) < 24 == len(opened.features("pool").table)
    opened.project.close()


def test_the_runs_of_a_comparison_share_their_features(shared: tuple[Path, Path], tmp_path: Path) -> None:
    settings = (*COMMON, f'data.root="{shared[0].as_posix()}"', "labels.policy=background")
    (tmp_path / "data.toml").write_text('name = "d"\n[data]\nroot = "x"\n[query]\nunit = "image"\nscore = "entropy"\n')
    both = Comparison(tmp_path / "c", f"{tmp_path / 'data.toml'}", ("random_image", "badge"), (0, 1), settings)
    assert {both.config(m, s).features.folder for m in both.methods for s in both.seeds} == {
        str(tmp_path / "c/_features")
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["features=none"], "head is trained on frozen features"),
        (["model.name=classifier", "features=none", "query.features=frozen"], "looks at frozen features"),
        (["model.name=classifier", "features=none", "budget.start=coverage"], "covers frozen features"),
        (["query.score=dispersion"], 'model.kind = "linear"'),
        (["model.kind=forest"], "kind"),
        (["features.bodi=x"], "Did you mean 'body'"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: list[str], message: str, tmp_path: Path) -> None:
    raw = '[data]\nroot = "x"\n[query]\nunit = "image"\nscore = "entropy"\nselect = "top"\n'
    raw += '[labels]\npolicy = "background"\n'
    frozen = '[model]\nname = "head"\n'
    if "features=none" not in settings:
        frozen += '[features]\nbody = "resnet18"\n'
    (tmp_path / "run.toml").write_text(raw + frozen)
    with pytest.raises(LabelwiseError, match=message):
        config.load(tmp_path / "run.toml", [one for one in settings if one != "features=none"])


def test_frozen_features_are_of_whole_images(tmp_path: Path) -> None:
    raw = (
        '[data]\nroot = "x"\n[query]\nfeatures = "frozen"\n[features]\nbody = "resnet18"\n[predict]\nviews = ["flip"]\n'
    )
    (tmp_path / "run.toml").write_text(raw)
    with pytest.raises(LabelwiseError, match="does not go with"):
        config.load(tmp_path / "run.toml")


def test_a_detector_selects_images_on_frozen_features(tmp_path: Path) -> None:
    from test_recipes import COMMON as DETECTION
    from test_recipes import data_set as images_with_boxes

    root = images_with_boxes(tmp_path / "d")
    (tmp_path / "data.toml").write_text(
        f'[data]\nroot = "{root.as_posix()}"\n[predict]\nviews = ["flip", "downscale"]\n'
    )
    frozen = ["features.body=shufflenet_v2_x0_5", "features.weights=none", "features.size_px=32"]
    more = [*DETECTION, *frozen, "query.features=frozen", "budget.start=coverage", "budget.unit=images"]
    opened = opening.start(tmp_path / "p", f"{tmp_path / 'data.toml'}+coreset_image", more)
    assert list(loop.run(opened)) == [0, 1]
    assert len(opened.project.ledger.queries(1)) == 4
    opened.project.close()


def test_a_head_sees_the_features_that_it_was_trained_on_until_its_next_training(tmp_path: Path) -> None:
    """A pool that grew has other principal components: the head of the round before knows nothing of them."""
    data = data_set(tmp_path / "d", images=20)
    places = data, tmp_path / "features"
    before = start(tmp_path / "p", "entropy_image", places, "features.pca=30")
    for name in STAGES:
        loop.run_next(before, name)
    old = before.features("pool").of(np.arange(20))
    arrays = dict(np.load(data / "data.npz"))
    more = np.random.default_rng(1).integers(0, 90, (15, 8, 8), dtype=np.uint8)
    arrays |= {"train_x": np.concatenate([arrays["train_x"], more]), "train_y": np.append(arrays["train_y"], [1] * 15)}
    np.savez(data / "data.npz", **arrays)
    after = opening.start(tmp_path / "p", None)
    loop.run_next(after, "predict")
    assert len(after.pool) == 35 and after.features("pool").stale
    assert np.array_equal(after.features("pool").of(np.arange(20)), old)
    for name in STAGES[1:]:
        loop.run_next(after, name)
    assert not after.features("pool").stale and after.features("pool").width > old.shape[1]
    loop.run_next(opening.start(tmp_path / "p", None, ["budget.per_round=[4, 4]"]), "predict")


def test_another_body_half_way_is_told(shared: tuple[Path, Path], tmp_path: Path) -> None:
    context = start(tmp_path / "p", "entropy_image", shared)
    for name in STAGES:
        loop.run_next(context, name)
    other = opening.start(tmp_path / "p", None, ["features.size_px=48"])
    with pytest.raises(LabelwiseError, match=r"other frozen features.*redo 0 train"):
        loop.run_next(other, "predict")
