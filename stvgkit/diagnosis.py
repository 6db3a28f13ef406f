"""What went wrong with a prediction: one word for each, so that errors can be counted.

Where every gold frame has a box, vIoU is a product of two shares. One is tIoU: how much of the time
is right. The other is vIoU / tIoU: how well the boxes fit on the frames that both spans hold. A
prediction that is not right is blamed on the smaller share.

    right         vIoU > 0.5, as vIoU@0.5 counts it
    wrong time    tIoU is the smaller share (always so where the spans do not meet)
    wrong object  the fit of the boxes is, and it is 0.1 or less: they hold something else
    loose box     the fit is, and it is above 0.1: too large, too small, or beside the thing
    unparsed      the completion breaks the format
    missing       there is no prediction

The border of 0.1 between something else and badly placed is that of TIDE (Bolya et al. 2020). Boxes
on another object in another moment count as *wrong time*: there is no common frame to compare.
A kind is a symptom and not a cause: lesson 08 shows one kind that comes from two faults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from stvgkit.datasets.sample import Sample
from stvgkit.predictions import Prediction
from stvgkit.scoring import sample_scores

ERROR_KINDS = ("right", "loose box", "wrong object", "wrong time", "unparsed", "missing")
RIGHT_VIOU, OTHER_OBJECT = 0.5, 0.1


def error_kinds(samples: Sequence[Sample], predictions: Mapping[str, Prediction]) -> list[str]:
    """One of `ERROR_KINDS` for each sample, given the predictions by sample id.

    Where a sample has no gold boxes only the time is judged: `right` for tIoU > 0.5.

    >>> from stvgkit.tubes import Span, Tube
    >>> gold = Tube([4, 5, 6], [[0.1, 0.1, 0.5, 0.5]] * 3)
    >>> sample = Sample("a", "the dog", None, 640, 360, 2.0, Span(0, 9), gold.span, gold)
    >>> aside = Tube([4, 5, 6], [[0.6, 0.6, 1.0, 1.0]] * 3)
    >>> for tube in gold, gold.shift(2), aside, None:
    ...     error_kinds([sample], {"a": Prediction(tube)})
    ['right']
    ['wrong time']
    ['wrong object']
    ['unparsed']
    """
    found = [predictions.get(sample.id) for sample in samples]
    scores = sample_scores(samples, predictions)
    return [
        _kind(prediction, time, volume)
        for prediction, time, volume in zip(found, scores["tIoU"], scores["vIoU"], strict=True)
    ]


def error_kind(sample: Sample, prediction: Prediction | None) -> str:
    """What went wrong with one sample's prediction; see `error_kinds`.

    >>> from stvgkit.tubes import Span, Tube
    >>> gold = Tube([4, 5], [[0.1, 0.1, 0.5, 0.5]] * 2)
    >>> sample = Sample("a", "the dog", None, 640, 360, 2.0, Span(0, 9), gold.span, gold)
    >>> error_kind(sample, Prediction(Tube([4, 5], [[0.1, 0.1, 0.9, 0.5]] * 2)))
    'loose box'
    >>> error_kind(sample, None)
    'missing'
    """
    return error_kinds([sample], {} if prediction is None else {sample.id: prediction})[0]


def _kind(prediction: Prediction | None, time: float, volume: float) -> str:
    if prediction is None:
        return "missing"
    if prediction.tube is None:
        return "unparsed"
    boxes = volume / time if time > 0 else 1.0
    if (time if np.isnan(volume) else volume) > RIGHT_VIOU:
        return "right"
    if np.isnan(volume) or time <= boxes:
        return "wrong time"
    return "wrong object" if boxes <= OTHER_OBJECT else "loose box"
