"""Boxes `(x1, y1, x2, y2)` as `(n, 4)` arrays, relative to the frame unless named otherwise.

All arrays are float64, and functions work row by row: row i of the first argument against row i of
the second.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def as_boxes(boxes: ArrayLike) -> Floats:
    """Return `boxes` as an `(n, 4)` float64 array.

    >>> as_boxes([0.1, 0.2, 0.3, 0.4]).shape
    (1, 4)
    >>> as_boxes([]).shape
    (0, 4)
    """
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)


def from_xywh(boxes_xywh: ArrayLike) -> Floats:
    """Turn `(x, y, width, height)` rows into corner rows, in the same unit.

    >>> from_xywh([10, 20, 30, 40])
    array([[10., 20., 40., 60.]])
    """
    x, y, w, h = as_boxes(boxes_xywh).T
    return np.stack([x, y, x + w, y + h], axis=1)


def to_xywh(boxes: ArrayLike) -> Floats:
    """Turn corner rows into `(x, y, width, height)` rows, in the same unit.

    >>> to_xywh([10, 20, 40, 60])
    array([[10., 20., 30., 40.]])
    """
    x1, y1, x2, y2 = as_boxes(boxes).T
    return np.stack([x1, y1, x2 - x1, y2 - y1], axis=1)


def from_px(boxes_px: ArrayLike, width: float, height: float) -> Floats:
    """Divide pixel corners by the frame's size, giving relative corners.

    >>> from_px([64, 36, 320, 360], width=640, height=360)
    array([[0.1, 0.1, 0.5, 1. ]])
    """
    return as_boxes(boxes_px) / [width, height, width, height]


def to_px(boxes: ArrayLike, width: float, height: float) -> Floats:
    """Multiply relative corners by the frame's size, giving pixel corners (not rounded).

    >>> to_px([0.1, 0.1, 0.5, 1.0], width=640, height=360)
    array([[ 64.,  36., 320., 360.]])
    """
    return as_boxes(boxes) * [width, height, width, height]


def clip(boxes: ArrayLike) -> Floats:
    """Clamp relative corners to the frame, [0, 1].

    >>> clip([-0.5, 0.25, 0.5, 1.5])
    array([[0.  , 0.25, 0.5 , 1.  ]])
    """
    return np.clip(as_boxes(boxes), 0.0, 1.0)


def area(boxes: ArrayLike) -> Floats:
    """Area of each box, `(n,)`; 0 where a side is not positive (a degenerate box).

    >>> area([[0, 0, 0.5, 0.5], [0.5, 0, 0.2, 1]])
    array([0.25, 0.  ])
    """
    x1, y1, x2, y2 = as_boxes(boxes).T
    areas: Floats = np.maximum(x2 - x1, 0.0) * np.maximum(y2 - y1, 0.0)
    return areas


_TINY = np.finfo(np.float64).tiny  # the divisor in place of 0, where what is divided is 0 too


def _intersection_and_union(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    # No side is longer than either box's own, so a degenerate box, even inside another, meets
    # nothing.
    sides = np.maximum(sides, 0.0)
    inter = sides[:, 0] * sides[:, 1]
    return inter, area(a) + area(b) - inter


def iou(a: ArrayLike, b: ArrayLike) -> Floats:
    """Intersection over union of paired boxes, `(n,)` in [0, 1]; 0 where the union is empty.

    >>> iou([0, 0, 0.5, 1.0], [0.25, 0, 0.75, 1.0])
    array([0.33333333])
    """
    inter, union = _intersection_and_union(as_boxes(a), as_boxes(b))
    return inter / np.maximum(union, _TINY)


def giou(a: ArrayLike, b: ArrayLike) -> Floats:
    """Generalised IoU of paired boxes, `(n,)` in [-1, 1].

    GIoU = IoU - (|C| - |A ∪ B|) / |C|, C the smallest box around all corners of A and B
    (Rezatofighi et al. 2019). Degenerate boxes have area 0 but still stretch C; where C itself
    is empty, GIoU is 1 for equal corners and -1 otherwise.

    >>> giou([0, 0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0])
    array([-0.5])
    """
    a, b = as_boxes(a), as_boxes(b)
    inter, union = _intersection_and_union(a, b)
    low = np.minimum(np.minimum(a[:, :2], a[:, 2:]), np.minimum(b[:, :2], b[:, 2:]))
    high = np.maximum(np.maximum(a[:, :2], a[:, 2:]), np.maximum(b[:, :2], b[:, 2:]))
    sides = high - low
    hull = sides[:, 0] * sides[:, 1]
    values: Floats = inter / np.maximum(union, _TINY) - (hull - union) / np.maximum(hull, _TINY)
    if not hull.all():
        values = np.where(hull > 0, values, np.where((a == b).all(axis=1), 1.0, -1.0))
    return values


def l1(a: ArrayLike, b: ArrayLike) -> Floats:
    """Sum of the four absolute differences of paired boxes, `(n,)` in [0, 4] for relative boxes.

    >>> l1([0, 0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0])
    array([2.])
    """
    distances: Floats = np.abs(as_boxes(a) - as_boxes(b)).sum(axis=1)
    return distances
