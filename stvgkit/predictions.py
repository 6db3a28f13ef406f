"""Predictions: a model's answers as tubes on video frames, and the files they come in.

Model answers live on the frames the model was shown; scores live on the frames of the video.
`answer_tube` takes one to the other. A file of predictions has one of three forms:

- `.jsonl`, what `stvgkit predict` writes: a line for each sample with `id`, `completion` (the raw
  text), `frames` (the video frame of each frame shown), `times` (their seconds, which the qwen
  reader needs), `space` (such as `0-1000`), and `think` where it is false because the model answers
  without a think list;
- `.json`, HC-STVG's official form: `{id: {"st_frame", "ed_frame", "bbox": {frame: [x1, y1, x2,
  y2]}}}` in pixels, frames counted from 1 as in its annotations, both ends inclusive;
- `.csv`, VUE-STG's form, see `stvgkit.datasets.vue_stg`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stvgkit.answers import Answer, CoordinateSpace, parse_answer
from stvgkit.boxes import from_px
from stvgkit.datasets import Sample, SkipReport
from stvgkit.datasets.records import (
    BadRecord,
    box_rows,
    judge_boxes,
    load_json,
    member,
    read_text,
    whole,
)
from stvgkit.errors import InputError
from stvgkit.faults import Fault, find_fault
from stvgkit.readers import read_answer
from stvgkit.tubes import Span, Tube


@dataclass(frozen=True)
class Prediction:
    """What one sample's prediction says, on video frames.

    `tube` is None where there is one that cannot be read ("unparsed"); `span` is the time it
    claims, which may be longer than its boxes, and defaults to the tube's. `lenient_only` says that
    the strict reader finds no answer in the text, and the lenient one does. `fault` says why there
    is no tube.
    """

    tube: Tube | None
    span: Span | None = None
    lenient_only: bool = False
    fault: Fault | None = field(default=None, repr=False, compare=False)

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


def read_completions(path: Path | str, reader: str = "strict") -> dict[str, Prediction]:
    """Read the JSON lines that `stvgkit predict` writes, by sample id.

    `reader` is one of `stvgkit.readers.READERS`: how much is forgiven in an answer. Raises
    `InputError` with the line's number where a line is damaged or an id repeats. An answer that
    breaks the format is no damage: its prediction has no tube.

    >>> path = getfixture("tmp_path") / "preds.jsonl"
    >>> line = '{"id": "a", "completion": "It is the dog.", "frames": [0, 15], "space": "0-1000"}'
    >>> _ = path.write_text(line)
    >>> read_completions(path)
    {'a': Prediction(tube=None, span=None, lenient_only=False)}
    """
    predictions: dict[str, Prediction] = {}
    for number, line in enumerate(read_text(Path(path)).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            name, prediction = member(record, "id", str), _completion(record, reader)
            if name in predictions:
                raise BadRecord(f"id {name!r} comes twice")
        except (ValueError, RecursionError) as error:  # BadRecord and InputError are ValueErrors
            raise InputError(
                f"{path} line {number}: {error}; write it again with stvgkit predict"
            ) from error
        predictions[name] = prediction
    return predictions


def _completion(record: Any, reader: str) -> Prediction:
    text = member(record, "completion", str, type(None))
    space = CoordinateSpace.parse(member(record, "space", str))
    frames = [whole({"frames": frame}, "frames") for frame in member(record, "frames", list)]
    if (np.diff(frames) <= 0).any():
        raise BadRecord("'frames' do not increase")
    if text is None or "failed" in record:  # the clip could not be shown, or nobody answered
        kind, _, said = str(record.get("failed", "the model gave no text")).partition(": ")
        return Prediction(None, fault=Fault(kind, said))
    think = record.get("think", True) is not False
    times = _times(record, len(frames)) if reader == "qwen" else None
    answer = read_answer(text, space, reader, think=think, times=times)
    forgiven = parse_answer(text, space, think=think) is None
    forgiven = forgiven and read_answer(text, space, "lenient") is not None
    prediction = replace(Prediction.from_answer(answer, frames), lenient_only=forgiven)
    if answer is not None:
        return prediction
    if reader == "strict":
        return replace(prediction, fault=find_fault(text, think=think))
    kind = f"the {reader} reader finds no answer"
    return replace(prediction, fault=Fault(kind, f"the text begins {text[:40]!r}"))


def _times(record: Any, count: int) -> list[float]:
    """The seconds of the shown frames, which the qwen reader needs."""
    given = member(record, "times", list)
    try:
        times = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        times = np.empty(0)
    if times.shape != (count,) or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise BadRecord("'times' are not the seconds of the frames, one for each, increasing")
    seconds: list[float] = times.tolist()
    return seconds


def read_hcstvg(
    path: Path | str, samples: Sequence[Sample], report: SkipReport
) -> dict[str, Prediction]:
    """Read HC-STVG's official form; `samples` tell the frame sizes of the pixel boxes.

    A prediction that is malformed has no tube and scores 0; `report` says why.
    """
    records = load_json(Path(path), dict, report)
    predictions = {}
    for sample in samples:
        if sample.id in records:
            try:
                predictions[sample.id] = _official(records[sample.id], sample)
            except BadRecord as reason:
                report.change(f"prediction not parsed: {reason}", sample.id)
                predictions[sample.id] = Prediction(None, fault=Fault(str(reason), ""))
    _judge(predictions, {sample.id: sample for sample in samples}, Path(path).name, report)
    return predictions


def _judge(
    predictions: dict[str, Prediction], samples: dict[str, Sample], name: str, report: SkipReport
) -> None:
    boxes, pixels = [np.empty((0, 4))], [np.empty((0, 2))]
    for key, prediction in predictions.items():
        if prediction.tube is not None:
            boxes.append(prediction.tube.boxes)
            pixel = 1 / np.array([samples[key].width, samples[key].height])
            pixels.append(np.tile(pixel, (len(prediction.tube), 1)))
    expected = "pixels of the width and height that the annotations say"
    judge_boxes(np.concatenate(boxes), np.concatenate(pixels), expected, report, name)


def _official(record: Any, sample: Sample) -> Prediction:
    first, last = (whole(record, key, 1) - 1 for key in ("st_frame", "ed_frame"))
    boxes = member(record, "bbox", dict)
    if not boxes:
        return Prediction(Tube([], []), Span(first, last))
    try:
        frames = np.array([whole({"frame": int(key)}, "frame", 1) - 1 for key in boxes])
    except ValueError as error:
        raise BadRecord("a key of 'bbox' is not a frame number from 1 on") from error
    rows = from_px(box_rows(list(boxes.values()), "bbox"), sample.width, sample.height)
    order = np.argsort(frames)
    try:
        return Prediction(Tube(frames[order], rows[order]), Span(first, last))
    except ValueError as error:
        raise BadRecord(str(error)) from error
