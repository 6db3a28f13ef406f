"""The log of a GRPO run's groups: who answered what, and what each answer and its parts earned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import TrainerCallback, TrainerState

from stvgkit.answers import CoordinateSpace
from stvgkit.credit import PARTS, Scoring, pay_group
from stvgkit.files import replacing
from stvgkit.rewards import REWARDS
from stvgkit.training.row_dataset import REWARD_COLUMNS
from stvgkit.tubes import Tube


class Reward:
    """One of the five rewards as a run scores with it; the first also logs what groups are about.

    TRL's table of completions gets each completion's sample id and gold tube from it.
    """

    def __init__(self, reward: Callable, scoring: Scoring) -> None:
        self.reward, self.scoring = reward, scoring
        self.__name__ = reward.__name__

    def __call__(self, completions, log_extra=None, **columns) -> list[float]:
        if log_extra is not None and self.reward is REWARDS[0]:
            for column in REWARD_COLUMNS:
                log_extra(column, columns[column])
        options = {"spatial": self.scoring.spatial, "think": self.scoring.think}
        return self.reward(completions, **columns, **options)


class GroupLog(TrainerCallback):
    """Gathers TRL's tables of completions into `groups.jsonl`, one group a line.

    A line holds `step`, `id`, the gold tube on the shown frames (`target_frames`, `target_boxes`,
    `space`), `completions`, and for each of them `rewards`, `total`, `advantages`; `credit`, and
    under `paid` what the parts of each completion were paid. What "boxes" paid its numbers in
    addition follows from the rest by `pay_group`.
    """

    def __init__(self, num_generations: int, credit: str, scoring: Scoring) -> None:
        self.num_generations, self.credit, self.scoring = num_generations, credit, scoring

    def on_train_end(self, args, state: TrainerState, control, **kwargs) -> None:
        if not state.is_world_process_zero:
            return
        scale = args.scale_rewards != "none"
        tables = sorted(Path(args.output_dir, "completions").glob("completions_*.parquet"))
        with replacing(Path(args.output_dir) / "groups.jsonl") as out:
            for table in tables:
                for line in self.groups(pd.read_parquet(table), scale):
                    out.write(json.dumps(line) + "\n")

    def groups(self, table: pd.DataFrame, scale: bool = True):
        """The groups in one of TRL's tables; a group's completions follow one another."""
        for start in range(0, len(table), self.num_generations):
            group = table.iloc[start : start + self.num_generations]
            rewards = {name.removesuffix("_reward"): group[name].tolist() for name in _names(group)}
            totals = np.dot(self.scoring.weights, list(rewards.values()))
            about = group.iloc[0]
            target = Tube(about["target_frames"], np.stack(about["target_boxes"]))
            texts = [turns[0]["content"] for turns in group["completion"]]
            space = CoordinateSpace.parse(about["space"])
            paid = pay_group(texts, target, space, self.credit, self.scoring, scale=scale)
            yield {
                "step": int(about["step"]),
                "id": about["id"],
                "target_frames": target.frames.tolist(),
                "target_boxes": target.boxes.tolist(),
                "space": space.name,
                "completions": texts,
                "rewards": rewards,
                "total": totals.tolist(),
                "advantages": group["advantage"].tolist(),
                "credit": self.credit,
                "paid": {
                    part: [payment.advantages[place] for payment in paid]
                    for place, part in enumerate(PARTS)
                },
            }


def _names(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if name.endswith("_reward")]
