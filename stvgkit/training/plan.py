"""What a recipe will need, before it is started: `stvgkit plan RECIPE`.

The model is built from its configuration alone and one optimizer step is taken on tensors without
values (see `meter`): that counts the activations, with the recipe's frames, lengths, batch, LoRA
and gradient checkpointing, as PyTorch would hold them. Weights, gradients and optimizer states
follow from the number of parameters and from how the recipe's launch splits them.

Left out: what a GPU's driver and libraries take (`RESERVE` is kept free for them), and 16-bit
autocast copies of weights that are kept in 32 bits.
"""

from __future__ import annotations

import argparse
import inspect
import math
from collections.abc import Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import trl.trainer.utils
import yaml
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from trl.kernels import chunked_logprob
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling
from trl.trainer.utils import add_fused_lm_head

from stvgkit.errors import InputError
from stvgkit.rows import ClipFormat, gold_text, row_messages
from stvgkit.training import recipes
from stvgkit.training.meter import Meter
from stvgkit.training.models import (
    Grounder,
    adapter_base,
    clip_format_of,
    keep_frame_size,
    model_path,
)

GB = 1e9
GPUS = {"T4": 16, "L4": 24, "A10": 24, "A100": 80, "H100": 80}  # gigabytes
RESERVE = 1.5  # GB kept free for the CUDA context, libraries and fragmentation; a guess
GATHERED = 1e9  # DeepSpeed's stage3_max_live_parameters
QUERY = "the person in the red coat who walks to the door and opens it"
DDP, FSDP, ZERO3 = "ddp", "fsdp", "zero3"


@dataclass(frozen=True)
class Launch:
    """How many processes train, and what they split: `ddp` copies, `fsdp` and `zero3` split."""

    processes: int = 1
    split: str = DDP

    @classmethod
    def read(cls, name: str | None) -> Launch:
        """From an accelerate configuration, by path or by the name of one that ships here.

        >>> Launch.read("zero3-8"), Launch.read(None)
        (Launch(processes=8, split='zero3'), Launch(processes=1, split='ddp'))
        """
        if name is None:
            return cls()
        path = Path(name)
        if not path.is_file():
            path = recipes.FOLDER / "accelerate" / f"{name}.yaml"
        if not path.is_file():
            known = sorted(p.stem for p in path.parent.glob("*.yaml"))
            raise InputError(f"no accelerate file {name!r}: give a path, or one of {known}")
        config = yaml.safe_load(path.read_text())
        kind = str(config.get("distributed_type", "NO")).upper()
        zero = (config.get("deepspeed_config") or {}).get("zero_stage")
        if kind == "DEEPSPEED" and zero != 3:
            raise InputError(f"{path}: of DeepSpeed only ZeRO stage 3 is planned, not {zero}")
        split = {"FSDP": FSDP, "DEEPSPEED": ZERO3}.get(kind, DDP)
        return cls(int(config.get("num_processes", 1)), split)


@dataclass(frozen=True)
class Clip:
    """One prompt and its answer in tokens; the answer is the longest that can be asked for."""

    frames: int
    size: tuple[int, int]  # width, height that the model sees
    visual_tokens: int
    text_tokens: int
    answer_tokens: int


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
    memory: dict[str, int]
    phases: dict[str, int]
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
            f"a clip: {clip.frames} frames of {clip.size[0]}x{clip.size[1]}, {clip.visual_tokens} "
            f"visual and {clip.text_tokens} text tokens; answer up to {clip.answer_tokens} tokens",
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
    gpus = dict(_gpu(name) for name in own.gpu or GPUS)
    method = recipes.method_of(rest[0])
    task, model, config = recipes.parse(method, rest)
    try:
        width, height = (int(side) for side in own.video.split("x"))
    except ValueError as error:
        raise InputError(f"--video is {own.video!r}, must be like 1280x720") from error
    needs = make_plan(rest[0], method, task, model, config, (width, height), own.seconds)
    return needs, gpus, own.json


def _gpu(name: str) -> tuple[str, float]:
    try:
        return name, float(GPUS.get(name, name))
    except ValueError as error:
        known = ", ".join(GPUS)
        raise InputError(f"--gpu is {name!r}: give its gigabytes, or one of {known}") from error


