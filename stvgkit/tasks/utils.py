"""What the tasks are made of: questions from a prepared split, scores from our metrics.

lmms-eval loads a task's row of settings.json as its data and hands it to `documents`, which reads
the split. A document carries its frames' numbers, and the pixels are read when a model
is asked. A score is worked out for each sample; lmms-eval gathers the scores of all processes, and
the last functions average them just as `stvgkit score` does.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from stvgkit.answers import Answer, CoordinateSpace
from stvgkit.datasets.prepared import read_prepared
from stvgkit.datasets.records import SkipReport
from stvgkit.datasets.sample import Sample
from stvgkit.errors import InputError
from stvgkit.plugins.files import SPACES
from stvgkit.predictions import Prediction
from stvgkit.prompts import instruction
from stvgkit.readers import read_answer
from stvgkit.rows import plan_rows, row_images, row_messages
from stvgkit.scoring import sample_scores, summarize
from stvgkit.tubes import Span, Tube

DATA = "STVGKIT_DATA"  # folder of prepared splits
READER = "STVGKIT_READER"  # who reads the answers; strict


def documents(settings):
    """The questions of a task as a `datasets.Dataset`; `settings` is one with the task's row.

    What the split holds and the task leaves out is printed.
    """
    from datasets import Dataset

    task = dict(settings[0])
    folder = Path(os.environ.get(DATA, ""), task["split"])
    if DATA not in os.environ or not folder.is_dir():
        raise InputError(
            f"no prepared split at {folder}: set {DATA} to the folder in which stvgkit prepare "
            f"wrote {task['split']}"
        )
    report, kind = SkipReport(), task.get("query")
    samples = {
        sample.id: sample
        for sample in read_prepared(folder, report)
        if kind is None or sample.groups.get("query") == kind
    }
    form = replace(SPACES[task["space"]], max_frames=task["max_frames"])
    rows = plan_rows(samples.values(), form, report)
    if str(report):
        print(report)
    return Dataset.from_list([_document(samples[row["id"]], row, task) for row in rows])


def _document(sample: Sample, row: dict, task: dict) -> dict:
    """Text columns alone, so that every document has the same types."""
    if task["protocol"] == "vue-stg":
        sample = on_seconds(sample)
    gold = {
        "fps": sample.fps,
        "window": [sample.window.start, sample.window.end],
        "span": [sample.span.start, sample.span.end],
        "frames": None if sample.tube is None else sample.tube.frames.tolist(),
        "boxes": None if sample.tube is None else sample.tube.boxes.tolist(),
    }
    columns = {"id": row["id"], "query": row["query"], "protocol": task["protocol"]}
    return {**columns, "row": json.dumps(row), "gold": json.dumps(gold)}


def visuals(doc) -> list:
    """The shown frames, for models that take images and then a text."""
    return row_images(json.loads(doc["row"]))


def text(doc, lmms_eval_specific_kwargs=None) -> str:
    """The question, for models that take images and then a text."""
    row = json.loads(doc["row"])
    times = ", ".join(f"{seconds:.1f}" for seconds in row["times"])
    asked = instruction(row["query"], len(row["times"]), CoordinateSpace.parse(row["space"]))
    return f"The images are frames of a video, at {times} seconds. {asked}"


def messages(doc, lmms_eval_specific_kwargs=None) -> list[dict]:
    """The question as stvgkit asks it: each frame after its time, for models that chat."""
    row = json.loads(doc["row"])
    (turn,), images = row_messages(row), iter(row_images(row))
    for part in turn["content"]:
        if part["type"] == "image":
            part["url"] = next(images)
    return [turn]


def target(doc) -> str:
    """The gold tube, for people who read the log."""
    return doc["gold"]


def scores(doc, results) -> dict[str, float]:
    """Each metric's value for one answer, before it is averaged.

    `unparsed` is 1 where the reader finds no answer, `lenient_only` 1 where only the lenient one
    does.
    """
    row, gold = json.loads(doc["row"]), json.loads(doc["gold"])
    space, times = CoordinateSpace.parse(row["space"]), row["times"]
    answer = read_answer(results[0], space, os.environ.get(READER, "strict"), times=times)
    strict = read_answer(results[0], space)
    lenient = read_answer(results[0], space, "lenient")
    counts = {
        "unparsed": float(answer is None),
        "lenient_only": float(strict is None and lenient is not None),
    }
    sample = Sample(
        **{"id": doc["id"], "query": doc["query"], "video": None, "width": 0, "height": 0},
        fps=gold["fps"],
        window=Span(*gold["window"]),
        span=Span(*gold["span"]),
        tube=None if gold["frames"] is None else Tube(gold["frames"], gold["boxes"]),
    )
    if doc["protocol"] == "vue-stg":
        told = Prediction(None if answer is None else seconds_tube(answer, times))
    else:
        told = Prediction.from_answer(answer, row["frames"])
    scores = sample_scores([sample], {doc["id"]: told}, doc["protocol"])
    values = {name: float(value[0]) for name, value in scores.items()}
    if "vIoU" in values:
        thresholds = dict.fromkeys(("vIoU@0.3", "vIoU@0.5"), values["vIoU"])
        values = {"m_tIoU": values["tIoU"], "m_vIoU": values["vIoU"], **thresholds} | {
            "gt_vIoU": values["gt_vIoU"]
        }
    return values | counts


def on_seconds(sample: Sample) -> Sample:
    """A sample of VUE-STG on whole seconds, as its evaluator counts; its boxes stand on frames.

    `stvgkit.video` tells the frames' times.
    """
    from stvgkit.video import probe

    assert sample.video is not None and sample.tube is not None  # VUE-STG was read with videos
    info = probe(sample.video)
    seconds, first = np.unique(np.floor(info.times[sample.tube.frames] + 0.5), return_index=True)
    tube = Tube(seconds, sample.tube.boxes[first])
    return replace(
        sample, fps=1.0, window=Span(0, int(info.duration + 0.5)), span=tube.span, tube=tube
    )


def seconds_tube(answer: Answer, times) -> Tube:
    """The final boxes inside the answered span, at every whole second between first and last.

    Boxes in between are interpolated linearly in time; an answer between two seconds is given to
    the nearest.

    >>> tube = Tube([1, 2], [[0, 0, 0.2, 0.2], [0.2, 0, 0.4, 0.2]])
    >>> seconds_tube(Answer(Span(1, 2), None, tube, True), [0.0, 1.5, 2.5]).boxes
    array([[0.1, 0. , 0.3, 0.2]])
    """
    shown = answer.pred.slice(answer.span.intersect(Span(0, len(times) - 1)))
    if not len(shown):
        return Tube([], [])
    milliseconds = np.rint(1000 * np.asarray(times)[shown.frames])
    tube = Tube(milliseconds, shown.boxes)
    seconds = np.arange(np.ceil(tube.frames[0] / 1000), tube.frames[-1] // 1000 + 1)
    if not len(seconds):
        return Tube([np.floor(tube.frames[0] / 1000 + 0.5)], tube.boxes[:1])
    return Tube(seconds, tube.resample(1000 * seconds).boxes)


# --- averages: all take the values of all samples ------------------------------------------------


def mean(values) -> float:
    """The mean over the samples for which the metric is defined."""
    return _summary(values, "m_tIoU")


def above_03(values) -> float:
    """The share of samples with a vIoU greater than 0.3."""
    return _summary(values, "vIoU@0.3")


def above_05(values) -> float:
    """The share of samples with a vIoU greater than 0.5."""
    return _summary(values, "vIoU@0.5")


def count(values) -> int:
    """How many samples."""
    return int(sum(values))


def _summary(values, metric: str) -> float:
    scores = dict.fromkeys(("tIoU", "vIoU", "gt_vIoU"), np.asarray(values, dtype=np.float64))
    value = summarize(scores).metrics[metric]
    return float("nan") if value is None else value
