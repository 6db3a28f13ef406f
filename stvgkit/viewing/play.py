"""`stvgkit play` and `stvgkit lab`: find sample, video and predictions, and make the page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from stvgkit.answers import CoordinateSpace
from stvgkit.datasets import Sample, SkipReport, read_benchmark, vue_stg
from stvgkit.datasets.records import read_text
from stvgkit.errors import InputError
from stvgkit.predictions import Prediction, read_completions, read_hcstvg
from stvgkit.tubes import Span, Tube
from stvgkit.video import probe, sample_indices
from stvgkit.viewing.lab import LAB_FORMAT, RewardLab, reward_lab
from stvgkit.viewing.players import Player, show_player


def play_answer(
    video: Path,
    answer: Path | None,
    space: str,
    fps: float,
    query: str | None,
    seconds: str | None = None,
    **options: Any,
) -> Player:
    """The player of a video alone, or with one answer to it in a text file.

    Index i of the answer is the i-th frame sampled at `fps` a second. `seconds`, as `12-34.5`, is
    the part to show.
    """
    options["window"] = _window(video, seconds)
    if answer is None:
        return show_player(video, query=query, **options)
    CoordinateSpace.parse(space)  # said before any file is read
    text = read_text(answer).strip()
    info = probe(video)
    frames = sample_indices(info, fps)
    line = {
        "completion": text,
        "frames": frames.tolist(),
        "times": (info.times[frames] - info.times[frames[0]]).tolist(),
        "space": space,
    }
    return show_player(video, query=query, answers={"": line}, **options)


def find_sample(
    benchmark: str,
    annotations: Path,
    name: str | None,
    *,
    video: Path | None = None,
    videos: Path | None = None,
    boxes: Path | None = None,
) -> Sample:
    """The sample with this id, the first where none is named, on `video` where one is given."""
    report = SkipReport()
    samples = read_benchmark(benchmark, annotations, videos, report, boxes=boxes)
    sample = _named_or_first(samples, name, report)
    return sample if video is None else replace(sample, video=video)


def play_sample(
    sample: Sample,
    benchmark: str,
    predictions: Iterable[str] = (),
    *,
    reader: str = "strict",
    seconds: str | None = None,
    **options: Any,
) -> Player:
    """The player of one sample of a benchmark, with the predictions files given for it.

    Each of `predictions` is a path or NAME=PATH; the name, by default the file's, is shown.
    `seconds`, as `12-34.5`, is the part of the video to show.
    """
    preds, answers = {}, {}
    for argument in predictions:
        label, path = _named(argument)
        if path.suffix == ".jsonl":
            answers[label] = _line(path, sample, reader)
        else:
            preds[label] = _prediction(path, benchmark, sample)
    options["window"] = _window(sample.video, seconds)
    return show_player(sample, pred=preds, answers=answers, reader=reader, **options)


def _window(video: Path | None, seconds: str | None) -> Span | None:
    """The frames shown between two times, written as `12-34.5`; None for None."""
    if seconds is None or video is None:
        return None
    try:
        start, end = map(float, seconds.split("-"))
    except ValueError:
        start = end = math.nan
    if not 0 <= start < end < math.inf:
        raise InputError(f"{seconds!r} is no window: give two times in seconds, such as 12-34.5")
    info = probe(video)
    if start > info.times[-1]:
        raise InputError(
            f"window {seconds} begins after the end: {video} has {info.duration:.1f} s"
        )
    return Span(*map(int, info.frames_at([start, end])))


def lab_of_sample(sample: Sample, answer: Path | None, space: str) -> RewardLab:
    """The reward lab of one sample, with the answer in a text file to start from."""
    text = None if answer is None else read_text(answer).strip()
    return reward_lab(sample, text, replace(LAB_FORMAT, space=space))


def _named_or_first(samples: Iterator[Sample], name: str | None, report: SkipReport) -> Sample:
    names: list[str] = []
    for sample in samples:
        if sample.id == name or (name is None and not names):
            return sample
        names.append(sample.id)
    if not names:
        raise InputError(f"the annotations hold not one usable sample: {report}")
    near = get_close_matches(name or "", names, n=3, cutoff=0.3) or names[:3]
    raise InputError(f"no sample with id {name!r}: there are {', '.join(map(repr, near))}, ...")


def _named(argument: str) -> tuple[str, Path]:
    label, equals, path = argument.partition("=")
    if equals and not Path(argument).exists():
        return label, Path(path)
    return Path(argument).stem, Path(argument)


def _line(path: Path, sample: Sample, reader: str) -> dict[str, Any]:
    """The sample's line of a file that `stvgkit predict` wrote."""
    if sample.id not in read_completions(path, reader):  # which says what is wrong in a file
        raise InputError(f"{path} has no prediction for sample {sample.id!r}")
    records = map(json.loads, filter(str.strip, read_text(path).split("\n")))
    return next(record for record in records if record["id"] == sample.id)


def _prediction(path: Path, benchmark: str, sample: Sample) -> Prediction:
    report = SkipReport()  # nothing is said of what the file holds for other samples
    if benchmark == "hcstvg" and path.suffix == ".json":
        found = read_hcstvg(path, [sample], report)
    elif benchmark == "vue-stg" and path.suffix == ".csv":
        tube = vue_stg.read_tubes(path, report).get(sample.id)
        found = {} if tube is None else {sample.id: Prediction(_on_frames(tube, sample))}
    else:
        raise InputError(f"{path}: predictions for {benchmark} are .jsonl files, or its own form")
    if sample.id not in found:
        raise InputError(f"{path} has no prediction for sample {sample.id!r}")
    return found[sample.id]


def _on_frames(tube: Tube, sample: Sample) -> Tube | None:
    """A tube on seconds as one on video frames; None where it is empty."""
    if not len(tube):
        return None
    frames = probe(sample.video).frames_at(tube.frames)
    keep = [i for i in range(len(frames)) if i == 0 or frames[i] > frames[i - 1]]
    return Tube(frames[keep], tube.boxes[keep])
