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
        layers = [("gold", self.target)]
        if answer is not None:
            layers += [("think", answer.think), ("pred", answer.pred)]
        boxes = "".join(
            box_svg(to_px(tube.at([index]).boxes[0], *self.size)[0], *layer_style(kind), width)
            for kind, tube in layers
            if tube is not None and index in tube.frames
        )
        return f'<use href="#{self.name}-{index}"/>{boxes}'


def timeline(clip: ShownClip, answer: Answer | None, index: int) -> str:
    """Gold and answered time as two bars over the shown frames, and where `index` is."""
    width, count = clip.size[0], len(clip.frames)
    step = width / count
    spans = [("gold", clip.target.span)] + ([] if answer is None else [("pred", answer.span)])
    bars = "".join(
        f'<rect x="{span.start * step:.1f}" y="{4 + 12 * k}" width="{len(span) * step:.1f}" '
        f'height="8" rx="2" fill="{layer_style(kind)[0]}"/>'
        for k, (kind, span) in enumerate(spans)
    )
    ticks = "".join(f'<path d="M{i * step:.1f} 0V28" stroke="#444b59"/>' for i in range(1, count))
    return (
        f'<svg viewBox="0 0 {width} 28" width="{width}" style="max-width: 100%; background: '
        f'#14161b; border-radius: 4px; margin-top: 6px">{ticks}{bars}'
        f'<rect x="{(index + 0.5) * step - 1:.1f}" width="2" height="28" fill="#fff"/></svg>'
    )


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
