"""Boxes before there is a label: what proposes them, which questions follow, and what nobody can find by asking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from labelwise import config, loop
from labelwise.adapters import open_vocabulary
from labelwise.errors import LabelwiseError
from labelwise.files.round_files import STAGES
from labelwise.models.yolox_network import YoloxNetwork
from labelwise.project import opening
from labelwise.project.round import Round
from labelwise.stages import proposed_boxes, ranking
from labelwise.study import proposal_recall
from labelwise.web.predicted import Predicted
from labelwise.web.shown import Shown

try:
    import transformers
except ImportError:
    transformers = None  # type: ignore[assignment]
needs_transformers = pytest.mark.skipif(
    transformers is None, reason="the extra `transformers` is not installed (uv sync --extra transformers)"
)
SCENES = "data.scenes={train=12, test=4, seed=0, classes=3, imbalance=2, size_px=96, scale=[0.2, 0.45], digits=[1, 3]}"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """YOLOX-nano of chance."""
    torch.manual_seed(3)
    network = YoloxNetwork(4).requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.3, 0.9)
            module.momentum = None
    for _ in range(2):
        network(torch.rand(4, 3, 96, 96))
    path = tmp_path_factory.mktemp("weights") / "yolox_nano.pth"
    torch.save(network.state_dict(), path)
    return path


def perfect(images: list[np.ndarray]) -> list[dict[str, Any]]:
    """Stands in for a function of the user's: one box an image, of the first class."""
    return [
        {"boxes": [[4, 4, image.shape[1] / 2, image.shape[0] / 2]], "scores": [0.9], "labels": [0]} for image in images
    ]


TRUTH: dict[bytes, list[list[float]]] = {}
"""Of an image as it is shown, the objects in it."""


def all_knowing(images: list[np.ndarray]) -> list[dict[str, Any]]:
    """The true boxes of an image and one of nothing, of which it is least sure."""
    every = [[*TRUTH.get(image.tobytes(), []), [0, 0, 3, 3]] for image in images]
    scores = [[*(0.9 - 0.1 * k for k in range(len(boxes) - 1)), 0.2] for boxes in every]
    return [{"boxes": b, "scores": s, "labels": [0] * len(b)} for b, s in zip(every, scores, strict=True)]


def settings(*more: str) -> list[str]:
    small = ["data.image_size_px=96", "train.steps=2", "train.min_steps=0", "train.batch_size=2", "train.threads=1"]
    model = ['model={name="retinanet", fpn_channels=16}', "predict.batch_size=4", "predict.views=[]"]
    query = ['query={unit="box", score="random", select="top"}', 'labels.policy="ignore"', "budget.unit=queries"]
    return [SCENES, *small, *model, *query, "budget.per_round=[6, 4]", *more]


def begun(folder: Path, *more: str) -> Any:
    return opening.start(folder, "scenes", settings(*more))


def test_from_zero_labels_the_first_questions_are_boxes(tmp_path: Path) -> None:
    """Nothing is drawn, nothing is trained before the first answer; the surest boxes come first."""
    more = (f"predict.proposals={__name__}.all_knowing", "predict.proposals_px=96", "budget.start_images=0")
    context = begun(tmp_path / "p", *more)
    pool = context.pool
    for image in range(len(pool)):
        shown = context.images("pool")[image][0].transpose(1, 2, 0)
        TRUTH[np.ascontiguousarray(shown).tobytes()] = pool.truth.xyxy[pool.truth.image == image].tolist()
    assert list(loop.run(context)) == [0, 1, 2]
    first, second = Round(context, 1), Round(context, 2)
    assert not context.project.ledger.queries(0)
    asked, found = first.queries(), first.detections()
    assert [query.unit for query in asked] == ["box"] * 6
    np.testing.assert_allclose([query.score for query in asked], np.sort(found.scores)[::-1][:6], rtol=1e-6)
    assert first.proposed and not second.proposed
    assert context.project.ledger.cost_by_round()[1].boxes == 6  # every question found an object
    assert len(first.targets.boxes) == 6
    assert Round(context, 0).metrics == {} and "ap50" in first.metrics
    assert not Round(context, 0).folder.checkpoint().exists() and first.folder.checkpoint().exists()


