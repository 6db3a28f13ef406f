"""The paper's ablation on the demo's clips, with error bars, and what the paper never ran.

For each seed the demo's SFT makes one checkpoint. Every row is a GRPO run from there that differs
from `full` (the paper's rewards and its credit) in one setting, scored on the demo's test clips.
A run takes a fifth of the demo's steps, at a lower rate, so that the whole takes one night.
No setting was chosen by these scores. Runs are made two at a time, each on one thread, and are
kept: what is done is not done again, and a run that was stopped goes on.

Run: python benchmarks/ablation.py --seeds 0 1 2 3 4 [--rows full parts] [--out DIR] [--json FILE]
     python benchmarks/ablation.py --json FILE --write docs/ablation.md     the page alone
"""

import csv
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from many_runs import (
    CLIPS,
    MOST_SEEDS,
    Run,
    check_start,
    finished,
    gained,
    interval,
    options,
    scores,
    undecided,
    with_half,
    work,
)

from stvgkit import demo
from stvgkit.datasets import Sample, data_samples
from stvgkit.predictions import Prediction, read_completions
from stvgkit.scoring import score_samples
from stvgkit.viewing.widgets.group_inspector import read_groups

SHORT = {"max_steps": 60, "save_steps": 20, "learning_rate": 7e-4, "warmup_steps": 0}
# Of every row that says nothing else. The paper does not tell its temperature; 1 is TRL's.
PAPER = {"credit": "whole", "temperature": 1.0}
BUDGET = replace(demo.FULL, clips=CLIPS, grpo=demo.FULL.grpo | SHORT | PAPER)
THREE = 3  # seeds of the rows that the paper does not have; its own have all
SHOWN = ("m_tIoU", "m_vIoU")


@dataclass(frozen=True)
class Row:
    """One line of the table: what is changed, and what the paper calls it in its Tab. 5 to 8."""

    title: str
    change: dict = field(default_factory=dict)
    paper: str | None = None

    @property
    def seeds(self) -> int:
        return MOST_SEEDS if self.paper or "credit" in self.change else THREE


def _weights(**changed: float) -> dict:
    weights = dict(format=1.0, consistency=1.0, temporal=1.0, spatial=1.0, think=0.5) | changed
    return {"reward_weights": list(weights.values())}


def _group(size: int) -> dict:
    """Groups of another size; the number of answers in a step stays the same."""
    return {"num_generations": size}


FULL_OF_PAPER = "full (RFT, think boxes, GIoU + L1, λ_k = 0.5)"
ROWS = {
    "full": Row("full: the paper's five rewards and credit", {}, FULL_OF_PAPER),
    "no-think-reward": Row("without think reward", _weights(think=0.0), "without the think reward"),
    "no-think-boxes": Row("without think boxes", {"think": False}, "RFT, no think boxes"),
    "giou": Row("spatial reward: GIoU alone", {"spatial": "giou"}, "spatial reward: GIoU only"),
    "l1": Row("spatial reward: L1 alone", {"spatial": "l1"}, "spatial reward: L1 only"),
    "lambda-0.2": Row("λ_k = 0.2", _weights(think=0.2), "λ_k = 0.2"),
    "lambda-1.0": Row("λ_k = 1.0", _weights(think=1.0), "λ_k = 1.0"),
    "to-go": Row("credit: to-go", {"credit": "to-go"}),
    "parts": Row("credit: parts", {"credit": "parts"}),
    "boxes": Row("credit: boxes", {"credit": "boxes"}),
    "no-format": Row("without format reward", _weights(format=0.0)),
    "no-consistency": Row("without consistency reward", _weights(consistency=0.0)),
    "no-temporal": Row("without temporal reward", _weights(temporal=0.0)),
    "groups-of-2": Row("groups of 2 answers", _group(2)),
    "groups-of-4": Row("groups of 4 answers", _group(4)),
    "groups-of-16": Row("groups of 16 answers", _group(16)),
    "beta-0.02": Row("β = 0.02", {"beta": 0.02}),
}
SETTINGS = {
    "clips": BUDGET.clips,
    "shown": BUDGET.shown,
    "sft": BUDGET.sft,
    "grpo": BUDGET.grpo,
    "rows": {name: row.change for name, row in ROWS.items()},
}


