"""A step of the demo's GRPO: stock TRL, and with the prompt's work done once for its group.

    python benchmarks/grpo_step.py [--model FOLDER] [--steps 3] [--threads 1] [--json FILE]

Both start from the same checkpoint, take the same prompts, and run in turn, each in a process of
its own; the first step is not counted. Seconds are those of the CPU (on a GPU, of the wall) for
one step. "ours" is at equal settings; "ours, stopping" also ends an answer that is beyond repair,
as `grpo` does. The gradients compared are of one step with the same answers. Peak memory is that
of the process, libraries included (on a GPU, of the device).

Without `--model` the demo's SFT makes the checkpoint first, in some minutes; with `--work FOLDER`
it is kept there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from stvgkit.datasets import read_prepared
from stvgkit.demo import FULL, read_split, tune
from stvgkit.files import write_json
from stvgkit.rewards import REWARD_WEIGHTS, REWARDS
from stvgkit.rows import plan_row
from stvgkit.training.models import TINY, load
from stvgkit.training.progress import only_our_lines, show_one_line
from stvgkit.training.row_dataset import row_dataset
from stvgkit.training.shared_prompt import SharedPromptTrainer
from stvgkit.training.trainers import GRPO_DEFAULTS, lora, sft

GROUP = 8
METHODS = {  # of a trainer, and the part of a step that is spent in it
    "_tokenize_prompts": "tokens and frames",
    "_generate_single_turn": "rollout",
    "_get_per_token_logps_and_entropies": "forward",
}
PARTS = (*METHODS.values(), "backward", "whole step")
SIDES = {
    "stock": None,
    "ours": {"share_prompt": True, "stop_broken": False},
    "ours, stopping": {"share_prompt": True, "stop_broken": True},
}


def clock() -> float:
    """Seconds of this process on the CPU; where a GPU works, of the wall."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


class Stopwatch(TrainerCallback):
    """Seconds of each part, summed over all steps but the first."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.tokens = self.began = 0

    def watch(self, owner, name: str, part: str) -> None:
        """Count the time in a method of an object."""
        method: Callable = getattr(owner, name)

        def timed(*args, **kwargs):
            start = clock()
            result = method(*args, **kwargs)
            self.seconds[part] += clock() - start
            if part == "rollout":
                self.tokens += sum(map(len, result[0]))
            return result

        setattr(owner, name, timed)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step == 1:
            self.seconds.clear()
            self.tokens, self.began = 0, clock()
        self.seconds["whole step"] = clock() - self.began


def unlike(completions, **columns) -> list[float]:
    """A reward that hardly any two answers share, so that gradients are there to be compared."""
    return [zlib.crc32(turns[0]["content"].encode()) / 2**32 for turns in completions]


def make_trainer(options: argparse.Namespace, sharing: dict | None, rewards=REWARDS) -> GRPOTrainer:
    """Stock TRL's trainer, or ours with `sharing`, at the demo's settings."""
    grounder = load(options.model, dtype="float32")
    samples = list(read_prepared(options.work / "data" / "train" / "samples.jsonl"))
    rows = [plan_row(sample, grounder.clip_format) for sample in samples[FULL.shown :]]
    trls = {field.name for field in dataclasses.fields(GRPOConfig)}
    changed = {name: value for name, value in FULL.grpo.items() if name in trls}
    changed |= {
        "per_device_train_batch_size": options.prompts * GROUP // 2,
        "gradient_accumulation_steps": 2,
        "max_steps": 1 + options.steps,
        "learning_rate": 0.0,  # every step asks the same model
        "save_strategy": "no",
        "report_to": "none",
        "log_completions": False,
        "reward_weights": REWARD_WEIGHTS if rewards is REWARDS else None,
    }
    config = GRPOConfig(output_dir=str(options.work / "runs"), **GRPO_DEFAULTS | changed)
    kind, more = (GRPOTrainer, {}) if sharing is None else (SharedPromptTrainer, sharing)
    return kind(
        model=grounder.model,
        args=config,
        reward_funcs=rewards,
        train_dataset=row_dataset(rows),
        processing_class=grounder.processor,
        peft_config=None if options.all_weights else lora(grounder, **FULL.grpo["adapter"]),
        **more,
    )


def measure(options: argparse.Namespace, side: str) -> dict:
    """Seconds of each part of a step, tokens of its answers, and the peak of memory."""
    trainer, watch = make_trainer(options, SIDES[side]), Stopwatch()
    show_one_line(trainer, side)
    for name, part in METHODS.items():
        watch.watch(trainer, name, part)
    watch.watch(trainer.accelerator, "backward", "backward")
    trainer.add_callback(watch)
    trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    return {
        "seconds": {part: round(watch.seconds[part] / options.steps, 3) for part in PARTS},
        "tokens": watch.tokens / options.steps,
        "peak_gb": round(peak / 1e9, 2),
    }


def gradients(trainer: GRPOTrainer, answers: list[list[int]]) -> dict[str, torch.Tensor]:
    """Every gradient of one step with these answers."""
    trainer._generate_single_turn = lambda *args, **kwargs: (answers, None)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 2
    batch = [dict(row) for row in trainer.train_dataset for _ in range(GROUP)]
    for step in range(2):
        trainer._step = step
        trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch)).backward()
    named = trainer.model.named_parameters()
    return {name: weight.grad.clone() for name, weight in named if weight.grad is not None}


def gradient_difference(options: argparse.Namespace) -> float:
    """The largest difference of two gradients, relative to the largest gradient."""
    trainer = make_trainer(options, SIDES["ours"], unlike)
    answers = sampled(trainer, [dict(row) for row in trainer.train_dataset for _ in range(GROUP)])
    results = []
    for side in ("ours", "stock"):
        torch.manual_seed(0)
        results.append(gradients(make_trainer(options, SIDES[side], unlike), answers))
    ours, stock = results
    scale = max(gradient.abs().max() for gradient in stock.values())
    return (max((ours[name] - stock[name]).abs().max() for name in stock) / scale).item()


def sampled(trainer: SharedPromptTrainer, batch: list[dict]) -> list[list[int]]:
    """An answer for each prompt of a batch, as the trainer samples them."""
    output = trainer._generate_and_score_completions(batch)
    rows = zip(output["completion_ids"], output["completion_mask"].bool(), strict=True)
    return [ids[mask].tolist() for ids, mask in rows]


def compare(options: argparse.Namespace) -> dict:
    """All sides in turn, each in a process of its own, and the difference of the gradients."""
    found = {side: in_a_process(options, side) for side in SIDES}
    stock, ours = found["stock"], found["ours"]
    ratios = {
        part: round(stock["seconds"][part] / max(ours["seconds"][part], 1e-3), 2) for part in PARTS
    }
    learning = [sum(side["seconds"][p] for p in ("forward", "backward")) for side in (stock, ours)]
    ratios["forward and backward"] = round(learning[0] / learning[1], 2)
    return {
        "stock": stock["seconds"],
        "ours": ours["seconds"],
        "ours, stopping": found["ours, stopping"]["seconds"],
        "ratio": ratios["whole step"],
        "ratios": ratios,
        "gradient_difference": in_a_process(options, "gradients"),
        "peak_gb": {side: found[side]["peak_gb"] for side in SIDES},
        "tokens": {side: round(found[side]["tokens"]) for side in SIDES},
        "prompts": options.prompts,
        "answers": GROUP,
        "threads": options.threads,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def in_a_process(options: argparse.Namespace, side: str):
    """What one side finds, measured in a process that has done nothing else."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, __file__, "--side", side, "--json", file.name]
        for name in ("model", "work", "prompts", "steps", "threads"):
            command += [f"--{name}", str(getattr(options, name))]
        subprocess.run(command + ["--all-weights"] * options.all_weights, check=True, stdout=2)
        return json.loads(Path(file.name).read_text())


