"""Predictions: a model's answers as tubes on video frames.

Model answers live on the frames the model was shown; scores live on the frames of the video.
`answer_tube` takes one to the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stvgkit.answers import Answer
from stvgkit.tubes import Span, Tube


@dataclass(frozen=True)
class Prediction:
    """What one sample's prediction says, on video frames.

    `tube` is None where there is one that cannot be read ("unparsed"); `span` is the time it
    claims, which may be longer than its boxes, and defaults to the tube's.
    """

    tube: Tube | None
    span: Span | None = None

    @classmethod
    def from_answer(cls, answer: Answer | None, frames: Sequence[int]) -> Prediction:
        """The answer of a model that was shown the video frames `frames`; None did not parse.

        >>> tube = Tube([0, 1], [[0, 0, 0.2, 0.2], [0.2, 0, 0.4, 0.2]])
        >>> answer = Answer(Span(0, 1), tube, tube, consistent=True)
        >>> Prediction.from_answer(answer, [10, 12]).span
        Span(start=10, end=12)
        """
        if answer is None:
            return cls(None)
        return cls(answer_tube(answer, frames), answer_span(answer, frames))


def answer_span(answer: Answer, frames: Sequence[int]) -> Span:
    """The answered time in video frames; empty where it is reversed or beyond the shown frames.

    >>> answer = Answer(Span(1, 9), None, Tube([], []), consistent=False)
    >>> answer_span(answer, [0, 15, 30])
    Span(start=15, end=30)
    """
    shown = answer.span.intersect(Span(0, len(frames) - 1))
    return Span(int(frames[shown.start]), int(frames[shown.end])) if len(shown) else Span(0, -1)


def answer_tube(answer: Answer, frames: Sequence[int]) -> Tube:
    """The final boxes inside the answered span, on every video frame between first and last.

    Index i of the answer is the video frame `frames[i]`; boxes in between are interpolated
    linearly. Indices outside the answered span or beyond the shown frames are left out.

    >>> pred = Tube([1, 2, 7], [[0, 0, 0.2, 0.2], [0.2, 0, 0.4, 0.2], [0, 0, 1, 1]])
    >>> answer = Answer(Span(1, 2), pred, pred, consistent=False)
    >>> answer_tube(answer, [0, 15, 17]).frames
    array([15, 16, 17])
    """
    shown = answer.pred.slice(answer.span.intersect(Span(0, len(frames) - 1)))
    return Tube(np.asarray(frames, dtype=np.int64)[shown.frames], shown.boxes).interpolate()
