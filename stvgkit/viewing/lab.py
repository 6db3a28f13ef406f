"""The reward lab: one self-contained HTML document in which a person bends an answer.

    reward_lab(sample)                        # in a notebook
    reward_lab(sample, text).save("lab.html")  # on disk

The page shows the frames that a model is shown, with gold boxes. The answer's time and boxes can
be dragged by mouse, by touch and by keys; its text can be edited. The five rewards, their sum and
the sentence of `explain_answer` follow at once. No kernel is needed: parser and rewards are in the
page, in JavaScript, and tests hold them equal to Python's.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stvgkit.answers import Answer, CoordinateSpace, format_answer
from stvgkit.boxes import clip as clamp
from stvgkit.datasets.sample import Sample
from stvgkit.errors import InputError
from stvgkit.files import replacing
from stvgkit.rows import ClipFormat
from stvgkit.tubes import Span, Tube
from stvgkit.viewing.page import as_json, asset, bundle, document, iframe
from stvgkit.viewing.pictures import layer_style
from stvgkit.viewing.shown import ShownClip

SIDES = (480, 360, 240, 160)  # pixels of the longer side, from the largest that the budget holds
BUDGET = 1_300_000  # bytes of pictures, which base64 makes a third larger: a page below 2 MB
LAB_FORMAT = ClipFormat(max_frames=120)
"""How a lab shows a clip where nothing else is said: 2 frames a second, numbers from 0 to 1000."""

STYLE = "reward_lab/lab.css"
SCRIPTS = (
    *(f"reward_lab/{name}.js" for name in ("answers", "rewards", "edits")),
    "player/dom.js",
    *(f"reward_lab/{name}.js" for name in ("picture", "times", "panel", "lab")),
)


@dataclass(frozen=True, eq=False)
class RewardLab:
    """A clip and an answer to bend, ready to be shown; in a notebook the object shows itself.

    `data` is all that the page's script needs to know. `target` is the gold tube on shown frames
    and `space` the space of the answer's numbers, as `score_answer` takes them. `presets` are
    answers to start from, by name.
    """

    data: dict[str, Any]
    target: Tube
    space: CoordinateSpace
    presets: dict[str, str]

    def html(self) -> str:
        """The lab as a whole document."""
        body = (
            '<section class="stvg-lab" aria-label="Reward lab">\n'
            f'<script type="application/json">{as_json(self.data)}</script>\n</section>'
        )
        title = self.data["title"] or "stvgkit reward lab"
        return document(body, title, asset(STYLE), bundle(*SCRIPTS))

    def save(self, path: Path | str) -> None:
        """Write the document to `path`."""
        with replacing(path) as out:
            out.write(self.html())

    def _repr_html_(self) -> str:
        return iframe(self.html(), "Reward lab", 720)

    def __repr__(self) -> str:
        count, size = len(self.data["times"]), len(as_json(self.data))
        return f"<RewardLab of {count} shown frames: {size / 1e6:.1f} MB>"


def reward_lab(
    sample: Sample, answer: str | Answer | None = None, clip_format: ClipFormat = LAB_FORMAT
) -> RewardLab:
    """Make the lab of one sample, which must have a video and gold boxes.

    `answer` is the completion, or the parsed answer, to start from: by default a rough guess
    followed by the right boxes. `clip_format` says how a model is shown the clip; by default 2
    frames a second, at most 120 of them, and numbers from 0 to 1000. The document stays under
    2 MB. Raises `InputError` where no shown frame has a gold box, or the frames are too many.

    >>> from stvgkit.video import write_video
    >>> path = getfixture("tmp_path") / "clip.mp4"
    >>> write_video(path, np.zeros((32, 48, 64, 3), np.uint8), fps=8)
    >>> tube = Tube([8, 16], [[0.1, 0.2, 0.5, 0.8]] * 2)
    >>> sample = Sample("a", "a box", path, 64, 48, 8.0, Span(0, 31), tube.span, tube)
    >>> lab = reward_lab(sample)
    >>> lab, lab.target.span
    (<RewardLab of 8 shown frames: 0.1 MB>, Span(start=2, end=4))
    """
    clip = ShownClip(sample, clip_format, side=SIDES[0])
    presets = make_presets(clip)
    if answer is None:
        answer = presets["a rough guess, then the right boxes"]
    text = format_answer(answer, clip.space) if isinstance(answer, Answer) else answer
    facts = [sample.id, f"{len(clip.frames)} frames shown", f"numbers in {clip.space.name}"]
    data = {
        "title": sample.query,
        "meta": " · ".join(facts),
        "width": sample.width,
        "height": sample.height,
        "times": np.round(clip.times, 4).tolist(),
        "images": _images(clip, sample),
        "target": {"frames": clip.target.frames.tolist(), "boxes": clip.target.boxes.tolist()},
        "space": clip.space.name,
        "styles": {kind: layer_style(kind) for kind in ("gold", "think", "pred")},
        "presets": presets,
        "text": text,
    }
    return RewardLab(data, clip.target, clip.space, presets)


def _images(clip: ShownClip, sample: Sample) -> list[str]:
    """The shown frames as data addresses, as large as the budget allows."""
    for side in SIDES:
        files = [_jpeg(image, side) for image in clip.images]
        if sum(map(len, files)) <= BUDGET:
            return [f"data:image/jpeg;base64,{base64.b64encode(file).decode()}" for file in files]
    raise InputError(
        f"sample {sample.id}: {len(files)} frames do not fit into a page of 2 MB: "
        "give a clip_format with fewer frames (fps, max_frames)"
    )


def _jpeg(image: Image.Image, side: int) -> bytes:
    image = image.copy()
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82, subsampling=0)
    return buffer.getvalue()


def make_presets(clip: ShownClip) -> dict[str, str]:
    """Answers to learn from, by name: each breaks or bends one thing of the perfect one."""
    gold, space, last = clip.target, clip.space, len(clip.frames) - 1
    span = gold.span
    half = max(len(span) // 2, 1)
    late = Span(min(span.start + half, last), min(span.end + half, last))
    loose = Tube(gold.frames, clamp(gold.boxes + [-0.15, -0.15, 0.15, 0.15]))
    rough = Tube(gold.frames, clamp(gold.boxes + [0.05, 0.05, 0.12, 0.12]))
    corner = Tube(gold.frames, [[0.0, 0.0, 0.01, 0.01]] * len(gold))
    gapped = gold.at(np.delete(gold.frames, len(gold) // 2))

    def text(think: Tube, pred: Tube, span: Span = span) -> str:
        return format_answer(Answer(span, think, pred, consistent=True), space)

    perfect = text(gold, gold)
    return {
        "perfect": perfect,
        "a rough guess, then the right boxes": text(rough, gold),
        "right time, loose boxes": text(loose, loose),
        "right place, wrong time": text(_refit(gold, late), _refit(gold, late), late),
        "a spoiled guess to collect the think reward": text(corner, gold),
        "a box left out": text(gold, gapped),
        "the end before the start": text(gold, gold, Span(span.end + 1, span.start)),
        "words around the answer": f"I think it is here: {perfect}",
        "no tags": "From the second to the fourth second, on the left.",
    }


def _refit(tube: Tube, span: Span) -> Tube:
    """A box on each frame of the span: interpolated, and the nearest beyond the tube's ends."""
    frames = span.frames()
    columns = [np.interp(frames, tube.frames, column) for column in tube.boxes.T]
    return Tube(frames, np.stack(columns, axis=1))
