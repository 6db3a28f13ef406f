"""VUE-STG (bytedance/vidi, CC BY-NC 4.0): long videos, boxes on a grid of one second.

The annotations are a folder with three files:

    query.csv   query_id, query_text, video_id
    video.csv   video_id, video_duration in seconds
    tubes.csv   query_id, time_ms, x0, y0, x1, y1 relative to the frame

Predictions are a CSV file like `tubes.csv`. Times are rounded half up to whole seconds, and the
first box of a second counts, as in the benchmark's own evaluator.

Without the videos a sample's **frames are seconds**: its fps is 1. Its width and height are 0,
since the files do not tell them. The `vue-stg` protocol needs no more. With the videos, frames
are those of the video file, and each box is on the frame that is shown at its second. This needs
`stvgkit.video`.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stvgkit.datasets.folder import Files, find_video, video_files
from stvgkit.datasets.records import (
    MAX_FRAME,
    BadRecord,
    SkipReport,
    gold_tube,
    judge_boxes,
    read_text,
    sentence,
    trim,
)
from stvgkit.datasets.sample import GOLD_LENGTHS, VIDEO_LENGTHS, Sample, bin_name
from stvgkit.errors import InputError, VideoError
from stvgkit.tubes import Span, Tube

if TYPE_CHECKING:
    from stvgkit.video import VideoInfo

SMALLEST = np.array([1e-3, 1e-3])  # about a pixel; the file does not say how large a frame is
COLUMNS = ("query_id", "time_ms", "x0", "y0", "x1", "y1")


def read(
    annotations: Path | str,
    videos: Path | str | None = None,
    report: SkipReport | None = None,
) -> Iterator[Sample]:
    """Yield a sample for each usable query; the others are counted in `report`.

    Raises `InputError` where the folder lacks one of its three files or a file lacks a column.

    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "query.csv").write_text("query_id,query_text,video_id\\nq,a man,v\\n")
    >>> _ = (folder / "video.csv").write_text("video_id,video_duration\\nv,59.9\\n")
    >>> _ = (folder / "tubes.csv").write_text(
    ...     "query_id,time_ms,x0,y0,x1,y1\\nq,1499,0,0,0.5,0.5\\nq,1500,0,0,0.5,0.5\\n")
    >>> sample = next(read(folder))
    >>> sample.span, sample.groups
    (Span(start=1, end=2), {'gold length': '<3s', 'video length': '<1min'})
    """
    report = SkipReport() if report is None else report
    folder = Path(annotations)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give the one that holds VUE-STG's query.csv")
    durations = _durations(folder / "video.csv", report)
    tubes = read_tubes(folder / "tubes.csv", report)
    files = video_files(videos)
    seen: set[str] = set()
    for _, row in _rows(folder / "query.csv", ("query_id", "query_text", "video_id")):
        name = row["query_id"] or ""
        try:
            if name in seen:
                raise BadRecord("duplicate id (the first is kept)")
            seen.add(name)
            yield _sample(row, tubes, durations, files, report)
        except BadRecord as reason:
            report.skip(str(reason), name)


def read_tubes(path: Path | str, report: SkipReport) -> dict[str, Tube]:
    """Boxes by query id, on whole seconds; also for prediction files.

    Corners in the wrong order are swapped and coordinates clipped to the frame. Rows that are not
    numbers are left out and counted in `report`; a query that has no other row keeps an empty tube.

    >>> path = getfixture("tmp_path") / "tubes.csv"
    >>> _ = path.write_text("query_id,time_ms,x0,y0,x1,y1\\nq,500,0.5,0,0,1\\nq,1400,0,0,1,1\\n")
    >>> read_tubes(path, SkipReport())["q"].boxes  # both fall on second 1: the first counts
    array([[0. , 0. , 0.5, 1. ]])
    """
    boxes: dict[str, dict[int, list[float]]] = {}
    for line, row in _rows(Path(path), COLUMNS):
        mine = boxes.setdefault(row["query_id"] or "", {})
        try:
            time_ms, *corners = [float(row[column] or "nan") for column in COLUMNS[1:]]
        except ValueError:
            time_ms = math.nan
        if not 0 <= time_ms <= MAX_FRAME or not all(map(math.isfinite, corners)):
            report.change(
                f"rows of {Path(path).name} that are not numbers, left out", f"line {line}"
            )
            continue
        mine.setdefault((int(time_ms) + 500) // 1000, corners)
    rows = np.array([row for mine in boxes.values() for row in mine.values()]).reshape(-1, 4)
    judge_boxes(rows, SMALLEST, "relative, 0 to 1", report, Path(path).name)
    return {name: _tube(mine) for name, mine in boxes.items()}


def _tube(boxes: dict[int, list[float]]) -> Tube:
    seconds = sorted(boxes)
    rows = np.array([boxes[second] for second in seconds]).reshape(-1, 2, 2)
    corners = np.concatenate([rows.min(axis=1), rows.max(axis=1)], axis=1)
    return Tube(seconds, np.clip(corners, 0.0, 1.0))


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str | None]]]:
    """The rows of a CSV file, each with its line number."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    absent = [column for column in columns if column not in (reader.fieldnames or ())]
    if absent:
        raise InputError(f"{path} has no column {absent[0]!r}: is it VUE-STG's {path.name}?")
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num} is not CSV: {error}") from error


def _durations(path: Path, report: SkipReport) -> dict[str, float]:
    durations: dict[str, float] = {}
    for line, row in _rows(path, ("video_id", "video_duration")):
        try:
            seconds = float(row["video_duration"] or "nan")
        except ValueError:
            seconds = math.nan
        if 0 < seconds <= MAX_FRAME:
            durations.setdefault(row["video_id"] or "", seconds)
        else:
            report.change("rows of video.csv without a positive duration, left out", f"line {line}")
    return durations


def _sample(
    row: dict[str, str | None],
    tubes: dict[str, Tube],
    durations: dict[str, float],
    files: Files | None,
    report: SkipReport,
) -> Sample:
    name, query, vid = (row[key] or "" for key in ("query_id", "query_text", "video_id"))
    for key in ("query_id", "query_text"):
        sentence({key: row[key] or ""}, key)
    if vid not in durations:
        raise BadRecord("the video is not in video.csv")
    if name not in tubes:
        raise BadRecord("no box")
    tube = gold_tube(tubes[name].frames, tubes[name].boxes, report, name)
    groups = {
        "gold length": bin_name(len(tube), GOLD_LENGTHS),
        "video length": bin_name(durations[vid], VIDEO_LENGTHS),
    }
    # The last second is rounded up from up to half a second before the end.
    window = Span(0, math.floor(durations[vid] + 0.5))
    span = trim(tube.span, window, report, name)
    tube = tube.slice(span)
    video = find_video(files, vid)
    if video is None:
        return Sample(name, query.strip(), None, 0, 0, 1.0, window, span, tube, groups)
    info = _info(video)
    tube = tube.slice(trim(tube.span, Span(0, math.ceil(info.duration)), report, name))
    frames, first = np.unique(info.frames_at(tube.frames), return_index=True)
    tube = Tube(frames, tube.boxes[first])
    window = Span(0, info.num_frames - 1)
    return Sample(
        name,
        query.strip(),
        video,
        info.width,
        info.height,
        info.fps,
        window,
        tube.span,
        tube,
        groups,
    )


@lru_cache(maxsize=4)
def _info(video: Path) -> VideoInfo:
    from stvgkit.video import probe

    try:
        return probe(video)
    except VideoError as error:
        raise BadRecord("broken video") from error
