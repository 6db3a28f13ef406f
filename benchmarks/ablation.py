"""The paper's ablation on the demo's clips, with error bars, and what the paper never ran.

For each seed the demo's SFT makes one checkpoint. Every row is a GRPO run from there that differs
from `full` (the paper's rewards and its credit) in one setting, scored on the demo's test clips.
No setting was chosen by these scores. Runs are made two at a time, each on one thread, and are
kept: what is done is not done again, and a run that was stopped goes on.

Run: python benchmarks/ablation.py --seeds 0 1 2 3 4 [--rows full parts] [--out DIR] [--json FILE]
     python benchmarks/ablation.py --json FILE --write docs/ablation.md     the page alone
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from stvgkit import demo
from stvgkit.files import replacing, write_json
from stvgkit.viewing.widgets.group_inspector import read_groups

BUDGET = demo.FULL  # so that the row `full` is the run of `stvgkit demo`
ALL_SEEDS, THREE = 5, 3  # seeds of the paper's rows and of the credits; of the others
# Two-sided 95 % points of Student's t distribution for n - 1 degrees of freedom.
T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}
SHOWN = ("m_tIoU", "m_vIoU")


@dataclass(frozen=True)
class Row:
    """One line of the table: what is changed, and the paper's m_tIoU and m_vIoU (Tab. 5-8)."""

    title: str
    change: dict = field(default_factory=dict)
    paper: tuple[float, float] | None = None
    seeds: int = THREE


def _weights(**changed: float) -> dict:
    weights = dict(format=1.0, consistency=1.0, temporal=1.0, spatial=1.0, think=0.5) | changed
    return {"reward_weights": list(weights.values())}


def _group(size: int) -> dict:
    """Groups of another size; the number of answers in a step stays the same."""
    return {"num_generations": size}


# The paper: HC-STVG v1, Qwen2.5-VL-7B, one run each.
ROWS = {
    "full": Row("full: the paper's five rewards and credit", {}, (60.3, 44.1), ALL_SEEDS),
    "no-think-reward": Row("without think reward", _weights(think=0.0), (59.3, 42.2), ALL_SEEDS),
    "no-think-boxes": Row("without think boxes", {"think": False}, (58.5, 41.8), ALL_SEEDS),
    "giou": Row("spatial reward: GIoU alone", {"spatial": "giou"}, (58.6, 40.6), ALL_SEEDS),
    "l1": Row("spatial reward: L1 alone", {"spatial": "l1"}, (58.5, 39.9), ALL_SEEDS),
    "lambda-0.2": Row("λ_k = 0.2", _weights(think=0.2), (59.5, 42.5), ALL_SEEDS),
    "lambda-1.0": Row("λ_k = 1.0", _weights(think=1.0), (60.5, 43.8), ALL_SEEDS),
    "to-go": Row("credit: to-go", {"credit": "to-go"}, None, ALL_SEEDS),
    "parts": Row("credit: parts", {"credit": "parts"}, None, ALL_SEEDS),
    "no-format": Row("without format reward", _weights(format=0.0)),
    "no-consistency": Row("without consistency reward", _weights(consistency=0.0)),
    "no-temporal": Row("without temporal reward", _weights(temporal=0.0)),
    "groups-of-2": Row("groups of 2 answers", _group(2)),
    "groups-of-4": Row("groups of 4 answers", _group(4)),
    "groups-of-16": Row("groups of 16 answers", _group(16)),
    "beta-0.02": Row("β = 0.02", {"beta": 0.02}),
}


def run_one(out: Path, name: str, seed: int) -> None:
    """Train and score one row from one seed's start, or the start itself (`sft`)."""
    from stvgkit.training.models import TINY
    from stvgkit.training.trainers import grpo, sft

    budget = BUDGET
    train, test = (demo.read_split(out, split, budget.clips[split]) for split in ("train", "test"))
    settings = budget.grpo | change_of(name)
    think = settings.pop("think", True)
    start = out / f"seed{seed}" / start_of(think)
    folder = out / f"seed{seed}" / name

    def work(folder: Path):
        if name == start.name:
            shown = train[: budget.shown]
            model = demo.tune(sft, TINY, shown, folder, seed=seed, think=think, **budget.sft)
        else:
            unshown = train[budget.shown :]
            model = demo.tune(grpo, str(start), unshown, folder, seed=seed, **settings)
        return demo.evaluate(model, test, folder)

    demo.measured(folder, work)


