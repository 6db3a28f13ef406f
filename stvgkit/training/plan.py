"""What a recipe will need, before it is started: `stvgkit plan RECIPE`.

The model is built from its configuration alone and one optimizer step is taken on tensors without
values (see `step`): that counts the activations, with the recipe's frames, lengths, batch, LoRA
and gradient checkpointing, as PyTorch would hold them, and the work in floating point operations.
Weights, gradients and optimizer states follow from the number of parameters and from how the
recipe's launch splits them (see `cost`).

Where GRPO shares a prompt among the answers of its group, the plan is of that, and beside it stands
what the same step would take as stock TRL does it.

Left out: what a GPU's driver and libraries take (`RESERVE` is kept free for them), and 16-bit
autocast copies of weights that are kept in 32 bits.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial

import torch
from transformers import AutoModelForImageTextToText, GenerationConfig
from trl.trainer.utils import add_fused_lm_head

from stvgkit.errors import InputError
from stvgkit.files import check_target
from stvgkit.training import cost, longest, recipes, step
from stvgkit.training.cost import Launch
from stvgkit.training.longest import Clip
from stvgkit.training.meter import Meter
from stvgkit.training.models import Grounder, vision_parts
from stvgkit.training.progress import only_our_lines
from stvgkit.training.refusals import one_line
from stvgkit.training.shared_prompt import why_not_shared
from stvgkit.training.trainers import check_video

GB, TERA = 1e9, 1e12
GPUS = {"T4": 16, "L4": 24, "A10": 24, "A100": 80, "H100": 80}  # gigabytes
RESERVE = 1.5  # GB kept free for the CUDA context, libraries and fragmentation; a guess
MOST_SIDE, MOST_SECONDS = 100_000, 86_400  # of a video: its pixels, and a day


@dataclass(frozen=True)
class Stock:
    """What stock TRL would take, which reads a prompt anew for each answer; as in `Plan`."""

    phases: dict[str, float]
    flops: dict[str, float]
    vision_flops: float


@dataclass(frozen=True)
class Plan:
    """A recipe's needs. `memory` is bytes for each GPU at its fullest moment, by what they are.

    `phases` are the bytes at the peak of each part of a step, `flops` the floating point operations
    of one optimizer step in each process, by part, and `vision_flops` those of them in the vision
    part. Where prompts are shared, `stock` has the phases and flops of stock TRL; where they
    could be and are not, `alone` says why. `vllm_share` is the part of a GPU that vLLM takes for
    itself; where `vllm_sleeps`, it gives it back while the model is trained.
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
    flops: dict[str, float]
    vision_flops: float
    alone: str | None = None
    stock: Stock | None = None
    vllm_share: float = 0.0
    vllm_sleeps: bool = False

    @property
    def shared(self) -> bool:
        """Whether a prompt is read once for the answers of its group."""
        return self.stock is not None

    def needs(self, gigabytes: float, stock: Stock | None = None) -> float:
        """Gigabytes of a GPU of this size that the run takes, vLLM's share included.

        With `stock`, what it would take as stock TRL does it.
        """
        phases = stock.phases if stock else self.phases
        share = self.vllm_share * gigabytes
        train = phases["train"] / GB
        if not share:
            return max(phases.values()) / GB
        return max(train, phases["rest"] / GB + share) if self.vllm_sleeps else train + share

    def fits(self, gigabytes: float) -> bool:
        """Whether a GPU of this size holds it, `RESERVE` aside."""
        return self.needs(gigabytes) + RESERVE <= gigabytes

    def as_dict(self, gpus: dict[str, float]) -> dict:
        """The plan and its verdicts as plain values, ready for JSON."""
        verdicts = {
            name: {"gigabytes": size, "needs": self.needs(size), "fits": self.fits(size)}
            | ({"stock_needs": self.needs(size, self.stock)} if self.stock else {})
            for name, size in gpus.items()
        }
        whole = asdict(self) | {"shared": self.shared}
        return whole | {"gpus": verdicts, "reserve": RESERVE}

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
            line = f"peak while: {name:<14}{size / GB:>9.3f} GB"
            if self.stock and name in self.stock.phases:
                line += f", as stock TRL does it {self.stock.phases[name] / GB:.3f} GB"
            lines.append(line)
        parts = ", ".join(f"{name} {_tera(work)}" for name, work in self.flops.items())
        line = f"an optimizer step: {_tera(sum(self.flops.values()))} TFLOP"
        if self.stock:
            line += f", as stock TRL does it {_tera(sum(self.stock.flops.values()))}"
        lines += [line, f"  {parts}; the vision part has {_tera(self.vision_flops)} of it"]
        if self.alone:
            lines.append(f"prompts are not shared in their groups: {self.alone}")
        if self.vllm_share:
            lines.append(f"vLLM takes {self.vllm_share:.0%} of each GPU on top")
        for name, size in gpus.items():
            verdict = "fits" if self.fits(size) else "does not fit"
            lines.append(
                f"{name} ({size:g} GB): {verdict}, {self.needs(size):.1f} GB and {RESERVE:g} GB "
                "kept free"
            )
        return "\n".join(lines)


