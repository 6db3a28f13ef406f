"""Widgets around the player, for notebooks: reward lab, group inspector, sample browser.

Core ipywidgets only, and of these what 7.7 (Colab) and 8 (JupyterLab, VS Code) have in common.
Pictures are SVG inside `HTML` widgets, so nothing but text travels; all text from outside is
escaped.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
from PIL import Image

from stvgkit.answers import (
    Answer,
    CoordinateSpace,
    explain_answer,
    format_answer,
    parse_answer,
)
from stvgkit.boxes import clip as clamp
from stvgkit.boxes import to_px
from stvgkit.datasets.sample import Sample
from stvgkit.errors import InputError
from stvgkit.files import replacing
from stvgkit.metrics import sample_groups, score_tubes
from stvgkit.pictures import box_svg, image_svg, layer_style
from stvgkit.players import show_player
from stvgkit.plots import clickable, tiou_viou
from stvgkit.predictions import read_completions
from stvgkit.rewards import score_answer
from stvgkit.rows import ClipFormat, plan_row
from stvgkit.tubes import Span, Tube
from stvgkit.video import read_frames

STYLE = "font: 13px/1.45 system-ui, sans-serif; color: #1b1e24; background: #fff;"
PARTS = ("format", "consistency", "temporal", "spatial", "think")
MEANING = (
    "does it parse",
    "are the lists as the time says",
    "overlap in time",
    "GIoU − L1, both lists",
    "pred better than think, × 0.5",
)


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

    def boxes_svg(self, index: int, answer: Answer | None, width: float = 2) -> str:
        """Gold, think and pred boxes on shown frame `index`."""
        layers = [("gold", self.target)]
        if answer is not None:
            layers += [("think", answer.think), ("pred", answer.pred)]
        return "".join(
            box_svg(to_px(tube.at([index]).boxes[0], *self.size)[0], *layer_style(kind), width)
            for kind, tube in layers
            if tube is not None and index in tube.frames
        )


# ---------------------------------------------------------------------------------------------
# Reward lab


class RewardLab(widgets.VBox):
    """One clip, its gold boxes, and an answer to bend: the five rewards follow at once.

    Slide the time and the boxes, pick a preset, or edit the answer's text; whichever is moved, the
    others follow. `text.value` is the completion, `breakdown` what `score_answer` gives for it.
    """

    def __init__(self, sample: Sample, clip_format: ClipFormat | None = None) -> None:
        self.clip = ShownClip(sample, clip_format or ClipFormat(), side=440)
        self.pictures = [image_svg(image) for image in self.clip.images]
        self.presets = make_presets(self.clip)
        self.answer: Answer | None = None
        self.breakdown = None
        self.syncing = False
        last = len(self.pictures) - 1
        space = self.clip.space
        wide = {"layout": widgets.Layout(width="98%"), "continuous_update": True}
        self.preset = widgets.Dropdown(
            options=list(self.presets), description="preset", layout=widgets.Layout(width="98%")
        )
        self.frame = widgets.IntSlider(
            description="look at", min=0, max=last, value=int(self.clip.target.span.start), **wide
        )
        self.time = widgets.IntRangeSlider(description="time", min=0, max=last, **wide)
        self.scope = widgets.ToggleButtons(options=["all frames", "this frame"])
        self.boxes = {
            (kind, axis): widgets.IntRangeSlider(
                description=f"{kind} {axis}", min=0, max=round(length), **wide
            )
            for kind in ("think", "pred")
            for axis, length in (("x", space.width), ("y", space.height))
        }
        self.text = widgets.Textarea(rows=6, layout=widgets.Layout(width="98%"))
        self.stage, self.table, self.verdict = widgets.HTML(), widgets.HTML(), widgets.HTML()
        controls = [self.preset, self.frame, self.time, self.scope, *self.boxes.values()]
        half = widgets.Layout(width="460px", margin="0 12px 0 0")
        columns = widgets.HBox(
            [
                widgets.VBox([self.stage], layout=half),
                widgets.VBox([*controls, self.table], layout=widgets.Layout(width="460px")),
            ],
            layout=widgets.Layout(flex_flow="row wrap"),
        )
        title = widgets.HTML(f"<b dir='auto'>{html.escape(sample.query)}</b>")
        super().__init__([title, columns, self.text, self.verdict])

        self.preset.observe(self._on_preset, "value")
        self.frame.observe(self._on_frame, "value")
        self.time.observe(self._on_time, "value")
        self.text.observe(self._on_text, "value")
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
            tube = getattr(self.answer, kind)
            here = tube.frames == self.frame.value
            if not here.any():
                return
            boxes = tube.boxes.copy()
            by = np.divide(change["new"], length) - boxes[here][0, columns]
            rows = here if self.scope.value == "this frame" else np.full(len(tube), True)
            boxes[np.ix_(rows, columns)] += by
            new = {"think": self.answer.think, "pred": self.answer.pred}
            new[kind] = Tube(tube.frames, clamp(boxes))
            self._write(Answer(self.answer.span, **new, consistent=self.answer.consistent))

        return moved

    def _write(self, answer: Answer) -> None:
        self.text.value = format_answer(answer, self.clip.space)

    def _sync_sliders(self) -> None:
        """Set the sliders to the answer; those that have no box on this frame rest."""
        self.syncing = True
        answer, index = self.answer, self.frame.value
        self.time.disabled = answer is None
        if answer is not None and len(answer.span):
            self.time.value = answer.span.start, answer.span.end
        for (kind, axis), slider in self.boxes.items():
            tube = Tube([], []) if answer is None else getattr(answer, kind)
            slider.disabled = index not in tube.frames
            if not slider.disabled:
                x1, y1, x2, y2 = self.clip.space.encode(tube.at([index]).boxes)[0].tolist()
                slider.value = (x1, x2) if axis == "x" else (y1, y2)
        self.syncing = False

    def _draw(self) -> None:
        index = self.frame.value
        width, height = self.clip.size
        picture = self.pictures[index] + self.clip.boxes_svg(index, self.answer)
        self.stage.value = (
            f'<div style="{STYLE}"><svg viewBox="0 0 {width} {height}" width="{width}" '
            f'style="max-width: 100%; border-radius: 6px">{picture}</svg>'
            f"{_timeline(self.clip, self.answer, index)}"
            f"<div>frame {index} of {len(self.pictures)}, {self.clip.times[index]:.1f} s: "
            f"{_legend()}</div></div>"
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


def _timeline(clip: ShownClip, answer: Answer | None, index: int) -> str:
    """Gold and answered time as two bars over the shown frames."""
    width, count = clip.size[0], len(clip.frames)
    step = width / count
    spans = [("gold", clip.target.span)] + ([] if answer is None else [("pred", answer.span)])
    bars = "".join(
        f'<rect x="{span.start * step:.1f}" y="{4 + 12 * k}" width="{len(span) * step:.1f}" '
        f'height="8" rx="2" fill="{layer_style(kind)[0]}"/>'
        for k, (kind, span) in enumerate(spans)
    )
    return (
        f'<svg viewBox="0 0 {width} 28" width="{width}" style="max-width: 100%; background: '
        f'#14161b; border-radius: 4px; margin-top: 6px">{bars}'
        f'<rect x="{(index + 0.5) * step - 1:.1f}" width="2" height="28" fill="#fff"/></svg>'
    )


def _legend() -> str:
    swatch = (
        '<svg width="34" height="10"><rect width="34" height="10" rx="2" fill="#14161b"/>'
        '<path d="M3 5H31" stroke="{}" stroke-width="2" stroke-dasharray="{}"/></svg> {}'
    )
    kinds = ("gold", "think", "pred")
    return " ".join(swatch.format(*layer_style(kind), kind) for kind in kinds)


def _rewards_table(breakdown) -> str:
    rows = "".join(
        f'<tr><td style="padding-right: 8px"><b>{part}</b></td>'
        f"<td>{_bar(getattr(breakdown, part), 2.0)}</td>"
        f'<td style="text-align: right">{getattr(breakdown, part):.3f}</td>'
        f'<td style="color: #5d6370; padding-left: 8px">{meaning}</td></tr>'
        for part, meaning in zip(PARTS, MEANING, strict=True)
    )
    total = (
        f'<tr style="border-top: 1px solid #999"><td><b>sum</b></td>'
        f'<td>{_bar(breakdown.total, 5.0)}</td><td style="text-align: right">'
        f"<b>{breakdown.total:.3f}</b></td><td></td></tr>"
    )
    style = f"{STYLE} border-collapse: collapse; font-variant-numeric: tabular-nums"
    return f'<table style="{style}">{rows}{total}</table>'


def _bar(value: float, most: float, width: int = 90) -> str:
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


# ---------------------------------------------------------------------------------------------
# Group inspector


class GroupInspector(widgets.VBox):
    """The groups of a GRPO run: a prompt's completions, their boxes, rewards and advantages.

    `log` is the `groups.jsonl` that `grpo` writes, or its lines as dictionaries. Pick a sample and
    step through training; pick a completion to read it.
    """

    FILM = 6  # frames of a completion's strip

    def __init__(
        self,
        log: str | Path | Iterable[Mapping[str, Any]],
        samples: Iterable[Sample],
        clip_format: ClipFormat | None = None,
    ) -> None:
        self.groups = _by_sample(read_groups(log))
        self.samples = {sample.id: sample for sample in samples if sample.id in self.groups}
        if not self.samples:
            raise InputError("no group of this log belongs to one of the samples given")
        self.clip_format = clip_format or ClipFormat()
        self.clips: dict[str, ShownClip] = {}
        counts = [(f"{name} ({len(self.groups[name])})", name) for name in self.samples]
        self.sample = widgets.Dropdown(
            options=counts, description="sample", layout=widgets.Layout(width="60%")
        )
        wide = widgets.Layout(width="60%")
        self.step = widgets.IntSlider(description="group", min=0, max=0, layout=wide)
        self.completion = widgets.Dropdown(description="read", options=[("", 0)])
        self.play = widgets.Button(description="Play it")
        self.table, self.reading, self.player = widgets.HTML(), widgets.HTML(), widgets.HTML()
        choice = widgets.HBox([self.completion, self.play])
        super().__init__([self.sample, self.step, self.table, choice, self.reading, self.player])
        self.sample.observe(self._on_sample, "value")
        self.step.observe(self._on_step, "value")
        self.completion.observe(lambda _: self._read(), "value")
        self.play.on_click(lambda _: self._play())
        self._on_sample(None)

    @property
    def group(self) -> Mapping[str, Any]:
        """The log's line that is shown."""
        return self.groups[self.sample.value][self.step.value]

    @property
    def clip(self) -> ShownClip:
        name = self.sample.value
        if name not in self.clips:
            self.clips[name] = ShownClip(self.samples[name], self.clip_format, side=96)
        return self.clips[name]

    def _on_sample(self, _) -> None:
        self.step.value = 0
        self.step.max = len(self.groups[self.sample.value]) - 1
        self._on_step(None)

    def _on_step(self, _) -> None:
        self.table.value = self._table()
        chosen = self.completion.value
        totals = self.group["total"]
        options = [(f"completion {i + 1}: {total:.2f}", i) for i, total in enumerate(totals)]
        self.completion.options = options
        self.completion.value = chosen if chosen is not None and chosen < len(totals) else 0
        self._read()

    def _table(self) -> str:
        group, clip = self.group, self.clip
        shown = np.unique(np.linspace(0, len(clip.images) - 1, self.FILM).round().astype(int))
        prefix = f"stvg{id(self):x}"
        pictures = "".join(image_svg(clip.images[i], f"{prefix}-{i}") for i in shown)
        names = list(group["rewards"])
        head = "".join(f'<th style="padding: 0 8px">{html.escape(name)}</th>' for name in names)
        rows = "".join(
            self._row(k, group, names, shown, prefix) for k in range(len(group["total"]))
        )
        query = html.escape(self.samples[self.sample.value].query)
        spread = np.std(group["total"])
        silent = " All are equal: this group teaches nothing." if spread < 1e-6 else ""
        return (
            f'<div style="{STYLE} overflow-x: auto"><b dir="auto">{query}</b> · step '
            f"{int(group['step'])} · {_legend()}<div>Rewards spread by {spread:.2f}.{silent}</div>"
            f'<svg width="0" height="0" style="position: absolute"><defs>{pictures}</defs></svg>'
            '<table style="border-collapse: collapse; font-variant-numeric: tabular-nums">'
            f"<tr><th></th><th></th>{head}<th>sum</th><th>advantage</th></tr>{rows}</table></div>"
        )

    def _row(self, k: int, group, names, shown, prefix: str) -> str:
        answer = parse_answer(group["completions"][k], self.clip.space)
        width, height = self.clip.size
        strip = "".join(
            f'<svg width="{width}" height="{height}" style="margin-right: 2px">'
            f'<use href="#{prefix}-{i}"/>{self.clip.boxes_svg(i, answer, 1.5)}</svg>'
            for i in shown
        )
        if answer is None:
            strip = f"<i>{html.escape(explain_answer(group['completions'][k]))}</i>"
        cell = '<td style="text-align: right; padding: 0 8px">{:.2f}</td>'
        numbers = "".join(cell.format(group["rewards"][name][k]) for name in names)
        advantage = group["advantages"][k]
        return (
            f'<tr style="border-top: 1px solid #ddd"><td>{k + 1}</td>'
            f'<td style="white-space: nowrap; max-width: {6 * (width + 4)}px">{strip}</td>{numbers}'
            f"{cell.format(group['total'][k])}"
            f'<td style="white-space: nowrap">{_bar(advantage, 2.5)} {advantage:+.2f}</td></tr>'
        )

    def _read(self) -> None:
        self.player.value = ""
        text = self.group["completions"][self.completion.value or 0]
        self.reading.value = (
            f'<div style="{STYLE}"><pre dir="auto" style="white-space: pre-wrap; '
            f'max-height: 200px; overflow: auto">{html.escape(text)}</pre>'
            f"{html.escape(explain_answer(text))}</div>"
        )

    def _play(self) -> None:
        number = self.completion.value or 0
        line = {
            "completion": self.group["completions"][number],
            "frames": self.clip.frames,
            "space": self.clip.space.name,
        }
        player = show_player(self.samples[self.sample.value], answers={f"{number + 1}": line})
        self.player.value = player._repr_html_()


