"""Curves, histograms and bars of training and evaluation, as plain plotly figures.

Plain `go.Figure`s show in JupyterLab, Colab, VS Code and exported pages alike; `clickable` alone
needs a live kernel. Pictures of tubes are in `stvgkit.viewing.pictures`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stvgkit.errors import InputError
from stvgkit.scoring import THRESHOLDS

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Okabe and Ito's colours, told apart by people with any kind of colour blindness; with a dash each.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def reward_curves(log: Sequence[Mapping[str, Any]] | str | Path) -> go.Figure:
    """Each reward of a GRPO run over its steps with a band of one standard deviation.

    `log` is TRL's `log_history` or the JSON file it was saved in. Below the rewards: their sum,
    and the two shares that tell a run gone silent (groups whose rewards are all equal teach
    nothing; completions cut at the length limit never parse). The loss is not shown: on-policy, it
    starts near 0 and says nothing. Raises `InputError` where the log holds no reward.

    >>> log = [{"step": s, "rewards/format_reward/mean": s / 10, "rewards/format_reward/std": 0.1,
    ...         "reward": s / 5, "reward_std": 0.2} for s in range(10)]
    >>> [trace.name for trace in reward_curves(log).data if trace.showlegend is not False]
    ['format', 'total']
    """
    from plotly.subplots import make_subplots

    log = _read_log(log)
    names = sorted({key.split("/")[1] for row in log for key in row if _is_reward(key)})
    if not names:
        raise InputError("this log holds no rewards: give the log_history of a GRPO run")
    shares = {
        "groups without spread": "frac_reward_zero_std",
        "cut at the length limit": "completions/clipped_ratio",
    }
    figure = make_subplots(
        rows=3, cols=1, shared_xaxes=True, row_heights=[0.5, 0.3, 0.2], vertical_spacing=0.05
    )
    for i, name in enumerate(names):
        mean, std = f"rewards/{name}/mean", f"rewards/{name}/std"
        _add_band(figure, 1, log, name.removesuffix("_reward"), mean, std, i)
    _add_band(figure, 2, log, "total", "reward", "reward_std", len(names))
    for i, (label, key) in enumerate(shares.items()):
        if any(key in row for row in log):
            _add_band(figure, 3, log, label, key, None, len(names) + 1 + i)
    figure.update_yaxes(title_text="reward", row=1, col=1)
    figure.update_yaxes(title_text="sum", row=2, col=1)
    figure.update_yaxes(title_text="share", range=[-0.05, 1.05], row=3, col=1)
    figure.update_xaxes(title_text="step", row=3, col=1)
    return _styled(figure, height=640)


def _read_log(log: Any) -> list[Mapping[str, Any]]:
    if isinstance(log, str | Path):
        try:
            log = json.loads(Path(log).read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{log}: not a training log in JSON ({error})") from error
        if isinstance(log, dict):  # trainer_state.json
            log = log.get("log_history", [])
    return [row for row in log if isinstance(row, Mapping)]


def _is_reward(key: str) -> bool:
    return key.startswith("rewards/") and key.endswith("/mean")


def _add_band(
    figure: go.Figure,
    row: int,
    log: Sequence[Mapping[str, Any]],
    label: str,
    mean: str,
    std: str | None,
    i: int,
) -> None:
    points = [entry for entry in log if mean in entry and "step" in entry]
    steps = [entry["step"] for entry in points]
    middle = np.array([entry[mean] for entry in points], dtype=float)
    color = COLORS[i % len(COLORS)]
    line = {"color": color, "dash": DASHES[i % len(DASHES)]}
    if std is not None and points:
        spread = np.array([entry.get(std, 0.0) for entry in points], dtype=float)
        figure.add_scatter(
            x=[*steps, *steps[::-1]],
            y=[*(middle + spread), *(middle - spread)[::-1]],
            fill="toself",
            fillcolor=color,
            opacity=0.12,
            line_width=0,
            hoverinfo="skip",
            showlegend=False,
            legendgroup=label,
            row=row,
            col=1,
        )
    figure.add_scatter(
        x=steps, y=middle, name=label, mode="lines", line=line, legendgroup=label, row=row, col=1
    )


def viou_histogram(scores: Mapping[str, Sequence[float]], bins: int = 20) -> go.Figure:
    """How many samples reach which vIoU, for each named set of scores; the thresholds are marked.

    >>> figure = viou_histogram({"SFT": [0.1, 0.4], "GRPO": [0.5, 0.52]}, bins=10)
    >>> figure.data[1].y[5]
    np.int64(2)
    """
    import plotly.graph_objects as go

    edges = np.linspace(0, 1, bins + 1)
    figure = go.Figure()
    for i, (name, values) in enumerate(scores.items()):
        known = np.asarray(values, dtype=float)
        counts, _ = np.histogram(known[~np.isnan(known)], edges)
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts,
            name=name,
            marker_color=COLORS[i % len(COLORS)],
            hovertemplate=f"vIoU %{{x:.2f}} ± {0.5 / bins:.3f}: %{{y}} samples",
        )
    for threshold in THRESHOLDS:
        figure.add_vline(threshold, line_dash="dash", line_color="#888888")
    figure.update_layout(bargap=0.05, xaxis_title="vIoU", yaxis_title="samples")
    return _styled(figure)


def group_bars(reports: Mapping[str, Any], group: str, metric: str = "m_vIoU") -> go.Figure:
    """One metric for each member of a group of samples, side by side for every named report.

    `reports` are `metrics.Report`s, or the dictionaries that `stvgkit score --json` writes.

    >>> report = {"groups": {"query": {"declarative": {"samples": 3, "m_vIoU": 0.4}}}}
    >>> group_bars({"SFT": report}, "query").data[0].y
    (0.4,)
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for i, (name, report) in enumerate(reports.items()):
        groups = (report if isinstance(report, Mapping) else report.as_dict())["groups"]
        if group not in groups:
            raise InputError(f"{name} has no group {group!r}: it has {', '.join(groups) or 'none'}")
        rows = groups[group]
        figure.add_bar(
            x=[f"{member} ({row['samples']})" for member, row in rows.items()],
            y=[row[metric] for row in rows.values()],
            name=name,
            marker_color=COLORS[i % len(COLORS)],
        )
    figure.update_layout(barmode="group", xaxis_title=f"{group} (samples)", yaxis_title=metric)
    figure.update_yaxes(range=[0, 1])
    return _styled(figure)


