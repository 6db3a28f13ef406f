"""Boxes against pixels counted one by one, and the corner cases of GIoU."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stvgkit import boxes

GRID = 12
corner = st.integers(0, GRID)
any_box = st.tuples(corner, corner, corner, corner)
pairs = st.lists(st.tuples(any_box, any_box), min_size=1, max_size=8)


def cells(box):
    """The grid cells inside a box; none where it is degenerate."""
    x1, y1, x2, y2 = box
    return {(x, y) for x in range(x1, x2) for y in range(y1, y2)}


def slow_iou(a, b):
    union = cells(a) | cells(b)
    return len(cells(a) & cells(b)) / len(union) if union else 0.0


def slow_giou(a, b):
    xs, ys = [a[0], a[2], b[0], b[2]], [a[1], a[3], b[1], b[3]]
    hull = cells((min(xs), min(ys), max(xs), max(ys)))
    if not hull:
        return 1.0 if a == b else -1.0
    return slow_iou(a, b) - len(hull - cells(a) - cells(b)) / len(hull)


@given(pairs)
def test_iou_and_giou_equal_counting_cells(rows):
    a, b = (np.array(side) / GRID for side in zip(*rows, strict=True))
    assert boxes.iou(a, b) == pytest.approx([slow_iou(*row) for row in rows], abs=1e-12)
    assert boxes.giou(a, b) == pytest.approx([slow_giou(*row) for row in rows], abs=1e-12)
    assert boxes.area(a) == pytest.approx([len(cells(row[0])) / GRID**2 for row in rows])


@given(pairs)
def test_l1_sums_four_differences(rows):
    a, b = (np.array(side, dtype=float) for side in zip(*rows, strict=True))
    slow = [sum(abs(p - q) for p, q in zip(*row, strict=True)) for row in rows]
    assert boxes.l1(a, b).tolist() == slow


@given(pairs)
def test_measures_are_symmetric_and_bounded(rows):
    a, b = (np.array(side) / GRID for side in zip(*rows, strict=True))
    for measure, low, high in ((boxes.iou, 0, 1), (boxes.giou, -1, 1), (boxes.l1, 0, 4)):
        values = measure(a, b)
        assert (values == measure(b, a)).all()
        assert (low <= values).all() and (values <= high + 1e-12).all()
    real = (boxes.area(a) > 0) & (boxes.area(b) > 0)
    assert (boxes.giou(a, b)[real] <= boxes.iou(a, b)[real] + 1e-12).all()


@given(st.lists(any_box, min_size=1, max_size=5))
def test_a_box_is_as_near_to_itself_as_can_be(rows):
    a = np.array(rows) / GRID
    holds_area = boxes.area(a) > 0
    assert (boxes.iou(a, a) == holds_area).all()
    assert (boxes.giou(a, a)[holds_area] == 1).all()
    assert (boxes.l1(a, a) == 0).all()


@pytest.mark.parametrize(
    ("a", "b", "expected", "why"),
    [
        ((0.2, 0.2, 0.2, 0.2), (0.2, 0.2, 0.2, 0.2), 1.0, "the same point"),
        ((0.2, 0.2, 0.2, 0.2), (0.3, 0.2, 0.3, 0.2), -1.0, "two points on a line: empty hull"),
        ((0.2, 0.2, 0.2, 0.2), (0.3, 0.3, 0.3, 0.3), -1.0, "two points: hull without a box"),
        ((0.8, 0, 0.2, 1), (0, 0, 1, 1), 0.0, "reversed x: area 0 inside the other box"),
        ((0, 0, 0, 0), (1, 1, 1, 1), -1.0, "opposite corners of the frame: the least there is"),
        ((0, 0, 1e-9, 1e-9), (0, 0, 1e-9, 1e-9), 1.0, "tiny, yet equal"),
    ],
)
def test_giou_of_degenerate_boxes(a, b, expected, why):
    assert boxes.giou(a, b) == pytest.approx([expected]), why


def test_no_boxes_give_no_values():
    none = np.empty((0, 4))
    for measure in (boxes.iou, boxes.giou, boxes.l1):
        assert measure(none, none).shape == (0,)
    assert boxes.area(none).shape == (0,)
    assert boxes.clip([]).shape == (0, 4)


@given(pairs, st.integers(1, 4000), st.integers(1, 4000))
def test_conversions_go_there_and_back(rows, width, height):
    a = np.array([row[0] for row in rows]) / GRID
    assert boxes.from_xywh(boxes.to_xywh(a)) == pytest.approx(a)
    assert boxes.from_px(boxes.to_px(a, width, height), width, height) == pytest.approx(a)


def test_clip_brings_every_corner_into_the_frame():
    assert boxes.clip([[-3, 0.5, 2, np.inf]]).tolist() == [[0, 0.5, 1, 1]]
