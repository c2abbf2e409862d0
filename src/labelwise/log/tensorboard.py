"""TensorBoard: event files in the project's folder `log/tensorboard` (`tensorboard --logdir FOLDER`).

Every stage has a file of its own, whose content follows from the ledger alone and which is put in its place in one
step: a file that is there and says the same is left as it is. A stage that is done again replaces its file.

Fails when: TensorBoard runs while a stage of an earlier round is done again: it does not look at a file twice, and
shows the new value after a restart.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labelwise.log._entries import About, Entry, load
from labelwise.types.disk import write_bytes

INSTALL = "labelwise[tensorboard]"


def log(entries: Sequence[Entry], about: About) -> None:
    """Writes the files that are not there yet, or say something else."""
    events = load("tensorboard.compat.proto.event_pb2", "tensorboard", INSTALL)
    records = load("tensorboard.summary.writer.record_writer", "tensorboard", INSTALL)
    summaries = load("tensorboard.compat.proto.summary_pb2", "tensorboard", INSTALL)
    folder = about.folder / "tensorboard"
    for entry in entries:
        made = [events.Event(wall_time=entry.ended_s, file_version="brain.Event:2")]
        for tag, step, number in entry.points():
            value = summaries.Summary.Value(tag=tag, simple_value=number)
            summary = summaries.Summary(value=[value])
            made.append(events.Event(wall_time=entry.ended_s, step=step, summary=summary))
        _write(folder / f"events.out.tfevents.{entry.round:06d}{entry.place}.labelwise", made, records)
    if entries:
        _write(folder / "events.out.tfevents.0000000.settings", _settings(about, entries[0].ended_s), records)


def _settings(about: About, at_s: float) -> list[Any]:
    """The settings as a text, which TensorBoard shows beside the curves."""
    events = load("tensorboard.compat.proto.event_pb2", "tensorboard", INSTALL)
    summaries = load("tensorboard.compat.proto.summary_pb2", "tensorboard", INSTALL)
    tensors = load("tensorboard.compat.proto.tensor_pb2", "tensorboard", INSTALL)
    shapes = load("tensorboard.compat.proto.tensor_shape_pb2", "tensorboard", INSTALL)
    text = "\n".join(f"- `{key}`: {value}" for key, value in about.settings.items())
    one = shapes.TensorShapeProto(dim=[shapes.TensorShapeProto.Dim(size=1)])
    tensor = tensors.TensorProto(dtype="DT_STRING", tensor_shape=one, string_val=[text.encode()])
    plugin = summaries.SummaryMetadata(plugin_data=summaries.SummaryMetadata.PluginData(plugin_name="text"))
    value = summaries.Summary.Value(tag="settings/text_summary", metadata=plugin, tensor=tensor)
    said = events.Event(wall_time=at_s, step=0, summary=summaries.Summary(value=[value]))
    return [events.Event(wall_time=at_s, file_version="brain.Event:2"), said]


def _write(path: Path, made: Sequence[Any], records: Any) -> None:
    content = io.BytesIO()
    writer = records.RecordWriter(content)
    for event in made:
        writer.write(event.SerializeToString(deterministic=True))
    if not path.exists() or path.read_bytes() != content.getvalue():
        write_bytes(path, content.getvalue())
