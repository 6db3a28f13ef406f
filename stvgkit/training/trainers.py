"""SFT and GRPO on TRL's own trainers: `sft(...)`, `grpo(...)`.

Frames are decoded when a row is asked for, and shown as timestamped images or as the model's own
video input (see `inputs`). What is ours here: the rows, the rewards, and the logs.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig
from safetensors import SafetensorError
from transformers import TrainerCallback, TrainerState
from trl import GRPOConfig, SFTConfig, SFTTrainer

from stvgkit.credit import Scoring
from stvgkit.errors import InputError
from stvgkit.files import write_json
from stvgkit.rewards import REWARD_WEIGHTS, REWARDS
from stvgkit.rows import ClipFormat, gold_text
from stvgkit.training.cards import describe_model
from stvgkit.training.group_log import GroupLog, Reward
from stvgkit.training.inputs import Collator
from stvgkit.training.models import Grounder, vision_parts
from stvgkit.training.outside import plain_rows
from stvgkit.training.progress import only_our_lines, show_one_line
from stvgkit.training.row_dataset import row_dataset
from stvgkit.training.runs import claim, describe_run, is_trained, last_checkpoint
from stvgkit.training.watch import DiversityCheck, FlatCheck, WatchedTrainer

# The paper's optimiser and group (STVG-o1, section 4.1 and Eq. 11), where TRL's defaults differ.
PAPER_GRPO = {
    "num_generations": 8,
    "reward_weights": REWARD_WEIGHTS,
    "scale_rewards": "group",
    "learning_rate": 1e-6,
    "weight_decay": 0.01,
    "beta": 0.001,
    # TRL's default multiplies the KL term by the ratio, which is another gradient than Eq. 12's.
    "use_bias_correction_kl": False,
}


@only_our_lines()
def sft(
    grounder: Grounder,
    rows: Sequence[dict],
    out: Path,
    *,
    think_noise: float = 0.1,
    callbacks: Sequence[TrainerCallback] = (),
    args: SFTConfig | None = None,
    peft_config: PeftConfig | None = None,
    **settings,
) -> Path:
    """Fine-tune on the gold answers as a box chain of thought; returns the checkpoint's folder.

    `settings` are TRL's `SFTConfig` on top of `SFT_DEFAULTS`, or `args` is one that is ready. A
    run that was interrupted goes on from its last checkpoint; a finished one is not run again. A
    folder that holds another run, of other data or settings, is refused. `out` gets the checkpoint
    (with `peft_config`, see `lora`, only the adapter) and `log.json`. A CPU that has units for bf16
    computes in it, unless `settings` have `bf16=False`.
    """
    args = args or SFTConfig(output_dir=str(out), **SFT_DEFAULTS | {"bf16": _BF16_SFT} | settings)
    run = describe_run("sft", grounder, rows, args, peft_config, think_noise=think_noise)
    if _claimed(Path(out), run, grounder, args):
        return Path(out)
    given = args.dataset_kwargs or {}
    if not isinstance(given, dict):
        raise InputError(f"dataset_kwargs is {given!r}: give a JSON object")
    args.dataset_kwargs = given | {"skip_prepare_dataset": True}
    shown = plain_rows(rows, grounder.processor)
    dataset = row_dataset(shown, partial(gold_text, think_noise=think_noise, seed=args.seed))
    trainer = SFTTrainer(
        model=grounder.model,
        args=args,
        train_dataset=dataset,
        processing_class=grounder.processor,
        data_collator=Collator(
            grounder.processor, args.max_length, args.completion_only_loss is not False
        ),
        callbacks=list(callbacks),
        peft_config=deepcopy(peft_config),  # PEFT writes into it
    )
    return _run(trainer, grounder, Path(out), "SFT")


@only_our_lines()
def grpo(
    grounder: Grounder,
    rows: Sequence[dict],
    out: Path,
    *,
    credit: str = "whole",
    spatial: str = "both",
    share_prompt: bool = True,
    stop_broken: bool = True,
    check_diversity: int = 0,
    stop_when_flat: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
    args: GRPOConfig | None = None,
    peft_config: PeftConfig | None = None,
    **settings,
) -> Path:
    """Fine-tune with the five rewards; returns the checkpoint's folder.

    `credit` says which tokens are paid for which part of the reward: "whole" (the paper's),
    "to-go", "parts" or "boxes", see `stvgkit.credit`. `spatial` picks the terms of R_spa, see
    `score_answer`. `share_prompt` does the work of a prompt once for its group, `stop_broken` ends
    an answer that cannot become valid any more, see `shared_prompt`. `check_diversity` prints how
    much the answers to so many prompts differ, before the first step. Where reward and spread have
    flattened, a line says so once; `stop_when_flat` ends the run there, as a finished one, see
    `watch`. `settings` are TRL's `GRPOConfig` on top of `GRPO_DEFAULTS`, the rest is as in `sft`.
    Besides what that writes, `out` gets `groups.jsonl`, a line for every group of completions with
    its rewards, advantages, and what each part was paid.
    """
    args = args or GRPOConfig(output_dir=str(out), **GRPO_DEFAULTS | settings)
    _check_batch(args, len(rows))
    run = describe_run(
        "grpo",
        grounder,
        rows,
        args,
        peft_config,
        credit=credit,
        spatial=spatial,
        stop_broken=stop_broken,
        stop_when_flat=stop_when_flat,
    )
    if _claimed(Path(out), run, grounder, args):
        return Path(out)
    scoring = Scoring(
        tuple(args.reward_weights or [1.0] * len(REWARDS)), spatial, grounder.clip_format.think
    )
    trainer = WatchedTrainer(
        model=grounder.model,
        args=args,
        reward_funcs=[Reward(reward, scoring) for reward in REWARDS],
        credit=credit,
        scoring=scoring,
        share_prompt=share_prompt,
        stop_broken=stop_broken,
        train_dataset=row_dataset(plain_rows(rows, grounder.processor)),
        processing_class=grounder.processor,
        callbacks=[
            *callbacks,
            GroupLog(args.num_generations, credit, scoring),
            FlatCheck(stop_when_flat),
        ],
        peft_config=deepcopy(peft_config),  # PEFT writes into it
    )
    trainer.add_callback(DiversityCheck(trainer, check_diversity))
    check_video(grounder.clip_format, args, trainer.share_prompt)
    return _run(trainer, grounder, Path(out), "GRPO")


def check_video(clip_format: ClipFormat, args: GRPOConfig, shared: bool) -> None:
    """Raise `InputError` where GRPO would hand video to TRL or vLLM, which take images alone."""
    if clip_format.frames_as == "video" and (args.use_vllm or not shared):
        raise InputError(
            "GRPO on frames_as video needs share_prompt, and cannot use vLLM: TRL's own ways take "
            "images alone; change these settings, or give frames_as images"
        )


def lora(grounder: Grounder, *, vision: bool = False, **settings) -> LoraConfig:
    """A LoRA adapter on every linear layer of the language model, or of the vision part as well."""
    seeing = "|".join(vision_parts(grounder.model))
    outside = None if vision else rf"model\.({seeing})\..*"
    defaults = {"task_type": "CAUSAL_LM", "target_modules": "all-linear"}
    return LoraConfig(exclude_modules=outside, **defaults | settings)


def freeze_vision(grounder: Grounder) -> None:
    """Leave the part that sees as it is, and train the language model alone."""
    for part in vision_parts(grounder.model).values():
        part.requires_grad_(False)


_BF16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
_COMMON = {
    "remove_unused_columns": False,
    "use_cpu": not torch.accelerator.is_available(),  # or processes on a CPU are not counted
    "save_total_limit": 1,
    "logging_steps": 1,
    "report_to": "tensorboard",
    "logging_nan_inf_filter": False,  # `OnlyFinite` has to see them
    # TRL's own default asks for bf16 everywhere, which a T4 and a CPU refuse.
    "bf16": _BF16,
    "fp16": torch.cuda.is_available() and not _BF16,
}
# A CPU with units for bf16 takes a step of SFT in two thirds of the time. GRPO, whose products are
# small, gains nothing there. Older releases of torch cannot tell. It is no default of recipes, or
# `plan` would tell of a GPU what holds for the CPU that it runs on.
_UNITS: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
_BF16_SFT = _BF16 or (
    not torch.accelerator.is_available()
    and any(_UNITS.get(name) for name in ("avx512_bf16", "amx_bf16"))
)
SFT_DEFAULTS = _COMMON | {"max_length": None}
GRPO_DEFAULTS = _COMMON | PAPER_GRPO | {"log_completions": True, "num_completions_to_print": 0}


def _claimed(out: Path, run: dict, grounder: Grounder, args) -> bool:
    """Whether this very run has finished in the folder; another's is an error."""
    claim(out, run, begun=is_trained(out) or last_checkpoint(out) is not None)
    if is_trained(out):
        if args.process_index == 0:
            print(
                f"{out} holds this very run, finished: nothing was done; delete it to do it again"
            )
        return True
    grounder.clip_format.save(out)  # now, so that every checkpoint in it is asked in this form
    return False


def _check_batch(args: GRPOConfig, prompts: int) -> None:
    """TRL leaves out a batch that is not full, and would end without a step where none is."""
    least = args.generation_batch_size // args.num_generations
    if prompts < least:
        raise InputError(
            f"a batch of GRPO takes {least} prompts ({args.generation_batch_size} answers, "
            f"num_generations {args.num_generations}) and there are {prompts}: give at least "
            f"{least}, or a smaller per_device_train_batch_size"
        )


def _run(trainer, grounder: Grounder, out: Path, name: str) -> Path:
    show_one_line(trainer, name)
    trainer.add_callback(OnlyFinite())
    trainer.add_callback(KeepClipFormat(grounder.clip_format))
    if trainer.args.fp16:
        widen(trainer.model)
    trainer.create_model_card = partial(
        _card, trainer.create_model_card, trainer, grounder.clip_format
    )
    checkpoint = last_checkpoint(out)
    try:
        if checkpoint and _is_last(checkpoint, trainer.args):
            _take(checkpoint, trainer, out)
        else:
            trainer.train(resume_from_checkpoint=checkpoint)
            if not trainer.state.global_step:
                raise InputError(
                    f"not one step was taken: {len(trainer.train_dataset)} rows fill no batch, or "
                    f"max_steps and num_train_epochs ask for none; {out} is not finished"
                )
            if trainer.is_world_process_zero():  # before the weights: saving may push the folder
                grounder.clip_format.save(out)
                trainer.create_model_card()
            trainer.save_model(str(out))  # on every process, since each may hold a part
    except (SafetensorError, RuntimeError) as error:
        if not any(sign in str(error) for sign in _DISK_SIGNS):
            raise
        raise InputError(
            f"cannot write to {out}: {error}; free some space and run the same command again: it "
            f"goes on from {last_checkpoint(out) or 'the start'}"
        ) from error
    if trainer.is_world_process_zero():
        grounder.clip_format.save(out)
        # Written last: it marks the run as finished.
        write_json(out / "log.json", trainer.state.log_history)
    trainer.accelerator.wait_for_everyone()  # nobody reads what the first has not written yet
    return out


def _is_last(checkpoint: str, args) -> bool:
    """Whether nothing is left to learn after this checkpoint: the kill came while a run ended."""
    state = TrainerState.load_from_json(f"{checkpoint}/trainer_state.json")
    if args.max_steps > 0:
        return state.global_step >= args.max_steps
    asked = math.ceil(args.num_train_epochs)
    return state.global_step >= state.max_steps and asked <= state.num_train_epochs


def _take(checkpoint: str, trainer, out: Path) -> None:
    """Make the last checkpoint the result; the Trainer, resumed there, would take a step more."""
    trainer.state = TrainerState.load_from_json(f"{checkpoint}/trainer_state.json")
    if trainer.is_world_process_zero():
        for file in Path(checkpoint).iterdir():
            kept = file.suffix in (".safetensors", ".json", ".jinja", ".md")
            if kept and file.name != "trainer_state.json":
                shutil.copy2(file, out)
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, GroupLog):
                trainer.state.is_world_process_zero = True
                callback.on_train_end(trainer.args, trainer.state, trainer.control)
    if trainer.args.push_to_hub:
        warnings.warn(f"{out} was finished but not pushed: hf upload REPO {out}", stacklevel=2)


