"""What a person sees while a model trains: one line with the step, the time left, and the rewards.

The Trainer of transformers writes a dictionary of some 25 values at every step; they stand in
`log.json` and TensorBoard.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback
from transformers.utils import logging
from transformers.utils.notebook import NotebookProgressCallback

from stvgkit.progress import Progress
from stvgkit.rewards import REWARDS

OLD_NAME = r"`(is_)?gradient_checkpointing\w*` is deprecated"


class TrainingLine(TrainerCallback):
    """Draws the line of a run, called `name`, on the first of its processes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.line = Progress(name, 0, shown=False)

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        shown = state.is_world_process_zero and not args.disable_tqdm
        self.line = Progress(self.name, state.max_steps, done=state.global_step, shown=shown)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if not control.should_log:  # or `on_log` comes next, with what this step saw
            self.line.at(state.global_step)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if note := describe(logs or {}):
            self.line.at(state.global_step, note)

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self.line.close()


def describe(logs: Mapping[str, float]) -> str:
    """What counts in one entry of the log of `sft` or `grpo`; nothing where it has no loss.

    >>> describe({"loss": 0.4132, "mean_token_accuracy": 0.871, "grad_norm": 1.2})
    'loss 0.413, tokens right 87%'
    >>> describe({"loss": 0.1, "reward": 2.5, "rewards/format_reward/mean": 0.75})
    'reward 2.50, parsed 75%'
    >>> describe({"train_runtime": 12.0})
    ''
    """
    if "loss" not in logs:
        return ""
    if "reward" not in logs:
        right = logs.get("mean_token_accuracy")
        return f"loss {logs['loss']:.3f}" + ("" if right is None else f", tokens right {right:.0%}")
    names = [reward.__name__.removesuffix("_reward") for reward in REWARDS]
    means = {name: logs.get(f"rewards/{name}_reward/mean") for name in names}
    parts = [f"reward {logs['reward']:.2f}"]
    parsed = means.pop("format")  # the format's reward is 1 where an answer parses, and else 0
    if parsed is not None:
        parts.append(f"parsed {parsed:.0%}")
    return ", ".join(
        parts + [f"{name} {mean:.2f}" for name, mean in means.items() if mean is not None]
    )


def show_one_line(trainer: Trainer, name: str) -> None:
    """Take the displays of transformers out of a trainer, and put in the line called `name`."""
    for display in (ProgressCallback, PrinterCallback, NotebookProgressCallback):
        trainer.remove_callback(display)
    trainer.add_callback(TrainingLine(name))


@contextmanager
def only_our_lines() -> Iterator[None]:
    """Keep away what breaks our lines: bars of weights that are read or written, one warning.

    TRL, and the oldest transformers that we take, know a setting as `gradient_checkpointing`. The
    newest transformers warns of that name at every step, and a person can do nothing about it.
    """
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", OLD_NAME, category=FutureWarning)
            yield
    finally:
        if shown:
            logging.enable_progress_bar()
