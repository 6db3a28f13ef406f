"""When does GRPO beat imitation? Over the number of clips with answers, at equal time.

The first N of the demo's training clips come with answers, and SFT learns from them: the start.
From there, time is spent in one of two ways:

    sft     SFT goes on with the same N clips
    grpo    GRPO on the other clips, whose answers score the model and are not shown to it; where
            there is no other clip (N is all of them), on the same clips

GRPO is the demo's, credit and all, in a quarter of its steps, so that the whole takes one night.

Equal time is equal CPU seconds of training, each run on one thread of its own process: SFT goes on
for as many steps as fit into the seconds of the GRPO run beside it, at the pace of its own start.
Seconds on a clock would count what else the machine does.

Everything is done twice: with the exact annotation of the generated clips, and with annotators who
err (`noisy`). GRPO's rewards are computed from the annotation, so it meets the same errors, and it
uses the annotation of all clips. Test clips are always exact.

Run: python benchmarks/imitation.py --seeds 0 1 2 [--numbers 64 256] [--annotators exact]
         [--out DIR] [--json data_samples/logs/imitation.json] [--write docs/imitation.md]
     python benchmarks/imitation.py --json FILE --write docs/imitation.md     the page alone, with
         the picture that it shows, imitation.png, beside it; that takes Chromium
"""

import json
import shutil
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from many_runs import CLIPS, Run, finished, gained, interval, options, scores, undecided, work
from pages import picture

from stvgkit import demo
from stvgkit.datasets import Sample
from stvgkit.datasets.shapes import STRIDE
from stvgkit.files import write_json
from stvgkit.tubes import Span, Tube
from stvgkit.viewing.plots import imitation_lines, imitation_scores

NUMBERS = (64, 128, 256, 672, CLIPS["train"])
SHORT = {"max_steps": 80, "save_steps": 80, "warmup_steps": 8}
BUDGET = replace(demo.FULL, clips=CLIPS, grpo=demo.FULL.grpo | SHORT)
SFT_STEPS = BUDGET.sft["max_steps"]
SEEDS = 3
ANNOTATORS = {"exact": "exact annotators", "noisy": "annotators who err"}
OFF = 1 / 3  # share of clips whose span is off by one shown frame
JITTER = 0.1  # how far an edge of a box moves at most, in widths and heights of the box
SETTINGS = {
    "clips": BUDGET.clips,
    "sft": BUDGET.sft,
    "grpo": BUDGET.grpo,
    "noisy": {"off": OFF, "jitter": JITTER},
}


def noisy(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """The samples as annotators who err would have marked them.

    In a third of the clips one end of the span, drawn by chance, is one shown frame too early or
    too late; a span is never emptied, nor moved out of its window. Every edge of every box moves by
    up to a tenth of the box's width or height, evenly distributed. A frame that is marked in excess
    gets the box of the nearest one.
    """
    rng = np.random.default_rng(seed)
    off = rng.permutation(len(samples)) < round(OFF * len(samples))
    return [_marked(sample, rng, moved) for sample, moved in zip(samples, off, strict=True)]


def _marked(sample: Sample, rng: np.random.Generator, moved: bool) -> Sample:
    span = _moved(sample, rng) if moved else sample.span
    frames = span.frames()
    nearest = np.abs(sample.tube.frames[None] - frames[:, None]).argmin(axis=1)
    boxes = sample.tube.boxes[nearest]
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)  # (n, 4): width, height, width, height
    boxes = boxes + sides * rng.uniform(-JITTER, JITTER, boxes.shape)
    return replace(sample, span=span, tube=Tube(frames, boxes.clip(0, 1)))