def start_of(think: bool) -> str:
    """The SFT run that a row starts from; without think boxes it is one of its own."""
    return "sft" if think else "sft-no-think"


def change_of(name: str) -> dict:
    return {"think": False} if name == "sft-no-think" else ROWS[name].change if name in ROWS else {}


def run_all(out: Path, rows: list[str], seeds: list[int], processes: int) -> None:
    """Every run that is asked for and not there yet; the starts come first."""
    wanted = [(name, seed) for seed in seeds for name in rows if seed < ROWS[name].seeds]
    starts = {(start_of(change_of(name).get("think", True)), seed) for name, seed in wanted}
    demo.read_split(out, "train", BUDGET.clips["train"])  # once, not by two runs at a time
    demo.read_split(out, "test", BUDGET.clips["test"])
    bar = tqdm(total=len(starts) + len(wanted), desc="runs")
    for jobs in (sorted(starts), wanted):
        with ThreadPoolExecutor(processes) as pool:
            for name, seed, code in pool.map(lambda job: _start(out, *job), jobs):
                bar.update()
                if code:
                    log = out / f"seed{seed}" / f"{name}.txt"
                    raise SystemExit(f"{name}, seed {seed} failed; {log} says why")


def _start(out: Path, name: str, seed: int) -> tuple[str, int, int]:
    folder = out / f"seed{seed}"
    if (folder / name / "metrics.json").exists():
        return name, seed, 0
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--out", str(out), "--one", name, str(seed)]
    with (folder / f"{name}.txt").open("w") as log:
        one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=one_thread)
    return name, seed, done.returncode


def gather(out: Path) -> dict:
    """Scores of every finished run: `{"steps", "shown", "seeds": {seed: {row: metrics}}}`.

    `before` are those on the clips whose answer parsed at the run's start, `form_share` is how much
    of the rewards' variance inside groups is explained by whether an answer parses.
    """
    seeds: dict[str, dict] = {}
    test = demo.read_split(out, "test", BUDGET.clips["test"])
    for path in sorted(out.glob("seed*/*/metrics.json")):
        seed, name = path.parts[-3].removeprefix("seed"), path.parts[-2]
        if name not in ROWS and not name.startswith("sft"):
            continue
        row = json.loads(path.read_text())
        kept = {key: row[key] for key in (*demo.METRICS, "unparsed", "samples", "seconds")}
        start = start_of(change_of(name).get("think", True))
        before = demo.parsed_before(path.parents[1], test, (start, name))[name]
        if (path.parent / "groups.jsonl").exists():
            kept["form_share"] = form_share(read_groups(path.parent / "groups.jsonl"))
        kept["before"] = {key: before[key] for key in (*demo.METRICS, "samples")}
        seeds.setdefault(seed, {})[name] = kept
    return {"steps": BUDGET.grpo["max_steps"], "shown": BUDGET.shown, "seeds": seeds}


def form_share(groups: list) -> float:
    """Variance between parsed and broken answers of a group, as a share of the group's variance."""
    between = within = 0.0
    for group in groups:
        total, parsed = np.array(group["total"]), np.array(group["rewards"]["format"]) == 1
        within += float(((total - total.mean()) ** 2).sum())
        for kind in (parsed, ~parsed):
            if kind.any():
                between += float(kind.sum() * (total[kind].mean() - total.mean()) ** 2)
    return between / within


