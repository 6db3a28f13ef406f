"""Is GRPO's gain its own? The demo on several seeds, and SFT that goes on for as long instead.

For each seed: `stvgkit demo`, then the same SFT continued from its checkpoint for as many steps as
fit into the time that GRPO trained, with the answers that it was shown before ("SFT for as long",
the baseline; `--longer` names its seeds where not all are wanted). `--informed` adds SFT that is
shown the answers to GRPO's clips as well. Prints every row's mean and standard deviation over the
seeds, the gains seed by seed, and seconds; `--write FILE` puts the same into a page. Goes on where
it was.
Run: python benchmarks/demo_seeds.py [--seeds 0 1 2] [--longer 0] [--informed]
"""

import argparse
import json
import re
import subprocess
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
from pages import publish

from stvgkit import demo
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
    more["form_by_length"] = form_by_length([out / "grpo"])
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


def reward_at_start(out: Path) -> float:
    """The mean of R_s = R_spa(think) + R_spa(pred) in the first quarter of GRPO's steps."""
    log = json.loads((out / "grpo" / "log.json").read_text())
    rewards = [line[key] for line in log if (key := "rewards/spatial_reward/mean") in line]
    return float(np.mean(rewards[: max(1, len(rewards) // 4)]))


def constant_span(samples) -> tuple[Span, float]:
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
    best = max(scores, key=scores.get)
    return best, scores[best]


def gain_by_form(out: Path, samples) -> tuple[float, float]:
    """GRPO's gain of m_vIoU in points: on clips whose SFT answer broke the format, on the others.

    They add up to the whole gain.
    """
    told = {row: read_completions(out / row / "predictions.jsonl") for row in ("sft", "grpo")}
    after, before = (sample_scores(samples, told[row])["vIoU"] for row in ("grpo", "sft"))
    broken = np.array([told["sft"][sample.id].tube is None for sample in samples])
    gain = 100 * (after - before) / len(samples)
    return float(gain[broken].sum()), float(gain[~broken].sum())


def form_by_length(folders: list[Path]) -> dict[int, float]:
    """Share of answers that keep the format in GRPO's first quarter, by the frames they name."""
    kept = defaultdict(list)
    for folder in folders:
        groups = read_groups(folder / "groups.jsonl")
        for group in groups[: max(1, len(groups) // 4)]:
            formats = group["rewards"]["format"]
            for text, format_reward in zip(group["completions"], formats, strict=True):
                if time := TIME.match(text):
                    kept[int(time[2]) - int(time[1]) + 1].append(format_reward)
    return {length: float(np.mean(kept[length])) for length in range(1, STEPS + 1) if kept[length]}


def page(out: Path, seeds: list[int], results: list[dict], smoke: bool) -> str:
    """What was measured, as Markdown."""
    budget = demo.SMOKE if smoke else demo.FULL
    head = [*demo.METRICS, "unparsed", "seconds"]
    lines = [
        "# Results of the demo",
        "",
        f"`python benchmarks/demo_seeds.py --seeds {' '.join(map(str, seeds))}`: "
        f"{budget.clips['test']} test clips, protocol *default*, mean ± standard deviation over "
        f"{len(seeds)} seeds; scores in per cent. The shipped base model is the same for all; the "
        "seeds differ in the order of the data and in what GRPO samples.",
        "",
        f"| | {' | '.join(head)} |",
        "| --- |" + " --- |" * len(head),
    ]
    names = {}
    for row, name in ROWS.items():
        found = [rows[row] for rows in results if row in rows]
        if found:
            count = "1 seed" if len(found) == 1 else f"{len(found)} seeds"
            few = f" ({count})" if len(found) < len(results) else ""
            names[row] = name + few
            lines.append(_line(names[row], found, head))
    lines += ["", "## Gain of SFT + GRPO, seed by seed", ""]
    lines += [f"| over | {' | '.join(demo.METRICS)} |", "| --- |" + " --- |" * len(demo.METRICS)]
    for row in ("sft", *(row for row in LONGER if row in names)):
        gains = [
            [100 * (rows["grpo"][name] - rows[row][name]) for rows in results if row in rows]
            for name in demo.METRICS
        ]
        cells = (
            f"{_mean(gain, '+.1f')} ({', '.join(f'{g:+.1f}' for g in gain)})"
            if len(gain) > 1
            else _mean(gain, "+.1f")
            for gain in gains
        )
        lines.append(f"| {names[row]} | {' | '.join(cells)} |")
    lines += [
        "",
        f"## Colours, shapes and motions held out of training ({budget.clips['novel']} clips)",
        "",
        f"| | {' | '.join(head)} |",
        "| --- |" + " --- |" * len(head),
    ]
    for row in ("sft", "grpo"):
        lines.append(_line(ROWS[row], [rows["novel"][row] for rows in results], head))
    lines += [
        "",
        "## Clips whose answer parsed after SFT",
        "",
        "What GRPO gains on them is accuracy, for their form was right before.",
        "",
        f"| | {' | '.join(demo.METRICS)} | unparsed | clips |",
        "| --- |" + " --- |" * (len(demo.METRICS) + 2),
    ]
    for row in ("sft", "grpo"):
        parsed = [rows["parsed_before"][row] for rows in results]
        lines.append(_line(ROWS[row], parsed, [*demo.METRICS, "unparsed", "samples"]))
    for row in ("sft", "grpo"):
        best = _mean([100 * rows["pass@8"][row] for rows in results], ".1f")
        lines += ["", f"Best of {demo.TRIES} sampled answers, {ROWS[row]}: m_vIoU {best}."]
    test = demo.read_split(out / f"seed{seeds[0]}", "test", budget.clips["test"])
    span, known = constant_span(test)
    mended, others = zip(*[gain_by_form(out / f"seed{seed}", test) for seed in seeds], strict=True)
    total = [sum(rows[row]["seconds"] for row in demo.ROWS) for rows in results]
    starts = [reward_at_start(out / f"seed{seed}") for seed in seeds]
    lengths = form_by_length([out / f"seed{seed}" / "grpo" for seed in seeds])
    lines += [
        "",
        f"- Training and evaluation of the four rows: {_mean(total, '.1f')} s.",
        f"- Mean spatial reward R_s in GRPO's first quarter: {_mean(starts, '.2f')}.",
        "- Points of m_vIoU that GRPO gains over SFT on clips whose SFT answer broke the format: "
        f"{_mean(mended, '.1f')}, on the others: {_mean(others, '.1f')}.",
        f"- For comparison, the one span that suits all test clips best, frames {span.start} to "
        f"{span.end} of {STEPS}, has m_tIoU {100 * known:.1f}.",
        "",
        "Share of answers that keep the format in GRPO's first quarter, by the frames they name:",
        "",
        "| " + " | ".join(map(str, lengths)) + " |",
        "|" + " --- |" * len(lengths),
        "| " + " | ".join(f"{share:.0%}" for share in lengths.values()) + " |",
        "",
        "[frames_as.md](frames_as.md) has SFT with frames as images and as video.",
    ]
    return "\n".join(lines).rstrip() + "\n"


def _line(name: str, rows: list[dict], head: list[str]) -> str:
    columns = ([row[key] * (100 if key in demo.METRICS else 1) for row in rows] for key in head)
    digits = [".1f" if key in demo.METRICS else ".0f" for key in head]
    return f"| {name} | {' | '.join(map(_mean, columns, digits))} |"


def _mean(values: list[float], form: str) -> str:
    """Mean ± standard deviation; one value has no deviation."""
    mean = format(np.mean(values), form)
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):{form.lstrip('+')}}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/seeds"), help="folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--longer", type=int, nargs="*", help="seeds of SFT for as long; all")
    parser.add_argument("--informed", action="store_true", help="a row that takes as long again")
    parser.add_argument("--smoke", action="store_true", help="the demo's smallest size")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every seed's scores here")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page here as well")
    args = parser.parse_args()
    longer = args.seeds if args.longer is None else args.longer
    results = []
    for seed in args.seeds:
        extra = ["longer"] * (seed in longer) + ["informed"] * args.informed
        results.append(run_seed(args.out / f"seed{seed}", seed, args.smoke, extra))
    if args.json:
        write_json(args.json, dict(zip(map(str, args.seeds), results, strict=True)))
    publish(page(args.out, args.seeds, results, args.smoke), args.write)


if __name__ == "__main__":
    main()
