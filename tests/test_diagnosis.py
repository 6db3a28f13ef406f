"""Every wrong prediction gets the one word that a person would give it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stvgkit.datasets.sample import Sample
from stvgkit.diagnosis import ERROR_KINDS, error_kind, error_kinds
from stvgkit.metrics import score_tube
from stvgkit.predictions import Prediction
from stvgkit.tubes import Span, Tube

BOX = [0.25, 0.25, 0.5, 0.5]  # in binary fractions, so that an IoU of 0.5 is exactly that
OTHER = [0.7, 0.7, 0.9, 0.9]


def tube(first, last, box=BOX):
    return Tube(np.arange(first, last + 1), [box] * (last - first + 1))


def sample(gold=None, name="a"):
    return Sample(name, "the dog", None, 640, 360, 2.0, Span(0, 39), Span(10, 19), gold)


GOLD = tube(10, 19)


@pytest.mark.parametrize(
    "prediction, kind, reason",
    [
        (None, "missing", "no line for this sample"),
        (Prediction(None), "unparsed", "a completion that breaks the format"),
        (Prediction(GOLD), "right", "the gold itself"),
        (Prediction(tube(10, 19, [0.25, 0.25, 0.5, 0.4375])), "right", "IoU 0.75 on every frame"),
        (Prediction(tube(10, 19, [0.25, 0.25, 0.5, 0.75])), "loose box", "IoU 0.5 is not > 0.5"),
        (Prediction(tube(10, 19, [0.1, 0.1, 0.7, 0.7])), "loose box", "IoU 0.17 around the thing"),
        (Prediction(tube(10, 19, OTHER)), "wrong object", "disjoint boxes at the right time"),
        (Prediction(tube(14, 30, OTHER)), "wrong object", "something else, partly at the time"),
        (Prediction(tube(25, 30)), "wrong time", "the right place at another time"),
        (Prediction(tube(25, 30, OTHER)), "wrong time", "nothing to compare the boxes with"),
        (Prediction(tube(0, 39)), "wrong time", "right boxes over the whole clip: tIoU 0.25"),
        (Prediction(tube(10, 14), Span(10, 14)), "wrong time", "half of the time is not > 0.5"),
        (Prediction(Tube([], []), Span(10, 19)), "wrong object", "the time without any box"),
        (Prediction(Tube([], []), Span(0, -1)), "wrong time", "a reversed span"),
    ],
)
def test_kind(prediction, kind, reason):
    assert error_kind(sample(GOLD), prediction) == kind, reason


def test_without_gold_boxes_only_time_is_judged():
    timed = sample(None)
    assert error_kind(timed, Prediction(tube(10, 18, OTHER))) == "right"
    assert error_kind(timed, Prediction(tube(10, 14))) == "wrong time"


def test_batch_is_each_sample_by_its_own_id():
    samples = [sample(GOLD, "a"), sample(GOLD, "b"), sample(GOLD, "c")]
    predictions = {"c": Prediction(GOLD), "a": Prediction(None), "stranger": Prediction(GOLD)}
    assert error_kinds(samples, predictions) == ["unparsed", "missing", "right"]
    assert error_kinds([], {}) == []


spans = st.tuples(st.integers(0, 30), st.integers(0, 9)).map(lambda s: (s[0], s[0] + s[1]))
sides = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(sorted)
boxes = st.tuples(sides, sides).map(
    lambda xy: [c / 20 for pair in zip(*xy, strict=True) for c in pair]
)


@given(spans, boxes, boxes)
def test_right_is_vIoU_over_half_and_the_rest_names_the_smaller_share(span, pred_box, gold_box):
    gold, pred = tube(10, 19, gold_box), tube(*span, pred_box)
    kind = error_kind(sample(gold), Prediction(pred))
    scores = score_tube(pred, gold)
    assert kind in ERROR_KINDS
    assert (kind == "right") == (scores["vIoU"] > 0.5)
    if kind in ("wrong object", "loose box"):
        assert scores["vIoU"] / scores["tIoU"] < scores["tIoU"]
    if kind == "wrong time":
        assert scores["vIoU"] >= scores["tIoU"] ** 2 - 1e-12
