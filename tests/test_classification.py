"""Image classification: augmentation, the record of a training, scores against slow references, accuracy."""

from __future__ import annotations

import importlib
import inspect
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.menu import made

import labelwise.score
from labelwise import files
from labelwise.config.inputs import INPUTS
from labelwise.evaluate import accuracy
from labelwise.models import classifier
from labelwise.predict.classify import classes, classify, distributions
from labelwise.predict.recorder import Recorder
from labelwise.score import dispersion, misclassified, svm_margin
from labelwise.train.images import ImageSet, augment, one_per_image
from labelwise.types import LabelwiseError, Rects, Targets


def inputs(method) -> list[str]:
    parameters = inspect.signature(method.score).parameters.values() if hasattr(method, "score") else ()
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


@dataclass
class Rule:
    flip: float = 0.5
    pad_px: int = 2
    jitter: float = 0.0


@dataclass
class Memory:
    shards: list

    def append(self, first, detections):
        self.shards.append((first, detections))


def squares(n: int, size: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (n, 3, size, size), dtype=np.uint8))


def targets(images, labels, counts=None) -> Targets:
    m, n = len(images), len(labels)
    offsets = np.arange(m + 1) if counts is None else np.concatenate([[0], np.cumsum(counts)])
    boxes, one = np.tile(np.array([[0, 0, 8, 8]], np.float32), (n, 1)), np.ones(n, np.float32)
    window = np.tile(np.array([[0, 0, 8, 8]], np.float32), (m, 1))
    return Targets(
        np.array(images), offsets.astype(np.int64), boxes, np.array(labels, np.int64), one, one, np.zeros(n, np.int8),
        Rects.empty(m), Rects.empty(m), window,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- training


def test_augmentation_against_a_loop():
    images = torch.rand(6, 3, 5, 7)
    got = augment(images, np.random.default_rng(3), flip=0.5, pad_px=2, jitter=0.2)
    rng = np.random.default_rng(3)
    flipped, shift = rng.random(6) < 0.5, rng.integers(0, 5, (2, 6))
    gain, bias = rng.uniform(-0.2, 0.2, (2, 6))
    for i in range(6):
        image = images[i].numpy()[:, :, ::-1] if flipped[i] else images[i].numpy()
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)))
        dy, dx = shift[:, i]
        expected = padded[:, dy : dy + 5, dx : dx + 7] * (1 + gain[i]) + bias[i] / 2
        np.testing.assert_allclose(got[i].numpy(), np.clip(expected, 0, 1), rtol=1e-5, atol=1e-6)
    assert torch.equal(augment(images, rng, flip=0, pad_px=0, jitter=0), images)


def test_one_class_per_image_and_no_class_is_not_trained_on():
    images, labels, weights = one_per_image(targets([3, 5, 9], [1, 0], counts=[1, 0, 1]))
    assert (images.tolist(), labels.tolist(), weights.tolist()) == ([3, 9], [1, 0], [1.0, 1.0])
    with pytest.raises(LabelwiseError, match="image number 5 has 2 classes"):
        one_per_image(targets([3, 5], [1, 0, 1], counts=[1, 2]))


def test_a_set_gives_the_pixels_of_its_numbers_and_takes_more():
    pixels = squares(10)
    data = ImageSet(pixels, np.array([7, 2]), np.array([1, 0]), np.array([1.0, 0.5]), Rule(flip=0, pad_px=0))
    images, target = data.batch(np.array([1, 0]), np.random.default_rng(0))
    assert torch.equal(images, pixels[[2, 7]].float() / 255)
    assert target["labels"].tolist() == [0, 1] and target["weights"].tolist() == [0.5, 1.0]
    assert data.batch(np.array([1]), np.random.default_rng(0))[1]["labels"].tolist() == [0, 0]
    more = data.extended(np.array([4]), np.array([2]))
    assert len(more) == 3 and more.labels.tolist() == [1, 0, 2] and more.weights.tolist() == [1.0, 0.5, 1.0]
    assert more.names(np.array([2, 0])) == "4, 7"


