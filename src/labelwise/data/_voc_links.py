"""Which image an XML file of the kind of Pascal VOC means, and which images a list in `ImageSets` names."""

from __future__ import annotations

import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

from labelwise.data import image_reader, split_names
from labelwise.data._voc_xml import File
from labelwise.data.listing import Listing
from labelwise.data.resolve import Resolver
from labelwise.types import Problem

_ANNOTATIONS = re.compile(r"annot|xml|label|bbox|^anns?$|^anno|^gt$")
_IMAGES = re.compile(r"^(jpe?g_?images?|images?|imgs?|pictures|photos|frames|data|jpe?gs?|pngs?)$")
_MASKS = re.compile(r"^(segmentation|masks?$|trimaps?$)")
_WORDS = re.compile(r"annotations?|annots?|annos?|anns?|xmls?|labels?|jpe?g|images?|imgs?|[-_. ]")


class Links:
    """The images below a folder, found by what XML files and lists say."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.images = [name for name in sorted(listing.images) if not _is_mask(name)]
        self.resolver = Resolver(listing, self.images)
        self.problems: list[Problem] = []
        self._exact = frozenset(self.images)
        self._places: dict[str, list[str]] = {}
        self._xml_stems: dict[tuple[str, str], str] = {}

    def of_files(self, files: Sequence[File]) -> dict[str, str]:
        """The image of each XML file, by the name of the file; those without one are told.

        `<filename>` counts before the name of the XML file, unless the image that it names has an XML file of its own.
        """
        named = {file.name: self._named(file) for file in files}
        stems = {file.name: self._same_stem(file.name) for file in files}
        found = {name: named[name] or stems[name] for name in named if None in (named[name], stems[name])}
        found |= {name: image for name, image in named.items() if image is not None and image == stems[name]}
        taken = {image for image in found.values() if image is not None}
        wanted = Counter(image for name, image in named.items() if name not in found)
        for name, image in named.items():
            if name not in found:
                other = stems[name]
                found[name] = other if (image in taken or wanted[image] > 1) and other not in taken else image
        for file in files:
            if found[file.name] is None:
                found[file.name] = self._anywhere(file)
        linked = {name: image for name, image in found.items() if image is not None}
        own = {image for name, image in linked.items() if _stem(name) == _stem(image)}
        for name in [name for name, image in linked.items() if image in own and _stem(name) != _stem(image)]:
            what = f"its <filename> is {linked.pop(name)}, which has an XML file of its own name"
            self.problems.append(Problem("label without image", name, what, "left out"))
        self._tell_names(files, linked)
        return linked

    def listed(self, line: str, base: str, links: dict[str, str], where: str) -> str | None:
        """The image that a line of a list names: the whole line, or all of it but a number at its end, or the first of
        two words (image and XML file); by the name of the image or of the XML file, with suffix or without.
        """
        words = line.split()
        shorter = line.rsplit(None, 1)[0] if len(words) > 1 and re.fullmatch(r"[-+]?\d+", words[-1]) else line
        first = words[0] if len(words) == 2 else line
        for said in dict.fromkeys((line, shorter, first)):
            image = self._listed(said.replace("\\", "/").removeprefix("./"), base, links)
            if image is not None:
                return image
        one = self._stripped.get(shorter, [])
        if len(one) == 1:
            return one[0]
        is_path = _suffix(first) in image_reader.SUFFIXES
        return self.resolver.find(first, self._around(base), where) if is_path else None

    def _listed(self, said: str, base: str, links: dict[str, str]) -> str | None:
        known = _suffix(said) in image_reader.SUFFIXES or _suffix(said) == ".xml"
        stems = (said, posixpath.splitext(said)[0])[: 1 + known]
        image = self._beside(said, base)
        for stem in stems:
            image = image or self.resolver.find_stem(stem, self._around(base))
        for stem in stems:
            image = image or links.get(self._xml_stems.get((base, stem), ""))
        return image

    def index_xml(self, names: Iterable[str], bases: Iterable[str]) -> None:
        """Lets `listed` find XML files by the end of their paths, from the folders that lists count from."""
        for name in names:
            for base in bases:
                if not base or name.startswith(f"{base}/"):
                    parts = posixpath.splitext(name[len(base) + 1 if base else 0 :])[0].split("/")
                    for k in range(len(parts)):
                        self._xml_stems.setdefault((base, "/".join(parts[k:])), name)

    def _named(self, file: File) -> str | None:
        """The image of the name in `<filename>`, where images of this XML file are expected."""
        for said in dict.fromkeys((file.filename, file.filename.strip())):
            image = self._beside(said, posixpath.dirname(file.name)) if said else None
            if image is None and said and _suffix(said) not in image_reader.SUFFIXES:
                image = self.resolver.find_stem(said, self._around(posixpath.dirname(file.name)))
            if image is not None:
                return image
        return None

    def _same_stem(self, name: str) -> str | None:
        folder, base = posixpath.split(name)
        return self.resolver.find_stem(posixpath.splitext(base)[0], self._around(folder))

    def _anywhere(self, file: File) -> str | None:
        """An image in a place where none is expected: by the paths in the file, else by the name of the XML file."""
        place, base = posixpath.split(file.name)
        said, folder, path = file.filename.strip(), file.folder.strip(), file.path.strip()
        split = split_names.of_path(file.name) or (folder if split_names.is_split(folder) else "")
        for reference in dict.fromkeys((path, posixpath.join(folder, said) if said else "", said)):
            if reference and (image := self.resolver.find(reference, self._around(place), file.name, split)):
                return image
        same = self._stems.get(posixpath.splitext(base)[0], [])
        same = [image for image in same if not split or split_names.of_path(image) in ("", split)]
        return same[0] if len(same) == 1 else None

    def _beside(self, said: str, folder: str) -> str | None:
        for place in self._around(folder):
            name = posixpath.normpath(posixpath.join(place, said))
            if name in self._exact:
                return name
        return None

    def _around(self, folder: str) -> list[str]:
        """The folders where images of a folder of XML files are expected, the likeliest first."""
        if folder not in self._places:
            parts = folder.split("/") if folder else []
            found = [folder, *self._beside_of(folder)]
            for i in range(len(parts) - 1, -1, -1):
                above, below = "/".join(parts[:i]), "/".join(parts[i + 1 :])
                if _ANNOTATIONS.search(parts[i].lower()):
                    beside = self._beside_of(above, _WORDS.sub("", parts[i].lower()))
                    found += [posixpath.join(one, below) for one in beside] + beside + [above]
            found += ["/".join(parts[:-1]), ""]
            self._places[folder] = list(dict.fromkeys(found))
        return self._places[folder]

    def _beside_of(self, folder: str, rest: str = "") -> list[str]:
        """Folders in a folder that are likely to hold its images; `rest`: train of train_annots, for train_images."""
        names = {one: posixpath.basename(one).lower() for one in self._image_folders.get(folder, [])}
        same = [one for one, name in names.items() if rest and _WORDS.sub("", name) == rest]
        return same or [one for one, name in names.items() if _IMAGES.match(name)]

    def _tell_names(self, files: Sequence[File], linked: dict[str, str]) -> None:
        """XML files that name another image than the one they are read for."""
        other: list[tuple[str, str]] = []
        for file in files:
            said, image = posixpath.basename(file.filename.strip().replace("\\", "/")), linked.get(file.name)
            is_name = _suffix(said) in image_reader.SUFFIXES
            if image is not None and is_name and said.casefold() != posixpath.basename(image).strip().casefold():
                other.append((f"{file.name}: {said}", image))
        if other:
            what = f"<filename> is not that of {other[0][1]}" + " and so on" * (len(other) > 1)
            handling = "linked by the name of the XML file"
            self.problems.append(Problem("file name differs", other[0][0], what, handling, len(other)))

    @cached_property
    def _image_folders(self) -> dict[str, list[str]]:
        """The folders in each folder that hold an image, there or below."""
        found: dict[str, list[str]] = defaultdict(list)
        seen = {""}
        for folder in sorted({posixpath.dirname(name) for name in self.images}):
            while folder not in seen:
                seen.add(folder)
                found[posixpath.dirname(folder)].append(folder)
                folder = posixpath.dirname(folder)
        return found

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        return _by(self.images, lambda name: posixpath.splitext(posixpath.basename(name))[0])

    @cached_property
    def _stripped(self) -> dict[str, list[str]]:
        return _by(self.images, _stem)


class List(NamedTuple):
    """A list of images: the file, the folder that its lines count from, and whether its place makes sure of that."""

    name: str
    base: str
    sure: bool


def lists(listing: Listing) -> dict[str, list[List]]:
    """The lists of each split: of `ImageSets/Main`, else `ImageSets`, else
    lists beside the folders of images that are named like splits (`train.txt`).

    Lists of one class, such as `cat_train.txt` beside `train.txt`, are none.
    """
    ranked: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in listing.of(".txt"):
        parts = name.lower().split("/")
        sets = len(parts) - parts[::-1].index("imagesets") - 1 if "imagesets" in parts[:-1] else None
        if sets is not None and sets >= len(parts) - 3:
            base = "/".join(name.split("/")[:sets])
            inner = parts[sets + 1] if sets == len(parts) - 3 else ""
            if inner in ("", "main"):
                ranked[base].append((0 if inner else 1, name))
        elif len(parts) > 1 and parts[-2] == "main":
            ranked["/".join(name.split("/")[:-2])].append((1, name))
        elif split_names.is_split(posixpath.splitext(parts[-1])[0]):
            ranked["/".join(name.split("/")[:-1])].append((2, name))
    found: dict[str, list[List]] = defaultdict(list)
    for base, files in ranked.items():
        best = min(rank for rank, _ in files)
        names = {posixpath.splitext(posixpath.basename(name))[0]: name for rank, name in files if rank == best}
        for split, name in names.items():
            if "_" not in split or split.rpartition("_")[2] not in names:
                found[split].append(List(name, base, best < 2))
    return dict(found)


def _stem(name: str) -> str:
    return posixpath.splitext(posixpath.basename(name))[0].strip()


def _suffix(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def _is_mask(name: str) -> bool:
    return any(_MASKS.match(part) for part in name.lower().split("/")[:-1])


def _by(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(key(name), []).append(name)
    return found
