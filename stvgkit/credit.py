"""Credit: which tokens of an answer are paid for which part of its reward.

GRPO compares the answers of a group and pays every token of an answer the same advantage. An
answer has parts, though, and a reward knows which part it is about: R_t the time, R_spa(think) the
think boxes, R_spa(pred) and R_k the final boxes. Four ways to pay (`CREDITS`):

    whole    every token gets (R - mean) / std, as in the paper (Eq. 11)
    to-go    a token gets the same, less what was settled before it was written: R_t is settled
             behind </time>, R_spa(think) behind </think_bbox>. What is taken away depends on
             earlier tokens alone, so the expected gradient stays, as long as nothing is divided by
             a deviation, which later tokens move too. Its noise falls, unless what is settled and
             what follows pull against each other (lesson 05, section 8)
    parts    a token is paid for its own part only, and for the form
    boxes    a number is paid for its own time or box, and every token for the form

For "parts", with z(x) = (x - mean) / (std + 0.1) over the answers of the group that parse, 0 for
the others, and z_all the same over the whole group:

    time     z(R_t)
    think    z(R_spa(think))             + z_all(R_f + R_c)
    pred     z(R_spa(pred) + 0.5 R_k)    + z_all(R_f + R_c)

A broken answer gets z_all(R_f + R_c) on its tokens up to the break, and none on its time where
that was well formed.

For "boxes", each token gets z_all(R_f + R_c), and a number something of its own in addition. R_spa
is a mean over boxes, and each box is paid for its own term s(b) = GIoU - L1 alone. With z(x) over
the answers of the group that have this time, or a box at this frame in this list:

    the two numbers of the time    z(R_t)
    those of a think box           z(s(think))
    those of a final box           z(s(pred) + 0.5 max(s(pred) - s(think), 0))

A time is judged in an answer that breaks later too, and so are the boxes before the break. A box
at a frame without gold has no term. One outside the stated time, or at a frame that was named
before, is judged as well; R leaves it out, and R_c blames it.

"whole" is the paper's; the others are ours. "parts" and "boxes" do not follow the gradient of R: a
time is not paid for how good the boxes behind it are. They give that up in the hope of less noise.
What each gains is in docs/ablation.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from stvgkit.answers import CoordinateSpace, parse_answer
from stvgkit.boxes import Floats, clip
from stvgkit.errors import InputError
from stvgkit.grammar import box_numbers, part_ends, time_numbers
from stvgkit.rewards import REWARD_WEIGHTS, SPATIAL_TERMS, score_answer, spatial_rewards
from stvgkit.tubes import Tube

CREDITS = ("whole", "to-go", "parts", "boxes")
PARTS = ("time", "think", "pred")
EPS = 1e-4  # beside the deviation of R: that of TRL, where the paper has 1e-6
SOFT = 0.1  # beside the deviation of one part: a group that agrees teaches little


@dataclass(frozen=True)
class Scoring:
    """What R is made of: the weights of the five rewards and the arguments of `score_answer`."""

    weights: Sequence[float] = tuple(REWARD_WEIGHTS)
    spatial: str = "both"
    think: bool = True


@dataclass(frozen=True)
class Payment:
    """What the tokens of one answer are paid, and where in its text its parts end.

    `advantages` are those of `PARTS`; `time_end` and `think_end` are character positions, infinite
    where the answer did not come so far. `numbers` are start and end of some, and what they are
    paid in addition. `end` is the last position that is paid: what follows a break changes no
    reward.
    """

    advantages: tuple[float, float, float]
    time_end: float
    think_end: float
    end: float
    numbers: tuple[tuple[int, int, float], ...] = ()

    def of_tokens(self, tokens: Sequence[str]) -> np.ndarray:
        """The advantage of each token, `(t,)`, given the tokens' texts, which make up the answer.

        A token belongs to the part in which it begins; the one that breaks an answer is paid too.
        A token with a digit of one of the numbers gets what that number is paid.

        >>> Payment((1.0, 2.0, 3.0), 4, 6, 8).of_tokens(["ab", "cd", "ef", "gh", "ij", "k"])
        array([1., 1., 2., 3., 3., 0.])
        """
        lengths = np.array([*map(len, tokens)], dtype=int)
        ends = lengths.cumsum()
        starts = ends - lengths
        paid = np.asarray(self.advantages)[self.part_at(starts)]
        for start, end, advantage in self.numbers:
            paid[(starts < end) & (ends > start)] += advantage
        return np.where(starts <= self.end, paid, 0.0)

    def part_at(self, places: np.ndarray) -> np.ndarray:
        """The part, as a place in `PARTS`, in which each character position lies."""
        return (places >= self.time_end).astype(int) + (places >= self.think_end)


def pay_group(
    completions: Sequence[str],
    target: Tube,
    space: CoordinateSpace,
    credit: str,
    scoring: Scoring = Scoring(),
    *,
    scale: bool = True,
) -> list[Payment]:
    """What the answers of one group are paid; `target` is as for `score_answer`.

    `scale` divides by the deviation of R, as TRL's `scale_rewards="group"` does, and for "to-go" by
    the largest of its three parts; "parts" and "boxes" always divide by those of their own. Raises
    `InputError` for another credit than those of `CREDITS`.

    One of two answers breaks its think list, and only it is blamed for that; its time, which is
    well formed, costs it nothing:

    >>> time, box = "<time> 0 - 0 </time>", "0. [0, 0, 9, 9]"
    >>> lists = f"<think_bbox> {box} </think_bbox> <pred_bbox> {box} </pred_bbox>"
    >>> texts = [f"{time} {lists}", f"{time} <think_bbox> 0. [0 0"]
    >>> gold, space = Tube([0], [[0, 0, 0.9, 0.9]]), CoordinateSpace.relative(10)
    >>> [payment.advantages[:2] for payment in pay_group(texts, gold, space, "parts")]
    [(0.0, 0.66...), (0.0, -0.66...)]
    """
    check_credit(credit)
    told = [_read(text, target, space, scoring) for text in completions]
    pay = {
        "whole": _pay_whole,
        "to-go": _pay_to_go,
        "parts": _pay_parts,
        "boxes": _pay_form,
    }[credit]
    paid = pay(told, scale)  # (n, 3)
    everything = credit == "whole"
    numbers: list[list[tuple[int, int, float]]] = [[] for _ in told]
    if credit == "boxes":
        judge = partial(_judge, target=target, space=space, scoring=scoring)
        numbers = _pay_numbers([*map(judge, completions, told)])
    return [
        Payment(
            (time, think, pred),
            np.inf if answer.ends[0] is None else answer.ends[0],
            np.inf if answer.ends[1] is None else answer.ends[1],
            np.inf if everything else answer.ends[2],
            tuple(own),
        )
        for (time, think, pred), answer, own in zip(paid.tolist(), told, numbers, strict=True)
    ]


def check_credit(credit: str) -> None:
    """Raise `InputError` for another credit than those of `CREDITS`."""
    if credit not in CREDITS:
        raise InputError(f"unknown credit {credit!r}: use one of {', '.join(CREDITS)}")


@dataclass(frozen=True)
class _Told:
    """One answer of a group: its weighted rewards, and what was settled on the way."""

    ends: tuple[int | None, int | None, int]
    parsed: bool
    total: float  # R
    form: float  # R_f + R_c
    time: float  # R_t of the stated time, also where the answer breaks later
    think: float  # R_spa(think), likewise

    @property
    def pred(self) -> float:
        """R_spa(pred) + 0.5 R_k of an answer that parses."""
        return self.total - self.form - self.time - self.think


def _read(text: str, target: Tube, space: CoordinateSpace, scoring: Scoring) -> _Told:
    ends = part_ends(text, think=scoring.think)
    score = partial(
        score_answer, target=target, space=space, spatial=scoring.spatial, think=scoring.think
    )
    scores = score(text)
    five = np.array(
        [scores.format, scores.consistency, scores.temporal, scores.spatial, scores.think]
    )
    weights = np.asarray(scoring.weights, dtype=float)
    time = think = 0.0
    if ends[0] is not None:
        told = _finish(text[: ends[0]], ["think_bbox", "pred_bbox"][not scoring.think :])
        time = weights[2] * score(told).temporal
    if ends[1] is not None and scoring.think:
        answer = parse_answer(_finish(text[: ends[1]], ["pred_bbox"]), space)
        assert answer is not None  # both of its parts so far are whole
        think = weights[3] * spatial_rewards(answer, target, scoring.spatial)[0]
    form = float(weights[:2] @ five[:2])
    return _Told(ends, bool(scores.format), float(weights @ five), form, time, think)


class _Judged(NamedTuple):
    """The time or a box in an answer: its part and frame, where its numbers are, its own reward."""

    place: tuple[str, int]
    numbers: list[tuple[int, int]]
    reward: float


def _judge(
    text: str, answer: _Told, target: Tube, space: CoordinateSpace, scoring: Scoring
) -> list[_Judged]:
    """The time of an answer, and its boxes up to a break."""
    time_end, think_end, end = answer.ends
    if time_end is None:
        return []
    time = _Judged(("time", 0), time_numbers(text), answer.time)
    return [time, *_judge_boxes(text[:end], think_end, target, space, scoring)]


def _judge_boxes(
    text: str, think_end: int | None, target: Tube, space: CoordinateSpace, scoring: Scoring
) -> Iterator[_Judged]:
    """The boxes at frames with gold; a final one also earns what it gains on its think box."""
    gold = dict(zip(target.frames.tolist(), clip(target.boxes), strict=True))
    boxes = [(frame, numbers) for frame, numbers in box_numbers(text) if frame in gold]
    if not boxes:
        return
    said = [[float(text[slice(*place)]) for place in numbers] for _, numbers in boxes]
    term, _ = SPATIAL_TERMS[scoring.spatial]
    values = term(space.decode(said), np.stack([gold[frame] for frame, _ in boxes])).tolist()
    thought: dict[int, float] = {}
    for (frame, numbers), value in zip(boxes, values, strict=True):
        reward = scoring.weights[3] * value
        if think_end is None or numbers[0][0] < think_end:
            thought.setdefault(frame, value)
            yield _Judged(("think", frame), numbers, reward)
        else:
            gain = max(value - thought.get(frame, value), 0.0)
            yield _Judged(("pred", frame), numbers, reward + scoring.weights[4] * gain)


def _finish(text: str, lists: Sequence[str]) -> str:
    """The beginning of an answer, with empty lists behind it, so that it parses."""
    return text + "".join(f" <{tag}> </{tag}>" for tag in lists)


def _pay_whole(told: Sequence[_Told], scale: bool) -> np.ndarray:
    total = np.array([answer.total for answer in told])
    return np.repeat(_standard(total, EPS, scale)[:, None], 3, axis=1)


def _pay_to_go(told: Sequence[_Told], scale: bool) -> np.ndarray:
    settled = np.array([[0.0, answer.time, answer.time + answer.think] for answer in told])
    came = np.array([[True, *(end is not None for end in answer.ends[:2])] for answer in told])
    total = np.array([answer.total for answer in told])
    to_go = np.where(came, total[:, None] - settled, 0.0)  # (n, 3)
    # R may agree in the whole group while what is left to earn does not, as where all break: the
    # deviation of R alone, near 0 there, would blow that up.
    spread = max(_spread(part) for part in to_go.T)
    paid: Floats = (to_go - to_go.mean(axis=0)) / ((spread + EPS) if scale else 1.0)
    return paid


def _pay_parts(told: Sequence[_Told], scale: bool) -> np.ndarray:
    parsed = np.array([answer.parsed for answer in told])
    own = np.zeros((len(told), 3))
    for column, name in enumerate(PARTS):
        values = np.array([getattr(answer, name) for answer in told])[parsed]
        own[parsed, column] = _standard(values, SOFT)
    form = _pay_form(told, scale)
    own[:, 1:] += form[:, 1:]
    no_time = np.array([answer.ends[0] is None for answer in told])
    own[no_time, 0] = form[no_time, 0]  # the break is in the time itself
    return own


def _pay_form(told: Sequence[_Told], scale: bool) -> np.ndarray:
    """z_all(R_f + R_c) for every token."""
    form = _standard(np.array([answer.form for answer in told]), SOFT)
    return np.repeat(form[:, None], 3, axis=1)


def _pay_numbers(answers: Sequence[Sequence[_Judged]]) -> list[list[tuple[int, int, float]]]:
    """Start and end of each answer's numbers, and their advantage over those at the same place."""
    rivals = defaultdict(list)
    for number, answer in enumerate(answers):
        for judged in answer:
            rivals[judged.place].append((number, judged))
    paid: list[list[tuple[int, int, float]]] = [[] for _ in answers]
    for at_one_place in rivals.values():
        rewards = np.array([judged.reward for _, judged in at_one_place])
        own = _standard(rewards, SOFT).tolist()
        for (number, judged), advantage in zip(at_one_place, own, strict=True):
            paid[number] += [(start, end, advantage) for start, end in judged.numbers]
    return paid


def _standard(values: np.ndarray, eps: float, scale: bool = True) -> np.ndarray:
    if not len(values):
        return values
    scaled: Floats = (values - values.mean()) / ((_spread(values) + eps) if scale else 1.0)
    return scaled


def _spread(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
