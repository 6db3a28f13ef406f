"""What a recipe will need, before it is started: `stvgkit plan RECIPE`.

The model is built from its configuration alone and one optimizer step is taken on tensors without
values (see `cost`): that counts the activations, with the recipe's frames, lengths, batch, LoRA
and gradient checkpointing, as PyTorch would hold them. Weights, gradients and optimizer states
follow from the number of parameters and from how the recipe's launch splits them.

Left out: what a GPU's driver and libraries take (`RESERVE` is kept free for them), and 16-bit
autocast copies of weights that are kept in 32 bits.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass

import torch
from transformers import AutoModelForImageTextToText
from trl.trainer.utils import add_fused_lm_head

from stvgkit.errors import InputError
from stvgkit.files import check_target
from stvgkit.training import cost, longest, recipes
from stvgkit.training.cost import Launch
from stvgkit.training.longest import Clip
from stvgkit.training.meter import Meter
from stvgkit.training.models import Grounder
from stvgkit.training.refusals import one_line

GB = 1e9
GPUS = {"T4": 16, "L4": 24, "A10": 24, "A100": 80, "H100": 80}  # gigabytes
RESERVE = 1.5  # GB kept free for the CUDA context, libraries and fragmentation; a guess
MOST_SIDE, MOST_SECONDS = 100_000, 86_400  # of a video: its pixels, and a day


@dataclass(frozen=True)
class Plan:
    """A recipe's needs. `memory` is bytes for each GPU at its fullest moment, by what they are.

    `phases` are the bytes at the peak of each part of a step. `vllm_share` is the part of a GPU
    that vLLM takes for itself; where `vllm_sleeps`, it gives it back while the model is trained.
    """

    recipe: str
    model: str
    method: str
    parameters: int
    trained: int
    clip: Clip
    launch: Launch
    memory: dict[str, float]
    phases: dict[str, float]
    vllm_share: float = 0.0
    vllm_sleeps: bool = False

    def needs(self, gigabytes: float) -> float:
        """Gigabytes of a GPU of this size that the run takes, vLLM's share included."""
        share = self.vllm_share * gigabytes
        train = self.phases["train"] / GB
        if not share:
            return max(self.phases.values()) / GB
        return max(train, self.phases["rest"] / GB + share) if self.vllm_sleeps else train + share

    def fits(self, gigabytes: float) -> bool:
        """Whether a GPU of this size holds it, `RESERVE` aside."""
        return self.needs(gigabytes) + RESERVE <= gigabytes

    def as_dict(self, gpus: dict[str, float]) -> dict:
        """The plan and its verdicts as plain values, ready for JSON."""
        verdicts = {
            name: {"gigabytes": size, "needs": self.needs(size), "fits": self.fits(size)}
            for name, size in gpus.items()
        }
        return asdict(self) | {"gpus": verdicts, "reserve": RESERVE}

    def table(self, gpus: dict[str, float]) -> str:
        """The plan as lines of text."""
        clip, launch = self.clip, self.launch
        lines = [
            f"{self.recipe}: {self.method} of {self.model}, {self.parameters / 1e6:,.1f} million "
            f"parameters, {self.trained / 1e6:,.1f} million trained",
            f"a clip: {clip.frames} frames of {clip.size[0]}x{clip.size[1]} as {clip.frames_as}, "
            f"{clip.visual_tokens} visual and {clip.text_tokens} text tokens; "
            f"answer up to {clip.answer_tokens} tokens",
            f"{launch.processes} process{'es' if launch.processes > 1 else ''} ({launch.split}); "
            "for each, at the fullest moment:",
            *(f"  {name:<24}{size / GB:>9.3f} GB" for name, size in self.memory.items()),
        ]
        for name, size in self.phases.items():
            lines.append(f"peak while: {name:<14}{size / GB:>9.3f} GB")
        if self.vllm_share:
            lines.append(f"vLLM takes {self.vllm_share:.0%} of each GPU on top")
        for name, size in gpus.items():
            verdict = "fits" if self.fits(size) else "does not fit"
            lines.append(
                f"{name} ({size:g} GB): {verdict}, {self.needs(size):.1f} GB and {RESERVE:g} GB "
                "kept free"
            )
        return "\n".join(lines)


def plan(argv: Sequence[str]) -> tuple[Plan, dict[str, float], str | None]:
    """Read the command line of `stvgkit plan`; returns the plan, the GPUs asked about, `--json`."""
    options = argparse.ArgumentParser(
        prog="stvgkit plan RECIPE",
        allow_abbrev=False,
        description="What a recipe needs. Every field of the recipe is an option as well.",
    )
    options.add_argument(
        "--gpu", action="append", help=f"one of {', '.join(GPUS)}, or its gigabytes; all of them"
    )
    options.add_argument("--seconds", type=float, help="length of a clip; 20, or up to max_frames")
    options.add_argument("--video", default="1280x720", help="its width and height")
    options.add_argument("--json", metavar="FILE", help="write the plan here as well")
    own, rest = options.parse_known_args(list(argv))
    if not rest or rest[0].startswith("-"):
        raise InputError(f"which recipe? give a YAML file, or one of {', '.join(recipes.names())}")
    if own.json:
        check_target(own.json)
    gpus = dict(_gpu(name) for name in own.gpu or GPUS)
    method = recipes.method_of(rest[0])
    task, model, config = recipes.parse(method, rest)
    try:
        width, height = (int(side) for side in own.video.split("x"))
    except ValueError as error:
        raise InputError(f"--video is {own.video!r}, must be like 1280x720") from error
    if not (0 < width <= MOST_SIDE and 0 < height <= MOST_SIDE):
        raise InputError(f"--video is {own.video!r}: no video has such a size")
    if own.seconds is not None and not 0 < own.seconds <= MOST_SECONDS:  # NaN fails too
        raise InputError(f"--seconds is {own.seconds}: give more than 0, up to {MOST_SECONDS}")
    with one_line():
        needs = make_plan(rest[0], method, task, model, config, (width, height), own.seconds)
    return needs, gpus, own.json


