"""A task on a CVAT server, made with CVAT's own client (`cvat-sdk`): labels, images, and the boxes that we send.

The images go there in one archive, which keeps their folders: CVAT names an image by its path in it, and finds the
boxes of `annotations.xml` (or `suggested.xml`, where a model suggests any) by that name.

Fails when: the server and the client are of different years; the client's own message is told then.
"""

from __future__ import annotations

import importlib
import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from labelwise.data import image_store
from labelwise.exchange.cvat import FILE, SUGGESTED_FILE
from labelwise.types import LabelwiseError
from labelwise.types.disk import full_disk

FORMAT = "cvat"
"""The format of what is sent."""
ANNOTATIONS = "CVAT 1.1"
"""CVAT's name for it."""
AUTH = "CVAT_AUTH"


def send(url: str, auth: str, title: str, files: Mapping[str, bytes], images: Mapping[str, Path]) -> int:
    """Makes a task; its number there.

    Args:
        url: the address of the server.
        auth: "USER:PASSWORD".
        title: the task's name.
        files: what `exchange.cvat.write` made.
        images: the files of the images (`Pool.path`), by their names in the pool.

    Raises:
        LabelwiseError: `cvat-sdk` is not installed, nobody logs in by `auth`, an image cannot be read, or CVAT refuses.
    """
    sdk = _client()
    user, colon, password = auth.partition(":")
    if not user or not colon:
        raise LabelwiseError(f"set {AUTH}=USER:PASSWORD, with which to log in at {url}")
    labels = json.loads(files["labels.json"])
    local = importlib.import_module("cvat_sdk.core.proxies.tasks").ResourceType.LOCAL
    with tempfile.TemporaryDirectory(prefix="labelwise-cvat-") as folder:
        archive, boxes = Path(folder) / "images.zip", Path(folder) / FILE
        with (
            full_disk(archive),
            zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as written,
        ):  # images are compressed already
            for name, content in zip(images, image_store.contents(list(images.values())), strict=True):
                if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                    raise LabelwiseError(f"{name}: cannot be sent under this name; rename the image")
                written.writestr(name, content)  # the time of its file does not matter
        boxes.write_bytes(files.get(SUGGESTED_FILE, files[FILE]))
        what = {"spec": {"name": title, "labels": labels}, "resource_type": local, "resources": [str(archive)]}
        try:
            with sdk.make_client(url, credentials=(user, password)) as client:
                made = client.tasks.create_from_data(**what, annotation_path=str(boxes), annotation_format=ANNOTATIONS)
        except Exception as error:  # the client has a class of its own for each part of it
            raise LabelwiseError(
                f"CVAT at {url}: {type(error).__name__}: {str(error)[:500]}. Is the address right, and {AUTH}? "
                "A task that was begun there can be deleted"
            ) from error
    return int(made.id)


def _client() -> Any:
    try:
        return importlib.import_module("cvat_sdk")
    except ImportError as error:
        raise LabelwiseError(
            f"--server with --to cvat needs the package cvat-sdk ({error}): pip install cvat-sdk, or leave out "
            "--server and upload the files yourself"
        ) from None
