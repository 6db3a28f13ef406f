"""SFT and GRPO on TRL's own trainers: `sft(...)`, `grpo(...)`.

TRL trains on images, not on video, so a row is timestamped frames (see `prompts`); they are
decoded when a row is asked for. What is ours here: the rows, the rewards, and the logs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from datasets import Dataset
from transformers import TrainerCallback, TrainerState
from transformers.trainer_utils import get_last_checkpoint
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from stvgkit.files import replacing, write_json
from stvgkit.models import Grounder
from stvgkit.rewards import REWARD_WEIGHTS, REWARDS
from stvgkit.rows import gold_text, row_images, row_messages

# The paper's optimiser and group (STVG-o1, section 4.1 and Eq. 11), where TRL's defaults differ.
PAPER_GRPO = {
    "num_generations": 8,
    "reward_weights": REWARD_WEIGHTS,
    "scale_rewards": "group",
    "learning_rate": 1e-6,
    "weight_decay": 0.01,
    "beta": 0.001,
}
REWARD_COLUMNS = ("id", "target_frames", "target_boxes", "space")


def row_dataset(rows: Sequence[dict], answer: Callable[[dict], str] | None = None) -> Dataset:
    """Rows as a dataset whose frames are decoded on access, in the columns that TRL reads.

    With `answer`, which gives a row's text, the rows are examples for SFT; without, they are
    prompts for GRPO with the columns that the rewards need.
    """
    dataset = Dataset.from_dict({"row": [json.dumps(row) for row in rows]})
    return dataset.with_transform(partial(_decode, answer=answer))


def _decode(batch: dict[str, list], answer: Callable[[dict], str] | None) -> dict[str, list]:
    rows = [json.loads(row) for row in batch["row"]]
    columns = {
        "prompt": [row_messages(row) for row in rows],
        "images": [row_images(row) for row in rows],
    }
    if answer is not None:
        texts = [{"role": "assistant", "content": answer(row)} for row in rows]
        return columns | {"completion": [[text] for text in texts]}
    return columns | {key: [row[key] for row in rows] for key in REWARD_COLUMNS}


def sft(
    grounder: Grounder,
    rows: Sequence[dict],
    out: Path,
    *,
    think_noise: float = 0.1,
    callbacks: Sequence[TrainerCallback] = (),
    **settings,
) -> Path:
    """Fine-tune on the gold answers as a box chain of thought; returns the checkpoint's folder.

    `settings` are TRL's `SFTConfig`. A run that was interrupted goes on from its last checkpoint;
    a finished one is not run again. `out` gets the checkpoint and `log.json`.
    """
    if is_trained(out):
        return Path(out)
    args = SFTConfig(output_dir=str(out), **_COMMON | {"max_length": None} | settings)
    dataset = row_dataset(rows, partial(gold_text, think_noise=think_noise, seed=args.seed))
    trainer = SFTTrainer(
        model=grounder.model,
        args=args,
        train_dataset=dataset,
        processing_class=grounder.processor,
        callbacks=list(callbacks),
    )
    return _run(trainer, grounder, Path(out))


def grpo(
    grounder: Grounder,
    rows: Sequence[dict],
    out: Path,
    *,
    rewards: Sequence[Callable] = REWARDS,
    callbacks: Sequence[TrainerCallback] = (),
    **settings,
) -> Path:
    """Fine-tune with the five rewards; returns the checkpoint's folder.

    `settings` are TRL's `GRPOConfig` on top of `PAPER_GRPO`. Besides what `sft` writes, `out` gets
    `groups.jsonl`, a line for every group of completions with its rewards and advantages.
    """
    if is_trained(out):
        return Path(out)
    config = _COMMON | PAPER_GRPO | {"log_completions": True, "num_completions_to_print": 0}
    args = GRPOConfig(output_dir=str(out), **config | settings)
    trainer = GRPOTrainer(
        model=grounder.model,
        args=args,
        reward_funcs=[WithId(rewards[0]), *rewards[1:]],
        train_dataset=row_dataset(rows),
        processing_class=grounder.processor,
        callbacks=[*callbacks, GroupLog(args.num_generations)],
    )
    return _run(trainer, grounder, Path(out))


_COMMON = {
    "remove_unused_columns": False,
    "save_total_limit": 1,
    "logging_steps": 1,
    "report_to": "tensorboard",
    # TRL's own default asks for bf16 everywhere, which a T4 and a CPU refuse.
    "bf16": torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False),
    "fp16": torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False),
}


def is_trained(out: Path) -> bool:
    """Whether a run in this folder has finished."""
    return (Path(out) / "log.json").exists()


def _run(trainer, grounder: Grounder, out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(out)))
    if trainer.is_world_process_zero():
        grounder.save(out)
        # Written last: it marks the run as finished.
        write_json(out / "log.json", trainer.state.log_history)
    return out


class WithId:
    """A reward that also logs each completion's sample id, beside TRL's table of completions."""

    def __init__(self, reward: Callable) -> None:
        self.reward = reward
        self.__name__ = reward.__name__

    def __call__(self, completions, log_extra=None, **columns) -> list[float]:
        if log_extra is not None:
            log_extra("id", columns["id"])
        return self.reward(completions, **columns)


class GroupLog(TrainerCallback):
    """Gathers TRL's tables of completions into `groups.jsonl`, one group a line."""

    def __init__(self, num_generations: int) -> None:
        self.num_generations = num_generations

    def on_train_end(self, args, state: TrainerState, control, **kwargs) -> None:
        if not state.is_world_process_zero:
            return
        tables = sorted(Path(args.output_dir, "completions").glob("completions_*.parquet"))
        with replacing(Path(args.output_dir) / "groups.jsonl") as out:
            for table in tables:
                for line in self.groups(pd.read_parquet(table)):
                    out.write(json.dumps(line) + "\n")

    def groups(self, table: pd.DataFrame):
        """The groups in one of TRL's tables; a group's completions follow one another."""
        for start in range(0, len(table), self.num_generations):
            group = table.iloc[start : start + self.num_generations]
            rewards = {name.removesuffix("_reward"): group[name].tolist() for name in _names(group)}
            weights = dict(zip(rewards, REWARD_WEIGHTS, strict=True))
            totals = sum(weights[name] * group[f"{name}_reward"] for name in rewards)
            yield {
                "step": int(group["step"].iloc[0]),
                "id": group["id"].iloc[0],
                "completions": [turns[0]["content"] for turns in group["completion"]],
                "rewards": rewards,
                "total": totals.tolist(),
                "advantages": group["advantage"].tolist(),
            }


def _names(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if name.endswith("_reward")]