def _moved(sample: Sample, rng: np.random.Generator) -> Span:
    """The gold span with one end off by one shown frame, one of the ways that are possible."""
    start, end, window = sample.span.start, sample.span.end, sample.window
    ways = [(start + step, end) for step in (-STRIDE, STRIDE)]
    ways += [(start, end + step) for step in (-STRIDE, STRIDE)]
    possible = [Span(a, b) for a, b in ways if window.start <= a <= b <= window.end]
    return possible[rng.integers(len(possible))] if possible else sample.span


def run_one(out: Path, name: str, seed: int) -> None:
    """Make the run `{annotators}-{part}-{number}`: train, count its CPU seconds, score it."""
    from stvgkit.training.models import TINY
    from stvgkit.training.trainers import grpo, sft

    annotators, part, number = name.split("-")
    train, test = (demo.read_split(out, split, BUDGET.clips[split]) for split in ("train", "test"))
    if annotators == "noisy":
        train = noisy(train, seed)
    shown, rest = train[: int(number)], train[int(number) :]
    folder = out / f"seed{seed}" / name
    start = folder.with_name(f"{annotators}-start-{number}")
    if folder.exists() and not (folder / "metrics.json").exists():
        shutil.rmtree(folder)  # begun and not finished: its seconds would be those of the rest

    def train_and_score(folder: Path):
        if part == "grpo":
            settings = BUDGET.grpo
            model = demo.tune(timed(grpo), str(start), rest or shown, folder, seed=seed, **settings)
        else:
            longer = part == "sft"
            settings = BUDGET.sft | {"max_steps": steps_of(folder) if longer else SFT_STEPS}
            base = str(start) if longer else TINY
            # Another seed than the start's, or the same order of clips would come again.
            own = seed + 1000 * longer
            model = demo.tune(timed(sft), base, shown, folder, seed=own, **settings)
        return demo.evaluate(model, test, folder)

    demo.measured(folder, train_and_score)


def timed(trainer: Callable) -> Callable:
    """The trainer, which also writes `cpu.json`: the seconds of this process that training took."""

    def train(grounder, rows, folder, **settings):
        begin = time.process_time()
        result = trainer(grounder, rows, folder, **settings)
        write_json(Path(folder) / "cpu.json", {"seconds": round(time.process_time() - begin, 1)})
        return result

    return train


def cpu_seconds(folder: Path) -> float:
    return json.loads((folder / "cpu.json").read_text())["seconds"]


def steps_of(folder: Path) -> int:
    """How many steps of SFT fit into the CPU seconds of the GRPO run beside `folder`."""
    annotators, _, number = folder.name.split("-")
    grpo, start = (
        cpu_seconds(folder.with_name(f"{annotators}-{part}-{number}")) for part in ("grpo", "start")
    )
    return max(1, round(SFT_STEPS * grpo / start))


def stages(
    annotators: Sequence[str],
    numbers: Sequence[int],
    seeds: Sequence[int],
    done: Set[Run] = frozenset(),
) -> list[list[Run]]:
    """The starts, then GRPO, then the SFT that takes as long, where that is not done."""

    def named(part: str) -> list[Run]:
        return [
            (f"{who}-{part}-{n}", seed)
            for seed in seeds
            for who in annotators
            for n in numbers
            if (f"{who}-sft-{n}", seed) not in done
        ]

    return [named(part) for part in ("start", "grpo", "sft")]


def gather(out: Path) -> dict:
    """Scores of every finished run, `{seed: {name: metrics}}`.

    A name is `{annotators}-{start|sft|grpo}-{number}`.
    """
    return finished(out, lambda folder: scores(folder) | {"cpu": cpu_seconds(folder)})


