"""Pictures of tubes: a filmstrip for papers and READMEs, as pixels (`draw_tube`) or as SVG.

The colours stay apart for people with any of the three kinds of colour blindness (simulated after
Machado et al. 2009), and each comes with a line style of its own, so that colour is never all.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from stvgkit.boxes import to_px
from stvgkit.datasets.sample import Sample
from stvgkit.errors import InputError
from stvgkit.tubes import Span, Tube

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

Tubes = Tube | Mapping[str, Tube] | None  # one, or several by name

GOLD, THINK = "#FFC61A", "#EF6D81"
PREDICTIONS = ("#73C1FB", "#9367EE", "#D8FC95", "#F92723")
DASHES = ("9 4", "14 4 3 4", "4 3", "20 4")
GAP, CAPTION, LEGEND = 6, 20, 26  # pixels between, under, and below the frames


def layer_style(kind: str, number: int = 0, alone: bool = True) -> tuple[str, str]:
    """Colour and SVG dash pattern of a layer: `gold`, `think` or `pred`, and which prediction.

    A think layer takes the colour of its prediction unless it is the only one.

    >>> layer_style("gold"), layer_style("pred", 1)
    (('#FFC61A', ''), ('#9367EE', '14 4 3 4'))
    """
    if kind == "gold":
        return GOLD, ""
    color = PREDICTIONS[number % len(PREDICTIONS)]
    if kind == "pred":
        return color, DASHES[number % len(DASHES)]
    return (THINK if alone else color), "2 3"


def draw_tube(
    video: Sample | Path | str,
    gold: Tube | None = None,
    think: Tubes = None,
    pred: Tubes = None,
    *,
    count: int = 6,
    width: int = 1200,
) -> Image.Image:
    """A filmstrip of `count` frames with their boxes, as a PIL image `width` pixels wide.

    Arguments as for `show_player`; the frames run from just before the first box to just after
    the last. Save it with `.save("tube.png")`.

    >>> from stvgkit.video import write_video
    >>> path = getfixture("tmp_path") / "clip.mp4"
    >>> write_video(path, np.zeros((10, 48, 64, 3), np.uint8), fps=5)
    >>> draw_tube(path, gold=Tube([2, 6], [[0, 0, 0.5, 0.5]] * 2), count=4, width=400).size
    (400, 118)
    """
    from PIL import Image, ImageDraw

    film = _film(video, gold, think, pred, count, width)
    picture = Image.new("RGB", (width, film.height + CAPTION + LEGEND), "white")
    draw = ImageDraw.Draw(picture)
    font = _font(13)
    for cell in film.cells:
        picture.paste(cell.image, (cell.x, 0))
        view = Image.new("RGB", cell.image.size)
        view.paste(cell.image)
        for _, color, dash, box in cell.boxes:
            _draw_box(ImageDraw.Draw(view), box, color, dash)
        picture.paste(view, (cell.x, 0))
        draw.text((cell.x, film.height + 3), cell.caption, fill="#444444", font=font)
    x, y = 0, film.height + CAPTION + 13
    for name, color, dash in film.legend:
        draw.rectangle([x, y - 8, x + 34, y + 7], fill="#14161b")
        _draw_line(draw, (x + 3, y), (x + 31, y), color, dash, 3)
        draw.text((x + 40, y - 8), name, fill="#222222", font=font)
        x += 60 + round(draw.textlength(name, font=font))
    return picture


def tube_svg(
    video: Sample | Path | str,
    gold: Tube | None = None,
    think: Tubes = None,
    pred: Tubes = None,
    *,
    count: int = 6,
    width: int = 1200,
) -> str:
    """The filmstrip of `draw_tube` as an SVG document, its boxes and letters sharp at any size.

    >>> from stvgkit.video import write_video
    >>> path = getfixture("tmp_path") / "clip.mp4"
    >>> write_video(path, np.zeros((10, 48, 64, 3), np.uint8), fps=5)
    >>> tube_svg(path, gold=Tube([2], [[0, 0, 0.5, 0.5]]), count=2).count("<image")
    2
    """
    film = _film(video, gold, think, pred, count, width)
    height = film.height + CAPTION + LEGEND
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="13">'
    ]
    for cell in film.cells:
        inner = f'<svg x="{cell.x}" width="{cell.image.width}" height="{film.height}">'
        parts += [inner, image_svg(cell.image)]
        parts += [box_svg(box, color, dash) for _, color, dash, box in cell.boxes]
        parts += ["</svg>", _text(cell.x, film.height + 15, cell.caption, "#444")]
    x, y = 0, film.height + CAPTION + 13
    for name, color, dash in film.legend:
        parts.append(f'<rect x="{x}" y="{y - 8}" width="34" height="15" rx="3" fill="#14161b"/>')
        parts.append(f'<path d="M{x + 3} {y}H{x + 31}" stroke-width="3" {_stroke(color, dash)}/>')
        parts.append(_text(x + 40, y + 5, name, "#222"))
        x += 60 + 8 * len(name)
    return "".join([*parts, "</svg>"])


def image_svg(image: Image.Image, name: str = "") -> str:
    """A PIL image as an SVG element with the JPEG inside; `name` is an id to `<use>` it by."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode()
    label = f'id="{html.escape(name)}" ' if name else ""
    size = f'width="{image.width}" height="{image.height}"'
    return f'<image {label}{size} href="data:image/jpeg;base64,{data}"/>'


