"""Pre-train the tiny VLM to see, name and point: `python -m stvgkit.tiny.pretrain --out DIR`.

There are eight stages, in the order in which real multimodal models are made.

1. *encoder*: the vision tower alone learns to say, for each visual token, whether a thing has its
   centre there. It also says the thing's colour, shape, cell and box. What it says is compared with
   the language model's own word embeddings. So the tower writes in the words that the rest will
   look for.
2. *places*: the whole model names what is at a place, and places what is named. It does so first
   in one frame, then in a given frame of several. A coarse place (the cell of a 4 x 4 board, one
   token) comes before the box, so that naming the wrong thing costs a whole token and not a few
   pixels.
3. *dialogue*: the same as questions and answers. The model also learns to say that a thing is not
   there.
4. *practice*: more of these, nearly all in clips of eight frames, until the boxes are tight.
5. *lists*: the same thing pointed at in several given frames, one box after the other.
6. *changes*: the frames in which a thing is seen, and pointing in a range of frames. Beside that, a
   visual token learns where its thing was in the frame before, and what has changed.
7. *together*: the last two stages. Where an answer begins, all frames in which its thing is seen,
   or changes, must be known.
8. *course*: the first and the last frame in which a thing is seen.

The model never sees an STVG answer or a sentence about an event.

Simplified away: real models learn from photographs with captions. Three things are taught here
directly, which real models find in much video: a visual token's frame (`frame_loss`), its past
(`change_loss`) and a thing's course (`course_loss`).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import Qwen3VLForConditionalGeneration

from stvgkit.files import write_json
from stvgkit.tiny.learning import Pretraining
from stvgkit.tiny.pictures import draw_clips, draw_pictures
from stvgkit.tiny.texts import (
    any_text,
    dialogue_text,
    frames_text,
    lists_text,
    most_text,
    places_text,
    shown,
)


@dataclass(frozen=True)
class Stage:
    """`frames` are the clip lengths to draw from at the start and from half-way on."""

    name: str
    steps: int
    batch: int  # pictures a step, about
    rate: float
    frames: tuple[tuple[int, ...], tuple[int, ...]]
    text: Callable | None = None
    turns: int = 5  # questions about a clip
    moving: float = 0.25  # share of the clips whose things move as in the benchmark
    changes: bool = False  # also learn `change_loss` and `course_loss`


STAGES = (
    Stage("encoder", 600, 128, 2e-3, ((1,), (1,))),
    Stage("places", 1200, 96, 1.5e-3, ((1, 1, 2), (1, 2, 3, 4, 8)), places_text),
    Stage("dialogue", 500, 96, 1e-3, ((1, 2, 4, 8), (4, 8, 8)), dialogue_text),
    Stage("practice", 1600, 96, 1e-3, ((2, 8, 8, 8), (2, 8, 8, 8)), dialogue_text, turns=12),
    Stage("lists", 350, 96, 7e-4, ((2, 8, 8, 8), (2, 8, 8, 8)), lists_text),
    Stage("changes", 500, 96, 1e-3, ((8,), (8,)), frames_text, turns=8, moving=0.5, changes=True),
    Stage("together", 700, 96, 1e-3, ((8,), (8,)), any_text, turns=7, moving=0.5, changes=True),
    Stage("course", 300, 96, 1e-3, ((8,), (8,)), most_text, turns=8, moving=0.6, changes=True),
)


def train_stage(run: Pretraining, stage: Stage, log: list[dict], progress: bool = True) -> None:
    """One stage: AdamW, a short warm-up, then a cosine down to a twentieth."""
    tower = list(run.model.model.visual.parameters())
    heads = list(run.heads.parameters())
    if stage.text is None:
        groups: list[dict[str, Any]] = [{"params": [*tower, *heads], "share": 1.0}]
    else:
        seen = {id(p) for p in tower}
        rest = [p for p in run.model.parameters() if id(p) not in seen] + heads
        groups = [{"params": rest, "share": 1.0}, {"params": tower, "share": 0.2}]
    optimizer = torch.optim.AdamW(groups, lr=stage.rate, weight_decay=0.01, betas=(0.9, 0.98))
    start, recent = time.time(), []
    bar = tqdm(range(stage.steps), desc=stage.name, disable=not progress)
    for step in bar:
        frames = int(run.rng.choice(stage.frames[2 * step >= stage.steps]))
        batch = max(8, 2 * stage.batch // (frames + 1))
        make = draw_clips if stage.text and run.rng.random() < stage.moving else draw_pictures
        pictures = make(run.rng, batch, frames)
        if stage.text is None:
            loss, figures = run.encoder_loss(pictures)
        else:
            texts = [stage.text(pictures, b, run.rng, stage.turns) for b in range(batch)]
            empty = [(shown(pictures), False)]  # a clip with nothing in it
            texts = [text or empty for text in texts]
            loss, figures = run.text_loss(pictures, texts, stage.changes)
        cosine = 0.5 * (1 + math.cos(math.pi * step / stage.steps))
        for group in optimizer.param_groups:
            group["lr"] = stage.rate * group["share"] * min(1, (step + 1) / 30, 0.05 + cosine)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for g in groups for p in g["params"]], 1.0)
        optimizer.step()
        recent.append((frames, figures))
        if step % 50 == 49 or step == stage.steps - 1:
            log.append(_summary(run, stage, step + 1, time.time() - start, recent))
            bar.set_postfix(log[-1]["figures"])
            recent.clear()


def _summary(run: Pretraining, stage: Stage, step: int, seconds: float, recent) -> dict:
    line: dict[str, Any] = {
        "stage": stage.name,
        "step": step,
        "seconds": round(seconds, 1),
        "figures": {},
    }
    for frames in sorted({frames for frames, _ in recent}):
        mine = [figures for count, figures in recent if count == frames]
        for name in sorted(set().union(*mine)):
            mean = np.mean([figures[name] for figures in mine if name in figures])
            line["figures"][f"{name}/{frames}"] = round(float(mean), 3)
    if stage.text is not None:
        fixed = np.random.default_rng(99)
        for frames in (1, 8):
            for name, value in run.point(draw_pictures(fixed, 32, frames)).items():
                line["figures"][f"point {name}/{frames}"] = round(value, 3)
    return line


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and log")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every stage's steps")
    args = parser.parse_args(argv)
    run, log = Pretraining(args.seed), []
    for stage in STAGES:
        done = args.out / stage.name
        if (done / "log.json").exists():  # an earlier, interrupted run got this far
            run.model = Qwen3VLForConditionalGeneration.from_pretrained(done).train()
            log = json.loads((done / "log.json").read_text())
            continue
        short = Stage(**{**vars(stage), "steps": max(2, round(stage.steps * args.scale))})
        run.rng = np.random.default_rng([args.seed, STAGES.index(stage)])
        train_stage(run, short, log)
        run.save(done)
        write_json(done / "log.json", log)
    run.save(args.out)
    write_json(args.out / "pretraining.json", {"seed": args.seed, "scale": args.scale, "log": log})


if __name__ == "__main__":
    main()