def make_plan(
    recipe, method, task, model, args, video=(1280, 720), seconds=None, on_cpu=False
) -> Plan:
    """Plan a parsed recipe (`recipes.parse`) for clips of `seconds` of a video of this size.

    `on_cpu` counts TRL's loss as it takes memory without a GPU.
    """
    config, processor, clip_format = describe(model, task)
    row = longest_row(clip_format, video, seconds)
    batch = batch_of(processor, row)
    prompt = int((batch["labels"][0] != -100).int().argmax())
    answer = batch["input_ids"].shape[1] - prompt
    if method == "grpo":
        answer = args.max_completion_length
        batch = _with_answer(batch, prompt, answer)
    visual = _visual_tokens(config, batch)
    clip = Clip(len(row["times"]), tuple(row["size"]), visual, prompt - visual, answer)
    launch = Launch.read(task.launch)

    dtype = _dtype(model.dtype, config)
    with torch.device("meta"):
        network = AutoModelForImageTextToText.from_config(
            config, dtype=dtype, attn_implementation=model.attn_implementation or "sdpa"
        )
    four_bit = _quantized(network, model)
    temperature = getattr(args, "temperature", 1.0)
    add_fused_lm_head(network, temperature, outputs=("log_probs", "entropy"))
    grounder = Grounder(model.model_name_or_path, network, processor, clip_format)
    adapter = recipes.adapter_of(task, model, grounder)
    if adapter is not None:
        from peft import get_peft_model

        with torch.device("meta"):
            network = get_peft_model(network, adapter, autocast_adapter_dtype=False)
    _attend_at_once(network)
    meter = Meter()
    with meter:
        meter.adopt(network)
    if args.gradient_checkpointing:
        renamed = getattr(network, "activation_checkpointing_enable", None)  # its newer name
        (renamed or network.gradient_checkpointing_enable)({"use_reentrant": False})
        if adapter is not None:
            network.enable_input_require_grads()

    state = state_bytes(network, dtype, four_bit, launch, args)
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    total = sum(p.numel() for p in network.parameters())
    size = args.per_device_train_batch_size
    accumulated = args.gradient_accumulation_steps > 1  # then gradients are there from before
    with nullcontext() if on_cpu else _loss_of_a_gpu():
        activations = _train_peak(network, meter, batch, size, accumulated)
    inputs = _bytes(batch)
    if method == "grpo":
        if args.beta and adapter is None:
            state["reference model"] = _shared(total * dtype.itemsize, launch)
        rollouts = size * (args.steps_per_generation or args.gradient_accumulation_steps)
        inputs *= rollouts
    else:
        inputs *= size
    rest = sum(size for name, size in state.items() if name != "gradients")
    memory = state | {"inputs": inputs, "activations": activations}
    phases = {"train": sum(memory.values())}
    vllm_share, sleeps = 0.0, False
    if method == "grpo" and args.use_vllm:
        phases["rest"] = rest
        if args.vllm_mode == "colocate":
            vllm_share, sleeps = args.vllm_gpu_memory_utilization, args.vllm_enable_sleep_mode
    elif method == "grpo":
        prefill, cache = _rollout_peak(network, meter, batch, prompt, rollouts)
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


def describe(model, task) -> tuple:
    """Configuration, processor and clip format of a recipe's model; no weights are read."""
    path = model_path(model.model_name_or_path)
    try:
        processor = AutoProcessor.from_pretrained(path)
        config = AutoConfig.from_pretrained(adapter_base(path) or path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the configuration and processor of {model.model_name_or_path!r} are not at hand: "
            "plan reads them (no weights) from a folder or from the hub; be online once, or give "
            f"--model FOLDER ({str(error).strip().splitlines()[0]})"
        ) from error
    clip_format = clip_format_of(path, config, processor, **task.clip_changes())
    keep_frame_size(processor, clip_format)
    return config, processor, clip_format


def longest_row(clip_format: ClipFormat, video: tuple[int, int], seconds: float | None) -> dict:
    """A row as `rows.plan_row` gives it, whose event fills the clip: the longest answer.

    Without `seconds` a clip has `max_frames` frames, or 20 seconds, as HC-STVG's have.

    >>> len(longest_row(ClipFormat(), (640, 360), 20)["times"])
    40
    """
    most = clip_format.max_frames
    if seconds is None and most is not None:
        count = most
    else:
        count = max(math.ceil((20.0 if seconds is None else seconds) * clip_format.fps), 1)
        count = min(count, most or count)
    size = clip_format.frame_size(*video)
    return {
        "id": "longest",
        "query": QUERY,
        "times": (np.arange(count) / clip_format.fps).tolist(),
        "size": list(size),
        "space": clip_format.coordinate_space(*size).name,
        "template": clip_format.template,
        "target_frames": list(range(count)),
        "target_boxes": [[0.25, 0.25, 0.75, 0.999]] * count,
    }