def paper_scores() -> dict[str, dict[str, float]]:
    """The paper's scores by its names: HC-STVG v1, Qwen2.5-VL-7B, one run each."""
    with (data_samples() / "paper" / "ablations.csv").open(encoding="utf-8") as file:
        return {
            line["variant"]: {metric: float(line[metric]) for metric in SHOWN}
            for line in csv.DictReader(file)
        }


def run_one(out: Path, name: str, seed: int) -> None:
    """Train and score one row from one seed's start, or the start itself (`sft`)."""
    from stvgkit.training.models import TINY
    from stvgkit.training.trainers import grpo, sft

    budget = BUDGET
    train, test = (demo.read_split(out, split, budget.clips[split]) for split in ("train", "test"))
    settings = budget.grpo | change_of(name)
    think = settings.pop("think", True)
    start = out / f"seed{seed}" / start_of(name)
    folder = out / f"seed{seed}" / name

    def train_and_score(folder: Path):
        if name == start.name:
            shown = train[: budget.shown]
            model = demo.tune(sft, TINY, shown, folder, seed=seed, think=think, **budget.sft)
        else:
            unshown = train[budget.shown :]
            model = demo.tune(grpo, str(start), unshown, folder, seed=seed, **settings)
        return demo.evaluate(model, test, folder)

    demo.measured(folder, train_and_score)


def start_of(name: str) -> str:
    """The SFT run that a row starts from; without think boxes it is one of its own."""
    return "sft" if change_of(name).get("think", True) else "sft-no-think"


def change_of(name: str) -> dict:
    return {"think": False} if name == "sft-no-think" else ROWS[name].change if name in ROWS else {}


def stages(
    names: list[str], seeds: list[int], out: Path, done: Set[Run] = frozenset()
) -> list[list[Run]]:
    """The runs of these rows that are not done, after the starts that they need."""
    asked = [(name, seed) for seed in seeds for name in names if seed < ROWS[name].seeds]
    wanted = [run for run in asked if run not in done]
    starts = {(start_of(name), seed) for name, seed in wanted}
    for start in sorted(starts):
        check_start(out, start, done)
    return [sorted(starts), wanted]


def gather(out: Path) -> dict:
    """Scores of every finished run, `{seed: {row: metrics}}`."""
    return finished(out, partial(read_run, demo.read_split(out, "test", BUDGET.clips["test"])))


def read_run(test: Sequence[Sample], folder: Path) -> dict:
    """The scores of a run, and how it differs from its start, and from `full`, in accuracy alone.

    `over` has the differences, `broken` is how many answers parsed at the start and do not after
    the run. `form_share` is how much of the rewards' variance inside groups is explained by whether
    an answer parses.
    """

    def read(name: str) -> dict[str, Prediction]:
        return read_completions(folder.with_name(name) / "predictions.jsonl")

    row = scores(folder)
    start = start_of(folder.name)
    if folder.name == start:
        return row
    mine, before = read(folder.name), read(start)
    row["broken"] = sum(
        told.tube is not None and mine[name].tube is None for name, told in before.items()
    )
    row["over"] = {"start": difference(test, mine, before)}
    if folder.name != "full" and (folder.with_name("full") / "metrics.json").exists():
        row["over"]["full"] = difference(test, mine, read("full"), before)
    groups = folder / "groups.jsonl"
    return row | {"form_share": form_share(read_groups(groups)) if groups.exists() else None}


def difference(test: Sequence[Sample], mine: dict, other: dict, *others: dict) -> dict:
    """`mine` less `other` on the clips whose answers parse in all of these runs.

    None where there is no such clip.
    """
    kept = [
        sample
        for sample in test
        if all(told[sample.id].tube is not None for told in (mine, other, *others))
    ]
    ours, theirs = (score_samples(kept, told).metrics for told in (mine, other))
    found = {metric: ours[metric] - theirs[metric] if kept else None for metric in SHOWN}
    return found | {"samples": len(kept)}


