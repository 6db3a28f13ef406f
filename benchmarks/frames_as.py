"""SFT of the tiny model on frames as images and as video: does it learn as well, and at what cost?

    python benchmarks/frames_as.py [--out out/frames_as] [--seeds 3] [--steps 64] [--clips 128]

The model was pre-trained on single images in both cases. It gets the same clips, answers, steps
and seeds; only the form of the input differs. A run that is there is not made again, so the same
command goes on after an interruption. The tokenizer knows half seconds alone: the mean time of a
step of a video is its unknown word, and the model tells the steps apart by their order.

`tokens` are the visual ones of a clip, `seconds` those of training and answering.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from stvgkit import demo
from stvgkit.files import write_json
from stvgkit.rows import FRAMES_AS, plan_row
from stvgkit.training.longest import batch_of, visual_tokens
from stvgkit.training.models import load
from stvgkit.training.trainers import sft


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out/frames_as"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=demo.FULL.sft["max_steps"])
    parser.add_argument("--clips", type=int, default=demo.FULL.shown, help="for training")
    parser.add_argument("--asked", type=int, default=demo.FULL.clips["test"], help="for the test")
    options = parser.parse_args()
    train = demo.read_split(options.out, "train", options.clips)
    test = demo.read_split(options.out, "test", options.asked)
    found: dict[str, list[dict]] = {form: [] for form in FRAMES_AS}
    for seed in range(options.seeds):
        for form in FRAMES_AS:
            folder = options.out / f"{form}-{options.steps}-{options.clips}-{seed}"
            row = measure(folder, form, seed, options.steps, train, test)
            found[form].append(row)
            print(f"seed {seed} {form:<7} m_vIoU {100 * row['m_vIoU']:5.1f}", row, flush=True)
    heads = ["m_vIoU", "m_tIoU", "unparsed", "seconds", "tokens"]
    print(f"\n{'frames as':<10}" + "".join(f"{head:>18}" for head in heads))
    for form, rows in found.items():
        cells = [_spread([100 * row[name] for row in rows]) for name in heads[:2]]
        cells += [f"{np.mean([row[name] for row in rows]):.0f}" for name in heads[2:]]
        print(f"{form:<10}" + "".join(f"{cell:>18}" for cell in cells))


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.1f} ({min(values):.1f}-{max(values):.1f})"


if __name__ == "__main__":
    main()
