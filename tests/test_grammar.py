"""What can still become an answer, against a matcher that knows partial matches."""

import pytest
from answer_texts import FIGURE_2, SPACE, any_text, well_formed
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stvgkit import parse_answer
from stvgkit.grammar import ANSWERS, can_continue


class TestCanContinue:
    @given(well_formed(), st.data())
    def test_every_beginning_of_an_answer_continues(self, text, data):
        assume(parse_answer(text, SPACE) is not None)
        assert can_continue(text)
        end = data.draw(st.integers(0, len(text)))
        assert can_continue(text[:end])

    @given(any_text, st.booleans())
    @settings(max_examples=500)
    def test_agrees_with_a_matcher_that_knows_partial_matches(self, text, think):
        regex = pytest.importorskip("regex")
        partial = regex.compile(ANSWERS[think].pattern)
        for end in range(len(text) + 1):
            wanted = partial.fullmatch(text[:end], partial=True) is not None
            assert can_continue(text[:end], think=think) is wanted, text[:end]

    @given(any_text, any_text)
    def test_what_does_not_continue_never_parses(self, text, more):
        if not can_continue(text):
            assert parse_answer(text + more, SPACE) is None

    @pytest.mark.parametrize(
        "text",
        [
            "<time> 5 - 7 </time> <think_bbox> 5. [271, 30, 395, 212] </pred_bbox>",
            "<time> 5 - 7 </time> <pred_bbox>",
            FIGURE_2 + " and",
            "<time> 1234567",
            "<time> 5 - 7 </time> <think_bbox> 5. [1, 2, 3, 4], </think_bbox>",
            "```",
        ],
    )
    def test_texts_beyond_repair(self, text):
        assert not can_continue(text)

    def test_a_very_long_text_is_read_in_one_pass(self):
        entry = "5. [271, 30, 395, 212], "
        text = "<time> 5 - 7 </time> <think_bbox> " + entry * 20_000
        assert can_continue(text) and not can_continue(text + "x")
