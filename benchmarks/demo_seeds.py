"""Is GRPO's gain its own? The demo on several seeds, and SFT that goes on for as long instead.

For each seed: `stvgkit demo`, then the same SFT continued from its checkpoint for as many steps as
fit into the time that GRPO trained, with the answers that it was shown before ("SFT for as long",
the baseline; `--longer` names its seeds where not all are wanted). `--informed` adds SFT that is
shown the answers to GRPO's clips as well. Goes on where it was. The page has every row's mean and
standard deviation over the seeds, the gains seed by seed, and seconds.

Run: python benchmarks/demo_seeds.py --seeds 0 1 2 [--longer 0] [--informed]
         [--json data_samples/logs/demo_seeds.json] [--write docs/results.md]
     python benchmarks/demo_seeds.py --json FILE --write docs/results.md     the page alone
"""

import argparse
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from pages import publish

from stvgkit import demo
from stvgkit.datasets import Sample
from stvgkit.datasets.shapes import STEPS, STRIDE
from stvgkit.files import write_json
from stvgkit.predictions import read_completions
from stvgkit.scoring import sample_scores
from stvgkit.training.trainers import sft
from stvgkit.tubes import Span
from stvgkit.viewing.widgets.group_inspector import read_groups

LONGER = {
    "longer": "SFT for as long as SFT + GRPO",
    "informed": "the same, shown the answers to GRPO's clips",
}
ROWS = demo.ROWS | LONGER
TIME = re.compile(r"\s*<time>\s*(\d+)\s*-\s*(\d+)\s*</time>")


def run_seed(out: Path, seed: int, smoke: bool, extra: list[str]) -> dict:
    """The rows of one seed, with the `extra` ones of `LONGER` among them."""
    budget = demo.SMOKE if smoke else demo.FULL
    command = [sys.executable, "-m", "stvgkit", "demo", "--out", str(out), "--seed", str(seed)]
    subprocess.run(command + ["--smoke"] * smoke, check=True)
    metrics = json.loads((out / "metrics.json").read_text())
    rows = metrics["rows"]
    shown = {"longer": budget.shown, "informed": budget.clips["train"]}
    for row in extra:
        work = partial(longer, out, seed=seed, budget=budget, clips=shown[row])
        rows[row] = demo.measured(out / row, work)
    more = {key: metrics[key] for key in ("novel", "parsed_before", "pass@8")}
    test = demo.read_split(out, "test", budget.clips["test"])
    more["constant_span"] = constant_span(test)
    more["gain_by_form"] = gain_by_form(out, test)
    more["spatial_at_start"] = spatial_at_start(out / "grpo")
    more["form_by_length"] = form_by_length(out / "grpo")
    return {row: rows[row] for row in ROWS if row in rows} | more


def longer(out: Path, folder: Path, *, seed: int, budget: demo.Budget, clips: int):
    """SFT goes on from its checkpoint for the seconds that GRPO trained, on the first `clips`."""
    share = train_seconds(out / "grpo") / train_seconds(out / "sft")
    settings = budget.sft | {"max_steps": max(1, round(share * budget.sft["max_steps"]))}
    train, test = (demo.read_split(out, split, budget.clips[split]) for split in ("train", "test"))
    start = str(out / "sft")
    model = demo.tune(sft, start, train[:clips], folder, seed=seed + 1000, **settings)
    return demo.evaluate(model, test, folder)


def train_seconds(folder: Path) -> float:
    """How long a training step took, without loading and evaluation."""
    log = json.loads((folder / "log.json").read_text())
    return sum(line.get("train_runtime", 0.0) for line in log)