def test_while_no_question_finds_an_object_the_next_round_is_proposed_too(tmp_path: Path, weights: Path) -> None:
    """Of a network of chance; nothing is trained, nothing fails, no box is asked about twice."""
    more = ("budget.start_images=0", "predict.proposals_most=5", "predict.proposals_px=96")
    context = begun(tmp_path / "p", f"predict.proposals={weights}", *more)
    list(loop.run(context))
    found = Round(context, 1).detections()
    assert np.diff(found.offsets).max() <= 5
    np.testing.assert_allclose(found.probs, 1 / 3, rtol=1e-6)
    nothing = context.project.ledger.cost_by_round()[1].boxes == 0
    assert Round(context, 2).proposed == nothing
    queries = context.project.ledger.queries()
    assert len({(query.image, query.box) for query in queries}) == len(queries) == 10


def test_no_proposal_becomes_a_pseudo_label(tmp_path: Path, weights: Path) -> None:
    more = (f"predict.proposals={weights}", "budget.start_images=3", 'labels={policy="noisy", threshold=0.0}')
    context = begun(tmp_path / "p", *more)
    for name in (*STAGES, *STAGES):
        loop.run_next(context, name)
    assert len(Round(context, 1).targets.boxes) == len(context.known().annotations)


def test_images_of_the_first_round_come_with_boxes_and_tell_the_recall(tmp_path: Path, weights: Path) -> None:
    said: list[str] = []
    context = begun(
        tmp_path / "p", f"predict.proposals={weights}", "budget.start_images=4", "predict.proposals_most=40"
    )
    context.tell = said.append
    for name in (*STAGES, "predict"):
        loop.run_next(context, name)
    now = Round(context, 0)
    asked = sorted(context.pool.number_of[query.image] for query in now.queries())
    assert len(asked) == 4 and sorted(set(now.detections().image.tolist())) == asked
    query = now.queries()[0]
    offered = Predicted(context).boxes(query, context.pool.number_of[query.image])
    most = int(np.bincount(context.known().annotations.labels).argmax())
    assert len(offered) > 5 and {label for _, label, _ in offered} == {most}
    truth, found, hit = context.pool.truth, now.detections(), 0
    for image in asked:
        for box in truth.xyxy[truth.image == image]:
            mine = found.boxes[found.image == image]
            wide = np.minimum(mine[:, 2], box[2]) - np.maximum(mine[:, 0], box[0])
            high = np.minimum(mine[:, 3], box[3]) - np.maximum(mine[:, 1], box[1])
            shared = wide.clip(0) * high.clip(0)
            area = (mine[:, 2] - mine[:, 0]) * (mine[:, 3] - mine[:, 1]) + (box[2] - box[0]) * (box[3] - box[1])
            hit += bool((shared / (area - shared) >= 0.5).any())
    recall, images = proposal_recall.recall(context)
    assert images == 4 and recall.n == int(np.isin(truth.image, asked).sum())
    assert recall.value == pytest.approx(hit / recall.n) and recall.low <= recall.value <= recall.high
    assert [line for line in said if f"finds {hit} of the {recall.n} objects in the 4 images" in line]


def test_without_proposals_there_is_nothing_to_tell(tmp_path: Path) -> None:
    context = begun(tmp_path / "p", "budget.start_images=2")
    assert proposal_recall.lines(context) == []


def test_the_page_offers_no_class_where_nobody_said_one(tmp_path: Path, weights: Path) -> None:
    for who, label in ((str(weights), None), (f"{__name__}.perfect", 0)):
        context = begun(tmp_path / str(label), f"predict.proposals={who}", "budget.start_images=0")
        for name in (*STAGES, "predict", "score", "select"):
            loop.run_next(context, name)
        (query,) = ranking.next_queries(Round(context, 1), 0, 1, {})
        assert Shown(context).class_of(query) == label


def test_regions_of_proposed_boxes_are_looked_for_at_every_magnification(tmp_path: Path, weights: Path) -> None:
    more = ('query={unit="region", score="random", select="top", scales=[1.0, 1.5]}', "predict.proposals_px=96")
    context = begun(tmp_path / "p", f"predict.proposals={weights}", "budget.start_images=2", *more)
    for name in (*STAGES, "predict", "score", "select", "ask"):
        loop.run_next(context, name)
    asked = Round(context, 1).queries()
    assert len(asked) == 6 and {query.unit for query in asked} == {"region"}
    assert {len(Round(context, 1).detections(scale=scale)) > 0 for scale in (1.0, 1.5)} == {True}


