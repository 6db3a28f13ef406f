"""The five geometric rewards of STVG-o1 (arXiv 2511.21375, Eq. 3-10), for people and for TRL.

    R_f = 1 if the whole completion matches the format, else 0
    R_c = 1 if both lists hold exactly the indices t_s..t_e, each once, in order, else 0
    R_t = |T_pred ∩ T_gold| / |T_pred ∪ T_gold|          on whole frames, ends inclusive
    R_spa(B) = mean over i in T_pred ∩ T_gold of GIoU(b_i, g_i) - ||b_i - g_i||_1,  0 if none
    R_s = R_spa(think) + R_spa(pred)
    R_k = max(R_spa(pred) - R_spa(think), 0)
    R   = R_f + R_c + R_t + R_s + 0.5 R_k                 at most 5, for a perfect answer

What the paper leaves open, settled here: the L1 norm is the sum over the four relative
coordinates; a box missing inside the overlap counts as the worst box there is (-5), so leaving one
out never pays; a reversed span (t_e < t_s) earns R_f alone; a completion that breaks the format
earns 0 in all five. Gold boxes outside the frame are clamped to it, as the model's are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stvgkit.answers import Answer, CoordinateSpace, parse_answer
from stvgkit.boxes import Floats, clip, giou, l1
from stvgkit.errors import InputError
from stvgkit.tubes import Tube

REWARD_WEIGHTS = [1.0, 1.0, 1.0, 1.0, 0.5]
"""Weights of `REWARDS` in the sum (Eq. 10), for TRL's `reward_weights`."""

# The paired terms of R_spa, and the least each can give, which a missing box earns.
SPATIAL_TERMS: dict[str, tuple[Callable[[ArrayLike, ArrayLike], Floats], float]] = {
    "both": (lambda a, b: giou(a, b) - l1(a, b), -5.0),
    "giou": (giou, -1.0),
    "l1": (lambda a, b: -l1(a, b), -4.0),
}


@dataclass(frozen=True)
class RewardBreakdown:
    """The five rewards of one completion and their weighted sum.

    `think` is R_k before its weight; `total` includes the weight.
    """

    format: float = 0.0
    consistency: float = 0.0
    temporal: float = 0.0
    spatial: float = 0.0
    think: float = 0.0
    total: float = 0.0

    def __repr__(self) -> str:
        values = ", ".join(
            f"{field.name}={getattr(self, field.name):.3f}" for field in fields(self)
        )
        return f"RewardBreakdown({values})"


def score_answer(
    text: str,
    target: Tube,
    space: CoordinateSpace,
    *,
    spatial: str = "both",
    lambda_k: float = 0.5,
    think: bool = True,
) -> RewardBreakdown:
    """Score one completion against the gold tube, whose frames are indices of shown frames.

    `spatial` picks the terms of R_spa: `both`, `giou` or `l1`. `lambda_k` weighs R_k.
    `think=False` is the format without the think list: R_s has the final boxes only and R_k is 0.
    T_gold runs from the target's first to its last frame; frames of it without a gold box count
    for R_t and not for R_spa. The total lies in [-9, 5].

    >>> gold = Tube([5, 6], [[0, 0, 0.5, 0.5], [0.1, 0, 0.6, 0.5]])
    >>> text = '''<time> 5 - 6 </time>
    ... <think_bbox> 5. [0, 0, 50, 100], 6. [10, 0, 60, 100] </think_bbox>
    ... <pred_bbox> 5. [0, 0, 50, 50], 6. [10, 0, 60, 50] </pred_bbox>'''
    >>> score_answer(text, gold, CoordinateSpace.relative(100))
    RewardBreakdown(format=1.000, consistency=1.000, temporal=1.000, spatial=1.000, think=1.000,
                    total=4.500)
    """
    if spatial not in SPATIAL_TERMS:
        raise InputError(f"unknown spatial term {spatial!r}: use one of {list(SPATIAL_TERMS)}")
    answer = parse_answer(text, space, think=think)
    if answer is None:
        return RewardBreakdown()
    overlap = len(answer.span.intersect(target.span))
    union = len(answer.span) + len(target.span) - overlap
    consistency = float(answer.consistent)
    temporal = overlap / union if union else 0.0
    r_spa = spatial_rewards(answer, target, spatial)
    gain = max(r_spa[-1] - r_spa[0], 0.0)
    total = 1.0 + consistency + temporal + sum(r_spa) + lambda_k * gain
    return RewardBreakdown(1.0, consistency, temporal, sum(r_spa), gain, total)


def spatial_rewards(answer: Answer, target: Tube, spatial: str = "both") -> list[float]:
    """R_spa (Eq. 7) of the think and of the final boxes, each in [-5, 1].

    Of the final ones alone where the answer has no think list; 0 where the times do not overlap.

    >>> gold = Tube([0], [[0, 0, 0.5, 1]])
    >>> tube = Tube([0], [[0, 0, 0.5, 0.5]])
    >>> spatial_rewards(Answer(gold.span, tube, gold, consistent=True), gold)
    [0.0, 1.0]
    """
    term, worst = SPATIAL_TERMS[spatial]
    tubes = [tube for tube in (answer.think, answer.pred) if tube is not None]
    inside = (target.frames >= answer.span.start) & (target.frames <= answer.span.end)
    frames, gold = target.frames[inside], clip(target.boxes[inside])
    if not len(frames):
        return [0.0] * len(tubes)
    held, boxes = zip(*[_boxes_at(tube, frames) for tube in tubes], strict=True)
    values = term(np.concatenate(boxes), np.concatenate([gold] * len(tubes)))
    values = np.where(np.concatenate(held), values, worst)
    means: list[float] = values.reshape(len(tubes), -1).mean(axis=1).tolist()
    return means