def spatial_at_start(folder: Path) -> float:
    """The mean of R_s = R_spa(think) + R_spa(pred) in the first quarter of GRPO's steps."""
    log = json.loads((folder / "log.json").read_text())
    rewards = [line[key] for line in log if (key := "rewards/spatial_reward/mean") in line]
    return float(np.mean(rewards[: max(1, len(rewards) // 4)]))


def constant_span(samples: Sequence[Sample]) -> dict[str, float]:
    """The one span (in sampled frames) that suits all clips best, and its m_tIoU.

    Whoever scores less in time would do better not to look at the video.
    """
    spans = [Span(start, end) for start in range(STEPS) for end in range(start, STEPS)]
    scores = {
        span: demo.centre_report(samples, Span(span.start * STRIDE, span.end * STRIDE)).metrics[
            "m_tIoU"
        ]
        for span in spans
    }
    best = max(scores, key=scores.__getitem__)
    return {"start": best.start, "end": best.end, "m_tIoU": scores[best]}


def gain_by_form(out: Path, samples: Sequence[Sample]) -> dict[str, float]:
    """GRPO's gain of m_vIoU on clips whose SFT answer broke the format, and on the others.

    They add up to the whole gain.
    """
    told = {row: read_completions(out / row / "predictions.jsonl") for row in ("sft", "grpo")}
    after, before = (sample_scores(samples, told[row])["vIoU"] for row in ("grpo", "sft"))
    broken = np.array([told["sft"][sample.id].tube is None for sample in samples])
    gain = (after - before) / len(samples)
    return {"broken": float(gain[broken].sum()), "parsed": float(gain[~broken].sum())}


def form_by_length(folder: Path) -> dict[str, float]:
    """Share of answers that keep the format in GRPO's first quarter, by the frames they name."""
    kept = defaultdict(list)
    groups = read_groups(folder / "groups.jsonl")
    for group in groups[: max(1, len(groups) // 4)]:
        for text, keeps in zip(group["completions"], group["rewards"]["format"], strict=True):
            if time := TIME.match(text):
                kept[int(time[2]) - int(time[1]) + 1].append(keeps)
    return {str(n): float(np.mean(kept[n])) for n in range(1, STEPS + 1) if kept[n]}


def page(seeds: dict[str, dict]) -> str:
    """What was measured, `{seed: rows}`, as Markdown."""
    results = list(seeds.values())
    samples = results[0]["sft"]["samples"]
    return "\n".join(
        [
            "# Results of the demo",
            "",
            f"`python benchmarks/demo_seeds.py --seeds {' '.join(seeds)}`: {samples} test clips, "
            f"protocol *default*, mean ± standard deviation over {len(seeds)} seeds; scores in per "
            "cent. The shipped base model is the same for all; the seeds differ in the order of "
            "the data and in what GRPO samples.",
            "",
            *_all_clips(results),
            "",
            *_held_out([rows["novel"] for rows in results]),
            "",
            *_parsed_before([rows["parsed_before"] for rows in results]),
            "",
            *_best_of_eight([rows["pass@8"] for rows in results]),
            *_what_else(results),
            "",
            *_form_by_length([rows["form_by_length"] for rows in results]),
            "",
            "[frames_as.md](frames_as.md) has SFT with frames as images and as video.",
            "",
        ]
    )


def _all_clips(results: list[dict]) -> list[str]:
    """The rows, and what SFT + GRPO gains over the others, seed by seed."""
    scored = {row: [rows[row] for rows in results if row in rows] for row in ROWS}
    names = {}
    for row, found in scored.items():
        count = "1 seed" if len(found) == 1 else f"{len(found)} seeds"
        names[row] = ROWS[row] + (f" ({count})" if len(found) < len(results) else "")
    head = [*demo.METRICS, "unparsed", "seconds"]
    lines = _head(head) + [_line(names[row], found, head) for row, found in scored.items() if found]
    lines += ["", "## Gain of SFT + GRPO, seed by seed", "", *_head(demo.METRICS, "over")]
    for row in ("sft", *LONGER):
        if scored[row]:
            both = [rows for rows in results if row in rows]
            cells = [
                _each([100 * (rows["grpo"][name] - rows[row][name]) for rows in both])
                for name in demo.METRICS
            ]
            lines.append(f"| {names[row]} | {' | '.join(cells)} |")
    return lines


def _held_out(novel: list[dict]) -> list[str]:
    head = [*demo.METRICS, "unparsed", "seconds"]
    clips = novel[0]["sft"]["samples"]
    return [
        f"## Colours, shapes and motions held out of training ({clips} clips)",
        "",
        *_head(head),
        *(_line(ROWS[row], [rows[row] for rows in novel], head) for row in ("sft", "grpo")),
    ]


def _parsed_before(parsed: list[dict]) -> list[str]:
    head = [*demo.METRICS, "unparsed", "samples"]
    return [
        "## Clips whose answer parsed after SFT",
        "",
        "What GRPO gains on them is accuracy, for their form was right before.",
        "",
        *_head([*head[:-1], "clips"]),
        *(_line(ROWS[row], [rows[row] for rows in parsed], head) for row in ("sft", "grpo")),
    ]


def _best_of_eight(best: list[dict]) -> list[str]:
    lines = []
    for row in ("sft", "grpo"):
        score = _mean([100 * rows[row] for rows in best], ".1f")
        lines += [f"Best of {demo.TRIES} sampled answers, {ROWS[row]}: m_vIoU {score}.", ""]
    return lines


def _what_else(results: list[dict]) -> list[str]:
    seconds = [sum(rows[row]["seconds"] for row in demo.ROWS) for rows in results]
    spatial = [rows["spatial_at_start"] for rows in results]
    broken, parsed = (
        _mean([100 * rows["gain_by_form"][form] for rows in results], ".1f")
        for form in ("broken", "parsed")
    )
    span = results[0]["constant_span"]  # of the test clips, so the same for every seed
    return [
        f"- Training and evaluation of the four rows: {_mean(seconds, '.1f')} s.",
        f"- Mean spatial reward R_s in GRPO's first quarter: {_mean(spatial, '.2f')}.",
        "- Points of m_vIoU that GRPO gains over SFT on clips whose SFT answer broke the format: "
        f"{broken}, on the others: {parsed}.",
        f"- For comparison, the one span that suits all test clips best, frames {span['start']} to "
        f"{span['end']} of {STEPS}, has m_tIoU {100 * span['m_tIoU']:.1f}.",
    ]


def _form_by_length(shares: list[dict[str, float]]) -> list[str]:
    lengths = [str(n) for n in range(1, STEPS + 1) if any(str(n) in share for share in shares)]
    means = [np.mean([share[n] for share in shares if n in share]) for n in lengths]
    return [
        "Share of answers that keep the format in GRPO's first quarter, by the frames they name, "
        "mean over the seeds:",
        "",
        f"| {' | '.join(lengths)} |",
        "|" + " --- |" * len(lengths),
        f"| {' | '.join(f'{mean:.0%}' for mean in means)} |",
    ]


def _head(columns: Sequence[str], first: str = "") -> list[str]:
    return [f"| {first} | {' | '.join(columns)} |", "| --- |" + " --- |" * len(columns)]


def _line(name: str, rows: list[dict], head: list[str]) -> str:
    columns = ([row[key] * (100 if key in demo.METRICS else 1) for row in rows] for key in head)
    digits = [".1f" if key in demo.METRICS else ".0f" for key in head]
    return f"| {name} | {' | '.join(map(_mean, columns, digits))} |"


def _mean(values: list[float], form: str) -> str:
    """Mean ± standard deviation; one value has no deviation."""
    mean = format(np.mean(values), form)
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):{form.lstrip('+')}}"


def _each(gains: list[float]) -> str:
    """The mean gain, and that of each seed where there are several."""
    mean = _mean(gains, "+.1f")
    return mean if len(gains) == 1 else f"{mean} ({', '.join(f'{gain:+.1f}' for gain in gains)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/seeds"), help="folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[])
    parser.add_argument("--longer", type=int, nargs="*", help="seeds of SFT for as long; all")
    parser.add_argument("--informed", action="store_true", help="a row that takes as long again")
    parser.add_argument("--smoke", action="store_true", help="the demo's smallest size")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every seed's scores")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page here as well")
    args = parser.parse_args()
    if args.seeds:
        longer = args.seeds if args.longer is None else args.longer
        seeds = {}
        for seed in args.seeds:
            extra = ["longer"] * (seed in longer) + ["informed"] * args.informed
            seeds[str(seed)] = run_seed(args.out / f"seed{seed}", seed, args.smoke, extra)
        if args.json:
            write_json(args.json, seeds)
    elif args.json and args.json.exists():
        seeds = json.loads(args.json.read_text())
    else:
        parser.error("give --seeds, or a --json of runs that are there")
    publish(page(seeds), args.write)


if __name__ == "__main__":
    main()