def batch_of(processor, row: dict, images: Sequence | None = None) -> dict[str, torch.Tensor]:
    """One example for SFT by TRL's own collator; blank frames where none are given."""
    if images is None:
        images = [Image.new("RGB", tuple(row["size"]))] * len(row["times"])
    example = {
        "prompt": row_messages(row),
        "images": list(images),
        "completion": [{"role": "assistant", "content": gold_text(row)}],
    }
    collator = DataCollatorForVisionLanguageModeling(
        processor, max_length=None, completion_only_loss=True
    )
    return dict(collator([example]))


def _with_answer(batch, prompt: int, length: int) -> dict[str, torch.Tensor]:
    """The batch with an answer of `length` tokens, whichever they are."""
    changed = dict(batch)
    for name, filler in (("input_ids", 1), ("labels", 1), ("attention_mask", 1)):
        tail = batch[name].new_full((1, length), filler)
        changed[name] = torch.cat([batch[name][:, :prompt], tail], dim=1)
    for name in ("mm_token_type_ids", "token_type_ids"):
        if name in batch:
            tail = batch[name].new_zeros((1, length))
            changed[name] = torch.cat([batch[name][:, :prompt], tail], dim=1)
    return changed


def _visual_tokens(config, batch) -> int:
    token = getattr(config, "image_token_id", None)
    return int((batch["input_ids"] == token).sum())


def _dtype(name: str | None, config) -> torch.dtype:
    if name in (None, "auto"):
        name = config.dtype or config.get_text_config().dtype or torch.float32
    return name if isinstance(name, torch.dtype) else getattr(torch, name)


def _quantized(network, model) -> dict[str, float]:
    """Bytes of each weight that is kept in 4 or 8 bits: every linear layer's but the head's."""
    if not (model.load_in_4bit or model.load_in_8bit):
        return {}
    # nf4: 4 bits and a scale for 64 weights, itself in 8 bits where it is nested
    scale = (8 if model.use_bnb_nested_quant else 32) / 64
    bits = 4 + scale if model.load_in_4bit else 8
    head = network.get_output_embeddings()
    return {
        f"{name}.weight": part.weight.numel() * bits / 8
        for name, part in network.named_modules()
        if isinstance(part, torch.nn.Linear) and part is not head
    }


def _shared(size: float, launch: Launch) -> float:
    return size if launch.split == DDP else size / launch.processes


def state_bytes(network, dtype, quantized, launch: Launch, args) -> dict[str, float]:
    """Weights, gradients and optimizer states in each process.

    Adapters are kept in 32 bits. FSDP with mixed precision keeps trained weights and their
    gradients in 32 bits, ZeRO-3 16-bit weights and gradients and a 32-bit copy of both; each
    process then holds its part, and the whole of what is being computed with.
    """
    frozen = trained = count = 0.0
    adapters = any("lora_" in name for name, _ in network.named_parameters())
    mixed = args.bf16 or args.fp16
    wide = 4 if adapters or (launch.split == FSDP and mixed) else dtype.itemsize
    quantized = dict(quantized)
    for name, weight in network.named_parameters():
        plain = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
        if weight.requires_grad:
            count += weight.numel()
            trained += weight.numel() * wide
        else:
            frozen += quantized.get(plain, weight.numel() * dtype.itemsize)
    optimizer = str(getattr(args.optim, "value", args.optim))
    if launch.split == ZERO3:
        master = 4 if mixed else 0  # of weights, and of gradients during the step
        gathered = min(GATHERED, count + frozen / dtype.itemsize) * dtype.itemsize
        return {
            "weights": _shared(frozen + count * (dtype.itemsize + master), launch) + gathered,
            "gradients": _shared(count * (dtype.itemsize + master), launch),
            "optimizer states": _shared(count * _optimizer_bytes(optimizer, 4), launch),
        }
    largest = 0
    if launch.split == FSDP:  # the layer at work and the next, and the embeddings
        blocks = [part for part in network.modules() if isinstance(part, torch.nn.ModuleList)]
        layers = [sum(p.numel() for p in layer.parameters()) for part in blocks for layer in part]
        table = network.get_input_embeddings().weight.numel()
        largest = (2 * max(layers) + 2 * table) * dtype.itemsize
    if quantized:  # a layer's weights as they are computed with
        largest = max(weight.numel() for weight in network.parameters()) * dtype.itemsize
    buckets = trained if launch.split == DDP and launch.processes > 1 else 0
    return {
        "weights": _shared(frozen + trained, launch) + largest,
        "gradients": _shared(trained, launch) + buckets,
        "optimizer states": _shared(count * _optimizer_bytes(optimizer, wide), launch),
    }


