"""The box player: one self-contained HTML document in which a person watches boxes over a video.

    show_player(sample, pred=tube)                       # in a notebook
    show_player("a.mp4", gold=tube).save("player.html")  # on disk
    players_page([player, ...], title="Test set")        # many on one page

The page makes no request: the video is part of it, as a data address (see `stvgkit.viewing.page`).
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stvgkit.answers import Answer, CoordinateSpace
from stvgkit.datasets.sample import Sample
from stvgkit.errors import InputError
from stvgkit.faults import explain_answer
from stvgkit.files import replacing
from stvgkit.predictions import Prediction
from stvgkit.readers import read_answer
from stvgkit.tubes import Span, Tube
from stvgkit.viewing.layers import build_layers, spans_shown
from stvgkit.viewing.page import as_json, asset, bundle, document, iframe
from stvgkit.viewing.pictures import video_path
from stvgkit.viewing.webvideo import web_video

STYLE = "player/player.css"
SMALLEST_SIDE = 1 / 1920  # of the frame's: a box of less cannot be seen
SCRIPTS = tuple(
    f"player/{name}.js" for name in ("dom", "clock", "overlay", "timeline", "controls", "player")
)


@dataclass(frozen=True, eq=False)
class Player:
    """A clip with its boxes, ready to be shown.

    `video` is H.264 in MP4, `data` all that the page's script needs to know. In a notebook the
    object shows itself, in a frame of its own that cannot touch the page around it.
    """

    video: bytes
    data: dict[str, Any]

    def fragment(self) -> str:
        """The player as a piece of a larger page, which must end with `player_assets()`."""
        source = base64.b64encode(self.video).decode()
        return (
            '<section class="stvg-player" tabindex="0" aria-label="Video with boxes">\n'
            '<video controls muted playsinline preload="auto" '
            f'src="data:video/mp4;base64,{source}"></video>\n'
            f'<script type="application/json">{as_json(self.data)}</script>\n</section>'
        )

    def html(self) -> str:
        """The player as a whole document."""
        return _document(self.fragment(), self.data["title"])

    def save(self, path: Path | str) -> None:
        """Write the document to `path`."""
        with replacing(path) as out:
            out.write(self.html())

    def _repr_html_(self) -> str:
        return iframe(self.html(), "Video with boxes", _frame_height(self.data))

    def __repr__(self) -> str:
        names = ", ".join(layer["name"] for layer in self.data["layers"]) or "no boxes"
        size = len(self.video) * 4 // 3 + len(as_json(self.data))
        return f"<Player of {len(self.data['frames'])} frames: {names}; {size / 1e6:.1f} MB>"


def show_player(
    video: Sample | str | Path,
    gold: Tube | None = None,
    think: Tube | Mapping[str, Tube] | None = None,
    pred: Tube | Prediction | Mapping[str, Tube | Prediction | None] | None = None,
    *,
    answers: Mapping[str, Mapping[str, Any]] | None = None,
    reader: str = "strict",
    query: str | None = None,
    window: Span | None = None,
    notes: Iterable[str] = (),
    budget_mb: float = 5.0,
) -> Player:
    """Make the player of one video, given as a `Sample` (then with its gold boxes) or a path.

    Tubes count frames of the video file and hold relative boxes. `think` and `pred` are one tube,
    or several by name (`pred={"base": a, "GRPO": b}`), drawn over each other or side by side.
    `answers` adds raw completions by name, each a line of a predictions file: `{"completion",
    "frames", "space"}`, read by `reader`; one that does not parse is explained in words. Predicted
    boxes are interpolated between the frames they are given for, as the default protocol does; gold
    boxes only across gaps of up to a second. `window` keeps only these frames (a sample's own
    window by default). A video too large for `budget_mb` megabytes of HTML is scaled, or cut to the
    part around the boxes, and the page says so.

    >>> from stvgkit.video import write_video
    >>> path = getfixture("tmp_path") / "clip.mp4"
    >>> write_video(path, np.zeros((10, 48, 64, 3), np.uint8), fps=5)
    >>> gold = Tube([2, 6], [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5]])
    >>> show_player(path, gold=gold, pred={"SFT": gold.shift(1)}, query="a black square")
    <Player of 10 frames: gold, SFT; 0.0 MB>
    """
    sample = video if isinstance(video, Sample) else None
    path = video_path(video)
    thinks, preds, texts, remarks = _read_answers(answers or {}, reader)
    thinks = {**_by_name(think), **thinks}
    preds = {**_by_name(pred), **preds}
    gold_span = None
    if sample:
        gold = sample.tube if gold is None else gold
        gold_span = sample.span
        window = sample.window if window is None else window
        query = sample.query if query is None else query
    shown = spans_shown(gold, gold_span, thinks, preds)
    clip = web_video(path, window, around=shown, budget=_video_budget(budget_mb))
    layers = build_layers(clip, gold, gold_span, thinks, preds)
    if shown and not any(layer["bars"] for layer in layers):
        remarks.append(
            f"No box is in this part: the boxes are on frames {shown[0].start} to {shown[0].end}."
        )
    info = clip.info
    facts = [path.name, f"{info.width}×{info.height}", f"{info.fps:.5g} frames per second"]
    return Player(
        clip.data,
        {
            "title": query or "",
            "meta": " · ".join(facts + ([sample.id] if sample else [])),
            "notes": [*notes, *remarks, *([clip.note] if clip.note else [])],
            "width": info.width,
            "height": info.height,
            "start": round(float(info.times[clip.frames[0]]), 6),
            "last": round(1 / info.fps, 6),
            "times": np.round(clip.times, 6).tolist(),
            "frames": clip.frames.tolist(),
            "layers": layers,
            "texts": texts,
        },
    )


def player_html(*args: Any, **kwargs: Any) -> str:
    """The whole document of `show_player` with the same arguments, as a string."""
    return show_player(*args, **kwargs).html()


def players_page(players: Iterable[Player], title: str = "") -> str:
    """Several players in one document that holds script and style once."""
    heading = f"<h1>{html.escape(title)}</h1>\n" if title else ""
    return _document(heading + "\n".join(player.fragment() for player in players), title)


def player_assets() -> str:
    """Style and script for a page of your own; put it once, after the last `fragment()`.

    >>> player_assets().startswith("<style>")
    True
    """
    return f"<style>{asset(STYLE)}</style>\n<script>{bundle(*SCRIPTS)}</script>"


def _document(body: str, title: str) -> str:
    return document(body, title or "stvgkit player", asset(STYLE), bundle(*SCRIPTS))


def _video_budget(budget_mb: float) -> int:
    """Bytes of video for a page of this size, the rest being script, boxes and base64's third."""
    if not 0.25 <= budget_mb <= 10_000:  # NaN fails too
        raise InputError(f"no page of {budget_mb} MB can be made: give 0.25 to 10000 MB")
    return int((budget_mb * 1e6 - 150_000) * 0.75)


