"""The numbers that a model writes: spaces by name, and boxes there and back."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stvgkit import Answer, CoordinateSpace, Tube, format_answer, parse_answer
from stvgkit.errors import InputError

spaces = st.one_of(
    st.sampled_from([100, 1000]).map(CoordinateSpace.relative),
    st.builds(CoordinateSpace.pixels, st.integers(1, 4000), st.integers(1, 4000)),
)
relative_boxes = st.lists(
    st.tuples(*[st.floats(0, 1, allow_subnormal=False)] * 4), min_size=1, max_size=5
)


@given(spaces)
def test_a_space_is_found_by_its_name(space):
    assert CoordinateSpace.parse(space.name) == space


@given(spaces, relative_boxes)
@example(CoordinateSpace.pixels(1, 1), [(0.0, 0.5, 1.0, 1.0)])
def test_what_is_encoded_is_decoded_to_half_a_step(space, boxes):
    written = space.encode(boxes)
    steps = np.array([space.width, space.height] * 2)
    assert written.dtype == np.int64
    assert (written >= 0).all() and (written <= steps).all()
    assert (np.abs(space.decode(written) - boxes) * steps <= 0.5 + 1e-9).all()
    assert (space.encode(space.decode(written)) == written).all()


@given(spaces, relative_boxes)
def test_a_written_answer_is_read_back(space, boxes):
    tube = Tube(range(3, 3 + len(boxes)), space.decode(space.encode(boxes)))
    answer = Answer(tube.span, tube, tube, consistent=True)
    assert parse_answer(format_answer(answer, space), space) == answer


def test_a_space_outside_the_frame_clamps():
    space = CoordinateSpace.pixels(640, 360)
    assert space.encode([[-1, 0.5, 2, 1]]).tolist() == [[0, 180, 640, 360]]
    assert space.decode([[-64, 36, 320, 9000]]).tolist() == [[0, 0.1, 0.5, 1]]


@pytest.mark.parametrize(
    "name", ["", "1000", "0-", "0-0", "0x5", "640X360", "640 x 360", "0-٣", "1-5", "-1x5", "0-1e3"]
)
def test_a_name_that_is_no_space_is_refused(name):
    with pytest.raises(InputError, match="coordinate space"):
        CoordinateSpace.parse(name)