def _card(write: Callable, trainer, clip_format, *args, **kwargs) -> None:
    """TRL's model card, with how the model is asked."""
    write(*args, **kwargs)
    if trainer.is_world_process_zero():
        describe_model(trainer.args.output_dir, clip_format)


def widen(model) -> None:
    """Keep what is trained in 32 bits, as loss scaling (fp16) asks for.

    TRL keeps the adapter of a 4-bit model in bf16, whose gradients the scaler cannot unscale.
    """
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


# How libraries that write weights say that the disk is full.
_DISK_SIGNS = ("No space left", "File too large", "I/O error", "PytorchStreamWriter failed")


class OnlyFinite(TrainerCallback):
    """Stops a run whose loss is not a number, before it is saved over a good checkpoint."""

    def on_log(self, args, state: TrainerState, control, logs=None, **kwargs) -> None:
        # With fp16 the scaler meets infinite gradients on purpose, and skips the step.
        watched = ("loss",) if args.fp16 else ("loss", "grad_norm")
        for name in watched:
            if not math.isfinite((logs or {}).get(name, 0.0)):
                raise InputError(
                    f"{name} is {logs[name]} at step {state.global_step} of {args.output_dir}: "
                    f"training stopped, {last_checkpoint(args.output_dir) or 'nothing'} is the "
                    "last good checkpoint; lower learning_rate or max_grad_norm, or use bf16"
                )


class KeepClipFormat(TrainerCallback):
    """Saves beside each checkpoint how the model is asked, so that it can be moved alone."""

    def __init__(self, clip_format: ClipFormat) -> None:
        self.clip_format = clip_format

    def on_save(self, args, state: TrainerState, control, **kwargs) -> None:
        if state.is_world_process_zero:
            self.clip_format.save(Path(args.output_dir) / f"checkpoint-{state.global_step}")
