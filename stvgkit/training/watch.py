"""Whether a run of GRPO has something to learn from: looked at before it, and at every step.

`stvgkit.diversity` has the numbers. TRL logs the deviation of R over a whole batch (`reward_std`),
where easy and hard prompts differ as well. `WatchedTrainer` logs the one within groups too, as
`group_reward_std`.
"""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
from accelerate.utils import gather_object
from tqdm import tqdm
from transformers import TrainerCallback, TrainerState

from stvgkit.answers import CoordinateSpace
from stvgkit.diversity import flattened, group_diversity, group_spread
from stvgkit.errors import InputError
from stvgkit.progress import Progress
from stvgkit.rewards import score_answer
from stvgkit.training.crediting import CreditTrainer
from stvgkit.tubes import Tube

SPREAD = "group_reward_std"
WINDOW = 20  # logged steps


class WatchedTrainer(CreditTrainer):
    """Logs the spread of R within groups, and can sample groups beside training."""

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self.model.training:
            weights = self.reward_weights.to(rewards.device)
            totals = (rewards @ weights).view(-1, self.num_generations)  # of all processes
            self._metrics["train"][SPREAD].append(float(group_spread(totals.cpu().numpy()).mean()))
        return rewards

    def sample_groups(self, rows: list[dict]) -> list[tuple[list[str], list[float]]]:
        """A group of answers to each row, sampled as in training: their texts and rewards R."""
        size = self.num_generations
        texts = self.sample_texts([row for row in rows for _ in range(size)])
        groups = [texts[start : start + size] for start in range(0, len(texts), size)]
        return [
            (group, [self._total(row, text) for text in group])
            for row, group in zip(rows, groups, strict=True)
        ]

    def _total(self, row: dict, text: str) -> float:
        score = score_answer(
            text,
            Tube(row["target_frames"], row["target_boxes"]),
            CoordinateSpace.parse(row["space"]),
            spatial=self.scoring.spatial,
            think=self.scoring.think,
        )
        return float(np.dot(self.scoring.weights, astuple(score)[: len(self.scoring.weights)]))


class DiversityCheck(TrainerCallback):
    """Samples groups for `prompts` clips before the first step, and prints how much they differ."""

    def __init__(self, trainer: WatchedTrainer, prompts: int) -> None:
        if prompts < 0:
            raise InputError(f"check_diversity is {prompts}: give the number of prompts, 0 or more")
        self.trainer, self.prompts = trainer, prompts

    def on_train_begin(self, args, state: TrainerState, control, **kwargs) -> None:
        if not self.prompts or state.global_step:
            return
        found = gather_object(self._sample(args))
        if state.is_world_process_zero:
            print(group_diversity(*zip(*found, strict=True)), flush=True)

    def _sample(self, args) -> list[tuple[list[str], list[float]]]:
        """The groups of this process; every process has as many, since they sample together."""
        dataset, processes = self.trainer.train_dataset, args.world_size
        count = math.ceil(min(self.prompts, len(dataset)) / processes) * processes
        places = np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()
        mine = places[args.process_index :: processes]
        written = args.per_device_train_batch_size * args.steps_per_generation
        at_once = max(1, written // args.num_generations)  # as many as in training
        shown = args.process_index == 0 and not args.disable_tqdm
        groups = []
        with Progress("diversity", len(mine), shown=shown) as line:
            for start in range(0, len(mine), at_once):
                part = mine[start : start + at_once]
                groups += self.trainer.sample_groups([dataset[place] for place in part])
                line.at(len(groups))
        return groups


class FlatCheck(TrainerCallback):
    """Says once that reward and spread have flattened, and ends the run there if `stop`."""

    def __init__(self, stop: bool, window: int = WINDOW) -> None:
        self.stop, self.window, self.said = stop, window, False

    def on_log(self, args, state: TrainerState, control, **kwargs) -> None:
        steps = [entry for entry in state.log_history if SPREAD in entry]
        rewards, spreads = ([entry[key] for entry in steps] for key in ("reward", SPREAD))
        why = None if self.said else flattened(rewards, spreads, self.window)
        if why is None:
            return
        self.said = True
        if state.is_world_process_zero:
            what = "training stops here" if self.stop else "stop_when_flat would stop here"
            tqdm.write(
                f"Reward and spread have flattened at step {state.global_step}: {why}; {what}."
            )
        control.should_training_stop |= self.stop