def form_share(groups: list) -> float | None:
    """Variance between parsed and broken answers of a group, as a share of the group's variance.

    None where the answers of every group are paid alike.
    """
    between = within = 0.0
    for group in groups:
        total, parsed = np.array(group["total"]), np.array(group["rewards"]["format"]) == 1
        within += float(((total - total.mean()) ** 2).sum())
        for kind in (parsed, ~parsed):
            if kind.any():
                between += float(kind.sum() * (total[kind].mean() - total.mean()) ** 2)
    return between / within if within else None


def page(results: dict) -> str:
    """The tables as Markdown: mean and paired 95 % interval of each row against `full`."""
    seeds, paper = results["seeds"], paper_scores()
    full = paper[FULL_OF_PAPER]
    settings = results["grpo"]
    run = [name for name in ROWS if _pairs(name, seeds)]
    return "\n".join(
        [
            "# The paper's ablation, with error bars",
            "",
            "Generated by `python benchmarks/ablation.py --json data_samples/logs/ablation.json "
            "--write docs/ablation.md`.",
            "",
            f"Our runs: the tiny model on generated clips. SFT on {results['shown']} clips, then "
            f"{settings['max_steps']} steps of GRPO at temperature {settings['temperature']:g} on "
            f"other clips. {results['clips']['test']} test clips, protocol *default*, scores in "
            f"per cent. Each row changes one setting of *full*.{_own_start(seeds)}",
            "",
            "The paper's runs (STVG-o1, Tab. 5 to 8): Qwen2.5-VL-7B on HC-STVG v1, one run each, "
            f"no error bars. Its full method has m_tIoU {full['m_tIoU']} and m_vIoU "
            f"{full['m_vIoU']}. Its scores and ours cannot be compared. The signs of the "
            "differences to *full* can.",
            "",
            "± is half of the 95 % interval of the mean difference, paired by seed. It covers the "
            "seeds, not the choice of the test clips. A difference whose interval holds 0 is *not "
            "told apart*. One in twenty of such intervals misses by chance. Scores are means over "
            "the seeds that the row has.",
            "",
            "## All clips",
            "",
            "| row | seeds | m_tIoU | m_vIoU | to full, m_tIoU | the paper's | to full, m_vIoU | "
            "the paper's | in words |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *(f"| {title} | {_scores(found)} | | | | | |" for title, found in _starts(seeds)),
            *(_line(ROWS[name], _pairs(name, seeds), paper) for name in run),
            *_not_run(seeds),
            "",
            *_accuracy(run, seeds),
            "",
        ]
    )


def _own_start(seeds: dict) -> str:
    """How far the start of the row without think boxes is ahead of the others' start."""
    pairs = [(of["sft-no-think"], of["sft"]) for of in seeds.values() if "sft-no-think" in of]
    if not pairs:
        return ""
    lead = gained([own["m_vIoU"] - other["m_vIoU"] for own, other in pairs])
    return (
        " *Without think boxes* starts from an SFT of its own, which never saw think boxes. Before "
        f"any GRPO this start differs from the other by {lead} points of m_vIoU, so "
        "not all of the row's difference to *full* comes from GRPO."
    )


def _starts(seeds: dict) -> list[tuple[str, list[dict]]]:
    titles = {"sft": "SFT alone", "sft-no-think": "SFT alone, without think boxes"}
    rows = {name: [of[name] for of in seeds.values() if name in of] for name in titles}
    return [(titles[name], found) for name, found in rows.items() if found]


def _not_run(seeds: dict) -> list[str]:
    """Which rows are not there with all their seeds, by the names that `--rows` takes."""
    counts = {name: len(_pairs(name, seeds)) for name in ROWS}
    missing = [
        f"- `{name}`: {count} of {ROWS[name].seeds} seeds are there"
        for name, count in counts.items()
        if count < ROWS[name].seeds
    ]
    return ["", "Still to be run:", "", *missing] if missing else []