def _tera(flops: float) -> str:
    return f"{flops / TERA:,.0f}" if flops >= 100 * TERA else f"{flops / TERA:.3g}"


@only_our_lines()
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
    answer = batch["input_ids"].shape[1] - prompt if method == "sft" else args.max_completion_length
    visual = longest.visual_tokens(config, batch)
    shown = (len(row["times"]), tuple(row["size"]), clip_format.frames_as)
    clip = Clip(*shown, visual, prompt - visual, answer)
    launch = Launch.read(task.launch)

    dtype = cost.dtype_of(model.dtype, config)
    grounder, network, four_bit = _built(config, dtype, task, model, args, processor, clip_format)
    step.attend_at_once(network)
    meter = Meter()
    with meter:
        meter.adopt(network)
    for part in vision_parts(grounder.model).values():
        meter.tell_apart(part)
    state = cost.state_bytes(network, dtype, four_bit, launch, args)
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    total = sum(p.numel() for p in network.parameters())
    adapter = network is not grounder.model
    if method == "grpo" and args.beta and not adapter:
        state["reference model"] = cost.shared(total * dtype.itemsize, launch)

    work = step.Work.of(method, args)
    alone, stock = None, None
    with nullcontext() if on_cpu else step.loss_of_a_gpu():
        if method == "sft":
            taken = step.sft_step(network, meter, batch, work)
        else:
            alone = _why_alone(task, args, grounder.model)
            check_video(clip_format, args, shared=not alone)
            asked = step.Asked.of(network, meter, batch, prompt, answer)
            draw = partial(step.sample, network, meter, asked, work, _sampling(args))
            learn = partial(step.grpo_step, network, meter, asked, work)
            # vLLM reads a prompt once for its group in any case.
            drawn = draw(shared=not alone or args.use_vllm)
            taken = learn(drawn, shared=not alone)
            if not alone:
                apart = drawn if args.use_vllm else draw(shared=False)
                plain = learn(apart, shared=False)
                stock = Stock(_phases(method, args, state, plain), plain.flops, plain.vision)
    phases = _phases(method, args, state, taken)
    fullest = max(phases, key=phases.__getitem__)
    memory = state | {"inputs": taken.inputs}
    if fullest == "generate":
        del memory["gradients"]
    memory["activations"] = phases[fullest] - sum(memory.values())
    colocated = method == "grpo" and args.use_vllm and args.vllm_mode == "colocate"
    return Plan(
        recipe,
        model.model_name_or_path,
        method,
        total - (trained if adapter else 0),
        trained,
        clip,
        launch,
        {name: int(size) for name, size in memory.items()},
        phases,
        taken.flops,
        taken.vision,
        alone,
        stock,
        args.vllm_gpu_memory_utilization if colocated else 0.0,
        colocated and args.vllm_enable_sleep_mode,
    )


def _built(config, dtype, task, model, args, processor, clip_format) -> tuple:
    """The model, the model as it is trained, and the bytes of its weights of 4 or 8 bits."""
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
    if args.gradient_checkpointing:
        renamed = getattr(network, "activation_checkpointing_enable", None)  # its newer name
        (renamed or network.gradient_checkpointing_enable)({"use_reentrant": False})
        if adapter is not None:
            network.enable_input_require_grads()
    return grounder, network, four_bit


def _phases(method: str, args, state: dict[str, float], taken: step.Step) -> dict[str, float]:
    """Bytes at the peak of each part of a step; `rest` is what is there all the time."""
    rest = sum(size for name, size in state.items() if name != "gradients")
    phases: dict[str, float] = {"train": sum(state.values()) + taken.inputs + taken.train}
    if method == "grpo" and args.use_vllm:
        phases["rest"] = rest
    elif method == "grpo":
        phases["generate"] = rest + taken.inputs + taken.generate
    return {name: int(size) for name, size in phases.items()}


def _sampling(args) -> GenerationConfig:
    """How a `GRPOConfig` has answers sampled."""
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "cache_implementation")
    settings = {name: getattr(args, name) for name in names}
    return GenerationConfig(do_sample=True, **settings | (args.generation_kwargs or {}))


def _why_alone(task, args, network) -> str | None:
    """Why a prompt is read once for each answer; None where its group shares it."""
    if not task.share_prompt:
        return "share_prompt is false"
    return why_not_shared(network, None if args.use_vllm else _sampling(args))
