"""Videos in a pool: which image is which frame, and where boxes went in the frames around theirs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from labelwise.types.columns import check, check_column, check_finite


@dataclass(frozen=True, slots=True, eq=False)
class Clips:
    """The images of a pool as frames of videos: those of one video stand together, in order of time.

    `video[i]` is the number of image i's video in `names`, rising; `frame[i]` the number of the frame in its video,
    from 0, strictly rising there (with gaps, where frames are missing or left out); `time_s[i]` when it is shown.
    """

    names: tuple[str, ...]
    video: Int64[np.ndarray, " images"]
    frame: Int64[np.ndarray, " images"]
    time_s: Float64[np.ndarray, " images"]

    def __post_init__(self) -> None:
        n = len(self.video)
        check_column("Clips", "video", self.video, np.int64, (n,))
        check_column("Clips", "frame", self.frame, np.int64, (n,))
        check_column("Clips", "time_s", self.time_s, np.float64, (n,))
        check_finite("Clips", "time_s", self.time_s)
        step = np.diff(self.video)
        check(bool((step >= 0).all()), "Clips.video: expected the frames of a video together, videos in rising order")
        inside = (self.video >= 0) & (self.video < len(self.names))
        check(bool(inside.all()), f"Clips.video: expected numbers from 0 to {len(self.names) - 1}")
        back = np.flatnonzero((step == 0) & (np.diff(self.frame) <= 0))
        check(
            len(back) == 0, f"Clips.frame: image {back[0] + 1 if len(back) else ''} does not come after the one before"
        )

    def __len__(self) -> int:
        return len(self.video)

    def every(self, n: int) -> Bool[np.ndarray, " images"]:
        """Which images are every n-th frame of their video, in the film's own frames from its first one here on."""
        first = np.searchsorted(self.video, self.video)  # images of a video stand together, in order of time
        chosen: np.ndarray = (self.frame - self.frame[first]) % n == 0
        return chosen

    def take(self, images: np.ndarray) -> Clips:
        """Of the images with these rising numbers alone."""
        return Clips(self.names, self.video[images], self.frame[images], self.time_s[images])

    @staticmethod
    def join(parts: list[tuple[Clips, int]]) -> Clips:
        """Of several pools one after another, each with how many images it has."""
        starts = np.cumsum([0, *(len(clips.names) for clips, _ in parts)])
        video = [clips.video + start for (clips, _), start in zip(parts, starts[:-1], strict=True)]
        return Clips(
            tuple(name for clips, _ in parts for name in clips.names),
            np.concatenate(video),
            np.concatenate([clips.frame for clips, _ in parts]),
            np.concatenate([clips.time_s for clips, _ in parts]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """Where each of n boxes is in the k frames before its own and the k after it.

    Column j stands for the step `steps[j]`: -k, ..., -1, 1, ..., k. `image[i, j]` is the pool number of that frame, -1
    where there is none (the video begins or ends, a cut, the box left the image); its box is then zeros.
    """

    image: Int64[np.ndarray, "n 2k"]
    boxes: Float32[np.ndarray, "n 2k 4"]

    def __post_init__(self) -> None:
        n, columns = self.image.shape
        check(columns % 2 == 0, f"Tracks.image: {columns} columns; expected as many frames before as after")
        check_column("Tracks", "image", self.image, np.int64, (n, columns))
        check_column("Tracks", "boxes", self.boxes, np.float32, (n, columns, 4))
        check_finite("Tracks", "boxes", self.boxes.reshape(n, 4 * columns))

    def __len__(self) -> int:
        return len(self.image)

    @property
    def steps(self) -> Int64[np.ndarray, " 2k"]:
        """How many frames later (earlier: negative) each column is."""
        k = self.image.shape[1] // 2
        return np.concatenate([np.arange(-k, 0), np.arange(1, k + 1)])
