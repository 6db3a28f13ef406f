"""The demo's report: one page with the table, the training curves, and clips before and after."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from stvgkit.datasets import Sample
from stvgkit.files import replacing
from stvgkit.viewing.players import show_player
from stvgkit.viewing.plots import reward_curves

CLIPS = 12

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .3rem .9rem; text-align: right; border-bottom: 1px solid #8884 }
th:first-child, td:first-child { text-align: left }
.table { overflow-x: auto }
.js-plotly-plot { background: #fff; border-radius: 8px }
.clips { display: grid; gap: 1rem }
.clips { grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)) }
"""


def write_report(
    out: Path,
    metrics: dict[str, Any],
    samples: Sequence[Sample],
    *,
    titles: Mapping[str, str],
    columns: Sequence[str],
) -> Path:
    """Write `report.html` into a demo's folder, from what the folder holds.

    `titles` names the steps in `metrics["rows"]`, `columns` the metrics that the table shows.
    """
    chosen = samples[:: max(1, len(samples) // CLIPS)][:CLIPS]
    answers = {
        step.upper(): _predictions(out / step / "predictions.jsonl") for step in ("sft", "grpo")
    }
    clips = "\n".join(
        show_player(s, answers={name: lines[s.id] for name, lines in answers.items()})._repr_html_()
        for s in chosen
    )
    curves = reward_curves(json.loads((out / "grpo" / "log.json").read_text()))
    curves.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    versions = ", ".join(f"{name} {number}" for name, number in metrics["versions"].items())
    body = f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>stvgkit demo</title>
<style>{STYLE}</style>
<h1>stvgkit demo</h1>
<p>Spatio-temporal video grounding on generated clips with a model of two million parameters:
seed {metrics["seed"]}, protocol <em>{escape(metrics["protocol"])}</em>, {escape(versions)}.</p>
{_table(metrics["rows"], titles, columns)}
<h2>GRPO: the five rewards</h2>
{curves.to_html(full_html=False, include_plotlyjs=True)}
<h2>Test clips: gold, after SFT, after GRPO</h2>
<div class="clips">{clips}</div>
</html>
"""
    path = out / "report.html"
    with replacing(path) as file:
        file.write(body)
    return path


def _predictions(path: Path) -> dict[str, dict[str, Any]]:
    lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {line["id"]: line for line in lines}


def _table(
    rows: dict[str, dict[str, Any]], titles: Mapping[str, str], columns: Sequence[str]
) -> str:
    head = "".join(f"<th>{name}" for name in ("", *columns, "unparsed", "seconds"))
    body = ""
    for step, row in rows.items():
        scores = "".join(f"<td>{100 * row[metric]:.1f}" for metric in columns)
        body += f"<tr><td>{titles[step]}{scores}<td>{row['unparsed']}<td>{row['seconds']:.0f}"
    return f'<div class="table"><table><tr>{head}{body}</table></div><p>Scores in per cent.</p>'