def page(results: dict) -> str:
    """The table as Markdown: mean and paired 95 % interval of each row against `full`."""
    seeds = results["seeds"]
    lines = [
        "# The paper's ablation, with error bars",
        "",
        "Generated by `python benchmarks/ablation.py --json data_samples/logs/ablation.json "
        "--write docs/ablation.md`.",
        "",
        f"Our runs: the tiny model on generated clips. SFT on {results['shown']} clips, then "
        f"{results['steps']} steps of GRPO on other clips. 256 test clips, protocol *default*, "
        "scores in per cent. Each row changes one setting of the first row.",
        "",
        "The paper's runs (STVG-o1, Tab. 5 to 8): Qwen2.5-VL-7B on HC-STVG v1, one run each, no "
        "error bars. Numbers of the two columns cannot be compared; the signs of the differences "
        "can.",
        "",
        "± is half of the 95 % interval of the mean difference to *full*, paired by seed. A "
        "difference whose interval holds 0 is *not told apart*.",
        "",
        "| row | seeds | m_tIoU | m_vIoU | difference in m_vIoU | the paper's | in words |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    starts = {seed: rows["sft"] for seed, rows in seeds.items() if "sft" in rows}
    if starts:
        means = [100 * np.mean([row[name] for row in starts.values()]) for name in SHOWN]
        lines.append(f"| SFT alone | {len(starts)} | {means[0]:.1f} | {means[1]:.1f} | | | |")
    lines += [_line(name, row, seeds) for name, row in ROWS.items()]
    return "\n".join(lines) + "\n"


def _line(name: str, row: Row, seeds: dict) -> str:
    pairs = [(rows[name], rows["full"]) for rows in seeds.values() if {name, "full"} <= set(rows)]
    paper = row.paper and row.paper[1] - ROWS["full"].paper[1]
    cell = "" if paper is None else f"{paper:+.1f}" if name != "full" else f"{row.paper[1]:.1f}"
    if not pairs:
        return f"| {row.title} | 0 | | | | {cell} | not run yet |"
    means = [100 * np.mean([mine[metric] for mine, _ in pairs]) for metric in SHOWN]
    head = f"| {row.title} | {len(pairs)} | {means[0]:.1f} | {means[1]:.1f} |"
    if name == "full":
        return f"{head} | {cell} | |"
    differences = [100 * (mine["m_vIoU"] - full["m_vIoU"]) for mine, full in pairs]
    mean, half = interval(differences)
    shown = f"{mean:+.1f}" + (f" ± {half:.1f}" if np.isfinite(half) else "")
    return f"{head} {shown} | {cell} | {in_words(mean, half, paper)} |"


def interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval; infinite for a single value.

    >>> interval([1.0, 2.0, 3.0])
    (2.0, 2.48...)
    """
    count = len(values)
    if count < 2:
        return float(np.mean(values)), float("inf")
    return float(np.mean(values)), T95[count] * float(np.std(values, ddof=1)) / count**0.5


def in_words(mean: float, half: float, paper: float | None) -> str:
    """One honest sentence about a row.

    >>> in_words(-3.0, 1.0, -1.9), in_words(-3.0, 4.0, -1.9), in_words(2.0, 1.0, None)
    ('Same direction as in the paper.', 'Not told apart.', 'Better than full.')
    """
    if abs(mean) <= half:
        return "Not told apart."
    if not paper:
        return "Better than full." if mean > 0 else "Worse than full."
    same = (mean > 0) == (paper > 0)
    return f"{'Same' if same else 'Opposite'} direction {'as in' if same else 'to'} the paper."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--out", type=Path, default=Path("out/ablation"), help="folder of the runs")
    parser.add_argument("--processes", type=int, default=2, help="runs at a time")
    parser.add_argument("--json", type=Path, help="write the scores here, or read them from here")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page here as well")
    parser.add_argument("--one", nargs=2, metavar=("ROW", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        run_one(args.out, args.one[0], int(args.one[1]))
        return
    if args.seeds:
        run_all(args.out, args.rows, args.seeds, args.processes)
        results = gather(args.out)
        if args.json:
            write_json(args.json, results)
    else:
        results = json.loads(args.json.read_text()) if args.json else gather(args.out)
    text = page(results)
    print(text)
    if args.write:
        with replacing(args.write) as file:
            file.write(text)


if __name__ == "__main__":
    main()