def _gpu(name: str) -> tuple[str, float]:
    try:
        size = float(GPUS.get(name, name))
    except ValueError:
        size = math.nan
    if not 0 < size < math.inf:
        raise InputError(f"--gpu is {name!r}: give its gigabytes, or one of {', '.join(GPUS)}")
    return name, size


def make_plan(
    recipe, method, task, model, args, video=(1280, 720), seconds=None, on_cpu=False
) -> Plan:
    """Plan a parsed recipe (`recipes.parse`) for clips of `seconds` of a video of this size.

    `on_cpu` counts TRL's loss as it takes memory without a GPU.
    """
    config, processor, clip_format = longest.describe(model, task)
    row = longest.longest_row(clip_format, video, seconds)
    batch = longest.batch_of(processor, row)
    prompt = int((batch["labels"][0] != -100).int().argmax())
    answer = batch["input_ids"].shape[1] - prompt
    if method == "grpo":
        answer = args.max_completion_length
        batch = longest.with_answer(batch, prompt, answer)
    visual = longest.visual_tokens(config, batch)
    shown = (len(row["times"]), tuple(row["size"]), clip_format.frames_as)
    clip = Clip(*shown, visual, prompt - visual, answer)
    launch = Launch.read(task.launch)

    dtype = cost.dtype_of(model.dtype, config)
    with torch.device("meta"):
        network = AutoModelForImageTextToText.from_config(
            config, dtype=dtype, attn_implementation=model.attn_implementation or "sdpa"
        )
    four_bit = cost.quantized(network, model)
    temperature = getattr(args, "temperature", 1.0)
    add_fused_lm_head(network, temperature, outputs=("log_probs", "entropy"))
    grounder = Grounder(model.model_name_or_path, network, processor, clip_format)
    adapter = recipes.adapter_of(task, model, grounder)
    if adapter is not None:
        from peft import get_peft_model

        with torch.device("meta"):
            network = get_peft_model(network, adapter, autocast_adapter_dtype=False)
    cost.attend_at_once(network)
    meter = Meter()
    with meter:
        meter.adopt(network)
    if args.gradient_checkpointing:
        renamed = getattr(network, "activation_checkpointing_enable", None)  # its newer name
        (renamed or network.gradient_checkpointing_enable)({"use_reentrant": False})
        if adapter is not None:
            network.enable_input_require_grads()

    state = cost.state_bytes(network, dtype, four_bit, launch, args)
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    total = sum(p.numel() for p in network.parameters())
    size = args.per_device_train_batch_size
    accumulated = args.gradient_accumulation_steps > 1  # then gradients are there from before
    with nullcontext() if on_cpu else cost.loss_of_a_gpu():
        activations = cost.train_peak(network, meter, batch, size, accumulated)
    inputs = cost.tensor_bytes(batch)
    if method == "grpo":
        if args.beta and adapter is None:
            state["reference model"] = cost.shared(total * dtype.itemsize, launch)
        rollouts = size * (args.steps_per_generation or args.gradient_accumulation_steps)
        inputs *= rollouts
    else:
        inputs *= size
    rest = sum(size for name, size in state.items() if name != "gradients")
    memory = state | {"inputs": inputs, "activations": activations}
    phases: dict[str, float] = {"train": sum(memory.values())}
    vllm_share, sleeps = 0.0, False
    if method == "grpo" and args.use_vllm:
        phases["rest"] = rest
        if args.vllm_mode == "colocate":
            vllm_share, sleeps = args.vllm_gpu_memory_utilization, args.vllm_enable_sleep_mode
    elif method == "grpo":
        prefill, cache = cost.rollout_peak(network, meter, batch, prompt, rollouts)
        whole = int(cache * (prompt + answer) / prompt)
        layers = config.get_text_config().num_hidden_layers
        grown = whole + whole // layers  # a layer's cache is copied to grow
        phases["generate"] = rest + inputs + max(prefill, grown)
        if phases["generate"] > phases["train"]:
            del memory["gradients"], memory["activations"]
            memory |= {"inputs": inputs, "KV cache": grown}
            memory["activations"] = phases["generate"] - rest - inputs - grown
    return Plan(
        recipe,
        model.model_name_or_path,
        method,
        total - (trained if adapter is not None else 0),
        trained,
        clip,
        launch,
        {name: int(size) for name, size in memory.items()},
        {name: int(size) for name, size in phases.items()},
        vllm_share,
        sleeps,
    )
