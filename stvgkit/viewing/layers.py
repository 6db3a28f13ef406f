"""What a player draws and lists: gold, think and predicted boxes over the frames of its clip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stvgkit.boxes import iou
from stvgkit.metrics import score_tube
from stvgkit.predictions import Prediction
from stvgkit.tubes import Span, Tube
from stvgkit.viewing.pictures import layer_style
from stvgkit.viewing.webvideo import WebVideo


def build_layers(
    clip: WebVideo,
    gold: Tube | None,
    gold_span: Span | None,
    thinks: Mapping[str, Tube],
    preds: Mapping[str, Any],
) -> list[dict[str, Any]]:
    second = round(1.1 * clip.info.fps) + 1  # boxes once a second fall on the nearest frame
    shown = None if gold is None else _bridge(gold, second)
    layers = []
    if gold is not None or gold_span is not None:
        layers.append(_layer(clip, "gold", "", gold, shown, gold_span))
    names = list(dict.fromkeys([*preds, *thinks]))
    for number, name in enumerate(names):
        style = {"number": number, "alone": len(names) == 1}
        if name in thinks:
            tube = thinks[name]
            layers.append(_layer(clip, "think", name, tube, tube.interpolate(), None, shown, style))
        if preds.get(name) is not None:
            pred = preds[name] if isinstance(preds[name], Prediction) else Prediction(preds[name])
            tube = Tube([], []) if pred.tube is None else pred.tube
            layer = _layer(clip, "pred", name, tube, tube.interpolate(), pred.span, shown, style)
            layer["score"] = _score(pred, gold, gold_span)
            layers.append(layer)
    return layers


def _bridge(tube: Tube, longest: int) -> Tube:
    """Fill gaps of up to `longest` frames; longer ones stay "no box"."""
    full = tube.interpolate()
    after = np.searchsorted(tube.frames, full.frames)
    gap = tube.frames[after] - tube.frames[np.maximum(after - 1, 0)]
    keep = np.isin(full.frames, tube.frames) | (gap <= longest)
    return Tube(full.frames[keep], full.boxes[keep])


def _layer(
    clip: WebVideo,
    kind: str,
    name: str,
    given: Tube | None,
    shown: Tube | None,
    span: Span | None,
    gold: Tube | None = None,
    style: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One layer as the script wants it, its lists running over the frames of the page."""
    style = style or {}
    color, dash = layer_style(kind, **style)
    title = kind if kind == "gold" or not name else name
    if kind == "think":
        title = "think" if style["alone"] else f"{name} think"
    first = int(clip.frames[0])
    shown = Tube([], []) if shown is None else shown.at(clip.frames)
    boxes: list[list[float] | None] = [None] * len(clip.frames)
    for frame, box in zip(shown.frames - first, np.round(shown.boxes, 5).tolist(), strict=True):
        boxes[frame] = box
    written = (Tube([], []) if given is None else given.at(clip.frames)).frames - first
    return {
        "name": title,
        "kind": kind,
        "group": name or "pred",
        "color": color,
        "dash": dash,
        "boxes": boxes,
        "bars": [[bar.start - first, bar.end - first] for bar in _bars(clip, shown, span)],
        "keys": [] if len(written) == len(shown) else written.tolist(),
        "iou": None if gold is None else _iou(clip, shown, gold.at(clip.frames)),
        "score": "",
    }


def _bars(clip: WebVideo, shown: Tube, span: Span | None) -> list[Span]:
    """Runs of frames with a box; the span where there is no box at all."""
    if len(shown):
        runs = np.split(shown.frames, np.where(np.diff(shown.frames) > 1)[0] + 1)
        return [Span(int(run[0]), int(run[-1])) for run in runs]
    inside = Span(0, -1) if span is None else span
    inside = inside.intersect(Span(int(clip.frames[0]), int(clip.frames[-1])))
    return [inside] if len(inside) else []


def _iou(clip: WebVideo, tube: Tube, gold: Tube) -> list[float | None]:
    """IoU per frame of the page: 0 where only one of the two has a box, None where neither has."""
    values = np.full(len(clip.frames), np.nan)
    first = clip.frames[0]
    values[tube.frames - first] = values[gold.frames - first] = 0.0
    both = np.intersect1d(tube.frames, gold.frames)
    values[both - first] = iou(tube.at(both).boxes, gold.at(both).boxes)
    return [None if np.isnan(value) else round(float(value), 3) for value in values]


def _score(pred: Prediction, gold: Tube | None, gold_span: Span | None) -> str:
    if gold is None and gold_span is None:
        return ""
    tube = None if pred.tube is None else pred.tube.interpolate()
    scores = score_tube(tube, gold, pred_span=pred.span, gold_span=gold_span)
    known = {name: scores[name] for name in ("vIoU", "tIoU") if not np.isnan(scores[name])}
    return " · ".join(f"{name} {value:.2f}" for name, value in known.items())


def spans_shown(
    gold: Tube | None,
    gold_span: Span | None,
    thinks: Mapping[str, Tube],
    preds: Mapping[str, Any],
) -> list[Span]:
    """Frames of the video that a page should hold: all that is drawn, then gold (or the first).

    Empty where nothing is drawn.
    """
    given = [gold, *thinks.values()]
    drawn = [tube.span for tube in given if tube is not None and len(tube)]
    if gold_span is not None and (gold is None or not len(gold)):
        drawn.insert(0, gold_span)
    for pred in filter(None, preds.values()):
        tube = pred.tube if isinstance(pred, Prediction) else pred
        span = tube.span if tube is not None and len(tube) else getattr(pred, "span", None)
        if span is not None and len(span):
            drawn.append(span)
    if not drawn:
        return []
    first, last = min(span.start for span in drawn), max(span.end for span in drawn)
    return [Span(first, last), drawn[0]]
