"""The group inspector: step through a GRPO run and see what each group of answers taught it."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np

from stvgkit.answers import parse_answer
from stvgkit.credit import CREDITS, PARTS, Payment, Scoring, pay_group
from stvgkit.datasets.sample import Sample
from stvgkit.errors import InputError
from stvgkit.faults import explain_answer
from stvgkit.rows import ClipFormat
from stvgkit.viewing.players import show_player
from stvgkit.viewing.shown import STYLE, ShownClip, bar, legend

ALL = "all samples"
FILM = 6  # frames of a completion's strip


class GroupInspector(widgets.VBox):
    """The groups of a GRPO run: a prompt's completions, their boxes, rewards and advantages.

    `log` is the `groups.jsonl` that `grpo` writes, or its lines as dictionaries. The slider steps
    through training, over all groups or over those of one sample; pick a completion to read and
    play it. Its text is coloured by what each part is paid, under one of four credits (see
    `stvgkit.credit`). Groups of samples that are not among `samples` are left out.
    """

    def __init__(
        self,
        log: str | Path | Iterable[Mapping[str, Any]],
        samples: Iterable[Sample],
        clip_format: ClipFormat | None = None,
    ) -> None:
        self.samples = {sample.id: sample for sample in samples}
        groups = [group for group in read_groups(log) if group["id"] in self.samples]
        if not groups:
            raise InputError("no group of this log belongs to one of the samples given")
        self.groups = sorted(groups, key=lambda group: group["step"])
        self.clip_format = clip_format or ClipFormat()
        self.clips: dict[str, ShownClip] = {}
        names = list(dict.fromkeys(group["id"] for group in self.groups))
        wide = widgets.Layout(width="60%")
        self.sample = widgets.Dropdown(options=[ALL, *names], description="sample", layout=wide)
        self.step = widgets.IntSlider(description="group", min=0, max=0, layout=wide)
        self.completion = widgets.Dropdown(description="read", options=[("", 0)])
        self.play = widgets.Button(description="Play it")
        self.credit = widgets.ToggleButtons(options=CREDITS, description="paid by")
        self.course, self.table = widgets.HTML(), widgets.HTML()
        self.reading, self.player = widgets.HTML(), widgets.HTML()
        choice = widgets.HBox([self.completion, self.play, self.credit])
        super().__init__(
            [self.sample, self.step, self.course, self.table, choice, self.reading, self.player]
        )
        self.sample.observe(self._on_sample, "value")
        self.step.observe(self._on_step, "value")
        self.completion.observe(lambda _: self._read(), "value")
        self.credit.observe(lambda _: self._read(), "value")
        self.play.on_click(lambda _: self._play())
        self._on_sample(None)

    @property
    def shown(self) -> list[Mapping[str, Any]]:
        """The groups that the slider runs over, in the order of training."""
        name = self.sample.value
        return [group for group in self.groups if name in (ALL, group["id"])]

    @property
    def group(self) -> Mapping[str, Any]:
        """The log's line that is shown."""
        step: int = self.step.value
        return self.shown[step]

    @property
    def clip(self) -> ShownClip:
        """What the model was shown of the group's sample."""
        name = self.group["id"]
        if name not in self.clips:
            self.clips[name] = ShownClip(self.samples[name], self.clip_format, side=96)
        return self.clips[name]

    def _on_sample(self, _: Any) -> None:
        self.step.value = 0
        self.step.max = len(self.shown) - 1
        self._on_step(None)

    def _on_step(self, _: Any) -> None:
        self.course.value = _course(self.shown, self.step.value)
        self.table.value = self._table()
        chosen = self.completion.value
        totals = self.group["total"]
        options = [(f"completion {i + 1}: {total:.2f}", i) for i, total in enumerate(totals)]
        self.completion.options = options
        self.completion.value = chosen if chosen is not None and chosen < len(totals) else 0
        self._read()

    def _table(self) -> str:
        group, clip = self.group, self.clip
        shown = np.unique(np.linspace(0, len(clip.images) - 1, FILM).round().astype(int)).tolist()
        names = list(group["rewards"])
        cell = '<th style="padding: 0 8px; text-align: right">{}</th>'
        head = "".join(cell.format(html.escape(name)) for name in [*names, "sum", "advantage"])
        rows = "".join(self._row(k, group, names, shown) for k in range(len(group["total"])))
        sample = self.samples[group["id"]]
        return (
            f'<div style="{STYLE} overflow-x: auto"><b dir="auto">{html.escape(sample.query)}</b> '
            f'<span dir="auto" style="color: #5d6370">{html.escape(sample.id)}</span> · '
            f"{legend()}{clip.pictures(shown)}"
            '<table style="border-collapse: collapse; font-variant-numeric: tabular-nums">'
            f"<tr><th></th><th></th>{head}</tr>{rows}</table></div>"
        )

    def _row(
        self, k: int, group: Mapping[str, Any], names: Sequence[str], shown: Sequence[int]
    ) -> str:
        answer = parse_answer(group["completions"][k], self.clip.space)
        width, height = self.clip.size
        strip = "".join(
            f'<svg width="{width}" height="{height}" style="margin-right: 2px">'
            f"{self.clip.frame_svg(i, answer, 1.5)}</svg>"
            for i in shown
        )
        space = "nowrap"
        if answer is None:
            strip = f"<i>{html.escape(explain_answer(group['completions'][k]))}</i>"
            space = "normal"
        cell = '<td style="text-align: right; padding: 0 8px">{:.2f}</td>'
        numbers = "".join(cell.format(group["rewards"][name][k]) for name in names)
        advantage = group["advantages"][k]
        return (
            f'<tr style="border-top: 1px solid #ddd; background: none"><td>{k + 1}</td>'
            f'<td style="white-space: {space}; text-align: left; '
            f'width: {len(shown) * (width + 4)}px">{strip}</td>{numbers}'
            f"{cell.format(group['total'][k])}"
            f'<td style="white-space: nowrap">{bar(advantage, 2.5)} {advantage:+.2f}</td></tr>'
        )

    def _read(self) -> None:
        self.player.value = ""
        number = self.completion.value or 0
        text = self.group["completions"][number]
        think = self.clip_format.think
        payment = pay_group(
            self.group["completions"],
            self.clip.target,
            self.clip.space,
            self.credit.value,
            Scoring(think=think),
        )[number]
        self.reading.value = (
            f'<div style="{STYLE}"><pre dir="auto" style="white-space: pre-wrap; '
            f'max-height: 200px; overflow: auto">{_coloured(text, payment)}</pre>'
            f"<div>{_paid(payment)}</div>{html.escape(explain_answer(text, think=think))}</div>"
        )

    def _play(self) -> None:
        number = self.completion.value or 0
        line = {
            "completion": self.group["completions"][number],
            "frames": self.clip.frames,
            "space": self.clip.space.name,
        }
        answers = {f"completion {number + 1}": line}
        player = show_player(self.samples[self.group["id"]], answers=answers)
        self.player.value = player._repr_html_()


