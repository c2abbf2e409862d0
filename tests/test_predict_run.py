"""Predict: original pixels, every view matched, the same in any batch, and bad images that do not stop it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from labelwise.predict.detect import predict, predict_detections
from labelwise.types import Detections, LabelwiseError

ALL_VIEWS = ("flip", "cutout", "downscale", "rotate", "noise", "colour")
SHAPES = [(40, 64), (64, 40), (64, 64), (33, 64), (64, 50), (20, 20), (40, 64)]


class BrightSpots(nn.Module):
    """Finds the one rectangle per colour channel that is bright; channel = class."""

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [self.look(image) for image in images]

    def look(self, image: Tensor) -> dict[str, Tensor]:
        boxes, probs = [], []
        for channel in range(3):
            rows, columns = torch.nonzero(image[channel] > 0.6, as_tuple=True)
            if len(rows):
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                probs.append([0.8 if c == channel else 0.1 for c in range(3)])
        scores = torch.tensor([0.9, 0.5, 0.7][: len(boxes)])
        probs_ = torch.tensor(probs).reshape(-1, 3)
        return {
            "boxes": torch.tensor(boxes).reshape(-1, 4).float(),
            "scores": scores,
            "probs": probs_,
            "features": probs_,
        }


class PaddingNet(nn.Module):
    """Pads its batch to a multiple of 32 as torchvision does, and answers from a convolution that sees the padding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 9, stride=8, padding=4)

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        (height, width), *others = {(-(-i.shape[1] // 32) * 32, -(-i.shape[2] // 32) * 32) for i in images}
        assert not others, "a batch may not mix padded sizes"
        padded = torch.stack([nn.functional.pad(i, (0, width - i.shape[2], 0, height - i.shape[1])) for i in images])
        said = []
        for cells, image in zip(self.conv(padded).flatten(2), images, strict=True):
            score, cell = torch.sigmoid(cells[0]).topk(4)
            corner = torch.stack([cell % (width // 8), cell // (width // 8)], 1) * 8.0
            size = 8 + 20 * torch.sigmoid(cells[1:3, cell].T)
            limit = torch.tensor([image.shape[2], image.shape[1]]).repeat(2)
            boxes = torch.minimum(torch.cat([corner, corner + size], 1), limit)
            said.append(
                {"boxes": boxes, "scores": score, "probs": cells[3:, cell].T.softmax(1), "features": cells[:, cell].T}
            )
        return said


class Broken(LabelwiseError):
    pass


class Drawn:
    """Images at half of their original size; some can not be read."""

    def __init__(self, n: int = 7, broken: tuple[int, ...] = (), noise: bool = False) -> None:
        self.broken, self.pixels = broken, []
        rng = np.random.default_rng(0)
        for i in range(n):
            pixels = np.full((3, *SHAPES[i % len(SHAPES)]), 40, np.uint8)
            if noise:
                pixels = rng.integers(0, 256, pixels.shape, np.uint8)
            else:
                pixels[0, 4:16, 2:14], pixels[1, 8:18, 6:20] = 230, 230
            pixels.flags.writeable = False  # as the data room's store hands them out
            self.pixels.append(pixels)

    def __getitem__(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        if image in self.broken:
            raise Broken(f"file {image}.jpg is truncated")
        return self.pixels[image], np.array([0.5, 0.5], np.float32)


def assert_same(a: Detections, b: Detections, atol: float = 1e-5) -> None:
    np.testing.assert_array_equal(a.offsets, b.offsets)
    for name in ("boxes", "probs", "scores", "features"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=atol)
    assert a.views is not None and b.views is not None and a.views.names == b.views.names
    for name in ("probs", "scores", "iou"):
        np.testing.assert_allclose(getattr(a.views, name), getattr(b.views, name), atol=atol)


def test_boxes_are_in_original_pixels_by_falling_score_and_found_again_in_every_view() -> None:
    found, summary = predict_detections(
        BrightSpots().eval(), Drawn(), range(7), n_images=7, views=("flip", "downscale", "rotate"), batch_size=2
    )
    assert found.offsets.tolist() == list(range(0, 15, 2)) and found.features.shape == (14, 0)
    np.testing.assert_array_equal(found.boxes[:2], [[4, 8, 28, 32], [12, 16, 40, 36]])
    assert found.scores[:2].tolist() == pytest.approx([0.9, 0.5])
    assert found.views is not None and found.views.names == ("flip", "downscale", "rotate")
    assert found.views.iou[0].min() == pytest.approx(1)
    assert found.views.iou[1].min() > 0.8  # a box of 12 px has no exact counterpart on the pixels of x 0.8
    assert 0.6 < found.views.iou[2].mean() < 1
    np.testing.assert_allclose(found.views.probs[0], found.probs)
    assert (summary.images, summary.passes, summary.detections) == (7, 4, 14) and summary.images_per_s > 0


def test_any_batch_and_shard_size_gives_the_same() -> None:
    model, images = PaddingNet().eval(), Drawn(noise=True)
    settings = {"n_images": 7, "views": ALL_VIEWS, "seed": 5, "round_number": 2, "min_score": 0.0, "keep": ["features"]}
    one, _ = predict_detections(model, images, range(7), batch_size=1, **settings)
    assert len(one) > 10 and one.features.shape[1] == 8
    for batch_size, shard_images in ((2, 7), (16, 3), (16, 100)):
        more, _ = predict_detections(
            model, images, range(7), batch_size=batch_size, shard_images=shard_images, **settings
        )
        assert_same(one, more)


def test_a_view_depends_on_seed_round_and_image_alone() -> None:
    model, images = PaddingNet().eval(), Drawn(noise=True)

    def run(indices: list[int], views: tuple[str, ...], **settings: int) -> Detections:
        return predict_detections(model, images, indices, n_images=7, views=views, min_score=0.0, **settings)[0]

    both, alone = run([0, 1, 4, 6], ("flip", "noise", "noise")), run([4], ("noise",))
    rows = slice(both.offsets[4], both.offsets[5])
    assert both.views is not None and alone.views is not None and both.views.names == ("flip", "noise", "noise-2")
    np.testing.assert_array_equal(both.views.probs[1, rows], alone.views.probs[0])
    assert not np.array_equal(both.views.probs[1, rows], both.views.probs[2, rows])
    for changed in ({"seed": 1}, {"round_number": 1}):
        other = run([4], ("noise",), **changed).views
        assert other is not None and not np.array_equal(other.probs, alone.views.probs)


def test_a_broken_image_is_reported_and_the_others_are_predicted() -> None:
    done: list[int] = []
    images = Drawn(broken=(1, 2, 3))
    found, summary = predict_detections(
        BrightSpots().eval(), images, [0, 1, 2, 3, 5], n_images=8, shard_images=2, views=("flip",), progress=done.append
    )
    assert summary.skipped == tuple((i, f"file {i}.jpg is truncated") for i in (1, 2, 3))
    assert np.diff(found.offsets).tolist() == [2, 0, 0, 0, 0, 2, 0, 0]
    assert found.probs.shape == (4, 3) and sum(done) == 5


def test_no_counterpart_is_iou_0_score_0_and_uniform() -> None:
    class OnlyUpright(BrightSpots):
        def look(self, image: Tensor) -> dict[str, Tensor]:
            found = super().look(image)
            return found if image[0, 10, 5] > 0.6 else {key: value[:0] for key, value in found.items()}

    found, _ = predict_detections(OnlyUpright().eval(), Drawn(1), [0], n_images=1, views=["flip"])
    assert found.views is not None and len(found) == 2
    assert found.views.iou.max() == found.views.scores.max() == 0
    np.testing.assert_allclose(found.views.probs, 1 / 3)


def test_boxes_are_clipped_and_what_has_no_area_left_is_counted() -> None:
    def model(images: list[Tensor]) -> list[dict[str, Tensor]]:
        boxes = torch.tensor([[-5.0, -5.0, 10.0, 10.0], [90.0, 0.0, 99.0, 9.0], [1.0, 1.0, 2.0, 2.0]])
        probs = torch.full((3, 2), 0.5)
        return [{"boxes": boxes, "scores": torch.tensor([0.5, 0.6, 0.01]), "probs": probs} for _ in images]

    found, summary = predict_detections(model, Drawn(1), [0], n_images=1, min_score=0.05)
    assert found.boxes.tolist() == [[0, 0, 20, 20]] and summary.without_area == 1


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("boxes", float("nan"), "image b.jpg, detection 0: the model gave boxes that are not finite"),
     ("scores", float("inf"), "image b.jpg, detection 0: the model gave scores that are not finite"),
     ("probs", 0.9, "image b.jpg, detection 0: the model gave probs that do not sum to 1")],
)  # fmt: skip
def test_a_broken_model_output_names_the_image(key: str, value: float, message: str) -> None:
    class Diverged(BrightSpots):
        def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
            said = super().forward(images)
            said[1][key] = torch.full_like(said[1][key], value)
            return said

    images = Drawn(1)
    images.pixels *= 3
    with pytest.raises(LabelwiseError, match=message):
        predict_detections(Diverged().eval(), images, [0, 1, 2], n_images=3, names=["a.jpg", "b.jpg", "c.jpg"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"views": ["flipp"]}, "Did you mean 'flip'"),
        ({"views": [("noise", {"sigmaa": 3})]}, "Did you mean 'sigma'"),
        ({"indices": [2, 1]}, r"indices must rise strictly within 0\.\.6"),
        ({"indices": [7]}, r"indices must rise strictly within 0\.\.6"),
    ],
)
def test_wrong_arguments_are_refused_before_the_model_runs(arguments: dict, message: str) -> None:
    with pytest.raises(LabelwiseError, match=message):
        predict_detections(BrightSpots().eval(), Drawn(), **{"indices": [0], "n_images": 7} | arguments)


def test_a_model_in_training_mode_is_refused() -> None:
    with pytest.raises(LabelwiseError, match="training mode"):
        predict_detections(BrightSpots().train(), Drawn(), [0], n_images=7)


def test_every_image_of_the_pool_reaches_the_writer_in_order() -> None:
    class Writer:
        def __init__(self) -> None:
            self.seen: list[tuple[int, int]] = []

        def append(self, first_image: int, detections: Detections) -> None:
            self.seen.append((first_image, detections.n_images))

    writer = Writer()
    predict(BrightSpots().eval(), Drawn(), [], writer, n_images=7, shard_images=3, views=["flip"])
    assert writer.seen == [(0, 3), (3, 3), (6, 1)]


def test_the_boxes_of_the_views_come_back_to_the_image_where_they_are_asked_for() -> None:
    model = BrightSpots().eval()
    settings = {"n_images": 7, "views": ("flip", "downscale", "rotate", "noise"), "batch_size": 2}
    plain, _ = predict_detections(model, Drawn(), range(7), **settings)
    found, _ = predict_detections(model, Drawn(), range(7), keep=["view_boxes"], **settings)
    assert_same(plain, found, atol=0)
    assert plain.views is not None and plain.views.boxes is None
    assert found.views is not None and found.views.boxes is not None
    boxes = found.views.boxes
    assert boxes.shape == (4, 14, 4) and (found.views.iou > 0.5).all()
    np.testing.assert_allclose(boxes[0], found.boxes, atol=1e-3)  # exact views bring the box itself
    np.testing.assert_allclose(boxes[3], found.boxes, atol=2.01)  # noise: whole pixels of images at half their size
    np.testing.assert_allclose(boxes[1], found.boxes, atol=2.5)
    grown = boxes[2, :, 2:] - boxes[2, :, :2] - (found.boxes[:, 2:] - found.boxes[:, :2])
    assert np.abs(grown).max() < 5, "the hull of a turned box is not enlarged a second time"


def test_where_a_view_finds_nothing_its_box_has_no_area() -> None:
    class Shy(BrightSpots):
        calls = 0

        def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
            self.calls += 1
            found = super().forward(images)
            return found if self.calls == 1 else [{key: value[:0] for key, value in one.items()} for one in found]

    found, _ = predict_detections(
        Shy().eval(), Drawn(1), range(1), n_images=1, views=("flip",), keep=["view_boxes"], min_score=0.0
    )
    assert len(found) == 2 and found.views is not None and found.views.boxes is not None
    assert not found.views.boxes.any() and not found.views.iou.any()


def test_members_of_an_ensemble_bring_their_boxes_too() -> None:
    model = BrightSpots().eval()
    found, _ = predict_detections(model, Drawn(2), range(2), n_images=2, members=[model], keep=["view_boxes"])
    assert found.views is not None and found.views.boxes is not None
    np.testing.assert_array_equal(found.views.boxes[0], found.boxes)


def test_quality_is_kept_where_it_is_asked_for_in_the_order_of_the_boxes() -> None:
    class Graded(BrightSpots):
        def look(self, image: Tensor) -> dict[str, Tensor]:
            said = super().look(image)
            return said | {"quality": 1 - said["scores"]}

    found, _ = predict_detections(
        Graded().eval(), Drawn(), range(7), n_images=7, batch_size=3, shard_images=2, keep=["quality"]
    )
    assert found.quality is not None
    np.testing.assert_allclose(found.quality, 1 - found.scores)
    np.testing.assert_allclose(found.take(found.scores > 0.6).quality, 0.1, atol=1e-6)
    plain, _ = predict_detections(Graded().eval(), Drawn(), range(7), n_images=7)
    assert plain.quality is None
    with pytest.raises(LabelwiseError, match=r"no quality head; train it with --set model\.quality=true"):
        predict_detections(BrightSpots().eval(), Drawn(), range(7), n_images=7, keep=["quality"])


class Small(PaddingNet):
    """Has memory for so many images at once, and tells how many it was given."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.seen = room, list[int]()

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        self.seen.append(len(images))
        if len(images) > self.room:
            raise torch.OutOfMemoryError("no memory")
        return super().forward(images)


def test_a_batch_that_memory_does_not_hold_is_halved_and_those_after_it() -> None:
    images, n = [(np.full((3, 64, 64), k, np.uint8), np.ones(2)) for k in range(23)], 23
    small, settings = Small(3), {"n_images": n, "min_score": 0.0, "shard_images": 10, "views": [("flip", {})]}
    found, summary = predict_detections(small.eval(), images, np.arange(n), batch_size=8, **settings)
    expected, _ = predict_detections(Small(99).eval(), images, np.arange(n), batch_size=2, **settings)
    assert small.seen[:4] == [8, 4, 2, 2] and max(small.seen[4:]) == 2 and summary.images == n
    assert np.array_equal(found.offsets, expected.offsets) and np.array_equal(found.boxes, expected.boxes)
    assert np.array_equal(found.scores, expected.scores) and np.array_equal(found.probs, expected.probs)
    with pytest.raises(LabelwiseError, match=r"memory of cpu does not hold image number 0, 64 x 64 px: lower data"):
        predict_detections(Small(0).eval(), images, np.arange(n), batch_size=8, **settings)
