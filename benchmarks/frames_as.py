"""SFT of the tiny model on frames as images and as video: does it learn as well, and at what cost?

    python benchmarks/frames_as.py [--out out/frames_as] [--seeds 3] [--write docs/frames_as.md]

The training is the demo's SFT, for longer. The model was pre-trained on single images in both
cases. It gets the same clips, answers, steps and seeds; only the form of the input differs. A run
that is there is not made again, so the same command goes on after an interruption. The tokenizer
knows half seconds alone: the mean time of a step of a video is its unknown word, and the model
tells the steps apart by their order.

`tokens` are the visual ones of a clip. `seconds` are those of a CPU for training and answering; of
a run that was interrupted, those since it went on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from pages import publish

from stvgkit import demo
from stvgkit.files import write_json
from stvgkit.predictions import read_completions
from stvgkit.rows import FRAMES_AS, plan_row
from stvgkit.scoring import sample_scores
from stvgkit.training.longest import batch_of, visual_tokens
from stvgkit.training.models import load
from stvgkit.training.trainers import sft

STEPS = 140  # of SFT


def measure(folder: Path, form: str, seed: int, steps: int, train: list, test: list) -> dict:
    """One run's row of the table, from its file where it is there already."""
    path = folder / "row.json"
    if path.exists():
        return json.loads(path.read_text())
    start = time.process_time()
    grounder = load("tiny", frames_as=form)
    rows = [plan_row(sample, grounder.clip_format) for sample in train]
    settings = demo.FULL.sft | {"max_steps": steps, "seed": seed, "disable_tqdm": True}
    tuned = load(str(sft(grounder, rows, folder / "sft", **settings)))
    report = demo.evaluate(tuned, test, folder)
    tokens = visual_tokens(tuned.model.config, batch_of(tuned.processor, rows[0]))
    row = {name: report.metrics[name] for name in demo.METRICS} | {"unparsed": report.unparsed}
    row |= {"tokens": tokens, "seconds": round(time.process_time() - start, 1)}
    write_json(path, row)
    return row


GROUPS = ("small and still", "small and moving", "large and still", "large and moving")


def groups_of(samples: list) -> np.ndarray:
    """Which of `GROUPS` each clip is in, by the median size of boxes and by their centres' way."""
    sides, ways = [], []
    for sample in samples:
        boxes = sample.tube.boxes
        sides.append(np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(1)).mean())
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        ways.append(np.linalg.norm(np.diff(centres, axis=0), axis=1).sum())
    large, moving = sides >= np.median(sides), np.array(ways) > 0.01  # of the frame's side
    return 2 * large + moving


def by_group(folder: Path, samples: list) -> list[float]:
    """m_vIoU of a run's answers in each of `GROUPS`, in per cent."""
    scores = sample_scores(samples, read_completions(folder / "predictions.jsonl"))["vIoU"]
    group = groups_of(samples)
    return [float(100 * scores[group == number].mean()) for number in range(len(GROUPS))]


def page(options: argparse.Namespace, found: dict, groups: dict, samples: list) -> str:
    """What was measured, as Markdown."""
    count = np.bincount(groups_of(samples), minlength=len(GROUPS))
    lines = [
        "# Images against video",
        "",
        f"`python benchmarks/frames_as.py --seeds {options.seeds}`: SFT of the tiny model with "
        f"frames as images and as video. Both see the same {options.clips} clips for "
        f"{options.steps} steps with the same seeds. Both are asked about the same {options.asked} "
        f"test clips. Scores are in per cent: the mean over {options.seeds} seeds, and the range.",
        "",
        "- The base model was trained on single images. So video input is new to it.",
        "- *Tokens* are the visual ones of a clip. *Seconds* are those of one CPU core for "
        "training and answering, on a machine that did other work as well.",
        "- The tiny tokenizer knows half seconds alone. So a step of a video has no time that the "
        "model can read, only its place.",
        "- A large model that was trained on video may lose less. That is not measured.",
        "",
        f"| frames as | {' | '.join(COLUMNS)} |",
        "|" + " --- |" * (len(COLUMNS) + 1),
        *(f"| {form} | {' | '.join(_cells(rows))} |" for form, rows in found.items()),
        "",
        "m_vIoU by what is asked for. *Small* is below the median side of a box. *Moving* is a "
        "thing whose box changes its place; a still one may grow, shrink, come or go.",
        "",
        "| what is asked for | clips | " + " | ".join(groups) + " | loss |",
        "|" + " --- |" * (len(groups) + 3),
    ]
    means = {form: np.mean(rows, axis=0) for form, rows in groups.items()}
    for number, name in enumerate(GROUPS):
        values = [means[form][number] for form in groups]
        cells = [f"{value:.1f}" for value in (*values, values[0] - values[-1])]
        lines.append(f"| {name} | {count[number]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


COLUMNS = ("m_vIoU", "m_tIoU", "unparsed", "seconds", "tokens")


def _cells(rows: list[dict]) -> list[str]:
    scores = [_spread([100 * row[name] for row in rows], 1) for name in COLUMNS[:2]]
    return scores + [_spread([row[name] for row in rows], 0) for name in COLUMNS[2:]]


def _spread(values: list[float], digits: int) -> str:
    mean, low, high = (f"{x:.{digits}f}" for x in (np.mean(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low}-{high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out/frames_as"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--clips", type=int, default=demo.FULL.shown, help="for training")
    parser.add_argument("--asked", type=int, default=demo.FULL.clips["test"], help="for the test")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page here as well")
    options = parser.parse_args()
    train = demo.read_split(options.out, "train", options.clips)
    test = demo.read_split(options.out, "test", options.asked)
    found: dict[str, list[dict]] = {form: [] for form in FRAMES_AS}
    groups: dict[str, list[list[float]]] = {form: [] for form in FRAMES_AS}
    for seed in range(options.seeds):
        for form in FRAMES_AS:
            folder = options.out / f"{form}-{options.steps}-{options.clips}-{seed}"
            row = measure(folder, form, seed, options.steps, train, test)
            found[form].append(row)
            groups[form].append(by_group(folder, test))
            print(f"seed {seed} {form:<7} m_vIoU {100 * row['m_vIoU']:5.1f}", row, flush=True)
    publish(page(options, found, groups, test), options.write)


if __name__ == "__main__":
    main()