# ------------------------------------------------------------------------------------------------------------- models


@pytest.mark.parametrize("backbone", ["small", "resnet18_cifar", "shufflenet_v2_x0_5"])
def test_a_classifier_learns_and_gives_logits_and_features(backbone):
    torch.manual_seed(0)
    model = classifier.build(3, backbone=backbone, width=8)
    images, target = torch.rand(4, 3, 32, 32), {"labels": torch.tensor([0, 1, 2, 0]), "weights": torch.ones(4)}
    loss = model(images, target)["classification"]
    loss.backward()
    assert torch.isfinite(loss) and all(p.grad is not None for p in model.parameters())
    model.eval()
    logits, features = model(images)
    assert logits.shape == (4, 3) and torch.allclose(model.head(features), logits)
    with pytest.raises(LabelwiseError, match="needs targets"):
        model.train()(images)


def test_weights_of_the_loss_leave_images_out():
    torch.manual_seed(0)
    model = classifier.build(2, backbone="small", width=4).train()
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eval()  # else the other image counts in the statistics
    images, labels = torch.rand(2, 3, 16, 16), torch.tensor([0, 1])
    both = model(images, {"labels": labels, "weights": torch.tensor([1.0, 0.0])})["classification"]
    alone = model(images[:1], {"labels": labels[:1], "weights": torch.ones(1)})["classification"]
    assert torch.isclose(both, alone)
    nothing = model(images, {"labels": labels, "weights": torch.zeros(2)})["classification"]
    assert nothing.item() == 0


def test_a_frozen_body_stays_as_it_is():
    model = classifier.build(2, backbone="small", width=4, frozen=True)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model.train()
    batch = torch.rand(4, 3, 16, 16), {"labels": torch.tensor([0, 1, 0, 1]), "weights": torch.ones(4)}
    model(*batch)["classification"].backward()
    optimiser.step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"head.weight", "head.bias"}


# -------------------------------------------------------------------------------------------------------- predictions


