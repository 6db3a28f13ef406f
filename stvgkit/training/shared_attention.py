"""Attention of answers that share their prompt: they see it and themselves, not one another.

One mask over the whole square of a packed sequence would say the same, and most of the work would
be thrown away. So a forward may be given a `layout`, which knows who sees whom and attends with
that: `PackedLayout` for log-probabilities and gradients, `CachedLayout` for sampling. Models of
transformers hand it on to each layer. Without a layout, attention is SDPA as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "shared_prompt"


class Layout(Protocol):
    """Who sees whom in the sequences of one forward."""

    def attend(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        """Attention of `(B, heads, T, D)` in one layer, `(B, T, heads, D)`."""


def attention(module, query, key, value, attention_mask, *, layout: Layout | None = None, **kwargs):
    """What a layer calls for its attention."""
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return layout.attend(module, query, key, value, kwargs["scaling"]), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def take_layouts(model) -> None:
    """Let the language part of a model, which attends by SDPA, take layouts as well."""
    model.config.get_text_config()._attn_implementation = NAME


def layout_inputs(layout: Layout, device) -> dict:
    """Arguments of a forward with a layout: a mask of four dimensions is left as it is."""
    return {"layout": layout, "attention_mask": torch.ones(1, 1, 1, 1, device=device)}


@dataclass(frozen=True)
class PackedGroup:
    """A prompt of `prompt` tokens in a packed sequence, and behind it its answers' lengths."""

    prompt: int
    answers: tuple[int, ...]


class PackedLayout:
    """Groups one behind the other in one sequence: prompt, answer 1, answer 2, ..., prompt, ...

    A prompt is causal. The answers of a group are attended to side by side, each behind the prompt.
    """

    def __init__(self, groups: Sequence[PackedGroup], device) -> None:
        self.lengths = [length for group in groups for length in (group.prompt, sum(group.answers))]
        self.groups = [(group, *_masks(group, device)) for group in groups]

    def attend(self, module, query, key, value, scaling):
        """See `Layout`; `B` is 1."""
        parts = [iter(tensor.split(self.lengths, dim=2)) for tensor in (query, key, value)]
        attended = []
        for group, sees, real in self.groups:
            q, k, v = prompt = [next(part) for part in parts]  # each (1, heads, P, D)
            told, _ = sdpa_attention_forward(module, q, k, v, None, scaling=scaling, is_causal=True)
            q, k, v = [_side_by_side(next(part), group.answers) for part in parts]
            k, v = (  # (A, heads, P + T, D)
                torch.cat([shared.expand(len(own), -1, -1, -1), own], dim=2)
                for shared, own in zip(prompt[1:], (k, v), strict=True)
            )
            answers, _ = sdpa_attention_forward(module, q, k, v, sees, scaling=scaling)
            attended += [told, answers[real][None]]
        return torch.cat(attended, dim=1)


def _masks(group: PackedGroup, device) -> tuple[torch.Tensor, torch.Tensor]:
    """Who an answer's token sees, `(1, 1, T, P + T)`, and where answers have tokens, `(A, T)`."""
    places = torch.arange(max(group.answers), device=device)
    lengths = torch.tensor(group.answers, device=device)
    before = torch.ones(len(places), group.prompt, dtype=torch.bool, device=device)
    own = places[:, None] >= places
    return torch.cat([before, own], dim=1)[None, None], places < lengths[:, None]


def _side_by_side(packed: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """Answers one behind the other, `(1, heads, N, D)`, as rows, `(A, heads, T, D)`."""
    answers = packed[0].transpose(0, 1).split(lengths)
    return pad_sequence(answers, batch_first=True).transpose(1, 2)


class CachedLayout:
    """Answers that grow by a token: each sees its prompt's cache, which its group keeps once.

    `keys` and `values` hold the prompts' of each layer, `(G, key heads, P, D)`; `real`, `(G, P)`,
    is where they have tokens; `groups`, `(rows,)`, is whose prompt an answer sees.
    """

    def __init__(
        self,
        keys: Sequence[torch.Tensor],
        values: Sequence[torch.Tensor],
        real: torch.Tensor,
        groups: torch.Tensor,
    ) -> None:
        self.keys, self.values = list(keys), list(values)
        self.padded = None if real.all() else ~real[:, None, None]  # (G, 1, 1, P)
        self.groups = groups
        self._seat()

    def _seat(self) -> None:
        """Each answer's place among those of its group: `seats`, `(rows,)`."""
        same = self.groups[:, None] == self.groups
        self.seats = same.tril(-1).sum(1)
        self.most = int(self.seats.max()) + 1

    def keep(self, rows: torch.Tensor) -> None:
        """Leave these answers alone, and the prompts that they see."""
        used, self.groups = self.groups[rows].unique(return_inverse=True)
        self.keys, self.values = ([x[used] for x in kept] for kept in (self.keys, self.values))
        self.padded = None if self.padded is None else self.padded[used]
        self._seat()

    def attend(self, module, query, key, value, scaling):
        """See `Layout`; `T` is 1, `B` the rows, and keys are those of the rows' own tokens."""
        keys, values = self.keys[module.layer_idx], self.values[module.layer_idx]
        rows, heads, _, size = query.shape
        # Scaled before the product, which 16 bits could not hold for some models. Each key head has
        # its query heads: (rows, key heads, query heads of each, D).
        query = query.view(rows, keys.shape[1], -1, size) * scaling
        scores = self._by_group(query) @ keys.transpose(-1, -2)
        if self.padded is not None:
            scores = scores.masked_fill(self.padded, -torch.inf)
        scores = torch.cat([self._by_row(scores), query @ key.transpose(-1, -2)], dim=-1)
        weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
        shared, own = weights.split([keys.shape[2], key.shape[2]], dim=-1)
        told = self._by_row(self._by_group(shared) @ values) + own @ value
        return told.view(rows, 1, heads, size)

    def _by_group(self, rows: torch.Tensor) -> torch.Tensor:
        """`(rows, key heads, n, X)` as `(G, key heads, answers * n, X)`, zeros on empty seats."""
        seated = rows.new_zeros(len(self.keys[0]), self.most, *rows.shape[1:])
        seated[self.groups, self.seats] = rows
        return seated.transpose(1, 2).flatten(2, 3)

    def _by_row(self, seated: torch.Tensor) -> torch.Tensor:
        apart = seated.unflatten(2, (self.most, -1)).transpose(1, 2)
        return apart[self.groups, self.seats]
