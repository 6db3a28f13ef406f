"""Prepared splits: `samples.jsonl`, one sample a line, the same for every benchmark.

Each line is a JSON object:

    id       text, unlike every other line's
    query    the sentence
    video    path of the video file, relative to this file's folder or absolute; null if none
    width, height, fps    of the video (pixels, pixels, frames per second)
    window   [first, last] frame that the query belongs to, both inclusive, counted from 0
    span     [first, last] frame of the described event, the same way
    frames   the frames that carry a gold box, increasing; null where the boxes are not known
    boxes    a box [x1, y1, x2, y2] for each of them, relative to the frame, in [0, 1]
    groups   names under which scores are reported apart, such as {"query": "declarative"}
    source   where the sample came from, such as "hcstvg test.json"; for people, not read back

`write_prepared` writes it, `read_prepared` reads it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stvgkit.datasets.records import (
    BadRecord,
    SkipReport,
    box_rows,
    member,
    number,
    plain_ints,
    read_text,
    sentence,
    whole,
)
from stvgkit.datasets.sample import Sample
from stvgkit.errors import InputError
from stvgkit.files import replacing
from stvgkit.tubes import Span, Tube

FILE = "samples.jsonl"


def write_prepared(path: Path | str, samples: Iterable[Sample], source: str) -> int:
    """Write samples to a file or to `samples.jsonl` in a folder, and return how many.

    The file appears only when it is complete. `source` names the benchmark and annotation file.

    >>> tube = Tube([3], [[0, 0, 0.5, 0.5]])
    >>> sample = Sample("a", "the dog", None, 640, 360, 25.0, Span(0, 9), Span(3, 3), tube)
    >>> write_prepared(getfixture("tmp_path"), [sample], source="by hand")
    1
    >>> [sample] == list(read_prepared(getfixture("tmp_path")))
    True
    """
    path, count = _file(Path(path)), 0
    with replacing(path) as out:
        for sample in samples:
            out.write(json.dumps(_line(sample, path.parent, source), ensure_ascii=False) + "\n")
            count += 1
    return count


def read_prepared(path: Path | str, report: SkipReport | None = None) -> Iterator[Sample]:
    """Yield the samples of a prepared file, or of `samples.jsonl` in a folder.

    Lines that are not usable samples are counted in `report`. Raises `InputError` where the file
    is missing, empty or holds no sample at all.
    """
    report = SkipReport() if report is None else report
    path = _file(Path(path))
    seen: set[str] = set()
    for i, line in enumerate(read_text(path).split("\n"), 1):  # other breaks may be in a text
        if not line.strip():
            continue
        try:
            sample = _sample(line, path.parent)
            if sample.id in seen:
                raise BadRecord("duplicate id (the first is kept)")
        except BadRecord as reason:
            report.skip(str(reason), f"line {i}")
            continue
        seen.add(sample.id)
        yield sample
    if not seen:
        raise InputError(f"{path} holds no sample: give the samples.jsonl that prepare wrote")


def _file(path: Path) -> Path:
    return path / FILE if path.is_dir() or path.suffix == "" else path


def _line(sample: Sample, folder: Path, source: str) -> dict[str, Any]:
    video = None
    if sample.video is not None:
        path = Path(sample.video).resolve()
        if path.is_relative_to(folder.resolve()):  # beside the file: the folder can be moved
            path = path.relative_to(folder.resolve())
        video = path.as_posix()
    return {
        "id": sample.id,
        "query": sample.query,
        "video": video,
        "width": sample.width,
        "height": sample.height,
        "fps": sample.fps,
        "window": plain_ints((sample.window.start, sample.window.end)),
        "span": plain_ints((sample.span.start, sample.span.end)),
        "frames": None if sample.tube is None else sample.tube.frames.tolist(),
        "boxes": None if sample.tube is None else sample.tube.boxes.tolist(),
        "groups": sample.groups,
        "source": source,
    }


def _sample(line: str, folder: Path) -> Sample:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRecord("not JSON") from error
    if (video := member(record, "video", str, type(None))) is not None:
        _check_path(video)
    window, span = _ends(record, "window"), _ends(record, "span")
    if not len(span) or span.intersect(window) != span:
        raise BadRecord("span outside the clip")
    groups = member(record, "groups", dict)
    return Sample(
        sentence(record, "id"),
        sentence(record, "query"),
        None if video is None else folder / video,
        whole(record, "width"),
        whole(record, "height"),
        number(record, "fps"),
        window,
        span,
        _tube(record, span),
        {sentence({"groups": group}, "groups"): sentence(groups, group) for group in groups},
    )


def _check_path(text: str) -> None:
    """A path may hold bytes of another encoding, which JSON escapes as halves of pairs."""
    try:
        good = bool(text.strip() and os.fsencode(text))
    except UnicodeEncodeError:
        good = False
    if not good:
        raise BadRecord("'video' is blank or damaged text (half of a surrogate pair)")


def _ends(record: dict[str, Any], key: str) -> Span:
    ends = member(record, key, list)
    if len(ends) != 2:
        raise BadRecord(f"{key!r} is not [first, last]")
    return Span(whole({key: ends[0]}, key), whole({key: ends[1]}, key))


def _tube(record: dict[str, Any], span: Span) -> Tube | None:
    frames = member(record, "frames", list, type(None))
    if frames is None:
        return None
    frames = [whole({"frames": frame}, "frames") for frame in frames]
    boxes = box_rows(member(record, "boxes", list), "boxes")
    if any(frame not in span for frame in frames):
        raise BadRecord("box outside the span")
    if ((boxes < 0) | (boxes > 1)).any():
        raise BadRecord("box outside the frame: coordinates are relative, 0 to 1")
    try:
        return Tube(frames, boxes)
    except ValueError as error:
        raise BadRecord(str(error)) from error
