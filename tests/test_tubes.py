"""Spans and tubes against sets of frames and interpolation written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stvgkit.tubes import Span, Tube

spans = st.builds(Span, st.integers(-5, 20), st.integers(-5, 20))


@st.composite
def tubes(draw, min_size=0):
    frames = sorted(draw(st.sets(st.integers(0, 30), min_size=min_size, max_size=8)))
    value = st.integers(0, 1000).map(lambda n: n / 1000)
    return Tube(frames, [draw(st.tuples(value, value, value, value)) for _ in frames])


def frame_set(span):
    return {frame for frame in range(-10, 40) if span.start <= frame <= span.end}


@given(spans, spans)
def test_spans_behave_as_sets_of_frames(a, b):
    assert len(a) == len(frame_set(a))
    assert a.frames().tolist() == sorted(frame_set(a))
    assert frame_set(a.intersect(b)) == frame_set(a) & frame_set(b)
    assert {frame for frame in range(-10, 40) if frame in a} == frame_set(a)


@given(tubes(), spans)
def test_slice_and_at_keep_the_boxes_of_the_frames_asked_for(tube, span):
    by_frame = dict(zip(tube.frames.tolist(), tube.boxes.tolist(), strict=True))
    expected = {frame: box for frame, box in by_frame.items() if frame in frame_set(span)}
    for part in (tube.slice(span), tube.at(span.frames())):
        assert dict(zip(part.frames.tolist(), part.boxes.tolist(), strict=True)) == expected


@given(tubes(min_size=1), st.integers(-5, 5))
def test_shift_moves_frames_and_leaves_boxes(tube, offset):
    moved = tube.shift(offset)
    assert moved.frames.tolist() == [frame + offset for frame in tube.frames.tolist()]
    assert moved.shift(-offset) == tube


@given(tubes(min_size=1))
def test_interpolate_fills_gaps_linearly_and_keeps_what_is_there(tube):
    filled = tube.interpolate()
    assert filled.frames.tolist() == tube.span.frames().tolist()
    assert filled.at(tube.frames) == tube
    for frame, box in zip(filled.frames.tolist(), filled.boxes, strict=True):
        left = max(i for i, known in enumerate(tube.frames) if known <= frame)
        right = min(i for i, known in enumerate(tube.frames) if known >= frame)
        gap = tube.frames[right] - tube.frames[left]
        share = (frame - tube.frames[left]) / gap if gap else 0.0
        assert box == pytest.approx((1 - share) * tube.boxes[left] + share * tube.boxes[right])


@given(tubes(), st.lists(st.integers(-5, 40), max_size=10))
def test_resample_never_leaves_the_span(tube, frames):
    wanted = [frame for frame in sorted(set(frames)) if frame in tube.span]
    assert tube.resample(frames).frames.tolist() == wanted


@pytest.mark.parametrize(
    ("frames", "boxes", "message"),
    [
        ([1, 2], [[0, 0, 1, 1]], "2 frames but 1 boxes"),
        ([2, 2], [[0, 0, 1, 1]] * 2, "strictly increasing"),
        ([3, 2], [[0, 0, 1, 1]] * 2, "strictly increasing"),
        ([1], [[0, 0, np.nan, 1]], "finite"),
        ([1], [[0, 0, np.inf, 1]], "finite"),
    ],
)
def test_what_is_not_a_tube_is_refused(frames, boxes, message):
    with pytest.raises(ValueError, match=message):
        Tube(frames, boxes)


def test_an_empty_tube_has_an_empty_span():
    empty = Tube([], [])
    assert len(empty) == len(empty.span) == 0
    assert empty.interpolate() == empty


def test_tubes_are_equal_by_value():
    assert Tube([1], [[0, 0, 1, 1]]) == Tube([1], [[0, 0, 1, 1]])
    assert Tube([1], [[0, 0, 1, 1]]) != Tube([2], [[0, 0, 1, 1]])
    assert Tube([1], [[0, 0, 1, 1]]) != "tube"
