"""Rows: a sample as trainers, generation and scoring all see it.

`plan_row` settles, from the annotation alone and the video's times, which frames are shown and
where the gold boxes are on them. `Decode` adds the pixels when a row is asked for. SFT, rollouts,
the loss and evaluation read the same rows, so their prompts are the same token for token.

Only numpy is imported here. What reads a video (`plan_row`, `plan_rows`, `row_images`) needs
`stvgkit.video` and loads it when it is called.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stvgkit.answers import Answer, CoordinateSpace, format_answer
from stvgkit.datasets.records import SkipReport
from stvgkit.datasets.sample import Sample
from stvgkit.errors import InputError, VideoError, need
from stvgkit.prompts import TEMPLATES, build_messages
from stvgkit.tubes import Tube

if TYPE_CHECKING:
    from PIL import Image

Row = dict[str, Any]
"""What `plan_row` gives, a column to a key."""


FRAMES_AS = ("images", "video")


@dataclass(frozen=True)
class ClipFormat:
    """How a clip is shown to a model, and in which numbers it answers.

    `space` is `0-1000`, `0-100` or `pixels` (of the frame that the model sees); `factor` is what
    both sides of a frame must be a multiple of; `max_side` bounds its longer side. `think` says
    whether answers hold think boxes. `frames_as` is `images`, each frame a picture after its time,
    or `video`, the model's own video input, in which two frames share their visual tokens.
    Saved beside a checkpoint, so that a model is asked in the form it learned.
    """

    space: str = "0-1000"
    template: str = "full"
    fps: float = 2.0
    max_frames: int | None = None
    max_side: int = 336
    factor: int = 32
    think: bool = True
    frames_as: str = "images"

    FILE = "clip_format.json"

    def __post_init__(self) -> None:
        if self.template not in TEMPLATES:
            raise InputError(f"unknown prompt template {self.template!r}: use {sorted(TEMPLATES)}")
        if self.frames_as not in FRAMES_AS:
            raise InputError(f"frames_as is {self.frames_as!r}: use images or video")
        if self.space != "pixels":
            CoordinateSpace.parse(self.space)
        if not 0 < self.fps <= 1000:  # NaN fails too
            raise InputError(f"fps is {self.fps}: give frames a second, above 0 and up to 1000")
        for name in ("max_frames", "max_side", "factor"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}: give 1 or more")

    def frame_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height shown for a video of this size: aspect kept, multiples of `factor`.

        >>> ClipFormat(max_side=336, factor=28).frame_size(640, 360)
        (336, 196)
        >>> ClipFormat(max_side=64, factor=16).frame_size(64, 64)
        (64, 64)
        """
        scale = min(1.0, self.max_side / max(width, height))
        most = max(self.max_side // self.factor, 1)
        w, h = (
            min(max(round(side * scale / self.factor), 1), most) * self.factor
            for side in (width, height)
        )
        return w, h

    def coordinate_space(self, width: int, height: int) -> CoordinateSpace:
        """The space of answers about frames shown at this size."""
        if self.space == "pixels":
            return CoordinateSpace.pixels(width, height)
        return CoordinateSpace.parse(self.space)

    def save(self, folder: Path) -> None:
        (Path(folder) / self.FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> ClipFormat | None:
        """The format saved beside a checkpoint, or None where there is none."""
        path = Path(folder) / cls.FILE
        if not path.is_file():
            return None
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:  # no JSON, a field that is not ours, another type
            raise InputError(f"{path} is damaged, or of a newer stvgkit: {error}") from error


def plan_row(sample: Sample, clip_format: ClipFormat) -> Row:
    """Everything of a row but its pixels.

    `frames` are video frame numbers, `times` seconds from the first shown frame; `target_frames`
    are the shown frames (counted from 0) inside the gold span, `target_boxes` their gold boxes
    (relative; empty where the benchmark ships none).
    """
    from stvgkit.video import probe, sample_indices

    info = probe(sample.video)
    frames = sample_indices(
        info, fps=clip_format.fps, window=sample.window, max_frames=clip_format.max_frames
    )
    size = clip_format.frame_size(info.width, info.height)
    target = shown_tube(sample.tube, frames) if sample.tube is not None else Tube([], [])
    return {
        "id": sample.id,
        "query": sample.query,
        "video": str(sample.video),
        "frames": frames.tolist(),
        "times": (info.times[frames] - info.times[frames[0]]).tolist(),
        "size": list(size),
        "space": clip_format.coordinate_space(*size).name,
        "template": clip_format.template,
        "think": clip_format.think,
        "frames_as": clip_format.frames_as,
        "target_frames": target.frames.tolist(),
        "target_boxes": target.boxes.tolist(),
    }


def plan_rows(
    samples: Iterable[Sample],
    clip_format: ClipFormat,
    report: SkipReport | None = None,
    *,
    need_boxes: bool = False,
) -> list[Row]:
    """The rows of all samples that can be shown; `report` lists the others with the reason.

    `need_boxes` also leaves out samples without gold boxes, which nothing can be learned from.
    Raises `InputError` where not one sample is left.

    >>> from stvgkit.tubes import Span
    >>> sample = Sample("a", "the dog", None, 640, 360, 25.0, Span(0, 9), Span(3, 3))
    >>> plan_rows([sample], ClipFormat())
    Traceback (most recent call last):
    stvgkit.errors.InputError: not one sample can be used: skipped 1: no video (a); ...
    """
    need("stvgkit.rows", "video", "tqdm")
    from tqdm.auto import tqdm

    report = SkipReport() if report is None else report
    rows = []
    for sample in tqdm(samples, desc="samples", leave=False, disable=None):
        if sample.video is None:
            report.skip("no video", sample.id)
        elif need_boxes and (sample.tube is None or not len(sample.tube)):
            report.skip("no gold boxes to learn from", sample.id)
        else:
            try:
                rows.append(plan_row(sample, clip_format))
            except VideoError as error:
                report.skip(f"broken video: {error}", sample.id)
    if not rows:
        reasons = "; ".join(str(report).splitlines()) or "there is none"
        raise InputError(f"not one sample can be used: {reasons}; check --annotations and --videos")
    return rows


def shown_tube(tube: Tube, frames: np.ndarray) -> Tube:
    """A tube on video frames, as seen on the shown frames and numbered by them.

    An event that falls between two shown frames is given to the nearest one, so that no sample
    is without a target.

    >>> shown_tube(Tube([9, 10, 11], np.zeros((3, 4))), np.array([0, 10, 20])).frames
    array([1])
    >>> shown_tube(Tube([12, 13], np.zeros((2, 4))), np.array([0, 10, 20])).frames
    array([1])
    """
    inside = tube.interpolate().at(frames)
    if len(inside):
        return Tube(np.searchsorted(frames, inside.frames), inside.boxes)
    middle = tube.interpolate().frames[len(tube.interpolate()) // 2]
    nearest = int(np.abs(np.asarray(frames) - middle).argmin())
    return Tube([nearest], tube.resample([middle]).boxes)


def gold_text(row: Row, think_noise: float = 0.0, seed: int = 0) -> str:
    """The answer that SFT teaches: the gold boxes, after think boxes that are `think_noise` off.

    `think_noise` is the standard deviation of a shift of each coordinate, relative to the box's
    side. A first guess that is always perfect would leave nothing for the final boxes to mend.
    """
    gold = Tube(row["target_frames"], row["target_boxes"])
    rng = np.random.default_rng([seed, *row["id"].encode()])
    x1, y1, x2, y2 = gold.boxes.T
    sides = np.stack([x2 - x1, y2 - y1, x2 - x1, y2 - y1], axis=1)
    guess = gold.boxes + think_noise * sides * rng.standard_normal(gold.boxes.shape)
    think = Tube(gold.frames, np.clip(guess, 0.0, 1.0))
    answer = Answer(gold.span, think if row["think"] else None, gold, consistent=True)
    return format_answer(answer, CoordinateSpace.parse(row["space"]))


def row_messages(row: Row) -> list[dict[str, Any]]:
    """The prompt of a row, with a placeholder for each frame, or one for the video."""
    space = CoordinateSpace.parse(row["space"])
    form = {"think": row["think"], "frames_as": row["frames_as"]}
    return build_messages(row["query"], row["times"], space, row["template"], **form)


def row_images(row: Row) -> list[Image.Image]:
    """The frames of a row at the size that the model sees."""
    width, height = row["size"]
    small = 3 * width * height * len(row["frames"]) <= SMALL_CLIP
    read = _kept if small else _read
    return read(row["video"], tuple(row["frames"]), (width, height))


def _read(video: str, frames: tuple[int, ...], size: tuple[int, int]) -> list[Image.Image]:
    need("stvgkit.rows", "video", "PIL")
    from PIL import Image

    from stvgkit.video import read_frames

    clip = read_frames(video, indices=frames)
    images = [Image.fromarray(frame) for frame in clip.frames]
    return [im if im.size == size else im.resize(size, Image.Resampling.BICUBIC) for im in images]


# Small clips are asked for again and again and stay decoded; large ones would fill the memory.
SMALL_CLIP = 200_000  # bytes
_kept = lru_cache(maxsize=2048)(_read)
