"""`stvgkit demo`: the whole method on generated clips, from the base model to GRPO, on a CPU.

Every step leaves its result in the output folder and is passed over where that is there already,
so that an interrupted run goes on where it was.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from stvgkit.datasets import Sample, read_prepared
from stvgkit.datasets.shapes import write_shapes
from stvgkit.errors import InputError, need
from stvgkit.files import write_json
from stvgkit.predictions import Prediction, read_completions
from stvgkit.scoring import Report, score_samples
from stvgkit.tubes import Span, Tube

METRICS = ("m_tIoU", "m_vIoU", "vIoU@0.3", "vIoU@0.5")
ROWS = {
    "centre": "centre box over the whole clip",
    "base": "base",
    "sft": "SFT",
    "grpo": "SFT + GRPO",
}
TUNED = ("sft", "grpo")  # the rows that are checkpoints of this demo
PACKAGES = ("stvgkit", "torch", "transformers", "trl")
TRIES, TRIED = 8, 64  # answers sampled for pass@8, and the clips that are asked about
TEMPERATURE = 0.5  # at which they are sampled
MAX_NEW_TOKENS = 200  # the longest answer, 8 frames in both lists, has 183


@dataclass(frozen=True)
class Budget:
    """How many clips, and the trainers' settings.

    SFT is shown the answers of the first `shown` training clips; GRPO gets the others, which the
    model cannot know by heart.
    """

    clips: dict[str, int]
    shown: int
    sft: dict
    grpo: dict


_SFT = {
    "think_noise": 0.05,
    "gradient_checkpointing": False,
    "per_device_train_batch_size": 32,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 10,
    "max_steps": 140,  # nine in ten answers parse then: what GRPO gains cannot be form alone
    "save_steps": 35,
}
_GRPO = {
    "gradient_checkpointing": False,
    "per_device_train_batch_size": 32,  # twice: 64 at once take over 4 GB
    "gradient_accumulation_steps": 2,
    "max_completion_length": MAX_NEW_TOKENS,
    # At 0.5 the answers of a group soon agree, and a group that agrees teaches nothing.
    "temperature": 1.0,
    # With all weights free, the noise of the rewards blurs the times that SFT taught.
    "adapter": {"r": 8, "lora_alpha": 16},
    "learning_rate": 1e-3,
    "lr_scheduler_type": "linear",
    "warmup_steps": 20,
    "beta": 0.0,
    "credit": "boxes",  # each number by its own time or box; the paper's is "whole"
    "max_steps": 320,
    "save_steps": 40,
}
# 320 steps of 8 questions: each of the 2,560 clips that GRPO asks about comes once.
FULL = Budget({"train": 3008, "test": 256, "novel": 128}, 448, _SFT, _GRPO)
SMOKE = Budget(
    {"train": 64, "test": 16, "novel": 8},
    48,
    _SFT | {"per_device_train_batch_size": 8, "max_steps": 4, "save_steps": 2},
    _GRPO | {"per_device_train_batch_size": 8, "max_steps": 2, "save_steps": 1},
)


def run(out: Path, *, seed: int = 0, smoke: bool = False) -> dict:
    """Do every step that is not done yet, print the table, and return what `metrics.json` holds."""
    need("stvgkit.demo", "all", "av", "torch", "transformers", "trl", "plotly", "ipywidgets")
    from stvgkit.training.progress import only_our_lines

    with only_our_lines():
        return _run(Path(out), seed, smoke)


def _run(out: Path, seed: int, smoke: bool) -> dict:
    from stvgkit.training.models import TINY, load
    from stvgkit.training.runs import claim
    from stvgkit.training.trainers import grpo, sft
    from stvgkit.viewing.report import write_report

    if not 0 <= seed < 2**32:
        raise InputError(f"the seed is {seed}: give 0 or more, below 2**32")
    budget = SMOKE if smoke else FULL
    settings = {"seed": seed, "smoke": smoke, "budget": asdict(budget)}
    claim(out, json.loads(json.dumps(settings)), begun=(out / "run.json").exists())
    train, test, novel = (read_split(out, *split) for split in budget.clips.items())

    def tuned(trainer: Callable, base: str, clips: list[Sample], settings: dict) -> Callable:
        """The work of one training step: start at `base`, train, answer the test clips."""
        return lambda folder: evaluate(
            tune(trainer, base, clips, folder, seed=seed, **settings), test, folder
        )

    rows = {
        "centre": measured(out / "centre", lambda folder: centre_report(test)),
        "base": measured(out / "base", lambda folder: evaluate(load(TINY), test, folder)),
        "sft": measured(out / "sft", tuned(sft, TINY, train[: budget.shown], budget.sft)),
        "grpo": measured(
            out / "grpo", tuned(grpo, str(out / "sft"), train[budget.shown :], budget.grpo)
        ),
    }
    unseen = {
        step: measured(
            out / step / "novel", lambda folder: evaluate(load(str(folder.parent)), novel, folder)
        )
        for step in TUNED
    }
    tried = {step: best_answers(out / step, test[:TRIED])["pass@8"] for step in TUNED}
    before = parsed_before(out, test)
    metrics = {
        "seed": seed,
        "protocol": "default",
        "rows": rows,
        "novel": unseen,
        "parsed_before": before,
        "pass@8": tried,
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
    }
    write_json(out / "metrics.json", metrics)
    write_report(out, metrics, test, titles=ROWS, columns=METRICS)
    print(f"\n{table(rows)}\n\ncolours, shapes and motions held out of training:\n{table(unseen)}")
    print(f"\n{before['sft']['samples']} clips that parse after SFT:\n{table(before)}")
    best = ", ".join(f"{ROWS[step]} {100 * value:.1f}" for step, value in tried.items())
    print(f"\nbest of {TRIES} sampled answers to {len(test[:TRIED])} clips, m_vIoU: {best}")
    print(f"\nwrote {out / 'metrics.json'} and {out / 'report.html'}")
    return metrics


def read_split(out: Path, split: str, count: int) -> list[Sample]:
    """The first `count` clips of a split of shapes, written where they are not there yet."""
    return list(read_prepared(write_shapes(out / "data", split, count, progress=True)))


def tune(
    trainer: Callable,
    base: str,
    samples: Sequence[Sample],
    folder: Path,
    *,
    adapter: dict | None = None,
    think: bool | None = None,
    **settings,
):
    """Train the model named `base` on samples with `sft` or `grpo`, and load the result.

    `adapter`, if any, are the settings of a LoRA adapter to train in place of all weights.
    `think=False` teaches answers without think boxes; None leaves it as the model learned it.
    """
    from stvgkit.rows import plan_row
    from stvgkit.training.models import load
    from stvgkit.training.trainers import lora

    changes: dict = {} if think is None else {"think": think}
    grounder = load(base, **changes)
    rows = [plan_row(sample, grounder.clip_format) for sample in samples]
    if adapter:
        settings["peft_config"] = lora(grounder, **adapter)
    return load(str(trainer(grounder, rows, folder, **settings)))


def best_answers(folder: Path, samples: Sequence[Sample]) -> dict:
    """pass@8 of the checkpoint in a folder: the best vIoU among eight sampled answers, mean."""
    from stvgkit.rows import plan_row
    from stvgkit.training.evaluation import best_of
    from stvgkit.training.models import load

    path = folder / "pass8.json"
    if not path.exists():
        grounder = load(str(folder))
        rows = [plan_row(sample, grounder.clip_format) for sample in samples]
        settings = {"tries": TRIES, "max_new_tokens": MAX_NEW_TOKENS}
        best = best_of(grounder, rows, samples, temperature=TEMPERATURE, **settings)
        write_json(path, {"pass@8": best})
    return json.loads(path.read_text())


def parsed_before(out: Path, samples: Sequence[Sample]) -> dict:
    """Scores after SFT and after GRPO on the clips whose answer parses after SFT.

    Their form was right before. The answers that GRPO breaks count as 0; `unparsed` counts them.
    """
    told = {step: read_completions(out / step / "predictions.jsonl") for step in TUNED}
    samples = [sample for sample in samples if told["sft"][sample.id].tube is not None]
    rows = {}
    for step, answers in told.items():
        report = score_samples(samples, answers)
        rows[step] = {name: report.metrics[name] for name in METRICS}
        rows[step] |= {"unparsed": report.unparsed, "samples": report.samples}
    return rows


def measured(folder: Path, work: Callable[[Path], Report]) -> dict:
    """The table's row of one step: scores, and the seconds of the session that finished it."""
    path = folder / "metrics.json"
    if not path.exists():
        start = time.perf_counter()
        report = work(folder)
        row = {name: report.metrics[name] for name in METRICS}
        row |= {"unparsed": report.unparsed, "samples": report.samples}
        row["seconds"] = round(time.perf_counter() - start, 1)
        write_json(path, row | {"groups": report.groups})
    row = json.loads(path.read_text())
    row.pop("groups")
    return row