def test_classify_gives_one_detection_per_wanted_image_in_shards():
    model, pixels = classifier.build(4, backbone="small", width=4, dropout=0.5).eval(), squares(11, 16)
    size, wanted, memory = (
        np.stack([np.arange(11) + 20, np.arange(11) + 30], axis=1),
        np.array([0, 3, 4, 10]),
        Memory([]),
    )
    told = classify(
        model, pixels, wanted, memory, size_px=size, views=["dropout", "dropout"], members=[model],
        keep={"image_features"}, batch_size=2, shard_images=4,
    )  # fmt: skip
    assert [first for first, _ in memory.shards] == [0, 4, 8] and told.images == 4 and told.passes == 4
    rows = 0
    with torch.inference_mode():
        logits, features = model(pixels[wanted].float() / 255)
    for first, found in memory.shards:
        here = wanted[(wanted >= first) & (wanted < first + 4)]
        assert (found.image + first).tolist() == here.tolist()
        assert found.boxes[:, 2:].tolist() == size[here].tolist() and not found.boxes[:, :2].any()
        part = slice(rows, rows + len(here))
        np.testing.assert_allclose(found.probs, logits[part].softmax(1).numpy(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.per_image.features[here - first], features[part].numpy(), rtol=1e-4, atol=1e-5)
        assert np.flatnonzero(found.per_image.seen).tolist() == (here - first).tolist()
        assert found.views.names == ("dropout", "dropout-2", "member-1")
        if len(here):
            assert not np.allclose(found.views.probs[0], found.views.probs[1])
            np.testing.assert_allclose(found.views.probs[2], found.probs, rtol=1e-6)
        rows += len(here)
    assert rows == 4


def test_classify_refuses_other_views_and_broken_models():
    model, pixels = classifier.build(2, backbone="small", width=4).eval(), squares(3, 16)
    size = np.full((3, 2), 16)
    with pytest.raises(LabelwiseError, match="flip"):
        classify(model, pixels, np.arange(3), Memory([]), size_px=size, views=["flip"])
    with torch.no_grad():
        model.head.weight.fill_(float("nan"))
    with pytest.raises(LabelwiseError, match=r"image b: .*diverged"):
        classify(model, pixels, np.array([1]), Memory([]), size_px=size, names=["a", "b", "c"])


def test_dropout_passes_are_the_same_every_time():
    model, pixels = classifier.build(4, backbone="small", width=4, dropout=0.5).eval(), squares(5, 16)
    passes = [distributions(model, pixels, np.arange(5), 2, stream)[0] for stream in ((0, 1), (0, 1), (0, 2))]
    assert np.array_equal(passes[0], passes[1]) and not np.allclose(passes[0], passes[2])


def test_a_record_has_a_row_per_recorded_epoch_and_survives_a_kill(tmp_path):
    model, pixels = classifier.build(3, backbone="small", width=4), squares(9, 16)
    wanted = np.array([1, 2, 8])
    for every, rows in ((1, 5), (2, 3), (9, 1)):
        path = tmp_path / f"history{every}.npy"
        first = Recorder(path, pixels, wanted, 3, epochs=5, every=every, batch_size=2)
        for epoch in range(3):
            first(model.train(), epoch)
        again = Recorder(path, pixels, wanted, 3, epochs=5, every=every, batch_size=2)
        for epoch in range(2, 5):  # epoch 2 once more: the checkpoint was older
            again(model, epoch)
        assert model.training
        again.finish(lambda target, content: target.write_bytes(content))
        assert again.begun, "until the weights are kept, a killed run goes on with the record"
        again.remove()
        assert not again.begun
        table = files.read_record(path)
        assert table.shape == (rows, 9) and table.dtype == np.uint8 and not list(tmp_path.glob("*.partial*"))
        assert (table[:, wanted] == classes(model.eval(), pixels, wanted, 3)).all()
        assert not table[:, [0, 3, 4, 5, 6, 7]].any()
    with pytest.raises(LabelwiseError, match="no record"):
        files.read_record(tmp_path / "nothing.npy")


# ------------------------------------------------------------------------------------------------------------- scores


@pytest.mark.parametrize("shape", [(1, 4), (5, 0), (7, 30), (100, 3)])
@pytest.mark.parametrize("n_classes", [1, 2, 10])
def test_dispersion_against_counting(shape, n_classes):
    history = np.random.default_rng(sum(shape)).integers(0, n_classes, shape, dtype=np.uint16)
    expected = [1 - Counter(column.tolist()).most_common(1)[0][1] / shape[0] for column in history.T]
    np.testing.assert_allclose(dispersion.score(history), expected, rtol=0, atol=1e-15)


def test_dispersion_refuses_what_is_no_record():
    for wrong in (np.zeros((0, 3), int), np.zeros((2, 3)), np.zeros(3, int)):
        with pytest.raises(LabelwiseError, match="dispersion"):
            dispersion.score(wrong)
    with pytest.raises(LabelwiseError, match="image 1"):
        dispersion.score(np.array([[0, -1]]))


def test_svm_margin_against_its_planes():
    from sklearn.svm import LinearSVC

    rng = np.random.default_rng(0)
    labelled, classes_ = rng.normal(size=(60, 4)) * [1, 5, 0.1, 1], np.repeat([0, 1, 2], 20)
    labelled += classes_[:, None] * 2.0
    pool = rng.normal(size=(25, 4)) + 2
    mean, std = labelled.mean(0), labelled.std(0)
    svm = LinearSVC(C=5.0, dual="auto", random_state=0, max_iter=10_000).fit((labelled - mean) / std, classes_)
    for row, value in zip(pool, svm_margin.score(pool, labelled, classes_), strict=True):
        distances = [
            abs(w @ ((row - mean) / std) + b) / np.linalg.norm(w / std)
            for w, b in zip(svm.coef_, svm.intercept_, strict=True)
        ]
        assert value == pytest.approx(-min(distances), rel=1e-9)
    one = np.zeros(60, np.int64)
    assert svm_margin.score(pool, labelled, one).tolist() == [0.0] * 25
    assert svm_margin.score(pool[:0], labelled, classes_).shape == (0,)
    pool[3, 2] = np.nan
    with pytest.raises(LabelwiseError, match="row 3"):
        svm_margin.score(pool, labelled, classes_)


def test_the_oracle_puts_what_is_wrong_first():
    probs, truth = np.random.default_rng(0).dirichlet(np.ones(3), 50).astype(np.float32), np.arange(50) % 3
    order = np.argsort(-misclassified.score(probs, truth))
    wrong = probs.argmax(1) != truth
    assert wrong[order].tolist() == sorted(wrong.tolist(), reverse=True)
    with pytest.raises(LabelwiseError, match="true classes"):
        misclassified.score(probs, truth[:3])


def test_accuracy_per_class_and_calibration():
    probs = np.eye(3, dtype=np.float32)[[0, 1, 1, 2]]
    found = accuracy.evaluate(probs, np.array([0, 1, 2, 2]), ("a", "b", "c"))
    assert found["accuracy"] == 0.75 and found["per_class_accuracy"] == {"a": 1.0, "b": 1.0, "c": 0.5}
    assert found["ece"] == pytest.approx(0.25) and found["balanced_accuracy"] == pytest.approx(2.5 / 3)
    empty_class = accuracy.evaluate(probs[:2], np.array([0, 1]), ("a", "b", "c"))
    assert empty_class["per_class_accuracy"]["c"] is None and empty_class["nll"] == pytest.approx(0)
    with pytest.raises(LabelwiseError, match="do not fit"):
        accuracy.evaluate(probs, np.array([0]), ("a", "b", "c"))


# ----------------------------------------------------------------------------------------- contract of their scores

OF_CLASSIFIERS = {name for name, row in INPUTS["score"].items() if row.task == "classification"}
FOLDER = Path(labelwise.score.__file__).parent
SCORES = [importlib.import_module(f"labelwise.score.{path.stem}") for path in sorted(FOLDER.glob("[a-z]*.py"))]
SCORES = [m for m in SCORES if OF_CLASSIFIERS & set(inputs(m))]


def menu(n: int) -> dict[str, np.ndarray]:
    """One box per image: the whole of it."""
    return made("score", n, 4, images=n, m=20)


@pytest.mark.parametrize("method", SCORES, ids=lambda m: m.__name__)
def test_contract_of_the_scores_of_classifiers(method):
    assert set(inputs(method)) <= set(INPUTS["score"])
    assert "Source:" in method.__doc__ and "Fails when:" in method.__doc__ and ">>>" in method.__doc__
    given = menu(31)
    got = method.score(*(given[name] for name in inputs(method)))
    assert got.shape == (31,) and got.dtype == np.float64 and np.isfinite(got).all()
    rows = np.random.default_rng(0).permutation(31)
    moving = [row for row in INPUTS["score"].values() if row.axis in ("boxes", "pool")]
    moved = given | {row.name: given[row.name].take(rows, row.position) for row in moving}
    np.testing.assert_allclose(method.score(*(moved[name] for name in inputs(method))), got[rows], rtol=1e-6)
    nothing = menu(0)
    assert method.score(*(nothing[name] for name in inputs(method))).shape == (0,)


def test_every_score_of_a_classifier_is_found():
    assert {m.__name__.rsplit(".", 1)[1] for m in SCORES} >= {"dispersion", "misclassified", "svm_margin"}
