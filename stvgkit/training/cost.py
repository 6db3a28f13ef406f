"""What a model costs in memory whatever it is fed: its state in each process.

Weights, gradients and optimizer states follow from the number of parameters and from how a launch
splits them. What a step takes on top is counted, see `step`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from stvgkit.errors import InputError
from stvgkit.training import recipes

GATHERED = 1e9  # DeepSpeed's stage3_max_live_parameters
DDP, FSDP, ZERO3 = "ddp", "fsdp", "zero3"


@dataclass(frozen=True)
class Launch:
    """How many processes train, and what they split: `ddp` copies, `fsdp` and `zero3` split.

    `mixed` tells whether the launch itself asks for 16-bit computing. A plan must not take that
    from the machine that it is made on.
    """

    processes: int = 1
    split: str = DDP
    mixed: bool = False

    @classmethod
    def read(cls, name: str | None) -> Launch:
        """From an accelerate configuration, by path or by the name of one that ships here.

        >>> Launch.read("zero3-8")
        Launch(processes=8, split='zero3', mixed=True)
        >>> Launch.read(None)
        Launch(processes=1, split='ddp', mixed=False)
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
        return cls(processes, split, config.get("mixed_precision") in ("bf16", "fp16"))


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
    mixed = launch.mixed or args.bf16 or args.fp16
    computed = 2 if mixed else dtype.itemsize  # bytes of a weight that is computed with
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
        gathered = min(GATHERED, count + frozen / dtype.itemsize) * computed
        return {
            "weights": shared(frozen + count * (computed + master), launch) + gathered,
            "gradients": shared(count * (computed + master), launch),
            "optimizer states": shared(count * _optimizer_bytes(optimizer, 4), launch),
        }
    largest = 0
    if launch.split == FSDP:  # the layer at work and the next, and the embeddings
        blocks = [part for part in network.modules() if isinstance(part, torch.nn.ModuleList)]
        layers = [sum(p.numel() for p in layer.parameters()) for part in blocks for layer in part]
        table = network.get_input_embeddings().weight.numel()
        largest = (2 * max(layers) + 2 * table) * computed
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


def tensor_bytes(batch) -> int:
    return sum(value.numel() * value.element_size() for value in batch.values())
