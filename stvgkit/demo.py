"""`stvgkit demo`: the whole method on generated clips, from the base model to GRPO, on a CPU.

Every step writes its result into the output folder and is skipped where that is there already,
so an interrupted run goes on where it was.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from stvgkit.datasets import Sample, read_prepared
from stvgkit.datasets.shapes import SPLITS, write_shapes
from stvgkit.errors import InputError
from stvgkit.files import write_json
from stvgkit.tubes import Tube

METRICS = ("m_tIoU", "m_vIoU", "vIoU@0.3", "vIoU@0.5")
ROWS = {
    "centre": "centre box over the whole clip",
    "base": "base",
    "sft": "SFT",
    "grpo": "SFT + GRPO",
}


@dataclass(frozen=True)
class Budget:
    """How much of everything; `SMOKE` only checks the wiring."""

    train: int
    validation: int
    test: int
    sft: dict
    grpo: dict


FULL = Budget(
    train=1024,
    validation=64,
    test=256,
    sft={"max_steps": 200, "per_device_train_batch_size": 32, "learning_rate": 1e-3},
    grpo={"max_steps": 40, "per_device_train_batch_size": 64, "learning_rate": 1e-4},
)
SMOKE = Budget(
    train=64,
    validation=8,
    test=16,
    sft={"max_steps": 4, "per_device_train_batch_size": 8, "learning_rate": 1e-3},
    grpo={"max_steps": 2, "per_device_train_batch_size": 16, "learning_rate": 1e-4},
)


def run(out: Path, *, seed: int = 0, smoke: bool = False) -> dict:
    """Run every step that is not done yet; returns what `metrics.json` holds."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    budget = SMOKE if smoke else FULL
    _same_run(out, {"seed": seed, "smoke": smoke})
    train, validation, test = (
        list(read_prepared(write_shapes(out / "data", split, count, progress=True)))
        for split, count in zip(
            SPLITS, (budget.train, budget.validation, budget.test), strict=False
        )
    )
    rows = {"centre": _timed(out / "centre", lambda: centre_baseline(out / "centre", test), test)}

    from stvgkit.models import TINY, load
    from stvgkit.rows import plan_row
    from stvgkit.training import grpo, sft

    clip_format = load(TINY).clip_format
    train_rows = [plan_row(sample, clip_format) for sample in train]
    raise NotImplementedError


def _same_run(out: Path, settings: dict) -> None:
    """Refuse to go on in a folder that belongs to a run with other settings."""
    path = out / "run.json"
    if path.exists() and json.loads(path.read_text()) != settings:
        raise InputError(
            f"{out} holds a run with {path.read_text().strip()}: give another --out, or delete it"
        )
    write_json(path, settings)