def _frame_height(data: dict[str, Any]) -> int:
    """Pixels for the whole player at a notebook's usual width."""
    stage = min(860 * data["height"] / data["width"], 420)
    lines = len(data["layers"]) * 37 + len(data["texts"]) * 24 + len(data["notes"]) * 20
    return int(round(stage) + lines + 280)


def _by_name(tubes: Any) -> dict[str, Any]:
    if tubes is None:
        return {}
    return dict(tubes) if isinstance(tubes, Mapping) else {"": tubes}


def _read_answers(
    answers: Mapping[str, Mapping[str, Any]], reader: str
) -> tuple[dict[str, Tube], dict[str, Prediction], list[dict[str, str]], list[str]]:
    """Completions as think tubes, predictions, texts to show, and remarks on those that fail."""
    thinks: dict[str, Tube] = {}
    preds: dict[str, Prediction] = {}
    texts: list[dict[str, str]] = []
    remarks: list[str] = []
    for name, line in answers.items():
        label = name or "The answer"
        text, frames = line["completion"], np.asarray(line["frames"], dtype=np.int64)
        if text is None:  # the model could not be asked, or said nothing
            remarks.append(f"{label} is missing: {line.get('failed', 'the model gave no text')}")
            continue
        form = {"think": line.get("think", True) is not False}
        space = CoordinateSpace.parse(line["space"])
        answer = read_answer(text, space, reader, times=line.get("times"), **form)
        preds[name] = Prediction.from_answer(answer, frames.tolist())
        if answer is None:
            why = explain_answer(text, **form) if reader == "strict" else f"reader {reader}"
            remarks.append(f"{label} does not parse: {why}")
        elif why := _undrawn(answer, len(frames)):
            remarks.append(f"{label} parses, but no final box of it can be seen: {why}")
        if answer is not None and answer.think is not None:
            shown = answer.think.slice(Span(0, len(frames) - 1))
            thinks[name] = Tube(frames[shown.frames], shown.boxes)
        texts.append({"name": f"What {name or 'the model'} wrote", "text": text})
    return thinks, preds, texts, remarks


def _undrawn(answer: Answer, count: int) -> str:
    """Why none of an answer's final boxes can be seen on `count` shown frames; "" where one can."""
    if not len(answer.pred):
        return "<pred_bbox> is empty."
    shown = answer.pred.slice(answer.span.intersect(Span(0, count - 1)))
    if not len(shown):
        first, last = answer.pred.frames[0], answer.pred.frames[-1]
        return (
            f"its boxes have the indices {first} to {last}, its time is {answer.span.start} - "
            f"{answer.span.end}, and the frames shown are 0 to {count - 1}."
        )
    sides = shown.boxes[:, 2:] - shown.boxes[:, :2]
    if (sides.max(axis=0) > SMALLEST_SIDE).all():
        return ""
    return "each is thinner than a pixel; are its numbers in the space that was given (--space)?"
