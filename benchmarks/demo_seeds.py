"""Is GRPO's gain its own? The demo on several seeds, and SFT that goes on for as long instead.

For each seed: `stvgkit demo`, then its two checkpoints on test clips that nothing was chosen by,
and the same SFT continued from its checkpoint for as many steps as fit into the time that GRPO
trained, with the answers that it was shown before ("SFT for as long", the baseline; `--longer`
names its seeds where not all are wanted). The page has every row's mean and standard deviation over
the seeds, the gains seed by seed with their 95 % intervals, and seconds.

Run: python benchmarks/demo_seeds.py --seeds 0 1 2 [--longer 0]
         [--json data_samples/logs/demo_seeds.json] [--write docs/results.md]
     python benchmarks/demo_seeds.py --json FILE --write docs/results.md     the page alone
"""

import json
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from many_runs import (
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
from stvgkit.datasets import Sample
from stvgkit.datasets.shapes import STEPS, STRIDE
from stvgkit.files import write_json
from stvgkit.grammar import time_numbers
from stvgkit.predictions import read_completions
from stvgkit.scoring import sample_scores
from stvgkit.training.models import load
from stvgkit.training.trainers import sft
from stvgkit.tubes import Span
from stvgkit.viewing.widgets.group_inspector import read_groups

ROWS = demo.ROWS | {"longer": "SFT for as long as SFT + GRPO"}
BUDGET = demo.FULL
TESTED = BUDGET.clips["test"]
CLIPS = {"test": 2 * TESTED}  # the second half is fresh: no choice has seen it


def stages(
    seeds: Sequence[int],
    longer: Sequence[int],
    out: Path,
    done: Set[Run] = frozenset(),
) -> list[list[Run]]:
    """The demos, then what starts from their checkpoints, where that is not done."""
    after = [("fresh", seed) for seed in seeds]
    after += [("longer", seed) for seed in seeds if seed in longer]
    wanted = [run for run in after if run not in done]
    for _, seed in wanted:
        check_start(out, ("demo", seed), done)
    return [[("demo", seed) for seed in seeds if ("demo", seed) not in done], wanted]


def run_one(out: Path, name: str, seed: int) -> None:
    """Make the run `demo`, `fresh` or `longer` of a seed."""
    folder = out / f"seed{seed}" / name
    if name == "demo":
        demo.run(folder, seed=seed)
    elif name == "fresh":
        score_fresh(folder, demo.read_split(out, "test", CLIPS["test"])[TESTED:])
    else:
        demo.measured(folder, partial(train_longer, seed=seed))


def score_fresh(folder: Path, samples: Sequence[Sample]) -> None:
    """The two checkpoints of the demo beside `folder` on clips that no choice has seen."""
    made = folder.with_name("demo")
    rows = {
        step: demo.measured(
            folder / step, lambda own: demo.evaluate(load(str(made / own.name)), samples, own)
        )
        for step in demo.TUNED
    }
    found = {"rows": rows, "parsed_before": demo.parsed_before(folder, samples)}
    write_json(folder / "metrics.json", found)


def train_longer(folder: Path, *, seed: int):
    """SFT goes on from the demo's checkpoint for the seconds that GRPO trained."""
    made = folder.with_name("demo")
    share = train_seconds(made / "grpo") / train_seconds(made / "sft")
    settings = BUDGET.sft | {"max_steps": max(1, round(share * BUDGET.sft["max_steps"]))}
    train, test = (demo.read_split(made, split, BUDGET.clips[split]) for split in ("train", "test"))
    shown = train[: BUDGET.shown]
    model = demo.tune(sft, str(made / "sft"), shown, folder, seed=seed + 1000, **settings)
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
    told = {row: read_completions(out / row / "predictions.jsonl") for row in demo.TUNED}
    after, before = (sample_scores(samples, told[row])["vIoU"] for row in ("grpo", "sft"))
    broken = np.array([told["sft"][sample.id].tube is None for sample in samples])
    gain = (after - before) / len(samples)
    return {"broken": float(gain[broken].sum()), "parsed": float(gain[~broken].sum())}


def form_by_length(folder: Path) -> dict[str, dict[str, int]]:
    """Answers in GRPO's first quarter, and the broken ones, by the number of frames they name.

    Those that name no time, or one of no possible length, are under `none`.
    """
    counts: dict[str, Counter] = {str(n): Counter() for n in range(1, STEPS + 1)}
    counts["none"] = Counter()
    groups = read_groups(folder / "groups.jsonl")
    for group in groups[: max(1, len(groups) // 4)]:
        for text, keeps in zip(group["completions"], group["rewards"]["format"], strict=True):
            time = [int(text[slice(*place)]) for place in time_numbers(text)]
            length = str(time[1] - time[0] + 1) if time else "none"
            of_length = counts.get(length, counts["none"])
            of_length.update(answers=1, broken=int(not keeps))
    return {length: dict(found) for length, found in counts.items() if found}


def gather(out: Path) -> dict:
    """Scores of every run that is there, `{seed: {"demo", "fresh", "longer"}}`."""
    return finished(out, read_run)


def read_run(folder: Path) -> dict:
    """The scores of a run; of a demo also what its answers and groups are like."""
    if folder.name == "longer":
        return scores(folder) | {"trained": train_seconds(folder)}
    metrics = json.loads((folder / "metrics.json").read_text())
    if folder.name == "fresh":
        return metrics
    test = demo.read_split(folder, "test", TESTED)
    return {key: metrics[key] for key in ("rows", "novel", "parsed_before", "pass@8")} | {
        "constant_span": constant_span(test),
        "gain_by_form": gain_by_form(folder, test),
        "trained": train_seconds(folder / "grpo"),
        "spatial_at_start": spatial_at_start(folder / "grpo"),
        "form_by_length": form_by_length(folder / "grpo"),
    }


def page(results: dict) -> str:
    """What was measured, as Markdown."""
    seeds = {seed: runs for seed, runs in results["seeds"].items() if "demo" in runs}
    if not seeds:
        raise SystemExit("no demo is done yet: give --seeds")
    demos = [runs["demo"] for runs in seeds.values()]
    fresh = [runs["fresh"] for runs in seeds.values() if "fresh" in runs]
    return "\n".join(
        [
            "# Results of the demo",
            "",
            "Generated by `python benchmarks/demo_seeds.py --json data_samples/logs/demo_seeds.json"
            " --write docs/results.md`.",
            "",
            f"`stvgkit demo` with the seeds {', '.join(seeds)}: {TESTED} test clips, protocol "
            "*default*, scores in per cent. The shipped base model is the same for all. The seeds "
            "differ in the order of the data and in what GRPO samples. Two runs were made at a "
            "time, one thread each.",
            "",
            "A score is given as mean ± standard deviation over the seeds. A gain is given as mean "
            "± half of its 95 % interval, paired by seed, with the gain of each seed. Both cover "
            "the seeds, not the choice of the test clips.",
            "",
            *_all_clips(list(seeds.values())),
            "",
            *_parsed_before([rows["parsed_before"] for rows in demos]),
            "",
            *_fresh(fresh),
            *_held_out([rows["novel"] for rows in demos]),
            "",
            *_best_of_eight(demos),
            "",
            *_what_else(demos),
            "",
            *_form_by_length([rows["form_by_length"] for rows in demos]),
            "",
            "## See also",
            "",
            "- [imitation.md](imitation.md): SFT against GRPO at equal time, over the number of "
            "clips with answers.",
            "- [ablation.md](ablation.md): rewards, credits, sizes of the group and β.",
            "- [frames_as.md](frames_as.md): SFT with frames as images and as video.",
            "",
            "![SFT that goes on and GRPO, over the number of clips with answers](imitation.png)",
            "",
        ]
    )


def _all_clips(seeds: list[dict]) -> list[str]:
    """The rows, and what SFT + GRPO gains over the others, seed by seed."""
    flat = [
        runs["demo"]["rows"] | ({"longer": runs["longer"]} if "longer" in runs else {})
        for runs in seeds
    ]
    scored = {row: [rows[row] for rows in flat if row in rows] for row in ROWS}
    names = {}
    for row, found in scored.items():
        count = "1 seed" if len(found) == 1 else f"{len(found)} seeds"
        names[row] = ROWS[row] + (f" ({count})" if len(found) < len(flat) else "")
    head = [*demo.METRICS, "unparsed", "seconds"]
    lines = _head(head) + [_line(names[row], found, head) for row, found in scored.items() if found]
    lines += [
        "",
        *_equal_time(seeds),
        "## Gain of SFT + GRPO, seed by seed",
        "",
        *_head(demo.METRICS, "over"),
    ]
    for row in ("sft", "longer"):
        if scored[row]:
            both = [rows for rows in flat if row in rows]
            lines.append(_gains(names[row], [(rows["grpo"], rows[row]) for rows in both]))
    return lines


def _equal_time(seeds: list[dict]) -> list[str]:
    """What SFT for as long is, and how long it trained."""
    spent = [
        f"{runs['longer']['trained']:.0f} ({runs['demo']['trained']:.0f})"
        for runs in seeds
        if "longer" in runs
    ]
    if not spent:
        return []
    return [
        "*SFT for as long* goes on from the SFT checkpoint for as many steps as fit into the "
        "seconds that GRPO trained, at the pace of the first SFT. Its learning rate begins anew. "
        f"Seconds of training, with GRPO's of the same seed in brackets: {', '.join(spent)}.",
        "",
    ]


def _parsed_before(parsed: list[dict]) -> list[str]:
    head = [*demo.METRICS, "unparsed", "samples"]
    return [
        "## Clips whose answer parsed after SFT",
        "",
        "Their form was right before, so what GRPO gains on them is accuracy. The few that it "
        "breaks count as 0; *unparsed* is how many these are.",
        "",
        *_head([*head[:-1], "clips"]),
        *(_line(ROWS[row], [rows[row] for rows in parsed], head) for row in demo.TUNED),
        _gains("gain", [(rows["grpo"], rows["sft"]) for rows in parsed]),
    ]


def _gains(name: str, pairs: Sequence[tuple[dict, dict]]) -> str:
    """A line with the difference of two rows in points, with its interval, and seed by seed."""
    cells = []
    for metric in demo.METRICS:
        gains = [_less(mine[metric], other[metric]) for mine, other in pairs]
        each = f" ({', '.join(gained([gain]) for gain in gains)})" if len(gains) > 1 else ""
        cells.append(gained(gains) + each)
    return f"| {name} | {' | '.join(cells)} |"


def _fresh(fresh: list[dict]) -> list[str]:
    """Test clips that were scored once, at the end."""
    if not fresh:
        return []
    head = [*demo.METRICS, "unparsed"]
    rows = [runs["rows"] for runs in fresh]
    parsed = [runs["parsed_before"] for runs in fresh]
    return [
        f"## {rows[0]['sft']['samples']} fresh test clips",
        "",
        "Earlier versions of the demo were scored on the test clips above too. So here are the "
        f"same checkpoints on other test clips ({len(fresh)} seeds). These were scored once, when "
        "everything was chosen.",
        "",
        *_head(head),
        *(_line(ROWS[row], [of[row] for of in rows], head) for row in demo.TUNED),
        "",
        *_head(demo.METRICS, "gain of SFT + GRPO"),
        _gains("all of them", [(of["grpo"], of["sft"]) for of in rows]),
        _gains("those that parsed after SFT", [(of["grpo"], of["sft"]) for of in parsed]),
        "",
    ]


def _held_out(novel: list[dict]) -> list[str]:
    head = [*demo.METRICS, "unparsed", "seconds"]
    clips = novel[0]["sft"]["samples"]
    return [
        f"## Colours, shapes and motions held out of training ({clips} clips)",
        "",
        *_head(head),
        *(_line(ROWS[row], [rows[row] for rows in novel], head) for row in demo.TUNED),
    ]


def _best_of_eight(demos: list[dict]) -> list[str]:
    """pass@8: whether a model can say more than before, or only picks better."""
    best = [_mean([100 * rows["pass@8"][row] for rows in demos], ".1f") for row in demo.TUNED]
    mean, half = interval([100 * (of["pass@8"]["grpo"] - of["pass@8"]["sft"]) for of in demos])
    why, link = undecided(mean, half), "and" if len(demos) == 1 else "so the two are"
    said = f"The gain is {with_half(mean, half)} points" + (f", {link} {why}" if why else "")
    return [
        "## Best of eight",
        "",
        f"To each of the first {demo.TRIED} test clips, {demo.TRIES} answers were sampled at "
        f"temperature {demo.TEMPERATURE:g}. The best of each has m_vIoU {best[0]} after SFT and "
        f"{best[1]} after SFT + GRPO. {said}.",
    ]


def _what_else(demos: list[dict]) -> list[str]:
    seconds = [sum(rows["rows"][row]["seconds"] for row in demo.ROWS) for rows in demos]
    spatial = [rows["spatial_at_start"] for rows in demos]
    broken, parsed = (
        _mean([100 * rows["gain_by_form"][form] for rows in demos], ".1f")
        for form in ("broken", "parsed")
    )
    span = demos[0]["constant_span"]  # of the test clips, so the same for every seed
    return [
        "## Other figures",
        "",
        f"- Training and evaluation of the four rows: {_mean(seconds, '.1f')} s.",
        f"- Mean spatial reward R_s in GRPO's first quarter: {_mean(spatial, '.2f')}.",
        "- Points of m_vIoU that GRPO gains over SFT on clips whose SFT answer broke the format: "
        f"{broken}, on the others: {parsed}.",
        f"- For comparison, the one span that suits all test clips best, frames {span['start']} to "
        f"{span['end']} of {STEPS}, has m_tIoU {100 * span['m_tIoU']:.1f}.",
    ]


def _form_by_length(counts: list[dict[str, dict[str, int]]]) -> list[str]:
    """How often answers break, and which ones are most of the broken, over all seeds."""
    lengths = [*map(str, range(1, STEPS + 1)), "none"]
    answers, broken = (
        np.array([sum(of.get(n, {}).get(kind, 0) for of in counts) for n in lengths])
        for kind in ("answers", "broken")
    )
    shares = [f"{part:.0%}" for part in broken / np.maximum(answers, 1)]
    of_all = [f"{part:.0%}" for part in broken / max(1, broken.sum())]
    return [
        "## Which answers break",
        "",
        f"{answers.sum():,} answers were sampled in GRPO's first quarter, over all seeds, of which "
        f"{broken.sum():,} broke the format. By the number of frames that they name, of {STEPS}; "
        "*none* names no time, or one of no possible length:",
        "",
        *_head(lengths, "frames"),
        f"| answers | {' | '.join(map(str, answers))} |",
        f"| of these broken | {' | '.join(shares)} |",
        f"| share of all broken | {' | '.join(of_all)} |",
    ]


def _head(columns: Sequence[str], first: str = "") -> list[str]:
    return [f"| {first} | {' | '.join(columns)} |", "| --- |" + " --- |" * len(columns)]


def _line(name: str, rows: list[dict], head: Sequence[str]) -> str:
    cells = []
    for key in head:
        if key in demo.METRICS:
            found = [row[key] for row in rows if row[key] is not None]
            cells.append(_mean([100 * score for score in found], ".1f"))
        else:
            cells.append(_mean([row[key] for row in rows], ".0f"))
    return f"| {name} | {' | '.join(cells)} |"


def _less(mine: float | None, other: float | None) -> float | None:
    """The difference of two scores; None where there was no clip to score."""
    return None if mine is None or other is None else mine - other


def _mean(values: Sequence[float], form: str) -> str:
    """Mean ± standard deviation; one value has no deviation, and no value is a dash."""
    if not values:
        return "-"
    mean = format(np.mean(values), form)
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):{form}}"


def main() -> None:
    parser = options(__doc__, "out/seeds")
    parser.add_argument("--longer", type=int, nargs="*", help="seeds of SFT for as long; all")
    args = parser.parse_args()
    longer = args.seeds if args.longer is None else args.longer
    wanted = partial(stages, args.seeds, longer, args.out)
    work(args, wanted, run_one, gather, page, json.loads(json.dumps(asdict(BUDGET))), CLIPS)


if __name__ == "__main__":
    main()
