"""Which images of the pool can be shown now: those that are gone, unreadable, or not what they were when labelled.

At the beginning of a run size and time of every file are compared with what the ledger holds, and only where these
differ and the image was asked about its content is read: of an image that is not labelled the new content is taken as
it is; the labels of another one are held back until the owner says so. Nothing is read that has not changed.

An image of an archive, an array or a video has no file of its own: there the pixels count, and of a video they are
looked at when the size or time of its file has changed.

Fails when: content changes and neither size nor time of the file does.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import numpy as np

from labelwise.data import bars, image_store, staging
from labelwise.data.image_reader import each, pixels_of, probe
from labelwise.errors import of_image
from labelwise.ledger import image_files, records
from labelwise.ledger.image_files import CHANGED, GONE, UNREADABLE, File, Unavailable
from labelwise.project.context import Context
from labelwise.types import LabelwiseError, Pool

NAMED = 5
"""Images that a message names."""


def look(context: Context) -> None:
    """Compares the pool with the ledger, writes what is new, and sets `context.pool.unavailable`."""
    ledger, pool = context.project.ledger, context.pool
    before, stored = image_files.unavailable(ledger), image_files.files(ledger)
    asked, labelled = image_files.asked_and_labelled(ledger)
    sizes = {name: (width, height) for name, width, height in image_files.known(ledger)}
    found, size_px = _files(pool), list(zip(pool.width_px.tolist(), pool.height_px.tolist(), strict=True))
    states: dict[str, Unavailable] = {}
    fresh: dict[str, File] = {}
    resized: dict[str, tuple[int, int]] = {}
    plain, in_files = replace(pool, unavailable={}), pool.pixels is None
    for i, name in enumerate(pool.names):
        file, was, old = found[i], before.get(name), stored.get(name)
        same = in_files and was is None and old is not None and file is not None and file[:2] == old[:2]
        if same and (old.sha256 or name not in asked) and sizes[name] == size_px[i] and i not in context.absent:  # type: ignore[union-attr]
            continue  # nothing is new, as nearly always
        if i in context.absent or file is None:
            if was is not None and was.why == CHANGED and file is not None:
                states[name] = was  # another content, and cut short on top of it
            else:
                states[name] = Unavailable(_why(pool, i), context.absent.get(i, f"{pool.path(i)}: it is gone"))
            continue
        state, file = _state(plain, i, file, old, name in asked, was)
        if state is None and name in labelled and sizes[name] != size_px[i]:
            state = Unavailable(CHANGED, _changed(pool, i, sizes[name]))
        if state is not None and not (state.why == CHANGED and name not in labelled):
            states[name] = state
            continue
        if file != old:
            fresh[name] = file
        if sizes[name] != size_px[i]:
            resized[name] = size_px[i]
    image_files.write(ledger, fresh, resized, states)
    if _changed_ones(states) != _changed_ones(before) or resized:
        ask_anew(context)
    see(context)


def see(context: Context) -> None:
    """Takes over which images are unavailable by the ledger; they may have become so in another process."""
    pool, states = context.pool, image_files.unavailable(context.project.ledger)
    here = sorted(pool.number_of[name] for name in states if name in pool.number_of)
    unavailable = {**context.absent, **{i: states[pool.names[i]].what for i in here}}
    if unavailable != pool.unavailable:
        context.pool = replace(pool, unavailable=unavailable)
        context.drop_images()


def _changed_ones(states: Mapping[str, Unavailable]) -> set[str]:
    return {name for name, state in states.items() if state.why == CHANGED}


def ask_anew(context: Context) -> None:
    """A round that has not ranked its candidates yet predicts and scores again: the labels are not those of before."""
    ledger = context.project.ledger
    stages = {(row["round"], row["stage"]): row["state"] for row in ledger.stages()}
    round_number = max((r for r, _ in stages), default=0)
    if stages.get((round_number, "select")) != "done":
        for name in ("predict", "score"):
            if stages.get((round_number, name)) == "done":
                records.drop(ledger, round_number, name)  # as if for the first time: with what is known now
                ledger.mark_started(round_number, name)


def unreadable(context: Context, images: Iterable[int]) -> set[int]:
    """Those of these images that cannot be read; they are unavailable from now on."""
    pool, ledger = context.pool, context.project.ledger
    wanted = np.unique(np.fromiter(images, np.int64))
    if not len(wanted):
        return set()
    if context.run.classifies or context.run.reads_objects:
        said = context.unreadable("pool")
        failed = {i: said[i] for i in wanted.tolist() if i in said}
    else:
        with bars.shown(context.bar), bars.late("read images", len(wanted)) as advance:
            failed = dict(context.images("pool").warm(wanted, advance))
    if new := {i: text for i, text in failed.items() if i not in pool.unavailable}:
        image_files.mark(ledger, {pool.names[i]: Unavailable(_why(pool, i), text) for i, text in new.items()})
        context.pool = replace(pool, unavailable={**pool.unavailable, **new})
    return set(failed)


def pass_over(context: Context, image: int) -> None:
    """An image could not be shown: it is unavailable, until it can be read again."""
    if image not in context.pool.unavailable:
        plain = context.pool
        text = _fault(plain, image)
        if text is not None:
            name = plain.names[image]
            image_files.mark(context.project.ledger, {name: Unavailable(_why(plain, image), text)})
            see(context)


def remember(context: Context, numbers: Collection[int]) -> None:
    """Keeps the hash of what is about to be asked, so that a change of it is noticed."""
    pool, ledger = context.pool, context.project.ledger
    name_of = {i: pool.names[i] for i in numbers}
    stored = image_files.files(ledger, set(name_of.values())) if name_of else {}
    wanted = [i for i, name in name_of.items() if name not in stored or stored[name].sha256 is None]
    found = _files(pool, wanted)
    here = [(i, file) for i in wanted if (file := found[i]) is not None]
    with bars.shown(context.bar), bars.late("look at images", len(here)) as advance:
        fresh: dict[str, File] = {}
        hashes = each(lambda one: _hash(pool, one[0]), here, fetch=staging.in_store(pool))
        for (i, file), sha256 in zip(here, hashes, strict=True):
            fresh[name_of[i]] = file._replace(sha256=sha256)
            advance(1)
    image_files.write(ledger, fresh)


def look_again(context: Context) -> None:
    """Takes back what was gone or unreadable and can be read by now, while a round waits for answers."""
    pool, ledger = context.pool, context.project.ledger
    states = image_files.unavailable(ledger)
    waiting = {name for name, state in states.items() if state.why != CHANGED}
    if waiting:
        asked, labelled = image_files.asked_and_labelled(ledger)
        stored, plain = image_files.files(ledger, waiting), replace(pool, unavailable={})
        number = {name: i for i, name in enumerate(pool.names) if name in waiting}
        if pool.pixels is not None or pool.frames is not None:  # what was not read with the others cannot be found
            number = {name: i for name, i in number.items() if i not in context.absent}
        found, now = _files(pool, number.values()), dict[str, Unavailable]()
        for name, i in number.items():
            if (file := found[i]) is not None and _fault(plain, i) is None:
                state, _ = _state(plain, i, file, stored.get(name), name in asked, None)
                if state is not None and name in labelled:
                    now[name] = state
                else:
                    context.absent = {k: what for k, what in context.absent.items() if k != i}
                    image_files.back(ledger, [name])
        image_files.mark(ledger, now)
    see(context)


def messages(context: Context) -> list[str]:
    """What is unavailable, a line for each kind, with what follows from it."""
    states = image_files.unavailable(context.project.ledger)
    known = {i: context.pool.names[i] for i in context.pool.unavailable}
    missing = {name: Unavailable(_why(context.pool, i), "") for i, name in known.items() if name not in states}
    states = {**missing, **states}  # a project that is only looked at: nothing was written yet
    lines = []
    for why in (GONE, UNREADABLE, CHANGED):
        names = sorted(name for name, state in states.items() if state.why == why)
        if not names:
            continue
        some = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
        many = f"{len(names)} image{'s' if len(names) > 1 else ''}"
        if why == CHANGED:
            lines.append(
                f"{many} changed since labelled: {some}. The old labels are held back: `labelwise images "
                f"{context.project.folder} --keep NAME` if they still fit, --forget NAME if not"
            )
        else:
            lines.append(f"{many} {why}: {some}. Not asked, not trained on, back when the files are; labels are kept")
    return lines


# ---- the owner's word ---------------------------------------------------------------------------------------------


def keep(context: Context, names: Collection[str], who: str) -> None:
    """The labels of these changed images still fit."""
    files, sizes = _present(context, names)
    image_files.keep(context.project.ledger, files, sizes, who, whole=context.run.classifies)
    ask_anew(context)
    see(context)


def forget(context: Context, names: Collection[str], who: str) -> dict[str, int]:
    """Withdraws the labels of these changed images; of each, how many annotations it had."""
    files, sizes = _present(context, names)
    had = image_files.forget(context.project.ledger, files, sizes, who)
    ask_anew(context)
    see(context)
    return had


def _present(context: Context, names: Collection[str]) -> tuple[dict[str, File], dict[str, tuple[int, int]]]:
    """What the files of these changed images are now, and their sizes in pixels."""
    states, pool = image_files.unavailable(context.project.ledger), context.pool
    other = [name for name in names if name not in states or states[name].why != CHANGED]
    if other:
        some = sorted(name for name, state in states.items() if state.why == CHANGED)
        raise LabelwiseError(
            f"{other[0]} is no changed image; these are: {', '.join(some[:NAMED]) or 'none'} ({len(some)} in all)"
        )
    wanted = set(names)
    number = {name: i for i, name in enumerate(pool.names) if name in wanted}
    found, plain = _files(pool, number.values()), replace(pool, unavailable={})
    files: dict[str, File] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for name, i in number.items():
        file, fault = found[i], _fault(plain, i)
        if file is None or fault is not None or i in context.absent:
            raise LabelwiseError(f"{name} cannot be read now: {fault or 'it is gone'}. Put it back first")
        files[name] = file._replace(sha256=_hash(plain, i))
        sizes[name] = _size_px(plain, i)
    return files, sizes


# ---- one image ----------------------------------------------------------------------------------------------------


def _state(
    pool: Pool, image: int, file: File, stored: File | None, asked: bool, before: Unavailable | None
) -> tuple[Unavailable | None, File]:
    """What is wrong with an image whose file is there, and what is to be stored of its file."""
    if before is not None and before.why == UNREADABLE and (fault := _fault(pool, image)):
        return Unavailable(UNREADABLE, fault), file
    sha256 = None if stored is None else stored.sha256
    if stored is not None and file[:2] == stored[:2] and pool.pixels is None:
        if asked and sha256 is None:  # by an earlier labelwise
            sha256 = _hash(pool, image)
        return None, file._replace(sha256=sha256)
    if not asked:
        return None, file
    content = _hash(pool, image)
    if stored is None or (content is not None and content == sha256):
        return None, file._replace(sha256=content)
    if fault := _fault(pool, image):
        return Unavailable(UNREADABLE, fault), file
    return Unavailable(CHANGED, _changed(pool, image, None)), file._replace(sha256=content)


def _files(pool: Pool, images: Iterable[int] | None = None) -> list[File | None]:
    """Size and time of the files of these images, or of all; None where there is none. Of a frame they are the video's,
    of an image in memory they are those of its pixels.
    """
    found: list[File | None] = [None] * len(pool)
    seen: dict[str, File | None] = {}
    root, mirror = f"{pool.root}{os.sep}", image_store.of(pool.root / "image")
    for i in range(len(pool)) if images is None else images:
        if pool.pixels is not None:
            found[i] = File(int(pool.pixels[i].nbytes), 0)
            continue
        name = pool.names[i] if pool.frames is None else pool.names[i].split("#")[0]
        if mirror is not None:
            said = mirror.status_of(name)
            seen[name] = None if said is None else File(*said)
        elif name not in seen:
            try:
                status = os.stat(root + name)  # noqa: PTH116 (of 100,000 images)
                seen[name] = File(status.st_size, status.st_mtime_ns)
            except OSError:
                # what gives frames may have no files at all
                seen[name] = None if pool.frames is None else File(0, 0)
        found[i] = seen[name]
    return found


def _hash(pool: Pool, image: int) -> str | None:
    """SHA-256 of the image's file, or of its pixels where it has no file of its own; None: it cannot be read."""
    try:
        if pool.pixels is not None or pool.frames is not None:
            return hashlib.sha256(np.ascontiguousarray(pixels_of(pool, image)).tobytes()).hexdigest()
        if (mirror := image_store.of(pool.path(image))) is not None:
            return hashlib.sha256(mirror.content(pool.path(image))).hexdigest()
        with pool.path(image).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
    except LabelwiseError as error:
        of_image(error)
        return None


def _fault(pool: Pool, image: int) -> str | None:
    """Why an image cannot be read, None if it can."""
    try:
        pixels_of(pool, image)
    except LabelwiseError as error:
        return of_image(error)
    return None


def _size_px(pool: Pool, image: int) -> tuple[int, int]:
    if pool.pixels is not None or pool.frames is not None:
        height, width = pixels_of(pool, image).shape[:2]
        return width, height
    header = probe(pool.path(image))
    return header.width_px, header.height_px


def _why(pool: Pool, image: int) -> str:
    """Whether an image that cannot be shown is gone or unreadable."""
    file = pool.root / pool.names[image].split("#")[0] if pool.frames is not None else pool.path(image)
    return UNREADABLE if pool.pixels is None and image_store.status(file) is not None else GONE


def _changed(pool: Pool, image: int, before_px: tuple[int, int] | None) -> str:
    where = f"{pool.path(image)}: the image is not the one that was labelled"
    if before_px is not None:
        where += f": it was {before_px[0]} x {before_px[1]} pixels, is {pool.width_px[image]} x {pool.height_px[image]}"
    return f"{where}. Its labels are held back until you keep or forget them (`labelwise images`)"
