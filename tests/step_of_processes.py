"""One optimizer step of GRPO with fixed answers, for `accelerate launch`; see test_shared_prompt.

    step_of_processes.py FOLDER SAMPLES

Writes to FOLDER what the step changes in the weights, for stock TRL's way and for shared prompts,
with groups that one process holds and with groups that are spread over all.
"""

import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from grpo_trainers import make_trainer

from stvgkit.datasets import read_prepared
from stvgkit.rows import plan_row
from stvgkit.training.models import TINY, load
from stvgkit.training.shared_prompt import SharedPromptTrainer

CASES = {"whole": (4, 2), "spread": (2, 1)}  # answers in a micro-batch, micro-batches in a step
GROUP = 4


def unlike(completions, **columns) -> list[float]:
    """A reward that no two answers share."""
    return [zlib.crc32(turns[0]["content"].encode()) / 2**32 for turns in completions]


def fixed(trainer):
    """Answers that follow from the prompt and the place in its group, in place of sampling."""

    def generate(prompt_ids, *args, **kwargs):
        answers = []
        for place, ids in enumerate(prompt_ids):
            which = trainer.accelerator.process_index * len(prompt_ids) + place
            rng = np.random.default_rng([*ids, which % GROUP])
            answer = rng.integers(10, 60, rng.integers(3, 20)).tolist()
            answers.append([*answer, trainer.processing_class.tokenizer.eos_token_id])
        return answers, None

    return generate


def step(samples, out: Path, share: bool, size: int, accumulation: int) -> dict:
    """What one step of plain gradient descent changes."""
    grounder = load(TINY, dtype="float32")
    rows = [plan_row(sample, grounder.clip_format) for sample in samples]
    settings = dict(
        per_device_train_batch_size=size, num_generations=GROUP, max_steps=1, save_strategy="no",
        gradient_accumulation_steps=accumulation, optim="sgd", learning_rate=100.0,
        max_grad_norm=1e9,
    )  # fmt: skip
    trainer = make_trainer(
        SharedPromptTrainer, grounder, rows, out, settings,
        reward_funcs=[unlike], share_prompt=share,
    )  # fmt: skip
    assert trainer.share_prompt is share
    trainer._generate_single_turn = fixed(trainer)
    before = {name: w.detach().clone() for name, w in trainer.model.named_parameters()}
    trainer.train()
    after = trainer.accelerator.unwrap_model(trainer.model).named_parameters()
    return {name: weight.detach() - before[name] for name, weight in after}


def main(folder: Path, samples: Path) -> None:
    for case, (size, accumulation) in CASES.items():
        for share in (False, True):
            changed = step(list(read_prepared(samples)), folder / "runs", share, size, accumulation)
            if int(torch.distributed.get_rank()) == 0:
                torch.save(changed, folder / f"{case}-{'shared' if share else 'stock'}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