def evaluate(grounder, samples: Sequence[Sample], folder: Path) -> Report:
    """Greedy answers to every sample, kept as `predictions.jsonl`, and their scores."""
    from stvgkit.rows import plan_row
    from stvgkit.training.evaluation import predict, score

    rows = [plan_row(sample, grounder.clip_format) for sample in samples]
    path = folder / "predictions.jsonl"
    predict(grounder, rows, path, batch_size=64, max_new_tokens=MAX_NEW_TOKENS)
    return score(path, samples)


def centre_report(samples: Sequence[Sample], span: Span | None = None) -> Report:
    """The trivial baseline: half the frame's width and height, in the middle, all the time.

    With `span`, in these video frames of each clip.
    """
    predictions = {}
    for sample in samples:
        frames = (span or sample.window).frames()
        tube = Tube(frames, [[0.25, 0.25, 0.75, 0.75]] * len(frames))
        predictions[sample.id] = Prediction(tube)
    return score_samples(samples, predictions)


def table(rows: dict[str, dict]) -> str:
    """The rows as text; scores in per cent, a dash where there is no clip to score."""
    lines = [f"{'':<31}" + "".join(f"{name:>10}" for name in (*METRICS, "unparsed", "seconds"))]
    for name, row in rows.items():
        scores = "".join(
            f"{'-':>10}" if row[metric] is None else f"{100 * row[metric]:>10.1f}"
            for metric in METRICS
        )
        seconds = f"{row['seconds']:>10.0f}" if "seconds" in row else ""
        lines.append(f"{ROWS[name]:<31}{scores}{row['unparsed']:>10}{seconds}")
    return "\n".join(lines)