def tiou_viou(
    tiou: Sequence[float], viou: Sequence[float], ids: Sequence[str], name: str = "samples"
) -> go.Figure:
    """Each sample as a point: how well its time is met, and how well its tube.

    A point can lie on or below the diagonal only, since vIoU is tIoU times the mean IoU of the
    boxes in common: below it on the right are right times with wrong boxes.

    >>> tiou_viou([0.5, 1.0], [0.2, 0.9], ["a", "b"]).data[1].customdata
    ('a', 'b')
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": "#bbbbbb", "dash": "dot"}, hoverinfo="skip"
    )
    figure.add_scatter(
        x=list(tiou),
        y=list(viou),
        mode="markers",
        name=name,
        customdata=list(ids),
        marker={"color": COLORS[0], "size": 9, "opacity": 0.6},
        hovertemplate="%{customdata}<br>tIoU %{x:.2f}<br>vIoU %{y:.2f}<extra></extra>",
    )
    figure.update_layout(xaxis_title="tIoU", yaxis_title="vIoU", showlegend=False)
    figure.update_xaxes(range=[-0.03, 1.03], constrain="domain")
    figure.update_yaxes(range=[-0.03, 1.03], scaleanchor="x")
    return _styled(figure, height=480)


def imitation_lines(results: Mapping[str, Any], metric: str = "m_vIoU") -> go.Figure:
    """A metric over the number of clips with answers: SFT that goes on, and GRPO, at equal time.

    `results` is what `benchmarks/imitation.py` writes: `{"seeds": {seed: {name: metrics}}}`, a run
    being named `{annotators}-{part}-{number}`. Each kind of annotator has a panel. Points are means
    in per cent over the seeds that have made start, SFT and GRPO of this number, error bars one
    standard deviation. Raises `InputError` where there is no run to draw, or something else.

    >>> runs = {f"exact-{part}-64": {"m_vIoU": 0.5} for part in ("start", "sft", "grpo")}
    >>> [(line.name, line.y) for line in imitation_lines({"seeds": {"0": runs}}).data]
    [('start', (50.0,)), ('SFT goes on', (50.0,)), ('GRPO', (50.0,))]
    """
    from plotly.subplots import make_subplots

    cells = imitation_scores(results, metric)
    if not cells:
        raise InputError("no run to draw: give what benchmarks/imitation.py has written")
    panels = sorted({annotators for annotators, _ in cells})
    numbers = sorted({number for _, number in cells})
    titles = [f"{annotators} annotators" for annotators in panels]
    figure = make_subplots(cols=len(panels), subplot_titles=titles, shared_yaxes=True)
    for i, title in enumerate(("start", "SFT goes on", "GRPO")):
        for place, annotators in enumerate(panels):
            drawn = [n for n in numbers if (annotators, n) in cells]
            scores = [[100 * seed[i] for seed in cells[annotators, n]] for n in drawn]
            spread = [np.std(values, ddof=1) if len(values) > 1 else 0.0 for values in scores]
            figure.add_scatter(
                x=drawn,
                y=[float(np.mean(values)) for values in scores],
                error_y={"array": spread},
                name=title,
                mode="lines+markers",
                line={"color": ["#888888", *COLORS][i], "dash": DASHES[i]},
                legendgroup=title,
                showlegend=not place,
                row=1,
                col=place + 1,
            )
    figure.update_xaxes(type="log", tickvals=numbers, title_text="clips with answers")
    figure.update_yaxes(title_text=f"{metric}, per cent", col=1)
    return _styled(figure)


def imitation_scores(
    results: Mapping[str, Any], metric: str = "m_vIoU"
) -> dict[tuple[str, int], list[list[float]]]:
    """By annotators and number: the scores of start, SFT and GRPO of each seed that has all three.

    `results` is as for `imitation_lines`. Raises `InputError` where a run has another kind of name.

    >>> runs = {f"exact-{part}-64": {"m_vIoU": 0.5} for part in ("start", "sft", "grpo")}
    >>> imitation_scores({"seeds": {"0": runs, "1": {"exact-sft-64": {"m_vIoU": 0.9}}}})
    {('exact', 64): [[0.5, 0.5, 0.5]]}
    """
    cells: dict[tuple[str, int], list[list[float]]] = {}
    for runs in results["seeds"].values():
        for name in runs:
            annotators, _, number = (*name.split("-"), "", "")[:3]
            if not number.isdecimal():
                raise InputError(f"{name!r} is no run of benchmarks/imitation.py")
            parts = [f"{annotators}-{part}-{number}" for part in ("start", "sft", "grpo")]
            if name == parts[0] and set(parts) <= set(runs):
                scores = [runs[part][metric] for part in parts]
                cells.setdefault((annotators, int(number)), []).append(scores)
    return cells


def clickable(figure: go.Figure, on_click: Callable[[str], None]) -> go.Figure:
    """The figure of `tiou_viou`, calling `on_click` with the id of a point that is clicked.

    That takes plotly's `FigureWidget`, which needs anywidget and a live kernel; without anywidget,
    and in Colab, which does not show it reliably, the figure comes back unchanged.
    """
    import plotly.graph_objects as go

    if "google.colab" in sys.modules:
        return figure
    try:
        widget = go.FigureWidget(figure)
    except ImportError:
        return figure

    def clicked(trace: Any, points: Any, _: Any) -> None:
        if points.point_inds:
            on_click(trace.customdata[points.point_inds[0]])

    widget.data[1].on_click(clicked)
    return widget


def _styled(figure: go.Figure, height: int = 380) -> go.Figure:
    return figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 20, "t": 30, "b": 50},
        hovermode="closest",
    )
