"""One prompt and all of its answers in one sequence, so that the prompt is read once.

    prompt without its last token | last token, answer 1 | last token, answer 2 | ...

Each answer sees the prompt and itself, and not the answers beside it: a mask of four dimensions
says so. Its positions go on where the prompt's end, as if it stood behind the prompt alone. The
prompt's last token, which predicts an answer's first, is repeated before each answer: then every
token is predicted by the one before it, which is what TRL's fused head expects.

Simplified away: attention over the whole square of the sequence is computed and masked, though
answers need none of each other's part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn.functional import pad

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
    """Some prompts with their answers, a packed sequence each, padded on the right, `(G, L)`."""

    ids: torch.Tensor  # (G, L)
    labels: torch.Tensor  # (G, L): the answers' tokens, -100 elsewhere
    positions: torch.Tensor  # (A, G, L)
    mask: torch.Tensor  # (G, 1, L, L) bool: who sees whom
    media: dict[str, torch.Tensor]

    def model_inputs(self, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
        """Arguments of the model's forward; with `dtype` the mask is added to the scores."""
        mask = self.mask
        if dtype is not None:
            mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(
                ~mask, torch.finfo(dtype).min
            )
        positions = self.positions if len(self.positions) > 1 else self.positions[0]
        return {
            "input_ids": self.ids,
            "attention_mask": mask,
            "position_ids": positions,
            **self.media,
        }

    def unpack(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Values of all tokens but each first, `(G, L - 1)`, at their places in `mask` `(B, T)`."""
        told = values[self.labels[:, 1:] != -100]
        return values.new_zeros(mask.shape).masked_scatter(mask, told)


def pack(prompts: Sequence[Prompt], completions: torch.Tensor, mask: torch.Tensor) -> Packed:
    """Pack answers `(B, T)` with their prompts, one `Prompt` for each answer.

    Answers that follow one another and have the very same prompt share it. `mask`, `(B, T)` bool,
    is where an answer has tokens.
    """
    groups = list(runs(prompts))
    rows = [_pack_group(prompts[group[0]], completions, mask, group) for group in groups]
    longest = max(len(row[0]) for row in rows)
    ids, labels, positions, owners = zip(*rows, strict=True)
    owner = _stack(owners, longest, -1)  # (G, L): 0 the prompt, k answer k, -1 nothing
    places = torch.arange(longest, device=owner.device)
    earlier = places[:, None] >= places  # (L, L)
    same = (owner[:, None, :] == owner[:, :, None]) | (owner[:, None, :] == 0)
    sees = earlier & same  # what pads sees pads alone, which nobody reads
    return Packed(
        _stack(ids, longest, 0),
        _stack(labels, longest, -100),
        torch.stack([pad(row, (0, longest - row.shape[1])) for row in positions], dim=1),
        sees[:, None],
        join_media([prompts[group[0]].media for group in groups]),
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


def _pack_group(prompt: Prompt, completions, mask, rows) -> tuple[torch.Tensor, ...]:
    answers = [completions[row][mask[row]] for row in rows]
    last = prompt.ids[-1:]
    ids = torch.cat([prompt.ids[:-1], *(part for answer in answers for part in (last, answer))])
    lengths = torch.tensor([1 + len(answer) for answer in answers])
    labels, owner = torch.full_like(ids, -100), torch.zeros_like(ids)
    positions = [prompt.positions[:, :-1]]
    start = len(prompt.ids) - 1
    for number, (answer, length) in enumerate(zip(answers, lengths.tolist(), strict=True), 1):
        labels[start + 1 : start + length] = answer
        owner[start : start + length] = number
        behind = prompt.next_position + torch.arange(length - 1, device=ids.device)
        positions += [prompt.positions[:, -1:], behind.expand(len(prompt.positions), -1)]
        start += length
    return ids, labels, torch.cat(positions, dim=1), owner


def _stack(rows: Sequence[torch.Tensor], length: int, value: int) -> torch.Tensor:
    return torch.stack([pad(row, (0, length - len(row)), value=value) for row in rows])


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
