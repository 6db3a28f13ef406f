"""What GRPO learns from: the differences between the answers of a group.

A group whose answers all earn the same teaches nothing, and one whose answers all name the same
span teaches nothing about the time. So look before training (`group_diversity`), and stop where
nothing is left to compare (`flattened`). A model that was trained by reinforcement before, as
Qwen3-VL was, may lack diversity from the start; a short SFT brings some back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stvgkit.grammar import part_ends

# Judgements, not measurements: below these, say that there is too little to learn from.
MOST_SILENT = 0.5  # share of groups
LEAST_SPANS = 1.5  # distinct spans in a group, mean
# In the demo's runs the spread falls to about a half of its start, and answers still improve.
LEAST_SPREAD = 0.25  # of the spread at the start
NEAR_ZERO = 0.01  # R is at most 5


@dataclass(frozen=True)
class Diversity:
    """How much the answers to one prompt differ, over `groups` prompts of `size` answers each.

    `spread` is the standard deviation of R within a group, mean over the groups. `silent` is the
    share of groups whose answers all earn the same. `spans` is the number of distinct spans that a
    group states, mean. `timed` is the share of answers that begin with a whole time.
    """

    groups: int
    size: int
    spread: float
    silent: float
    spans: float
    timed: float

    def __str__(self) -> str:
        head = f"Before training, {self.groups} prompts with {self.size} answers each:"
        told = (
            f"R spreads by {self.spread:.2f} within a group, {self.silent:.0%} of the groups are "
            f"silent (all of their answers earn the same), {self.spans:.1f} distinct spans a group."
        )
        return "\n".join([head, told, self.verdict()])

    def verdict(self) -> str:
        """What the numbers mean for a run of GRPO, and what to do."""
        if not self.timed:
            return (
                "Not one answer begins with a time: there is nothing to reward. Start from a "
                "short SFT, or check the prompt's template."
            )
        if self.silent <= MOST_SILENT and self.spans >= LEAST_SPANS:
            return "The answers differ enough to learn from."
        return (
            "That is too little to learn from: GRPO compares the answers of a group. Start from a "
            "short SFT, raise the temperature, or take harder clips."
        )


def group_diversity(
    completions: Sequence[Sequence[str]], totals: Sequence[Sequence[float]]
) -> Diversity:
    """The diversity of groups, given the texts and the weighted rewards R of each, `(n, G)`.

    A text without a whole time states no span. Groups have one size; a group of one has no spread.

    >>> texts = [["<time> 1 - 2 </time>", "<time>1-3</time>"], ["<time> 1 - 2 </time>", "none"]]
    >>> print(group_diversity(texts, [[1.0, 3.0], [0.0, 0.0]]))
    Before training, 2 prompts with 2 answers each:
    R spreads by 0.71 within a group, 50% of the groups are silent (all of their answers earn ...
    The answers differ enough to learn from.
    """
    spans = [[_stated_span(text) for text in group] for group in completions]
    stated = [[span for span in group if span is not None] for group in spans]
    rewards = np.asarray(totals, dtype=float)
    return Diversity(
        groups=len(rewards),
        size=rewards.shape[1],
        spread=float(group_spread(rewards).mean()),
        silent=float((np.ptp(rewards, axis=1) < 1e-8).mean()),
        spans=float(np.mean([len(set(group)) for group in stated])),
        timed=sum(map(len, stated)) / rewards.size,
    )


def group_spread(totals: np.ndarray) -> np.ndarray:
    """The standard deviation of each group, `(n, G)` -> `(n,)`, with G - 1 as TRL has it."""
    if totals.shape[1] < 2:
        return np.zeros(len(totals))
    spread: np.ndarray = totals.std(axis=1, ddof=1)
    return spread


def _stated_span(text: str) -> tuple[int, int] | None:
    end, _, _ = part_ends(text)
    if end is None:
        return None
    first, last = re.findall(r"\d+", text[:end])
    return int(first), int(last)


def flattened(rewards: Sequence[float], spreads: Sequence[float], window: int) -> str | None:
    """Why nothing is left to learn, or None while something is; one value a step in both.

    Flat means both: over the last `window` steps the mean of R is no higher than over those
    before, by more than its noise (one standard error of the difference); and the spread within
    groups is near zero, or below a quarter of what it was over the first `window` steps.

    >>> flattened([1, 2, 3, 4], [0.9, 0.9, 0.5, 0.4], window=2) is None  # it still rises
    True
    >>> flattened([4, 4.1, 4.1, 4], [0.9, 0.9, 0.2, 0.1], window=2)
    'R stays at 4.05, and spreads by 0.15 within groups (0.90 at the start)'
    """
    if len(rewards) < 2 * window:
        return None
    before, now = (np.asarray(part) for part in (rewards[-2 * window : -window], rewards[-window:]))
    rise = now.mean() - before.mean()
    error = np.sqrt((before.var(ddof=1) + now.var(ddof=1)) / window) if window > 1 else 0.0
    start, left = (float(np.mean(part)) for part in (spreads[:window], spreads[-window:]))
    if rise > error or left > max(NEAR_ZERO, LEAST_SPREAD * start):
        return None
    return (
        f"R stays at {now.mean():.2f}, and spreads by {left:.2f} within groups "
        f"({start:.2f} at the start)"
    )
