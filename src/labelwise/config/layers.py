"""run.toml and run.yaml: layers of settings read, laid over each other, overridden, checked; and written."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import tomli_w
import yaml
from pydantic import ValidationError

from labelwise import catalog
from labelwise.config.run import Run
from labelwise.errors import LabelwiseError

_OF_TAGS = (AttributeError, LookupError, TypeError)
"""What PyYAML raises for values such as `!!timestamp x`."""
OTHER_WORD = {"unit": "units", "units": "unit"}
"""Settings of `query` that take each other's place."""


def load(paths: Path | Sequence[Path], overrides: Sequence[str] = ()) -> Run:
    """Reads run.toml or run.yaml (several: later ones win), applies `key.sub=value` overrides, and checks all of it.

    Raises:
        LabelwiseError: a file cannot be read, or one line for each thing that is wrong in the settings.
    """
    paths = [paths] if isinstance(paths, Path) else paths
    return parse(layers(paths, overrides), " + ".join(str(p) for p in paths))


def layers(
    paths: Sequence[Path], overrides: Sequence[str] = (), between: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What files and overrides set, as one table that nothing has checked yet; `between` lies under the overrides."""
    raw: dict[str, Any] = {}
    for path in paths:
        raw = _lay(raw, _read(path))
    raw = _lay(raw, between or {})
    for override in overrides:
        _override(raw, override)
    return raw


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        raw = yaml.safe_load(text) if path.suffix in (".yaml", ".yml") else tomllib.loads(text)
    except OSError as error:
        raise LabelwiseError(
            f"cannot read {path}: {error.strerror}. `labelwise list recipes` shows what comes along"
        ) from None
    except (ValueError, RecursionError, yaml.YAMLError, *_OF_TAGS) as error:  # ValueError: of TOML, UTF-8, long numbers
        what = "nested too deeply" if isinstance(error, RecursionError) else error
        raise LabelwiseError(f"{path} is not valid {path.suffix[1:]}: {what}") from None
    if not isinstance(raw, dict):
        raise LabelwiseError(f"{path}: expected a table of settings, got {type(raw).__name__}")
    return raw


def _lay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`; of `query.unit` and `query.units` the one below gives way to the other above."""
    merged, said = _merge(below, above), above.get("query")
    for word, other in OTHER_WORD.items():
        if isinstance(said, dict) and word in said and other not in said:
            merged["query"].pop(other, None)
    return merged


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`; a method that is named anew does not inherit the settings of the other method."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, str) and "name" not in value:
            old = {"name": old}  # a method by its name alone, of which the layer above sets something
        if isinstance(value, dict) and isinstance(old, dict) and value.get("name", old.get("name")) == old.get("name"):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def parse(raw: Mapping[str, Any], where: str) -> Run:
    """Checks settings that were read from `where`."""
    try:
        return Run.model_validate(raw)
    except ValidationError as error:
        lines = [_sentence(e, raw) for e in error.errors()]
        raise LabelwiseError(f"{where}: {len(lines)} error(s)\n" + "\n".join(f"  - {line}" for line in lines)) from None


def _sentence(error: Any, raw: Mapping[str, Any]) -> str:
    location = [str(part) for part in error["loc"]]
    where = ".".join(location) or "the run"
    if error["type"] == "extra_forbidden":
        model: Any = Run
        for part in location[:-1]:
            model = model.model_fields[part].annotation
            model = next((one for one in get_args(model) if hasattr(one, "model_fields")), model)  # may be absent
        unknown = catalog.unknown(
            "key" + (f" in [{'.'.join(location[:-1])}]" if location[:-1] else ""),
            location[-1],
            sorted(model.model_fields),
        )
        return unknown + _settings_of_a_method(location, raw)
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"


def _settings_of_a_method(location: Sequence[str], raw: Mapping[str, Any]) -> str:
    """Where the settings of a method belong, if the unknown key is the name of a method that stands beside it."""
    *path, name = location
    section: Any = raw
    for part in path:
        section = section[part]
    for key, value in section.items():
        chain = value if isinstance(value, list) else [value]
        if key != name and any(one == name or (isinstance(one, dict) and one.get("name") == name) for one in chain):
            place = ".".join([*path, key])
            return (
                f' What is set of {name} stands with it: {place} = {{ name = "{name}", ... }}, or --set {place}.KEY=...'
            )
    return ""


def _override(raw: dict[str, Any], override: str) -> None:
    key, sign, value = override.partition("=")
    if not sign or not key.strip():
        raise LabelwiseError(f"--set {override!r}: expected key=value, for example --set train.epochs=5")
    *path, last = key.strip().split(".")
    table = raw
    for part in path:
        below = table.get(part, {})
        if isinstance(below, list):  # a chain of selectors
            if len(below) != 1:
                raise LabelwiseError(
                    f"--set {override!r}: {part} is a chain of {len(below)}; set it as a whole, for example "
                    '--set \'query.select=["balance_frequency", "kcenter"]\''
                )
            below = below[0]
        if not isinstance(below, str | dict):
            raise LabelwiseError(f"--set {override!r}: {part} is {below!r:.80}, which has no settings of its own")
        table[part] = {"name": below} if isinstance(below, str) else dict(below)
        table = table[part]
    try:
        table[last] = tomllib.loads(f"v = {value}")["v"]
    except (ValueError, RecursionError):
        table[last] = value
    if path == ["query"] and last in OTHER_WORD:
        table.pop(OTHER_WORD[last], None)


def dump(run: Run) -> str:
    """The run as TOML text; `load` reads it back to an equal run."""
    return tomli_w.dumps(json.loads(run.model_dump_json(exclude_none=True)))