def box_svg(box_px: ArrayLike, color: str, dash: str, width: float = 2) -> str:
    """One box in pixels as SVG: a dark halo under a line of this colour and dash."""
    x1, y1, x2, y2 = np.round(np.asarray(box_px, float), 1).tolist()
    shape = f'x="{x1}" y="{y1}" width="{max(x2 - x1, 0):.1f}" height="{max(y2 - y1, 0):.1f}"'
    halo = (
        f'<rect {shape} fill="none" stroke="#000" stroke-opacity=".55" stroke-width="{width + 2}"/>'
    )
    return f'{halo}<rect {shape} stroke-width="{width}" {_stroke(color, dash)}/>'


def _stroke(color: str, dash: str) -> str:
    pattern = f' stroke-dasharray="{dash}"' if dash else ""
    return f'fill="none" stroke="{color}"{pattern}'


def _text(x: float, y: float, text: str, fill: str) -> str:
    return f'<text x="{x}" y="{y}" fill="{fill}">{html.escape(text)}</text>'


@dataclass(frozen=True)
class _Cell:
    image: Image.Image
    x: int
    caption: str
    boxes: list[tuple[str, str, str, np.ndarray]]  # name, colour, dash, box in the cell's pixels


@dataclass(frozen=True)
class _Film:
    cells: list[_Cell]
    height: int
    legend: list[tuple[str, str, str]]  # name, colour, dash


def video_path(video: Sample | Path | str) -> Path:
    """The file of a sample, or the path itself; `InputError` for a sample without one."""
    if not isinstance(video, Sample):
        return Path(video)
    if video.video is None:
        raise InputError(f"sample {video.id}: it has no video file: read it with a video folder")
    return Path(video.video)


def named_tubes(tubes: Tubes) -> dict[str, Tube]:
    """One tube or several by name, as a dictionary; a tube alone has the empty name."""
    if tubes is None:
        return {}
    return dict(tubes) if isinstance(tubes, Mapping) else {"": tubes}


def _layers(
    gold: Tube | None, thinks: dict[str, Tube], preds: dict[str, Tube]
) -> Iterator[tuple[str, str, str, Tube]]:
    """Name, colour, dash and tube of every layer, predicted ones without gaps."""
    if gold is not None:
        yield ("gold", *layer_style("gold"), gold)
    names = list(dict.fromkeys([*preds, *thinks]))
    alone = len(names) == 1
    for number, name in enumerate(names):
        if thinks.get(name) is not None:
            style = layer_style("think", number, alone)
            yield (f"{name} think".strip(), *style, thinks[name].interpolate())
        if preds.get(name) is not None:
            yield (name or "pred", *layer_style("pred", number), preds[name].interpolate())


def _film(
    video: Sample | Path | str,
    gold: Tube | None,
    think: Tubes,
    pred: Tubes,
    count: int,
    width: int,
) -> _Film:
    from PIL import Image

    from stvgkit.video import probe, read_frames

    path = video_path(video)
    gold = video.tube if gold is None and isinstance(video, Sample) else gold
    layers = list(_layers(gold, named_tubes(think), named_tubes(pred)))
    info = probe(path)
    frames = _spread([tube for *_, tube in layers], info.num_frames, count)
    clip = read_frames(path, indices=frames)
    cell_width = (width - GAP * (len(frames) - 1)) / len(frames)
    size = round(cell_width), round(cell_width * info.height / info.width)
    smooth = Image.Resampling.NEAREST if size[0] > 2 * info.width else Image.Resampling.LANCZOS
    cells = [
        _Cell(
            Image.fromarray(pixels).resize(size, smooth),
            round(i * (cell_width + GAP)),
            f"{time:.1f} s",
            [
                (name, color, dash, to_px(tube.at([frame]).boxes[0], *size)[0])
                for name, color, dash, tube in layers
                if frame in tube.frames
            ],
        )
        for i, (pixels, time, frame) in enumerate(
            zip(clip.frames, clip.times, clip.indices, strict=True)
        )
    ]
    return _Film(cells, size[1], [(name, color, dash) for name, color, dash, _ in layers])


def _spread(tubes: list[Tube], num_frames: int, count: int) -> np.ndarray:
    """Frames evenly over all tubes and a little around them; over the video if all are empty."""
    spans = [tube.span for tube in tubes if len(tube)]
    last = num_frames - 1
    whole = Span(0, last)
    if spans:
        whole = Span(min(s.start for s in spans), max(s.end for s in spans))
    margin = round(0.08 * len(whole)) + 1
    start, end = max(whole.start - margin, 0), min(whole.end + margin, last)
    return np.unique(np.linspace(start, end, count).round().astype(np.int64))


def _font(size: int) -> ImageFont.ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _draw_box(draw: ImageDraw.ImageDraw, box: ArrayLike, color: str, dash: str) -> None:
    x1, y1, x2, y2 = np.asarray(box, float).tolist()
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]
    draw.line(corners, fill="#202020", width=5)
    for start, end in zip(corners, corners[1:], strict=False):
        _draw_line(draw, start, end, color, dash, 3)


def _draw_line(
    draw: ImageDraw.ImageDraw,
    first: tuple[float, float],
    last: tuple[float, float],
    color: str,
    dash: str,
    width: int,
) -> None:
    """A line in the dash pattern of SVG: lengths drawn and left out in turn."""
    start, end = np.asarray(first, float), np.asarray(last, float)
    length = float(np.hypot(*(end - start)))
    steps = [float(step) for step in dash.split()] or [max(length, 1.0)]
    position, turn = 0.0, 0
    while position < length:
        stop = min(position + steps[turn % len(steps)], length)
        if turn % 2 == 0:
            a, b = (start + (end - start) * (at / length) for at in (position, stop))
            draw.line([tuple(a), tuple(b)], fill=color, width=width)
        position, turn = stop, turn + 1
