"""Spans and tubes: when something happens, and where its subject is.

Frames are whole numbers counted from 0; a span holds both of its ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stvgkit.boxes import Floats, Ints, as_boxes


@dataclass(frozen=True, order=True)
class Span:
    """First and last frame of an event, both inclusive.

    `end < start` is allowed, since a model may say so; such a span is empty.

    >>> len(Span(5, 7)), len(Span(7, 5))
    (3, 0)
    """

    start: int
    end: int

    def __len__(self) -> int:
        return max(self.end - self.start + 1, 0)

    def __contains__(self, frame: int) -> bool:
        return self.start <= frame <= self.end

    def intersect(self, other: Span) -> Span:
        """The frames in both spans; empty (end < start) where there are none.

        >>> Span(2, 6).intersect(Span(5, 9))
        Span(start=5, end=6)
        """
        return Span(max(self.start, other.start), min(self.end, other.end))

    def frames(self) -> Ints:
        """Every frame number in the span, `(n,)` int64.

        >>> Span(5, 7).frames()
        array([5, 6, 7])
        """
        return np.arange(self.start, self.start + len(self), dtype=np.int64)


@dataclass(frozen=True, eq=False, init=False)
class Tube:
    """Strictly increasing frame numbers `(n,)` with a relative box each, `(n, 4)`.

    Gaps mean "no box on this frame". Raises `ValueError` where the shapes disagree, a frame
    number repeats or goes back, or a coordinate is not finite.

    >>> tube = Tube([2, 4], [[0, 0, 0.2, 0.2], [0.2, 0, 0.4, 0.2]])
    >>> tube.span, len(tube)
    (Span(start=2, end=4), 2)
    """

    frames: Ints
    boxes: Floats

    def __init__(self, frames: ArrayLike, boxes: ArrayLike) -> None:
        numbers = np.asarray(frames, dtype=np.int64).reshape(-1)
        corners = as_boxes(boxes)
        if len(numbers) != len(corners):
            raise ValueError(f"{len(numbers)} frames but {len(corners)} boxes")
        if (numbers[1:] <= numbers[:-1]).any():
            raise ValueError("frame numbers must be strictly increasing")
        if not np.isfinite(corners).all():
            raise ValueError("box coordinates must be finite")
        object.__setattr__(self, "frames", numbers)
        object.__setattr__(self, "boxes", corners)

    def __len__(self) -> int:
        return len(self.frames)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Tube)
            and np.array_equal(self.frames, other.frames)
            and np.array_equal(self.boxes, other.boxes)
        )

    @property
    def span(self) -> Span:
        """First to last frame; `Span(0, -1)` for an empty tube."""
        return Span(int(self.frames[0]), int(self.frames[-1])) if len(self) else Span(0, -1)

    def at(self, frames: ArrayLike) -> Tube:
        """The part of this tube on the given frames; frames without a box are left out.

        >>> Tube([1, 2, 3], np.zeros((3, 4))).at([3, 9, 1]).frames
        array([1, 3])
        """
        keep = np.isin(self.frames, np.asarray(frames, dtype=np.int64))
        return Tube(self.frames[keep], self.boxes[keep])

    def slice(self, span: Span) -> Tube:
        """The part of this tube inside `span`.

        >>> Tube([1, 2, 3], np.zeros((3, 4))).slice(Span(2, 9)).frames
        array([2, 3])
        """
        keep = (self.frames >= span.start) & (self.frames <= span.end)
        return Tube(self.frames[keep], self.boxes[keep])

    def shift(self, offset: int) -> Tube:
        """The same boxes, `offset` frames later."""
        return Tube(self.frames + offset, self.boxes)

    def resample(self, frames: ArrayLike) -> Tube:
        """Boxes at the given frames by linear interpolation; frames outside the span are left out.

        >>> Tube([0, 4], [[0, 0, 0.2, 0.2], [0.4, 0, 0.6, 0.2]]).resample([-1, 1, 4]).boxes[:, 0]
        array([0.1, 0.4])
        """
        wanted = np.unique(np.asarray(frames, dtype=np.int64))
        wanted = wanted[(wanted >= self.span.start) & (wanted <= self.span.end)]
        if not len(wanted):
            return Tube(wanted, np.empty((0, 4)))
        columns = [np.interp(wanted, self.frames, column) for column in self.boxes.T]
        return Tube(wanted, np.stack(columns, axis=1))

    def interpolate(self) -> Tube:
        """Fill every gap between the first and the last frame linearly.

        >>> Tube([0, 2], [[0, 0, 0.2, 0.2], [0.2, 0, 0.4, 0.2]]).interpolate().frames
        array([0, 1, 2])
        """
        return self.resample(self.span.frames())