def page(results: dict) -> str:
    """What was measured, as Markdown."""
    clips = results["clips"]["train"]
    lines = [
        "# When does GRPO beat imitation?",
        "",
        "Generated by `python benchmarks/imitation.py --json data_samples/logs/imitation.json "
        "--write docs/imitation.md`.",
        "",
        f"{clips:,} training clips, of which the first N come with answers. SFT of "
        f"{results['sft']['max_steps']} steps on those is the start. From there SFT goes on with "
        f"the same clips, or GRPO takes {results['grpo']['max_steps']} steps on the others, with "
        f"the credit *{results['grpo']['credit']}*.",
        "",
        "**The time is equal, the annotation is not.** GRPO never shows the model an answer to "
        "those other clips, but its rewards are computed from their boxes and times. So the table "
        "asks: when is it better to learn from rewards on new clips than to read the same answers "
        f"again? With {clips:,} answers there are no other clips. GRPO takes the same ones there, "
        "and both have the same annotation.",
        "",
        "Equal time: SFT goes on for as many steps as fit into the CPU seconds of the GRPO run "
        "beside it. It starts from the same checkpoint, and its learning rate begins anew. That "
        "may end below the start, so each is compared with the start as well.",
        "",
        f"The tiny model, {results['clips']['test']} test clips, protocol *default*, m_vIoU in per "
        "cent. ± is half of the 95 % interval of the mean difference, paired by seed. It covers "
        "the seeds, not the choice of the test clips.",
        "",
        "Annotators who err: in a third of the clips one end of the span is off by one shown "
        "frame. Every edge of a box is off by up to a tenth of the box's side. The rewards of GRPO "
        "are reckoned from the same annotation, so they err too. Test clips are exact.",
        "",
        "![m_vIoU over the number of clips with answers: start, SFT that goes on, GRPO]"
        "(imitation.png)",
    ]
    found = imitation_scores(results)
    missing = []
    for who, title in ANNOTATORS.items():
        rows = []
        for number in NUMBERS:
            seeds = found.get((who, number), [])
            rows += [_line(number, seeds)] if seeds else []
            if len(seeds) < SEEDS:
                missing.append(f"- `{who}` {number:,}: {len(seeds)} of {SEEDS} seeds are there")
        if rows:
            lines += [
                "",
                f"## {title.capitalize()}",
                "",
                "| answers | seeds | start | SFT goes on | GRPO | SFT - start | GRPO - start | "
                "GRPO - SFT | in words |",
                "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
                *rows,
            ]
    if missing:
        lines += ["", "Still to be run:", "", *missing]
    return "\n".join(lines) + "\n"


def _line(number: int, seeds: list[list[float]]) -> str:
    scores = np.array(seeds)  # (seeds, 3): start, SFT, GRPO
    means = [f"{100 * mean:.1f}" for mean in scores.mean(axis=0)]
    start, sft, grpo = scores.T
    over = [gained(pair.tolist()) for pair in (sft - start, grpo - start, grpo - sft)]
    words = in_words(*interval((100 * (grpo - sft)).tolist()))
    return f"| {' | '.join([f'{number:,}', str(len(seeds)), *means, *over, words])} |"


def in_words(mean: float, half: float) -> str:
    """Which of GRPO and the SFT that goes on is ahead, in one sentence.

    >>> in_words(3.0, 1.0), in_words(-3.0, 1.0), in_words(1.0, 3.0), in_words(1.0, float("inf"))
    ('GRPO is ahead.', 'SFT is ahead.', 'Not told apart.', 'One seed says nothing yet.')
    """
    if why := undecided(mean, half):
        return f"{why.capitalize()}."
    return "GRPO is ahead." if mean > 0 else "SFT is ahead."


def main() -> None:
    parser = options(__doc__, "out/imitation")
    parser.add_argument("--numbers", type=int, nargs="+", choices=NUMBERS, default=NUMBERS)
    parser.add_argument("--annotators", nargs="+", choices=ANNOTATORS, default=list(ANNOTATORS))
    args = parser.parse_args()
    wanted = partial(stages, args.annotators, args.numbers, args.seeds)
    results = work(args, wanted, run_one, gather, page, SETTINGS)
    if results and args.write:
        picture(imitation_lines(results), args.write.with_suffix(".png"))


if __name__ == "__main__":
    main()