def table(result: dict) -> str:
    """The result as text."""
    lines = [f"{'seconds a step':<20}{'stock':>10}{'ours':>10}{'stopping':>10}{'ratio':>8}"]
    for part in PARTS:
        seconds = "".join(f"{result[side][part]:>10.2f}" for side in SIDES)
        lines.append(f"{part:<20}{seconds}{result['ratios'][part]:>8.2f}")
    lines.append(f"{'forward and backward':<50}{result['ratios']['forward and backward']:>8.2f}")
    for name, title in (("tokens", "tokens of answers"), ("peak_gb", "peak memory, GB")):
        lines.append(f"{title:<20}" + "".join(f"{result[name][side]:>10}" for side in SIDES))
    return "\n".join(
        [*lines, f"gradients differ by {result['gradient_difference']:.1e} (relative)"]
    )


def prepare(options: argparse.Namespace) -> None:
    """Write the clips, and train the demo's SFT checkpoint where no other is given."""
    samples = read_split(options.work, "train", FULL.shown + options.prompts)
    if options.model is None:
        options.model = str(options.work / "sft")
        tune(sft, TINY, samples[: FULL.shown], options.work / "sft", seed=0, **FULL.sft)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="checkpoint to start from")
    parser.add_argument("--work", type=Path, help="folder of clips and checkpoint, to be kept")
    parser.add_argument("--prompts", type=int, default=8, help=f"each with {GROUP} answers; even")
    parser.add_argument("--steps", type=int, default=3, help="steps counted, after a first one")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--all-weights", action="store_true", help="not the demo's LoRA adapter")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=[*SIDES, "gradients"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder, only_our_lines():
        options.work = options.work or Path(folder)
        if options.side:
            found = (
                gradient_difference(options)
                if options.side == "gradients"
                else measure(options, options.side)
            )
        else:
            prepare(options)
            found = compare(options)
            print(table(found))
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