def _boxes_at(tube: Tube, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which frames have a box, `(n,)` bool, and the boxes, `(n, 4)`, anything where there is none.

    Frames are 0 or more here, for an answer cannot say less.
    """
    at = np.searchsorted(tube.frames, frames)  # after the last: the row appended
    held = np.append(tube.frames, -1)[at] == frames
    return held, np.concatenate([tube.boxes, np.zeros((1, 4))])[at]


# --- the form TRL's GRPOTrainer calls: batched, one function per reward -------------------------


def _text(completion: Any) -> str:
    """The text of a completion: a string, or a chat whose last message is the answer."""
    if isinstance(completion, str):
        return completion
    content = completion[-1].get("content") if completion else None
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content or [])


@lru_cache(maxsize=2)
def _score_rows(rows: tuple[Any, ...], spatial: str, think: bool) -> tuple[RewardBreakdown, ...]:
    # TRL calls the five functions on the same batch one after another: the first call scores it,
    # the others find it here, however large the batch is.
    return tuple(
        score_answer(
            text, Tube(frames, boxes), CoordinateSpace.parse(space), spatial=spatial, think=think
        )
        for text, frames, boxes, space in rows
    )


def _reward(
    name: str,
    completions: Sequence[Any],
    *,
    target_frames: Sequence[Any],
    target_boxes: Sequence[Any],
    space: Sequence[str],
    spatial: str = "both",
    think: bool = True,
    **_columns: Any,
) -> list[float]:
    rows = tuple(
        (_text(completion), tuple(frames), tuple(map(tuple, boxes)), space_name)
        for completion, frames, boxes, space_name in zip(
            completions, target_frames, target_boxes, space, strict=True
        )
    )
    return [getattr(row, name) for row in _score_rows(rows, spatial, think)]


def format_reward(completions: Sequence[Any], **columns: Any) -> list[float]:
    """R_f (Eq. 3) of each completion, 0 or 1.

    All five take the batch as TRL passes it: `completions` are strings or chats; of the data
    set's columns they read `target_frames` (indices of shown frames), `target_boxes` (relative
    corners) and `space` (such as `0-1000`), each one entry per completion.

    >>> format_reward(["no answer"], target_frames=[[0]], target_boxes=[[[0, 0, 1, 1]]],
    ...               space=["0-1000"])
    [0.0]
    """
    return _reward("format", completions, **columns)


def consistency_reward(completions: Sequence[Any], **columns: Any) -> list[float]:
    """R_c (Eq. 4) of each completion, 0 or 1; arguments as for `format_reward`.

    >>> text = "<time> 0 - 1 </time> <think_bbox> </think_bbox> <pred_bbox> </pred_bbox>"
    >>> consistency_reward([text], target_frames=[[0]], target_boxes=[[[0, 0, 1, 1]]],
    ...                    space=["0-1000"])
    [0.0]
    """
    return _reward("consistency", completions, **columns)


def temporal_reward(completions: Sequence[Any], **columns: Any) -> list[float]:
    """R_t (Eq. 5) of each completion, in [0, 1]; arguments as for `format_reward`.

    >>> text = "<time> 0 - 1 </time> <think_bbox> </think_bbox> <pred_bbox> </pred_bbox>"
    >>> temporal_reward([text], target_frames=[[0]], target_boxes=[[[0, 0, 1, 1]]],
    ...                 space=["0-1000"])
    [0.5]
    """
    return _reward("temporal", completions, **columns)


def spatial_reward(completions: Sequence[Any], **columns: Any) -> list[float]:
    """R_s (Eq. 8) of each completion, in [-10, 2]; arguments as for `format_reward`.

    >>> text = "<time> 0 - 1 </time> <think_bbox> </think_bbox> <pred_bbox> </pred_bbox>"
    >>> spatial_reward([text], target_frames=[[0]], target_boxes=[[[0, 0, 1, 1]]],
    ...                space=["0-1000"])
    [-10.0]
    """
    return _reward("spatial", completions, **columns)


def think_reward(completions: Sequence[Any], **columns: Any) -> list[float]:
    """R_k (Eq. 9) of each completion, in [0, 6]; arguments as for `format_reward`.

    >>> text = '''<time> 0 - 0 </time> <think_bbox> </think_bbox>
    ... <pred_bbox> 0. [0, 0, 1000, 1000] </pred_bbox>'''
    >>> think_reward([text], target_frames=[[0]], target_boxes=[[[0, 0, 1, 1]]], space=["0-1000"])
    [6.0]
    """
    return _reward("think", completions, **columns)


REWARDS = [format_reward, consistency_reward, temporal_reward, spatial_reward, think_reward]
"""The five, in the order of `REWARD_WEIGHTS`. The paper's ablations are arguments to each, those of
`score_answer`: `[partial(reward, spatial="giou", think=False) for reward in REWARDS]`."""
