"""Scoring: the metrics of many samples, averaged, in all and by group.

`score_samples` scores predictions that are at hand, `score_files` those of a file, which is what
`stvgkit score` does. m_tIoU, m_vIoU and gt_vIoU are means over samples, vIoU@R is the share of
samples with vIoU strictly greater than R.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stvgkit.datasets import Sample, SkipReport, hcstvg, read_benchmark, vue_stg
from stvgkit.datasets.sample import BINS, sample_groups
from stvgkit.errors import InputError
from stvgkit.faults import Fault
from stvgkit.metrics import PROTOCOLS, sampled_grid, score_tubes
from stvgkit.predictions import Prediction, read_completions, read_hcstvg

THRESHOLDS = (0.3, 0.5)
REASONS_SHOWN = 3  # of those why answers did not parse; all are in the JSON


def _mean(values: np.ndarray) -> float | None:
    """Mean over the defined values; None where there is none."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None


def _averages(scores: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    if "vIoU" not in scores:  # vue-stg: the published names, each a mean
        return {name: _mean(values) for name, values in scores.items()}
    volume = scores["vIoU"]
    known = volume[~np.isnan(volume)]
    return {
        "m_tIoU": _mean(scores["tIoU"]),
        "m_vIoU": _mean(volume),
        **{f"vIoU@{r}": _mean((known > r).astype(np.float64)) for r in THRESHOLDS},
        "gt_vIoU": _mean(scores["gt_vIoU"]),
    }


@dataclass(frozen=True)
class Report:
    """Scores over samples, as `stvgkit score --json` writes them; fractions of 1.

    `reader` read the answers, None where the predictions are tubes and no texts; `lenient_only`
    counts the answers that the strict reader does not read and the lenient one does.
    `reasons` counts why answers did not parse, the commonest first, each with an example.
    `groups` is `{group: {name: {"samples": n, metric: value, ...}}}`. A metric that is defined on
    no sample (vIoU where a benchmark ships no boxes) is None.
    """

    protocol: str
    samples: int
    unparsed: int
    missing: int
    metrics: dict[str, float | None]
    groups: dict[str, dict[str, dict[str, Any]]]
    reader: str | None = None
    lenient_only: int = 0
    reasons: dict[str, dict[str, Any]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain dictionaries, ready for JSON."""
        return asdict(self)

    def table(self) -> str:
        """The report as lines of text: one row for all samples, then one for each group."""
        rows = [("all samples", {"samples": self.samples, **self.metrics})]
        for group, names in self.groups.items():
            rows += [(f"{group}: {name}", row) for name, row in names.items()]
        width = max(len(label) for label, _ in rows)
        where = " in recall and IoU" if self.protocol == "vue-stg" else ""
        lines = [
            f"protocol {self.protocol}: {self.samples} samples, {self.missing} without a "
            f"prediction, {self.unparsed} not parsed (both score 0{where})",
            *self._reading(),
            "",
            " ".join([" " * width, f"{'samples':>8}", *(f"{name:>11}" for name in self.metrics)]),
        ]
        for label, row in rows:
            cells = ("-" if row[name] is None else f"{row[name]:.3f}" for name in self.metrics)
            line = [f"{label:<{width}}", f"{row['samples']:>8}", *(f"{cell:>11}" for cell in cells)]
            lines.append(" ".join(line))
        return "\n".join(lines)

    def _reading(self) -> list[str]:
        only = f", answers that only the lenient reader reads: {self.lenient_only}"
        lines = [f"reader {self.reader}{only}"] if self.reader else []
        for reason, row in list(self.reasons.items())[:REASONS_SHOWN]:
            lines.append(f"not parsed {row['count']}: {reason} (such as {row['example']})")
        return lines


def _bin_order(name: str) -> tuple[int, str]:
    """Bins in the order of their edges, other names by alphabet."""
    order = [label for bins in BINS for _, label in bins]
    return (order.index(name) if name in order else -1, name)


def summarize(
    scores: Mapping[str, np.ndarray],
    protocol: str = "default",
    *,
    groups: Sequence[Mapping[str, str]] | None = None,
    unparsed: int = 0,
    missing: int = 0,
    reader: str | None = None,
    lenient_only: int = 0,
    reasons: Mapping[str, dict[str, Any]] | None = None,
) -> Report:
    """Average the arrays of `score_tubes` over all samples and over each named group.

    `groups` names each sample's groups, such as `{"query": "declarative"}`.

    >>> from stvgkit import Span, Tube
    >>> tube = Tube([1, 2], [[0, 0, 0.5, 0.5]] * 2)
    >>> scores = score_tubes([tube, None], [tube, tube])
    >>> report = summarize(scores, groups=[{"query": "a"}, {"query": "b"}], missing=1)
    >>> report.metrics["m_vIoU"], report.groups["query"]["b"]["m_vIoU"]
    (0.5, 0.0)
    """
    count = len(next(iter(scores.values())))
    members: dict[str, dict[str, list[int]]] = {}
    for i, names in enumerate(groups or ()):
        for group, name in names.items():
            members.setdefault(group, {}).setdefault(name, []).append(i)

    def row(chosen: list[int]) -> dict[str, Any]:
        part = {name: values[chosen] for name, values in scores.items()}
        return {"samples": len(chosen), **_averages(part)}

    return Report(
        protocol,
        count,
        unparsed,
        missing,
        _averages(scores),
        {
            group: {name: row(names[name]) for name in sorted(names, key=_bin_order)}
            for group, names in sorted(members.items())
        },
        reader,
        lenient_only,
        dict(reasons or {}),
    )


def _reasons(
    samples: Sequence[Sample], found: Sequence[Prediction | None]
) -> dict[str, dict[str, Any]]:
    """Why predictions did not parse: how many of each kind, commonest first, and the first one."""
    reasons: dict[str, dict[str, Any]] = {}
    for sample, prediction in zip(samples, found, strict=True):
        if prediction is not None and prediction.tube is None and prediction.fault:
            kind, said = prediction.fault
            example = f"{sample.id}: {said}" if said else sample.id
            row = reasons.setdefault(kind, {"count": 0, "example": example})
            row["count"] += 1
    return dict(sorted(reasons.items(), key=lambda reason: -reason[1]["count"]))


def sample_scores(
    samples: Sequence[Sample],
    predictions: Mapping[str, Prediction],
    protocol: str = "default",
) -> dict[str, np.ndarray]:
    """The scores of each sample, given the predictions by sample id; see `score_tubes`.

    >>> from stvgkit.datasets import Sample
    >>> from stvgkit.predictions import Prediction
    >>> from stvgkit import Span, Tube
    >>> tube = Tube([1, 2], [[0, 0, 0.5, 0.5]] * 2)
    >>> samples = [Sample(n, "it", None, 64, 36, 2.0, Span(0, 9), tube.span, tube) for n in "ab"]
    >>> sample_scores(samples, {"a": Prediction(tube)})["vIoU"]
    array([1., 0.])
    """
    found = [predictions.get(sample.id) for sample in samples]
    return score_tubes(
        [None if p is None else p.tube for p in found],
        [sample.tube for sample in samples],
        protocol,
        pred_spans=[None if p is None else p.span for p in found],
        gold_spans=[sample.span for sample in samples],
        grids=[sampled_grid(s.window, s.fps) for s in samples] if protocol == "tubedetr" else None,
    )


def score_samples(
    samples: Sequence[Sample],
    predictions: Mapping[str, Prediction],
    protocol: str = "default",
    reader: str | None = None,
) -> Report:
    """Score predictions, keyed by sample id, against samples; what `stvgkit score` does.

    A sample whose id is absent counts as missing, one whose `tube` is None as unparsed; both
    score 0. Predictions for other ids play no part. `reader` names who read them, for the report.

    >>> from stvgkit.datasets import Sample
    >>> from stvgkit.predictions import Prediction
    >>> from stvgkit import Span, Tube
    >>> tube = Tube([1, 2], [[0, 0, 0.5, 0.5]] * 2)
    >>> sample = Sample("a", "the dog", None, 640, 360, 2.0, Span(0, 9), tube.span, tube)
    >>> score_samples([sample], {"a": Prediction(tube)}).metrics["m_vIoU"]
    1.0
    """
    found = [predictions.get(sample.id) for sample in samples]
    return summarize(
        sample_scores(samples, predictions, protocol),
        protocol,
        groups=[sample_groups(sample) for sample in samples],
        unparsed=sum(p is not None and p.tube is None for p in found),
        missing=found.count(None),
        reader=reader,
        lenient_only=sum(p is not None and p.lenient_only for p in found),
        reasons=_reasons(samples, found),
    )


def score_files(
    benchmark: str,
    annotations: Path | str,
    predictions: Path | str,
    *,
    protocol: str | None = None,
    boxes: Path | str | None = None,
    reader: str | None = None,
) -> tuple[Report, SkipReport]:
    """Score a predictions file against a benchmark's annotations: `stvgkit score`.

    The protocol is `default` where none is named, and `vue-stg` on VUE-STG, whose grid of seconds
    no other protocol fits. `reader`, `strict` where none is named, reads the answers of a .jsonl
    file; the other forms hold tubes and take none. Returns the scores, and what was left out or
    changed on reading. Raises `InputError` for files that cannot be used, or that have not one id
    in common.
    """
    path, on_seconds = Path(predictions), benchmark == "vue-stg"
    protocol = protocol or ("vue-stg" if on_seconds else "default")
    if protocol not in PROTOCOLS:
        raise InputError(f"unknown protocol {protocol!r}: use one of {', '.join(PROTOCOLS)}")
    if on_seconds != (protocol == "vue-stg"):
        raise InputError(f"protocol {protocol} does not fit {benchmark}: vue-stg is for vue-stg")
    if path.suffix == ".jsonl":
        reader = reader or "strict"
    elif reader is not None:
        raise InputError(f"{path} holds tubes, not answers: leave --reader out")
    report = SkipReport()
    if benchmark == "hcstvg" and protocol == "hcstvg":  # the official script clips no box
        samples = list(hcstvg.read(annotations, None, report, crop=False))
    else:
        samples = list(read_benchmark(benchmark, annotations, None, report, boxes=boxes))
    found = _read(path, benchmark, samples, report, reader)
    if not samples:
        raise InputError(f"{annotations} holds not one usable sample:\n{report}")
    unknown = sorted(set(found) - {sample.id for sample in samples})
    if len(unknown) == len(found):
        raise InputError(
            f"{path} has no prediction for any of the {len(samples)} samples of {annotations} "
            f"(their ids are like {samples[0].id!r}): are these two of the same benchmark?"
        )
    for name in unknown:
        report.skip("prediction for an id that the annotations lack", name)
    for sample in samples:
        if sample.tube is None:
            report.change("times alone scored: vIoU needs gold boxes (--boxes)", sample.id)
    return score_samples(samples, found, protocol, reader), report


def _read(
    path: Path, benchmark: str, samples: list[Sample], report: SkipReport, reader: str | None
) -> dict[str, Prediction]:
    forms = {"vue-stg": (".csv",), "hcstvg": (".json", ".jsonl")}.get(benchmark, (".jsonl",))
    if path.suffix not in forms:
        raise InputError(f"{path}: predictions for {benchmark} are {' or '.join(forms)} files")
    if path.suffix == ".jsonl":
        return read_completions(path, reader or "strict")
    if path.suffix == ".json":
        return read_hcstvg(path, samples, report)
    tubes = vue_stg.read_tubes(path, report)
    empty = Prediction(None, fault=Fault("not one usable box", ""))
    return {name: Prediction(tube) if len(tube) else empty for name, tube in tubes.items()}
