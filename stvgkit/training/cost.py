"""What a model costs in memory: its state in each process, and the peaks of a step.

Weights, gradients and optimizer states follow from the number of parameters and from how a launch
splits them. Activations are counted: one step is taken on tensors without values (see `meter`).
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import trl.trainer.utils
from trl.kernels import chunked_logprob

from stvgkit.errors import InputError
from stvgkit.training import recipes
from stvgkit.training.meter import Meter
from stvgkit.training.rollout import cache_name

GATHERED = 1e9  # DeepSpeed's stage3_max_live_parameters
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
        path = recipes.find_launch(name)
        config = recipes.read_yaml(path)
        kind = str(config.get("distributed_type", "NO")).upper()
        deepspeed = config.get("deepspeed_config")
        zero = deepspeed.get("zero_stage") if isinstance(deepspeed, dict) else None
        if kind == "DEEPSPEED" and zero != 3:
            raise InputError(f"{path}: of DeepSpeed only ZeRO stage 3 is planned, not {zero}")
        split = {"FSDP": FSDP, "DEEPSPEED": ZERO3}.get(kind, DDP)
        processes = config.get("num_processes", 1)
        if not isinstance(processes, int) or processes < 1:
            raise InputError(f"{path}: num_processes is {processes!r}, must be 1 or more")
        return cls(processes, split)


def dtype_of(name: str | None, config) -> torch.dtype:
    if name in (None, "auto"):
        name = config.dtype or config.get_text_config().dtype or torch.float32
    return name if isinstance(name, torch.dtype) else getattr(torch, name)


def quantized(network, model) -> dict[str, float]:
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


def shared(size: float, launch: Launch) -> float:
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
            "weights": shared(frozen + count * (dtype.itemsize + master), launch) + gathered,
            "gradients": shared(count * (dtype.itemsize + master), launch),
            "optimizer states": shared(count * _optimizer_bytes(optimizer, 4), launch),
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
        "weights": shared(frozen + trained, launch) + largest,
        "gradients": shared(trained, launch) + buckets,
        "optimizer states": shared(count * _optimizer_bytes(optimizer, wide), launch),
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


def tensor_bytes(batch) -> int:
    return sum(value.numel() * value.element_size() for value in batch.values())


def attend_at_once(network) -> None:
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


# TRL scores tokens with Triton kernels on a GPU and with copies of the logits elsewhere. Only these
# private names say which; its public `add_fused_lm_head` asks the device and takes no choice.
SWITCHES = (
    (trl.trainer.utils, "_use_triton"),  # the answer's tokens alone, or all of them
    (chunked_logprob, "_forward_tile"),
    (chunked_logprob, "_backward_tile"),
)


@contextmanager
def loss_of_a_gpu():
    """TRL's loss as a GPU takes it: of the answer's tokens alone, by kernels that work in place."""

    def yes_or_in_place(*args, **kwargs) -> bool:
        return True

    before = [getattr(module, name) for module, name in SWITCHES]
    try:
        for module, name in SWITCHES:
            setattr(module, name, yes_or_in_place)
        yield
    finally:
        for (module, name), own in zip(SWITCHES, before, strict=True):
            setattr(module, name, own)


def train_peak(network, meter: Meter, batch, size: int, accumulated: bool) -> int:
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


def rollout_peak(network, meter: Meter, batch, prompt: int, rows: int) -> tuple[int, int]:
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
            layers = getattr(out, cache_name(network)).layers
            left[rows] = sum(tensor_bytes({"k": layer.keys, "v": layer.values}) for layer in layers)
        return meter.peak - before

    peak = _in_proportion(measure, rows)
    return peak, left[1] * rows


def _in_proportion(measure, rows: int) -> int:
    one = measure(1)
    return one if rows == 1 else one + (measure(2) - one) * (rows - 1)