def test_a_frozen_detector_asks_about_its_own_objects(tmp_path: Path, weights: Path) -> None:
    own = (
        'model={name="frozen"}',
        f'features={{body="shufflenet_v2_x0_5", weights="none", size_px=32, objects="{weights}", objects_px=96, '
        "objects_crop_px=32, objects_most=6}",
        f"predict.proposals={weights}",
        "budget.start_images=0",
        'query={unit="box", score="random", select="kcenter"}',
    )
    context = begun(tmp_path / "p", *own)
    assert list(loop.run(context)) == [0, 1, 2]
    objects, found = context.objects("pool"), Round(context, 1).detections()
    np.testing.assert_array_equal(found.offsets, objects.offsets)
    np.testing.assert_array_equal(found.scores, objects.objectness)
    assert len(Round(context, 1).queries()) == 6


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("budget.start_images=0",), "boxes that are proposed"),
        (("predict.proposals=yolox_nano", 'query.score="localization_tightness"', "query.unit=image"), "not tightness"),
        (("predict.proposals=yolox_nano", 'query.select="kcenter"'), "not features"),
        (("predict.proposals=yolox_nano", 'model={name="classifier"}', "query.unit=image"), "a classifier has none"),
    ],
)
def test_settings_that_do_not_go_together(more: tuple[str, ...], message: str) -> None:
    with pytest.raises(LabelwiseError, match=message):
        config.load([], ["data.root=x", *settings(*more)[1:]])


# ------------------------------------------------------------------------------------------------------- who proposes


def test_a_function_of_the_users_own_proposes(tmp_path: Path) -> None:
    model = proposed_boxes.named(f"{__name__}.perfect", ["a", "b"], 64, 3)
    (found,) = model([torch.rand(3, 40, 60)])
    assert found["boxes"].tolist() == [[4, 4, 30, 20]] and found["probs"].argmax(1).tolist() == [0]
    with pytest.raises(LabelwiseError, match="no_such_module"):
        proposed_boxes.named("no_such_module.find", ["a"], 64, 3)
    with pytest.raises(LabelwiseError, match="nothing_like_it"):
        proposed_boxes.named(f"{__name__}.nothing_like_it", ["a"], 64, 3)


def test_the_detector_of_another_project_proposes_by_the_names_of_classes(tmp_path: Path) -> None:
    context = begun(tmp_path / "other", "budget.start_images=4", "model.score_threshold=0.0")
    with pytest.raises(LabelwiseError, match="not trained yet"):
        proposed_boxes.named(f"project:{tmp_path / 'other'}", ["1"], 64, 3)
    for name in STAGES:
        loop.run_next(context, name)
    theirs = list(context.pool.classes)
    model = proposed_boxes.named(f"project:{tmp_path / 'other'}", [theirs[2], "new", theirs[0]], 64, 4)
    (found,) = model([torch.rand(3, 96, 96)])
    assert found["boxes"].shape == (4, 4) and (found["scores"].diff() <= 0).all()
    torch.testing.assert_close(found["probs"].sum(1), torch.ones(4))
    assert found["probs"].shape == (4, 3)


def test_renamed_classes_keep_their_share() -> None:
    probs = torch.tensor([[0.5, 0.3, 0.2]])
    torch.testing.assert_close(proposed_boxes._renamed(probs, [], [], 4), torch.full((1, 4), 0.25))
    torch.testing.assert_close(proposed_boxes._renamed(probs, [0, 1, 2], [0, 1, 2], 3), probs)


# --------------------------------------------------------------------------------------------------- open vocabulary

NAMES = ["Red cell", "bolts"]


