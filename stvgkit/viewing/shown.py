"""What the widgets draw with, as SVG: the frames a model was shown, boxes, bars, a legend."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from PIL import Image

from stvgkit.answers import Answer, CoordinateSpace
from stvgkit.boxes import to_px
from stvgkit.datasets.sample import Sample
from stvgkit.errors import InputError
from stvgkit.rows import ClipFormat, plan_row
from stvgkit.tubes import Tube
from stvgkit.video import read_frames
from stvgkit.viewing.pictures import box_svg, image_svg, layer_style

STYLE = "font: 13px/1.45 system-ui, sans-serif; color: #1b1e24; background: #fff;"


class ShownClip:
    """What a model was shown of a sample, small enough to draw: pictures, gold boxes, space."""

    def __init__(self, sample: Sample, clip_format: ClipFormat, side: int) -> None:
        if sample.video is None:
            raise InputError(
                f"sample {sample.id}: it has no video file: read it with a video folder"
            )
        row = plan_row(sample, clip_format)
        self.target = Tube(row["target_frames"], row["target_boxes"])
        if not len(self.target):
            raise InputError(f"sample {sample.id}: no shown frame has a gold box, so no reward")
        self.space = CoordinateSpace.parse(row["space"])
        self.frames, self.times = row["frames"], row["times"]
        pixels = read_frames(sample.video, indices=row["frames"]).frames
        height, width = pixels.shape[1:3]
        scale = side / max(width, height)
        self.size = max(round(width * scale), 1), max(round(height * scale), 1)
        smooth = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS
        self.images = [Image.fromarray(frame).resize(self.size, smooth) for frame in pixels]
        self.name = f"stvg-{secrets.token_hex(4)}"

    def pictures(self, indices: Iterable[int] | None = None) -> str:
        """The pictures (all of them by default) as SVG that shows nothing, for `frame_svg` to use.

        Put once on the page, they need not travel again whenever a box moves.
        """
        chosen = range(len(self.images)) if indices is None else indices
        images = "".join(image_svg(self.images[i], f"{self.name}-{i}") for i in chosen)
        return f'<svg width="0" height="0" style="position: absolute"><defs>{images}</defs></svg>'

    def frame_svg(self, index: int, answer: Answer | None, width: float = 2) -> str:
        """Shown frame `index` with its gold, think and pred boxes: the inside of an SVG."""
        layers: list[tuple[str, Tube | None]] = [("gold", self.target)]
        if answer is not None:
            layers += [("think", answer.think), ("pred", answer.pred)]
        boxes = "".join(
            box_svg(to_px(tube.at([index]).boxes[0], *self.size)[0], *layer_style(kind), width)
            for kind, tube in layers
            if tube is not None and index in tube.frames
        )
        return f'<use href="#{self.name}-{index}"/>{boxes}'


def legend() -> str:
    """Names of the three kinds of boxes, each with its colour and dash."""
    swatch = (
        '<span style="white-space: nowrap"><svg width="34" height="10">'
        '<rect width="34" height="10" rx="2" fill="#14161b"/>'
        '<path d="M3 5H31" stroke="{}" stroke-width="2" stroke-dasharray="{}"/></svg> {}</span>'
    )
    kinds = ("gold", "think", "pred")
    return " ".join(swatch.format(*layer_style(kind), kind) for kind in kinds)


def bar(value: float, most: float, width: int = 90) -> str:
    """A bar from the middle: blue to the right, vermilion to the left."""
    length = min(abs(value) / most, 1.0) * width / 2
    x = width / 2 if value >= 0 else width / 2 - length
    color = "#0072B2" if value >= 0 else "#D55E00"
    return (
        f'<svg width="{width}" height="12">'
        f'<rect width="{width}" height="12" rx="3" fill="#eceef2"/>'
        f'<rect x="{x:.1f}" y="2" width="{length:.1f}" height="8" fill="{color}"/>'
        f'<path d="M{width / 2} 0V12" stroke="#888"/></svg>'
    )
