"""The sample browser: filter a benchmark or a predictions file, open a sample, export the rest."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go

from stvgkit.datasets.records import read_text
from stvgkit.datasets.sample import Sample, sample_groups
from stvgkit.diagnosis import error_kinds
from stvgkit.errors import InputError
from stvgkit.files import replacing
from stvgkit.predictions import Prediction, read_completions
from stvgkit.scoring import sample_scores
from stvgkit.viewing.players import show_player
from stvgkit.viewing.plots import clickable, tiou_viou


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

    def _choose(self, change: Mapping[str, Any]) -> None:
        if not self.filtering:
            self.show(change["new"])

    def _scatter(self) -> go.Figure:
        known = [record for record in self.records if record["vIoU"] is not None]
        tiou, viou, ids = ([record[key] for record in known] for key in ("tIoU", "vIoU", "id"))
        return clickable(tiou_viou(tiou, viou, ids), self.show)


def _records(samples: list[Sample], predictions: str | Path | None) -> list[dict[str, Any]]:
    """One dictionary for each sample, with its scores under the default protocol."""
    if predictions is None:
        blank = {"tIoU": None, "vIoU": None, "kind": "not scored"}
        scored = [blank] * len(samples)
    else:
        scored = _scores(samples, read_completions(predictions))
    return [
        {"id": sample.id, "query": sample.query, **scores, "groups": sample_groups(sample)}
        for sample, scores in zip(samples, scored, strict=True)
    ]


def _scores(samples: list[Sample], predictions: Mapping[str, Prediction]) -> list[dict[str, Any]]:
    scores = sample_scores(samples, predictions)
    kinds = error_kinds(samples, predictions)
    return [
        {
            "tIoU": round(tiou, 4),
            "vIoU": None if np.isnan(viou) else round(viou, 4),
            "kind": kind,
        }
        for tiou, viou, kind in zip(
            scores["tIoU"].tolist(), scores["vIoU"].tolist(), kinds, strict=True
        )
    ]


def _labels(record: Mapping[str, Any]) -> list[str]:
    return [f"{key}: {value}" for key, value in record["groups"].items()]


def _line(record: Mapping[str, Any]) -> str:
    score = "" if record["vIoU"] is None else f"{record['vIoU']:.2f}  {record['kind']}  "
    return f"{score}{record['query'][:90]}  ({record['id'][:40]})"


def _lines_by_id(path: Path) -> dict[str, dict[str, Any]]:
    read_completions(path)  # says what is wrong with a damaged file
    lines = filter(str.strip, read_text(path).split("\n"))
    return {line["id"]: line for line in map(json.loads, lines)}
