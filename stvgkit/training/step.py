"""One optimizer step of a recipe on tensors without values: the memory and the work that it takes.

The step is the trainer's own: TRL's loss, and for GRPO our packed sequences and our sampling
(`packing`, `rollout`), so that a plan follows when they change. A prompt is read once for the
answers of its group if it is `shared`, else once for each answer, as stock TRL does.
"""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
import trl.trainer.utils
from transformers import AttentionInterface, GenerationConfig
from trl.kernels import chunked_logprob

from stvgkit.training import rollout
from stvgkit.training.cost import tensor_bytes
from stvgkit.training.longest import with_answer
from stvgkit.training.meter import Meter
from stvgkit.training.models import without_adapter
from stvgkit.training.packing import TOKEN_FIELDS, Prompt, pack
from stvgkit.training.shared_attention import take_layouts


@dataclass(frozen=True)
class Work:
    """How a step is made up: the settings of TRL's configuration that matter here."""

    size: int  # examples or answers in a batch that is learned from
    batches: int  # of these in an optimizer step
    group: int = 1  # answers to a prompt
    held: int = 1  # batches whose answers are sampled at once
    samplings: float = 0.0  # in an optimizer step
    scorings: int = 0  # forwards of each sampled answer, beside those that are learned from

    @classmethod
    def of(cls, method: str, args) -> Work:
        """From a `SFTConfig` or a `GRPOConfig`."""
        size, batches = args.per_device_train_batch_size, args.gradient_accumulation_steps
        if method == "sft":
            return cls(size, batches)
        held = args.steps_per_generation or batches
        used = held * args.num_iterations
        # TRL scores answers once more where weights change before all of them are learned from.
        importance = args.use_vllm and args.vllm_importance_sampling_correction
        scorings = bool(args.beta) + bool(batches % used or importance)
        return cls(size, batches, args.num_generations, held, batches / used, scorings)

    @property
    def rows(self) -> int:
        """Answers that are sampled at once."""
        return self.size * self.held

    def layouts(self) -> Counter[tuple[int, ...]]:
        """How many answers of each prompt a batch has, and how many batches have that many.

        >>> Work(size=6, batches=4, group=8, held=4).layouts()
        Counter({(6,): 2, (2, 4): 1, (4, 2): 1})
        """
        starts = range(0, self.rows, self.size)
        batches = [[row // self.group for row in range(at, at + self.size)] for at in starts]
        return Counter(tuple(Counter(batch).values()) for batch in batches)


@dataclass
class Step:
    """What a step takes in each process, above weights, gradients and optimizer states.

    Bytes: `inputs` of the prompts, `train` at the peak of forward and backward, `generate` at that
    of sampling. `flops` are floating point operations by part of the step, `vision` those of the
    vision part in all of them.
    """

    inputs: int = 0
    train: int = 0
    generate: int = 0
    flops: dict[str, float] = field(default_factory=dict)
    vision: float = 0.0

    def add(self, part: str, work: np.ndarray) -> None:
        """Count work `(all, of it vision)` for a part of the step."""
        self.flops[part] = self.flops.get(part, 0.0) + float(work[0])
        self.vision += float(work[1])


def sft_step(network, meter: Meter, batch: dict, work: Work) -> Step:
    """A step of SFT on batches of `size` examples like this one, `(1, L)`."""
    step = Step(inputs=work.size * tensor_bytes(batch))
    example = _emptied(meter, batch)
    inputs = partial(_repeated, example, work.size)
    forward, backward = _learn(network, meter, inputs, step, work)
    step.add("forward", forward * work.batches)
    step.add("backward", backward * work.batches)
    return step


@dataclass(frozen=True)
class Asked:
    """What GRPO asks: a prompt, a batch of one, and how many tokens an answer has."""

    inputs: dict[str, torch.Tensor]
    answer: int
    backbone: torch.nn.Module

    @classmethod
    def of(cls, network, meter: Meter, batch: dict, prompt: int, answer: int) -> Asked:
        """The first `prompt` tokens of an example, with pictures that have no values."""
        kept = {key: v[:, :prompt] if key in TOKEN_FIELDS else v for key, v in batch.items()}
        del kept["labels"]
        return cls(_emptied(meter, kept), answer, without_adapter(network).model)

    def prompts(self, layout: Sequence[int]) -> list[Prompt]:
        """One for each answer; `layout` says how many follow one another and share theirs."""
        made = [Prompt(dict(self.inputs), self.backbone) for _ in layout]
        return [prompt for prompt, count in zip(made, layout, strict=True) for _ in range(count)]

    def packed(self, layout: Sequence[int]) -> dict[str, torch.Tensor]:
        """The arguments of a forward for the answers of a batch, as our trainer makes them."""
        answers = torch.ones(sum(layout), self.answer, dtype=torch.long)
        sequence = pack(self.prompts(layout), answers, answers.bool())
        return sequence.model_inputs() | {"labels": sequence.labels}


def grpo_step(
    network, meter: Meter, asked: Asked, work: Work, sampled: Sampled, *, shared: bool
) -> Step:
    """A step of GRPO that learns from answers that were `sampled`."""
    read = math.ceil(work.rows / work.group) if shared else work.rows
    step = Step(
        inputs=read * tensor_bytes(asked.inputs) + work.rows * asked.answer * 8,
        generate=sampled.peak,
    )
    step.add("prefill", sampled.prefill * work.samplings)
    step.add("decode", sampled.decode * work.samplings)
    prompt = asked.inputs["input_ids"].shape[1]
    example = with_answer(asked.inputs, prompt, asked.answer)
    batches: list[tuple[Callable, int]] = [(partial(_repeated, example, work.size), work.held)]
    if shared:
        layouts = work.layouts().items()
        batches = [(partial(asked.packed, layout), count) for layout, count in layouts]
    with _layouts_of(network) if shared else nullcontext():
        for inputs, count in batches:
            forward, backward = _learn(network, meter, inputs, step, work)
            step.add("scoring", forward * count * work.samplings * work.scorings)
            step.add("forward", forward * count * work.batches / work.held)
            step.add("backward", backward * count * work.batches / work.held)
    return step


def _emptied(meter: Meter, batch: dict) -> dict:
    """The batch with patches that have no values.

    Grids and times are needed as they are. So are Idefics' pictures, which are told from pads.
    """
    wide = {key: v for key, v in batch.items() if v.is_floating_point() and v.ndim == 2}
    return batch | {key: meter.emptied(value) for key, value in wide.items()}


def _repeated(example: dict, count: int) -> dict:
    batch = {key: torch.cat([value] * count) for key, value in example.items()}
    return batch | {"use_cache": False}


def _learn(
    network, meter: Meter, inputs: Callable[[], dict], step: Step, work: Work
) -> tuple[np.ndarray, np.ndarray]:
    """Work of forward and of backward of one batch; their peak goes into `step.train`.

    Where gradients are accumulated, those of the batch before are held all the while.
    """
    network.train()
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    gradients = sum(weight.numel() * weight.element_size() for weight in weights)
    with meter:
        before = meter.live
        for weight in weights:
            weight.grad = torch.empty_like(weight) if work.batches > 1 else None
        meter.peak = meter.live
        start = meter.work
        out = network(**inputs(), fused_lm_head=True)
        middle = meter.work
        (-out.log_probs.sum()).backward()
        step.train = max(step.train, meter.peak - before - gradients)
        del out
    for weight in weights:
        weight.grad = None
    return middle - start, meter.work - middle


@dataclass(frozen=True)
class Sampled:
    """The bytes at the peak of sampling, and the work, `(2,)`, of prompts and of answers."""

    peak: int
    prefill: np.ndarray
    decode: np.ndarray


def sample(
    network, meter: Meter, asked: Asked, work: Work, config: GenerationConfig, *, shared: bool
) -> Sampled:
    """Sample all answers that are held at once.

    Two tokens are drawn behind the first: what one costs grows by the same with every token.
    """
    groups, rest = divmod(work.rows, work.group)
    layout = [work.group] * groups + [rest] * (rest > 0) if shared else [1] * work.rows
    seen: list[np.ndarray] = []
    watch = network.register_forward_pre_hook(lambda *_: seen.append(meter.work))
    network.eval()
    config = GenerationConfig(**config.to_diff_dict() | {"max_new_tokens": 3})
    with meter, _buffers_of(asked.answer), _layouts_of(network):
        before = meter.peak = meter.live
        rollout.sample(network, asked.prompts(layout), config)
        peak = meter.peak - before
    watch.remove()
    read, first, second = np.diff([*seen, meter.work], axis=0)
    steps = asked.answer - 1  # the first token comes with the prompt
    return Sampled(peak, read, first * steps + (second - first) * (steps * (steps - 1) / 2))


@contextmanager
def _buffers_of(answer: int) -> Iterator[None]:
    """Keys and values in buffers that are as long as they will be at the end."""
    before, rollout.ROOM = rollout.ROOM, answer
    try:
        yield
    finally:
        rollout.ROOM = before


@contextmanager
def _layouts_of(network) -> Iterator[None]:
    """Let the language part take the layouts of sampling, whichever attention it has."""
    text = network.config.get_text_config()
    before = text._attn_implementation
    take_layouts(network)
    try:
        yield
    finally:
        text._attn_implementation = before


AT_ONCE = "flash_at_once"  # a vision part hands on the ends of its windows if "flash" is in it


def _at_once(module, query, key, value, *, cu_seq_lens_q, **kwargs):
    """Attention of patches to those of their own window or frame, `(1, heads, N, D)`."""
    ends = cu_seq_lens_q
    longest = int(ends.diff().max())
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    attend = torch.ops.aten._efficient_attention_forward
    return attend(q, k, v, None, ends, ends, longest, longest, 0.0, 0, True)[0], None


AttentionInterface.register(AT_ONCE, _at_once)


def attend_at_once(network) -> None:
    """Let a vision part attend to all of its windows in one call, not one by one.

    The windows of a Qwen2.5-VL clip are thousands of calls, each of which takes its time here. The
    kernel that takes them all keeps as many bytes and does the same work.
    """
    if network.config._attn_implementation == "eager":
        return
    for part in network.modules():
        if "cu_seqlens" in inspect.signature(part.forward).parameters and hasattr(part, "config"):
            part.config._attn_implementation = AT_ONCE


# TRL scores tokens with Triton kernels on a GPU and with copies of the logits elsewhere. Only these
# private names say which; its public `add_fused_lm_head` asks the device and takes no choice.
SWITCHES = (
    (trl.trainer.utils, "_use_triton"),  # the answer's tokens alone, or all of them
    (chunked_logprob, "_forward_tile"),
    (chunked_logprob, "_backward_tile"),
)


@contextmanager
def loss_of_a_gpu() -> Iterator[None]:
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
