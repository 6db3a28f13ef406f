"""Predictions with a planted fault, to practise finding out by looking why a model fails.

Three made-up models answer clips of `shapes` in which a look-alike tells nothing from the subject
but by what it does. Each would be nearly right, but for one fault:

    space      wrote pixels of its 64x64 frames; its file says that they are hundredths
    late       counts the shown frames from 1, so that everything comes one shown frame late
    look-alike follows the look-alike, at the right time, wherever that is in the picture

Which model has which fault follows from a seed, so that nobody learns it by reading the lesson.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from stvgkit.answers import Answer, CoordinateSpace, format_answer
from stvgkit.datasets.prepared import read_prepared
from stvgkit.datasets.sample import Sample
from stvgkit.datasets.shapes import SIZE, STEPS, STRIDE, Scene, scene_of, write_shapes
from stvgkit.tubes import Tube

FAULTS = ("space", "late", "look-alike")
MODELS = ("A", "B", "C")
DIFFICULTY = 3  # every clip holds a look-alike
HUNDREDTHS, PIXELS = CoordinateSpace.relative(100), CoordinateSpace.pixels(SIZE, SIZE)


def key(seed: int = 0) -> dict[str, str]:
    """Which of the models has which fault.

    >>> sorted(key(seed=3).values()) == sorted(FAULTS)
    True
    """
    return dict(zip(MODELS, np.random.default_rng(seed).permutation(FAULTS).tolist(), strict=True))


def write_faulty(
    folder: Path | str, count: int = 12, seed: int = 0
) -> tuple[list[Sample], dict[str, Path]]:
    """Write `count` clips and each model's predictions; returns the samples and a file by model.

    The files are JSON lines as `stvgkit predict` writes them.
    """
    folder = Path(folder)
    samples = list(
        read_prepared(write_shapes(folder, "test", count, seed=seed, difficulty=DIFFICULTY))
    )
    paths = {}
    for number, (model, fault) in enumerate(key(seed).items()):
        rng = np.random.default_rng([seed, number])
        lines = [
            answer_line(sample.id, scene_of("test", k, seed, DIFFICULTY), fault, rng)
            for k, sample in enumerate(samples)
        ]
        paths[model] = folder / f"model_{model}.jsonl"
        paths[model].write_text("".join(json.dumps(line) + "\n" for line in lines))
    return samples, paths


def answer_line(name: str, scene: Scene, fault: str, rng: np.random.Generator) -> dict[str, Any]:
    """One line of a predictions file: a nearly right answer about `scene`, with the fault."""
    tube = scene.tube
    if fault == "late":
        tube = tube.shift(1).at(range(STEPS))
    if fault == "look-alike":
        tube = _look_alike(scene)
    think, final = (_jittered(tube, rng, sides) for sides in (0.1, 0.03))
    space = PIXELS if fault == "space" else HUNDREDTHS
    text = format_answer(Answer(tube.span, think, final, consistent=True), space)
    frames = list(range(0, STEPS * STRIDE, STRIDE))
    return {"id": name, "completion": text, "frames": frames, "space": HUNDREDTHS.name}


def _look_alike(scene: Scene) -> Tube:
    """The look-alike's boxes on the gold frames; the gold tube where it is not seen on all."""
    subject, gold = scene.things[scene.target], scene.tube
    others = [t for t in scene.things if t is not subject and t.name == subject.name]
    seen = [t for t in others if t.visible[gold.frames].all()]
    return Tube(gold.frames, seen[0].boxes[gold.frames]) if seen else gold


def _jittered(tube: Tube, rng: np.random.Generator, sides: float) -> Tube:
    """Boxes shifted at random, by a normal share of their own sides."""
    size = tube.boxes[:, 2:] - tube.boxes[:, :2]
    shift = rng.normal(0, sides, size.shape) * size
    return Tube(tube.frames, np.clip(tube.boxes + np.hstack([shift, shift]), 0, 1))