def grounding_dino(folder: Path) -> None:
    """A model of chance and a tokeniser of ten words, saved as one from the hub."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "red", "cell", "bolt", "##s"]
    tokens = transformers.BertTokenizer(vocab={word: k for k, word in enumerate(words)})
    pixels = transformers.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    transformers.GroundingDinoProcessor(pixels, tokens).save_pretrained(folder)
    body = transformers.SwinConfig(
        image_size=64, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    text = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64,
    )  # fmt: skip
    small = {f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in (("ffn_dim", 16), ("layers", 2))}
    small |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    made = transformers.GroundingDinoConfig(
        backbone_config=body, text_config=text, d_model=32, num_queries=12, max_text_len=32, **small
    )
    transformers.GroundingDinoForObjectDetection(made).save_pretrained(folder)


def owlv2(folder: Path) -> None:
    letters = [chr(k) for k in range(ord("a"), ord("z") + 1)]
    vocabulary = [*letters, *(f"{one}</w>" for one in letters), "<|startoftext|>", "<|endoftext|>"]
    tokens = transformers.CLIPTokenizer(
        vocab={word: k for k, word in enumerate(vocabulary)}, merges=[], model_max_length=16
    )
    pixels = transformers.Owlv2ImageProcessor(size={"height": 64, "width": 64})
    transformers.Owlv2Processor(pixels, tokens).save_pretrained(folder)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": len(vocabulary) - 2, "eos_token_id": len(vocabulary) - 1, "pad_token_id": 0}
    text = small | ends | {"vocab_size": len(vocabulary), "max_position_embeddings": 16}
    made = transformers.Owlv2Config(
        text_config=text, vision_config=small | {"image_size": 64, "patch_size": 16}, projection_dim=16
    )
    transformers.Owlv2ForObjectDetection(made).save_pretrained(folder)


@needs_transformers
@pytest.mark.parametrize("kind", [grounding_dino, owlv2])
def test_an_open_vocabulary_detector_of_chance_proposes(kind: Any, tmp_path: Path) -> None:
    """Boxes inside the image, distributions, and no company that changes anything but the last bits."""
    torch.manual_seed(0)
    kind(tmp_path)
    model = proposed_boxes.named(f"hf:{tmp_path}", NAMES, 64, 5)
    images = [torch.rand(3, 48, 64), torch.rand(3, 48, 64)]
    together, alone = model(images), model(images[1:])[0]
    for found in together:
        assert 1 <= len(found["scores"]) <= 5 and found["probs"].shape == (len(found["scores"]), 2)
        torch.testing.assert_close(found["probs"].sum(1), torch.ones(len(found["scores"])))
        assert (found["scores"].diff() <= 0).all() and (found["scores"] >= open_vocabulary.MIN_SCORE).all()
        assert (found["boxes"] >= 0).all() and (found["boxes"] <= torch.tensor([64.0, 48, 64, 48])).all()
    torch.testing.assert_close(together[1]["boxes"], alone["boxes"], rtol=1e-3, atol=1e-2)


@needs_transformers
def test_boxes_and_classes_are_read_as_the_library_reads_them(tmp_path: Path) -> None:
    """Against transformers' own post-processing: the same boxes, and for OWLv2 the same best class."""
    torch.manual_seed(0)
    images = [torch.rand(3, 48, 64)]
    for kind in (owlv2, grounding_dino):
        folder = tmp_path / kind.__name__
        kind(folder)
        processor = transformers.AutoProcessor.from_pretrained(folder)
        net = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
        (found,) = open_vocabulary.OpenVocabulary(net, processor, NAMES, min_score=0.0)(images)
        text = [NAMES] if kind is owlv2 else [open_vocabulary.sentence(NAMES)[0]]
        given = processor(images=images, text=text, return_tensors="pt", do_rescale=False)
        with torch.inference_mode():
            said = net(**given)
        own = {"threshold": 0.0, "target_sizes": [(48, 64)]}
        more = {} if kind is owlv2 else {"input_ids": given["input_ids"], "text_threshold": 0.0}
        (want,) = processor.post_process_grounded_object_detection(said, **own, **more)
        limit = torch.tensor([64.0, 48, 64, 48])
        boxes = want["boxes"].clamp(min=0).minimum(limit)
        has_area = (boxes[:, 2:] - boxes[:, :2] > 0.01).all(1)
        torch.testing.assert_close(found["boxes"], boxes[has_area], rtol=1e-4, atol=1e-3)
        if kind is owlv2:
            clear = (found["probs"][:, 0] - found["probs"][:, 1]).abs() > 1e-4
            assert clear.any() and torch.equal(found["probs"].argmax(1)[clear], want["labels"][has_area][clear])
            torch.testing.assert_close(found["scores"], want["scores"][has_area], rtol=1e-5, atol=1e-6)


@needs_transformers
def test_names_that_do_not_fit_and_foreign_models_are_refused(tmp_path: Path) -> None:
    grounding_dino(tmp_path / "model")
    with pytest.raises(LabelwiseError, match="too long for this model"):
        open_vocabulary.load(str(tmp_path / "model"), ["red cell"] * 20)
    with pytest.raises(LabelwiseError, match="cannot be loaded"):
        open_vocabulary.load(str(tmp_path), NAMES)
    other = type("Other", (), {"config": type("Config", (), {"model_type": "yolos"})})()
    with pytest.raises(LabelwiseError, match="not yolos"):
        open_vocabulary.OpenVocabulary(other, None, NAMES)


def test_without_transformers_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(open_vocabulary.importlib, "import_module", missing)
    with pytest.raises(LabelwiseError, match=r"labelwise\[transformers\]"):
        open_vocabulary.load("google/owlv2-base-patch16", NAMES)