def _coloured(text: str, payment: Payment) -> str:
    """A completion whose characters carry the colour of what their tokens are paid."""
    parts = payment.part_at(np.arange(len(text)))
    spans, start = [], 0
    for (part, paid), run in groupby(zip(parts, payment.of_tokens(text), strict=True)):
        end = start + sum(1 for _ in run)
        shade = f"{'0, 114, 178' if paid > 0 else '213, 94, 0'}, {min(abs(paid), 2) / 4}"
        spans.append(
            f'<span style="background: rgba({shade})" title="{PARTS[part]}: {paid:+.2f}">'
            f"{html.escape(text[start:end])}</span>"
        )
        start = end
    return "".join(spans)


def _paid(payment: Payment) -> str:
    """What the parts are paid, in words; blue is praise, orange is blame."""
    names = {"time": "time", "think": "think boxes", "pred": "final boxes"}
    said = [f"{names[p]} {a:+.2f}" for p, a in zip(PARTS, payment.advantages, strict=True)]
    own = ", numbers something of their own in addition" if payment.numbers else ""
    return f"each token's advantage: {', '.join(said)}{own} (blue: more of this, orange: less)"


def _course(groups: Sequence[Mapping[str, Any]], now: int) -> str:
    """The run at a glance: best, mean and worst sum of every group, and which one is shown."""
    width, height = 560, 64
    totals = [np.asarray(group["total"], dtype=float) for group in groups]
    low, high = float(min(t.min() for t in totals)), float(max(t.max() for t in totals))
    scale = (height - 8) / max(high - low, 1e-9)
    step = width / len(groups)

    def y(value: float) -> float:
        return height - 4 - (value - low) * scale

    lines = "".join(
        f'<path d="M{(i + 0.5) * step:.1f} {y(t.max()):.1f}V{y(t.min()) + 0.5:.1f}" '
        f'stroke="{"#0072B2" if i == now else "#b9c4d6"}" '
        f'stroke-width="{max(min(step * 0.6, 8), 1.5):.1f}"/>'
        f'<circle cx="{(i + 0.5) * step:.1f}" cy="{y(t.mean()):.1f}" r="2" fill="#1b1e24"/>'
        for i, t in enumerate(totals)
    )
    mark = f'<path d="M{(now + 0.5) * step:.1f} 0V{height}" stroke="#0072B2" stroke-opacity=".35"/>'
    spread = totals[now].std()
    silent = " All are equal: this group teaches nothing." if spread < 1e-6 else ""
    return (
        f'<div style="{STYLE}"><svg viewBox="0 0 {width} {height}" width="{width}" '
        f'style="max-width: 100%; background: #f3f4f7; border-radius: 4px">{mark}{lines}</svg>'
        f"<div>Training step {int(groups[now]['step'])}, group {now + 1} of {len(groups)}: sums "
        f"from {totals[now].min():.2f} to {totals[now].max():.2f}, mean {totals[now].mean():.2f} "
        f"(dot), spread {spread:.2f}.{silent}</div></div>"
    )


def read_groups(log: str | Path | Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The lines of a `groups.jsonl`, checked; `InputError` names the first damaged one.

    >>> read_groups([{"step": 1}])
    Traceback (most recent call last):
    stvgkit.errors.InputError: the log, line 1: 'completions' is missing; give the groups.jsonl ...
    """
    name = "the log"
    lines: Iterable[str | Mapping[str, Any]]
    if isinstance(log, str | Path):
        name, lines = str(log), Path(log).read_text(encoding="utf-8").splitlines()
    else:
        lines = log
    groups: list[Mapping[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            group: Any = json.loads(line) if isinstance(line, str) else line
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