def read_groups(log: str | Path | Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The lines of a `groups.jsonl`, checked; `InputError` names the first damaged one.

    >>> read_groups([{"step": 1}])
    Traceback (most recent call last):
    stvgkit.errors.InputError: the log, line 1: 'completions' is missing; give the groups.jsonl ...
    """
    name, lines = "the log", log
    if isinstance(log, str | Path):
        name, lines = str(log), Path(log).read_text(encoding="utf-8").splitlines()
    groups = []
    for number, line in enumerate(lines, 1):
        try:
            group = json.loads(line) if isinstance(line, str) else line
            count = len(group["completions"])
            if group["id"] is None or group["step"] is None:
                raise ValueError("'id' or 'step' is empty")
            parts = [group["total"], group["advantages"], *group["rewards"].values()]
            if any(len(part) != count for part in parts):
                raise ValueError("the lists are not equally long")
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            fault = f"{error} is missing" if isinstance(error, KeyError) else error
            raise InputError(
                f"{name}, line {number}: {fault}; give the groups.jsonl of a GRPO run"
            ) from error
        groups.append(group)
    return groups


def _by_sample(groups: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for group in sorted(groups, key=lambda group: group["step"]):
        found.setdefault(group["id"], []).append(group)
    return found


# ---------------------------------------------------------------------------------------------
# Sample browser


class SampleBrowser(widgets.VBox):
    """The samples of a benchmark, with scores where predictions are given: filter, open, export.

    `predictions` is a file that `stvgkit predict` wrote. `selected` are the samples that pass the
    filters; choosing one opens it in the player.
    """

    MOST = 200  # options a list can hold and stay quick
    ANY = "any"

    def __init__(self, samples: Sequence[Sample], predictions: str | Path | None = None) -> None:
        self.samples = {sample.id: sample for sample in samples}
        if not self.samples:
            raise InputError("there is not one sample to browse")
        self.lines = {} if predictions is None else _lines_by_id(Path(predictions))
        self.records = _records(list(self.samples.values()), predictions)
        groups = sorted(
            {f"{key}: {value}" for r in self.records for key, value in r["groups"].items()}
        )
        kinds = sorted({record["kind"] for record in self.records})
        self.score = widgets.FloatRangeSlider(
            description="vIoU", min=0.0, max=1.0, step=0.01, value=(0.0, 1.0)
        )
        self.group = widgets.Dropdown(description="group", options=[self.ANY, *groups])
        self.kind = widgets.Dropdown(description="error", options=[self.ANY, *kinds])
        self.search = widgets.Text(description="words", placeholder="in the query or id")
        self.filtering = False
        self.listing = widgets.Select(rows=10, options=[], layout=widgets.Layout(width="98%"))
        self.counter = widgets.HTML()
        self.path = widgets.Text(description="file", value="selection.jsonl")
        self.export = widgets.Button(description="Export selection")
        self.player = widgets.HTML()
        filters = [self.score, self.group, self.kind] if self.lines else [self.group]
        children: list[Any] = [
            widgets.HBox([*filters, self.search], layout=widgets.Layout(flex_flow="row wrap")),
            self.counter,
            self.listing,
            widgets.HBox([self.path, self.export]),
            self.player,
        ]
        if self.lines and isinstance(figure := self._scatter(), widgets.DOMWidget):
            children.insert(1, figure)
        super().__init__(children)
        for control in (self.score, self.group, self.kind, self.search):
            control.observe(lambda _: self._filter(), "value")
        self.listing.observe(self._choose, "value")
        self.export.on_click(lambda _: self.write(self.path.value))
        self._filter()

    @property
    def selected(self) -> list[dict[str, Any]]:
        """Id, query, scores and error kind of every sample that passes the filters."""
        low, high = self.score.value
        words = self.search.value.lower()
        return [
            record
            for record in self.records
            if (record["vIoU"] is None or low <= record["vIoU"] <= high)
            and self.kind.value in (self.ANY, record["kind"])
            and (self.group.value == self.ANY or self.group.value in _labels(record))
            and words in f"{record['id']} {record['query']}".lower()
        ]

    def show(self, name: str | None) -> None:
        """Show one sample in the player."""
        if name is None:
            self.player.value = ""
            return
        sample = self.samples[name]
        if sample.video is None:
            self.player.value = f"<i>{html.escape(name)} has no video file here</i>"
            return
        answers = {"": self.lines[name]} if name in self.lines else {}
        self.player.value = show_player(sample, answers=answers)._repr_html_()

    def write(self, path: str | Path) -> None:
        """Write the selection as JSON lines."""
        chosen = self.selected
        try:
            with replacing(path) as out:
                for record in chosen:
                    out.write(json.dumps(record, ensure_ascii=False) + "\n")
        except OSError as error:
            reason = error.strerror or str(error)
            self.counter.value = html.escape(f"{path} cannot be written: {reason}")
            return
        self.counter.value = html.escape(f"{len(chosen)} samples written to {path}")

    def _filter(self) -> None:
        chosen = self.selected
        cut = f", the first {self.MOST} listed" if len(chosen) > self.MOST else ""
        self.counter.value = f"{len(chosen)} of {len(self.records)} samples{cut}"
        self.filtering = True  # a list takes its first option when it gets new ones
        self.listing.options = [(_line(record), record["id"]) for record in chosen[: self.MOST]]
        self.listing.index = None
        self.filtering = False

    def _choose(self, change) -> None:
        if not self.filtering:
            self.show(change["new"])

    def _scatter(self):
        known = [record for record in self.records if record["vIoU"] is not None]
        columns = [[record[key] for record in known] for key in ("tIoU", "vIoU", "id")]
        return clickable(tiou_viou(*columns), self.show)


def error_kind(parsed: bool, tiou: float, viou: float) -> str:
    """What went wrong first: no answer that parses, the time, or the boxes.

    >>> error_kind(True, 0.9, 0.2), error_kind(True, 0.3, 0.3), error_kind(True, 0.9, 0.8)
    ('wrong place', 'wrong time', 'good')
    """
    if not parsed:
        return "no answer"
    if tiou < 0.5:
        return "wrong time"
    return "wrong place" if viou < 0.5 * tiou else "good"


def _records(samples: list[Sample], predictions: str | Path | None) -> list[dict[str, Any]]:
    """One dictionary for each sample, with its scores under the default protocol."""
    found = {} if predictions is None else read_completions(predictions)
    mine = [found.get(sample.id) for sample in samples]
    scores = score_tubes(
        [None if p is None else p.tube for p in mine],
        [sample.tube for sample in samples],
        pred_spans=[None if p is None else p.span for p in mine],
        gold_spans=[sample.span for sample in samples],
    )
    records = []
    for sample, prediction, tiou, viou in zip(
        samples, mine, scores["tIoU"].tolist(), scores["vIoU"].tolist(), strict=True
    ):
        parsed = prediction is not None and prediction.tube is not None
        scored = predictions is not None
        records.append(
            {
                "id": sample.id,
                "query": sample.query,
                "tIoU": round(tiou, 4) if scored else None,
                "vIoU": round(viou, 4) if scored and not np.isnan(viou) else None,
                "kind": error_kind(parsed, tiou, viou) if scored else "not scored",
                "groups": sample_groups(sample),
            }
        )
    return records


def _labels(record: Mapping[str, Any]) -> list[str]:
    return [f"{key}: {value}" for key, value in record["groups"].items()]


def _line(record: Mapping[str, Any]) -> str:
    score = "" if record["vIoU"] is None else f"{record['vIoU']:.2f}  {record['kind']}  "
    return f"{score}{record['query'][:90]}  ({record['id'][:40]})"


def _lines_by_id(path: Path) -> dict[str, dict[str, Any]]:
    read_completions(path)  # says what is wrong with a damaged file
    lines = filter(str.strip, path.read_text(encoding="utf-8").split("\n"))
    return {line["id"]: line for line in map(json.loads, lines)}