def _accuracy(names: list[str], seeds: dict) -> list[str]:
    """What each row gains over its start, and over `full`, where the form plays no part."""
    lines = [
        "## Clips whose answer parses before and after",
        "",
        "What is gained here is accuracy and not form. *To the start* takes the clips whose answer "
        "parses at the row's own start and after the row. *To full* takes those that parse after "
        "*full* as well. So a row leaves out the clips that it broke itself, and one that breaks "
        "many is judged on fewer; *broken* counts them, as a mean over the seeds. *Form* is the "
        "share of the variance of R inside groups that 'parses or not' explains, in the groups of "
        "that run.",
        "",
        "| row | seeds | broken | to the start, m_tIoU | to the start, m_vIoU | to full, m_tIoU | "
        "to full, m_vIoU | form |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in names:
        rows = [of[name] for of in seeds.values() if {name, "full"} <= set(of)]
        gains = [
            "" if name == other else gained([_over(row, other, metric) for row in rows])
            for other in ("start", "full")
            for metric in SHOWN
        ]
        broken = f"{np.mean([row['broken'] for row in rows]):.1f}"
        shares = [row["form_share"] for row in rows if row["form_share"] is not None]
        form = f"{np.mean(shares):.0%}" if shares else "-"
        cells = [str(len(rows)), broken, *gains, form]
        lines.append(f"| {ROWS[name].title} | {' | '.join(cells)} |")
    return lines


def _over(row: dict, other: str, metric: str) -> float | None:
    """None where the row was gathered on a machine that does not have the other run."""
    return row["over"][other][metric] if other in row["over"] else None


def _pairs(name: str, seeds: dict) -> list[tuple[dict, dict]]:
    """A row's scores and those of `full`, for each seed that has both."""
    return [(rows[name], rows["full"]) for rows in seeds.values() if {name, "full"} <= set(rows)]


def _scores(rows: list[dict]) -> str:
    means = [f"{100 * np.mean([row[metric] for row in rows]):.1f}" for metric in SHOWN]
    return " | ".join([str(len(rows)), *means])


def _line(row: Row, pairs: list[tuple[dict, dict]], paper: dict) -> str:
    head = f"| {row.title} | {_scores([mine for mine, _ in pairs])} |"
    if row is ROWS["full"]:
        return f"{head} | | | | |"
    cells, words = [], []
    for metric in SHOWN:
        ours = interval([100 * (mine[metric] - full[metric]) for mine, full in pairs])
        theirs = paper[row.paper][metric] - paper[FULL_OF_PAPER][metric] if row.paper else None
        cells += [with_half(*ours), "" if theirs is None else f"{theirs:+.1f}"]
        words.append(in_words(*ours, theirs))
    return f"{head} {' | '.join(cells)} | {sentence(words)} |"


def in_words(mean: float, half: float, paper: float | None) -> str:
    """What a difference to full says, with its interval and the paper's own difference.

    >>> in_words(-3.0, 1.0, -1.9), in_words(-3.0, 4.0, -1.9), in_words(2.0, 1.0, None)
    ('same direction as in the paper', 'not told apart', 'better than full')
    >>> in_words(-3.0, float("inf"), -1.9)
    'one seed says nothing yet'
    """
    if why := undecided(mean, half):
        return why
    if not paper:
        return "better than full" if mean > 0 else "worse than full"
    return "same direction as in the paper" if mean * paper > 0 else "opposite to the paper"


def sentence(words: list[str]) -> str:
    """One sentence about both metrics.

    >>> sentence(["not told apart", "not told apart"])
    'Not told apart.'
    >>> sentence(["not told apart", "worse than full"])
    'In m_tIoU not told apart, in m_vIoU worse than full.'
    """
    if words[0] == words[1]:
        return f"{words[0].capitalize()}."
    return f"In m_tIoU {words[0]}, in m_vIoU {words[1]}."


def main() -> None:
    parser = options(__doc__, "out/ablation")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    args = parser.parse_args()
    wanted = partial(stages, args.rows, args.seeds, args.out)
    work(args, wanted, run_one, gather, page, SETTINGS)


if __name__ == "__main__":
    main()
