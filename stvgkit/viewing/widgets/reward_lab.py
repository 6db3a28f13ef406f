"""The reward lab: an answer to bend, and the five rewards that follow.

Core ipywidgets know no mouse, so boxes are dragged with the help of a few lines in the picture's
`onpointerdown`: they write where the pointer is into a hidden `Text`, and everything else happens
here. A page that forbids such handlers loses the dragging and keeps the sliders.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import numpy as np

from stvgkit.answers import Answer, explain_answer, format_answer, parse_answer
from stvgkit.boxes import clip as clamp
from stvgkit.datasets.sample import Sample
from stvgkit.rewards import score_answer
from stvgkit.rows import ClipFormat
from stvgkit.tubes import Span, Tube
from stvgkit.viewing.widgets.shown import STYLE, ShownClip, bar, legend, timeline

PARTS = ("format", "consistency", "temporal", "spatial", "think")
MEANING = (
    "does it parse",
    "are the lists as the time says",
    "overlap in time",
    "GIoU − L1, both lists",
    "pred better than think, × 0.5",
)
NEAR = 0.025  # of the picture: this near to an edge, the pointer takes the edge

# Tells the hidden Text where the pointer is, as long as it is down. The picture is drawn anew
# meanwhile, so the listeners are the window's.
DRAG = """((picture, down) => {
  const input = picture.getRootNode().querySelector('.NAME input');
  if (!input || down.button) return;
  down.preventDefault();
  const place = picture.getBoundingClientRect();
  const tell = (phase, e) => {
    const x = (e.clientX - place.left) / place.width, y = (e.clientY - place.top) / place.height;
    input.value = [phase, x.toFixed(4), y.toFixed(4), Math.round(e.timeStamp)].join(' ');
    input.dispatchEvent(new Event('input', { bubbles: true }));
  };
  const move = (e) => tell('move', e);
  const up = () => ['pointermove', 'pointerup', 'pointercancel'].forEach(
    (name, i) => window.removeEventListener(name, i ? up : move));
  window.addEventListener('pointermove', move);
  window.addEventListener('pointerup', up);
  window.addEventListener('pointercancel', up);
  tell(down.shiftKey ? 'think' : 'any', down);
})(this, event)"""
TOLD = re.compile(r"(any|think|move) (-?\d+\.\d+) (-?\d+\.\d+) \d+")


@dataclass(frozen=True)
class Grip:
    """What the pointer holds: which edges (columns 0 to 3) of which list, since where."""

    kind: str
    columns: list[int]
    point: np.ndarray  # (2,) relative
    answer: Answer


class RewardLab(widgets.VBox):
    """One clip, its gold boxes, and an answer to bend: the five rewards follow at once.

    Drag a box in the picture, or one of its edges; slide the time and the boxes; pick a preset; or
    edit the answer's text: whichever is moved, the others follow. `text.value` is the completion,
    `breakdown` what `score_answer` gives for it.
    """

    def __init__(self, sample: Sample, clip_format: ClipFormat | None = None) -> None:
        self.clip = ShownClip(sample, clip_format or ClipFormat(), side=440)
        self.presets = make_presets(self.clip)
        self.answer: Answer | None = None
        self.breakdown = None
        self.grip: Grip | None = None
        self.syncing = False
        last = len(self.clip.images) - 1
        space = self.clip.space
        wide = {"layout": widgets.Layout(width="98%"), "continuous_update": True}
        self.preset = widgets.Dropdown(
            options=list(self.presets), description="preset", layout=widgets.Layout(width="98%")
        )
        self.frame = widgets.IntSlider(
            description="look at", min=0, max=last, value=int(self.clip.target.span.start), **wide
        )
        self.time = widgets.IntRangeSlider(description="time", min=0, max=last, **wide)
        self.scope = widgets.ToggleButtons(
            options=["all frames", "this frame"], description="boxes of"
        )
        self.boxes = {
            (kind, axis): widgets.IntRangeSlider(
                description=f"{kind} {axis}", min=0, max=round(length), **wide
            )
            for kind in ("think", "pred")
            for axis, length in (("x", space.width), ("y", space.height))
        }
        self.text = widgets.Textarea(rows=6, layout=widgets.Layout(width="98%"))
        self.pointer = widgets.Text(layout=widgets.Layout(display="none"))
        self.pointer.add_class(self.clip.name)
        self.stage, self.table, self.verdict = widgets.HTML(), widgets.HTML(), widgets.HTML()
        controls = [self.preset, self.frame, self.time, self.scope, *self.boxes.values()]
        half = widgets.Layout(width="460px", margin="0 12px 0 0")
        columns = widgets.HBox(
            [
                widgets.VBox([self.stage, self.table], layout=half),
                widgets.VBox(
                    [*controls, self.text, self.verdict], layout=widgets.Layout(width="460px")
                ),
            ],
            layout=widgets.Layout(flex_flow="row wrap"),
        )
        title = widgets.HTML(f"<b dir='auto'>{html.escape(sample.query)}</b>")
        super().__init__([title, widgets.HTML(self.clip.pictures()), columns, self.pointer])

        self.preset.observe(self._on_preset, "value")
        self.frame.observe(self._on_frame, "value")
        self.time.observe(self._on_time, "value")
        self.text.observe(self._on_text, "value")
        self.pointer.observe(self._on_pointer, "value")
        for (kind, axis), slider in self.boxes.items():
            slider.observe(self._box_handler(kind, axis), "value")
        self.text.value = self.presets[self.preset.value]

    def _on_preset(self, change) -> None:
        self.text.value = self.presets[change["new"]]

    def _on_frame(self, _) -> None:
        self._sync_sliders()
        self._draw()

    def _on_text(self, change) -> None:
        self.answer = parse_answer(change["new"], self.clip.space)
        self.breakdown = score_answer(change["new"], self.clip.target, self.clip.space)
        self._sync_sliders()
        self._draw()

    def _on_time(self, change) -> None:
        if self.syncing or self.answer is None:
            return
        span = Span(*change["new"])
        spare = self.clip.target
        self._write(
            Answer(
                span,
                _refit(self.answer.think if len(self.answer.think) else spare, span),
                _refit(self.answer.pred if len(self.answer.pred) else spare, span),
                consistent=True,
            )
        )

    def _box_handler(self, kind: str, axis: str) -> Callable[[Any], None]:
        columns = [0, 2] if axis == "x" else [1, 3]
        length = self.clip.space.width if axis == "x" else self.clip.space.height

        def moved(change) -> None:
            if self.syncing or self.answer is None:
                return
            box = self._box_here(self.answer, kind)
            if box is not None:
                by = np.divide(change["new"], length) - box[columns]
                self._bend(self.answer, kind, columns, by)

        return moved

    def _on_pointer(self, change) -> None:
        told = TOLD.fullmatch(change["new"])
        if told is None:
            return
        point = np.array([float(told[2]), float(told[3])])
        if told[1] != "move":
            self.grip = self._take(point, ["think"] if told[1] == "think" else ["pred", "think"])
        elif self.grip is not None:
            grip = self.grip
            by = (point - grip.point)[[column % 2 for column in grip.columns]]
            box = self._box_here(grip.answer, grip.kind)
            if len(grip.columns) == 4:  # a box pushed against the frame's edge keeps its size
                by = np.clip(by, np.tile(-box[:2], 2), np.tile(1 - box[2:], 2))
            self._bend(grip.answer, grip.kind, grip.columns, by)

    def _take(self, point: np.ndarray, kinds: list[str]) -> Grip | None:
        """The edges near the point of the first box that has one there, else a whole box."""
        here = {} if self.answer is None else {k: self._box_here(self.answer, k) for k in kinds}
        here = {kind: box for kind, box in here.items() if box is not None}
        inside = []
        for kind, box in here.items():
            if (point < box[:2] - NEAR).any() or (point > box[2:] + NEAR).any():
                continue
            near = np.flatnonzero(np.abs(np.tile(point, 2) - box) <= NEAR).tolist()
            # Of a box thinner than that, the nearer edge.
            near = [c for c in near if abs(point[c % 2] - box[c]) <= abs(point[c % 2] - box[c - 2])]
            if near:
                return Grip(kind, near, point, self.answer)
            inside.append(kind)
        return Grip(inside[0], [0, 1, 2, 3], point, self.answer) if inside else None

    def _box_here(self, answer: Answer, kind: str) -> np.ndarray | None:
        """The box `(4,)` of one list on the frame looked at."""
        tube = getattr(answer, kind)
        return tube.at([self.frame.value]).boxes[0] if self.frame.value in tube.frames else None

    def _bend(self, answer: Answer, kind: str, columns: list[int], by: np.ndarray) -> None:
        """Write the answer with some edges of one list moved, on this frame or on all."""
        tube = getattr(answer, kind)
        rows = tube.frames == self.frame.value
        if self.scope.value == "all frames":
            rows = np.full(len(tube), True)
        boxes = tube.boxes.copy()
        boxes[np.ix_(rows, columns)] += by
        corners = np.sort(boxes[rows].reshape(-1, 2, 2), axis=1)  # an edge pulled past the other
        boxes[rows] = corners.reshape(-1, 4)
        new = {"think": answer.think, "pred": answer.pred}
        new[kind] = Tube(tube.frames, clamp(boxes))
        self._write(Answer(answer.span, **new, consistent=answer.consistent))

    def _write(self, answer: Answer) -> None:
        self.text.value = format_answer(answer, self.clip.space)

    def _sync_sliders(self) -> None:
        """Set the sliders to the answer; those that have no box on this frame rest."""
        self.syncing = True
        answer = self.answer
        self.time.disabled = answer is None
        if answer is not None and len(answer.span):
            self.time.value = answer.span.start, answer.span.end
        for (kind, axis), slider in self.boxes.items():
            box = None if answer is None else self._box_here(answer, kind)
            slider.disabled = box is None
            if box is not None:
                x1, y1, x2, y2 = self.clip.space.encode(box[None])[0].tolist()
                slider.value = (x1, x2) if axis == "x" else (y1, y2)
        self.syncing = False

    def _draw(self) -> None:
        index = self.frame.value
        width, height = self.clip.size
        drag = html.escape(DRAG.replace("NAME", self.clip.name))
        self.stage.value = (
            f'<div style="{STYLE}"><svg viewBox="0 0 {width} {height}" width="{width}" '
            'style="max-width: 100%; border-radius: 6px; cursor: move; touch-action: none" '
            f'onpointerdown="{drag}">{self.clip.frame_svg(index, self.answer)}</svg>'
            f"{timeline(self.clip, self.answer, index)}"
            f"<div>frame {index} (0 to {len(self.clip.images) - 1}), "
            f"{self.clip.times[index]:.1f} s: {legend()}</div>"
            '<div style="color: #5d6370">Drag a box or its edges; with Shift, the think box.</div>'
            "</div>"
        )
        self.table.value = _rewards_table(self.breakdown)
        self.verdict.value = (
            f'<div style="{STYLE}" dir="auto">{html.escape(explain_answer(self.text.value))}</div>'
        )


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


def _rewards_table(breakdown) -> str:
    rows = "".join(
        f'<tr><td style="padding-right: 8px"><b>{part}</b></td>'
        f"<td>{bar(getattr(breakdown, part), 2.0)}</td>"
        f'<td style="text-align: right">{getattr(breakdown, part):.3f}</td>'
        f'<td style="color: #5d6370; padding-left: 8px">{meaning}</td></tr>'
        for part, meaning in zip(PARTS, MEANING, strict=True)
    )
    total = (
        f'<tr style="border-top: 1px solid #999"><td><b>sum</b></td>'
        f'<td>{bar(breakdown.total, 5.0)}</td><td style="text-align: right">'
        f"<b>{breakdown.total:.3f}</b></td><td></td></tr>"
    )
    style = f"{STYLE} border-collapse: collapse; font-variant-numeric: tabular-nums"
    return f'<table style="{style}">{rows}{total}</table>'