def _optimizer_bytes(name: str, wide: int) -> float:
    """Bytes of state for each trained weight."""
    if "adam" in name:
        return 2 * (1 if "8bit" in name else wide)
    if name in ("sgd", "adafactor"):
        return 0
    raise InputError(f"the states of the optimizer {name!r} are not known: plan with adamw_torch")


def _many(batch, count: int) -> dict[str, torch.Tensor]:
    return {key: torch.cat([value] * count) for key, value in batch.items()}


def _bytes(batch) -> int:
    return sum(value.numel() * value.element_size() for value in batch.values())


def _attend_at_once(network) -> None:
    """Let a vision part attend to all of its patches in one call, not frame by frame.

    The windows of a Qwen2.5-VL clip are thousands of calls, each of which takes its time here.
    PyTorch's fused attention takes memory by the patch, so that the bytes stay the same.
    """

    def at_once(part, args, kwargs):
        ends = kwargs.get("cu_seqlens")
        return (args, kwargs) if ends is None else (args, kwargs | {"cu_seqlens": ends[[0, -1]]})

    if network.config._attn_implementation == "eager":
        return
    for part in network.modules():
        if "cu_seqlens" in inspect.signature(part.forward).parameters:
            part.register_forward_pre_hook(at_once, with_kwargs=True)


@contextmanager
def _loss_of_a_gpu():
    """TRL's loss as a GPU takes it: of the answer's tokens alone, by Triton kernels, in place.

    Without Triton TRL keeps several copies of the logits of 4,096 tokens.
    """

    def in_place(*args, **kwargs) -> None:
        pass

    with (
        patch.multiple(chunked_logprob, _forward_tile=in_place, _backward_tile=in_place),
        patch.object(trl.trainer.utils, "_use_triton", lambda device: True),
    ):
        yield


def _train_peak(network, meter: Meter, batch, size: int, accumulated: bool) -> int:
    """Bytes above weights and gradients at the peak of forward and backward.

    Where gradients are `accumulated`, those of the batch before are held all the while.
    """
    network.train()
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    gradients = sum(weight.numel() * weight.element_size() for weight in weights)
    with meter:
        before = meter.live
        for weight in weights:
            weight.grad = torch.empty_like(weight) if accumulated else None
        meter.peak = meter.live
        out = network(**_many(batch, size), use_cache=False, fused_lm_head=True)
        (-out.log_probs.sum()).backward()
        found = meter.peak - before - gradients
    for weight in weights:
        weight.grad = None
    return max(found, 0)


def _rollout_peak(network, meter: Meter, batch, prompt: int, rows: int) -> tuple[int, int]:
    """Bytes of reading the prompts of `rows` answers, and of the cache that this leaves."""
    network.eval()
    tokens = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")
    inputs = {key: v[:, :prompt] if key in tokens else v for key, v in batch.items()}
    del inputs["labels"]
    left = {}

    def measure(rows: int) -> int:
        with meter, torch.no_grad():
            before = meter.peak = meter.live
            out = network(**_many(inputs, rows), use_cache=True, logits_to_keep=1)
            layers = out.past_key_values.layers
            left[rows] = sum(_bytes({"k": layer.keys, "v": layer.values}) for layer in layers)
        return meter.peak - before

    peak = _in_proportion(measure, rows)
    return peak, left[1] * rows


def _in_proportion(measure, rows: int) -> int:
    one = measure(1)
    return one if rows == 1 else one + (measure(2) - one) * (rows - 1)
