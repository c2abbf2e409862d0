"""Made data for `gpu.py --dry`, under the names that `gpu_pack.py` gives the real ones: nothing is fetched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from labelwise.data import coco, voc
from labelwise.generated import scenes
from labelwise.models.yolox_network import YoloxNetwork


def make_data(root: Path) -> Path:
    """Four scenes as bccd, random weights of YOLOX-nano, and 48 images of two classes; made once."""
    if (root / "tiny.npz").exists():
        return root
    scenes.write(root / "scenes", train=4, test=0, size_px=96, classes=2)
    voc.write(coco.read(root / "scenes", "train"), root / "bccd/BCCD", "test")
    (root / "weights").mkdir()
    torch.manual_seed(0)
    torch.save({"model": YoloxNetwork(4).state_dict()}, root / "weights/yolox_nano.pth")
    rng = np.random.default_rng(0)
    classes = np.arange(48) % 2
    images = (rng.integers(0, 128, (48, 32, 32, 3)) + 100 * classes[:, None, None, None]).astype(np.uint8)
    split = {"train_x": images[:32], "train_y": classes[:32], "test_x": images[32:], "test_y": classes[32:]}
    np.savez(root / "tiny.npz", **split)
    return root
