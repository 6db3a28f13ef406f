"""Prompts and all of their answers in one sequence, so that each prompt is read once.

    prompt without its last token | last token, answer 1 | last token, answer 2 | ... next prompt

Each answer sees its prompt and itself, and not the answers beside it: see `shared_attention`. Its
positions go on where the prompt's end, as if it stood behind the prompt alone. The prompt's last
token, which predicts an answer's first, is repeated before each answer: then every token is
predicted by the one before it, which is what TRL's fused head expects. There are no pads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn.functional import pad

from stvgkit.training.shared_attention import PackedGroup, PackedLayout, layout_inputs

# What the processor returns about a prompt's tokens; positions follow from it.
POSITION_FIELDS = ("mm_token_type_ids", "image_grid_thw", "video_grid_thw", "second_per_grid_ts")
# What belongs to tokens, and so is not for a sequence that holds others as well.
TOKEN_FIELDS = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt as the processor gives it, a batch of one, whatever it holds beside tokens."""

    inputs: dict[str, torch.Tensor]
    backbone: torch.nn.Module  # the model that knows how positions are counted

    @property
    def ids(self) -> torch.Tensor:
        """The tokens, `(P,)`."""
        return self.inputs["input_ids"][0]

    @property
    def media(self) -> dict[str, torch.Tensor]:
        """Pixels and their grids."""
        return {key: value for key, value in self.inputs.items() if key not in TOKEN_FIELDS}

    @cached_property
    def positions(self) -> torch.Tensor:
        """Position of each token, `(A, P)`: on three axes with M-RoPE, else on one."""
        if not hasattr(self.backbone, "get_rope_index"):
            return torch.arange(len(self.ids), device=self.ids.device)[None]
        fields = {key: self.inputs[key] for key in POSITION_FIELDS if key in self.inputs}
        positions, _ = self.backbone.get_rope_index(self.inputs["input_ids"], **fields)
        return positions[:, 0]

    @property
    def next_position(self) -> int:
        """Position of the first token behind the prompt, the same on every axis."""
        return int(self.positions.max()) + 1


@dataclass(frozen=True, eq=False)
class Packed:
    """Some prompts with their answers in one sequence of `L` tokens, a batch of one."""

    ids: torch.Tensor  # (1, L)
    labels: torch.Tensor  # (1, L): the answers' tokens, -100 elsewhere
    positions: torch.Tensor  # (A, 1, L)
    layout: PackedLayout  # who sees whom
    media: dict[str, torch.Tensor]

    def model_inputs(self) -> dict:
        """Arguments of the model's forward."""
        return {
            "input_ids": self.ids,
            "position_ids": self.positions if len(self.positions) > 1 else self.positions[0],
            **layout_inputs(self.layout, self.ids.device),
            **self.media,
        }

    def unpack(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Values of all tokens but the first, `(1, L - 1)`, at their places in `mask` `(B, T)`."""
        told = values[self.labels[:, 1:] != -100]
        return values.new_zeros(mask.shape).masked_scatter(mask, told)


def pack(prompts: Sequence[Prompt], completions: torch.Tensor, mask: torch.Tensor) -> Packed:
    """Pack answers `(B, T)` with their prompts, one `Prompt` for each answer.

    Answers that follow one another and have the very same prompt share it. `mask`, `(B, T)` bool,
    is where an answer has tokens.
    """
    groups = runs(prompts)
    firsts = [prompts[group[0]] for group in groups]
    parts = [
        _pack_group(prompt, [completions[row][mask[row]] for row in group])
        for prompt, group in zip(firsts, groups, strict=True)
    ]
    ids, labels, positions, packed = zip(*parts, strict=True)
    return Packed(
        torch.cat(ids)[None],
        torch.cat(labels)[None],
        torch.cat(positions, dim=1)[:, None],
        PackedLayout(packed, completions.device),
        join_media([prompt.media for prompt in firsts]),
    )


def runs(prompts: Sequence[Prompt]) -> list[list[int]]:
    """The rows that share a prompt, in order.

    >>> runs(["a", "a", "b", "a"])
    [[0, 1], [2], [3]]
    """
    found: list[list[int]] = []
    for row, prompt in enumerate(prompts):
        if row and prompt is prompts[row - 1]:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def _pack_group(prompt: Prompt, answers: Sequence[torch.Tensor]) -> tuple:
    """Ids, labels, positions on each axis, and lengths of a prompt with its answers behind it."""
    before, last = prompt.ids[:-1], prompt.ids[-1:]
    ids, labels, positions = [before], [torch.full_like(before, -100)], [prompt.positions[:, :-1]]
    for answer in answers:
        behind = prompt.next_position + torch.arange(len(answer), device=answer.device)
        ids += [last, answer]
        labels += [torch.full_like(last, -100), answer]
        positions += [prompt.positions[:, -1:], behind.expand(len(prompt.positions), -1)]
    lengths = PackedGroup(len(before), tuple(1 + len(answer) for answer in answers))
    return torch.cat(ids), torch.cat(labels), torch.cat(positions, dim=1), lengths


def join_media(media: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Pixels and grids of several prompts, one behind the other.

    Qwen's are flat, a row for each patch or image. Idefics' have a row for each prompt, padded to
    the most images, which the model leaves out again.
    """
    joined = {}
    for key in media[0]:
        values = [fields[key] for fields in media]
        if values[0].ndim > 3:  # (1, images, ...)
            most = max(value.shape[1] for value in values)
            values = [pad(v, (0, 0) * (v.ndim - 2) + (0, most - v.shape[1])) for v in values]
        joined[key] = torch.cat(values)
    return joined
