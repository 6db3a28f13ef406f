"""VidSTG: everyday videos from VidOR, with declarative captions and interrogative questions.

The annotation file is a list. A record holds

- `vid`: the video;
- `used_segment`: the part of the video that the sentences belong to, its end **inclusive**;
- `temporal_gt`: when the described relation holds, its end **exclusive** (744 of the 3,996
  validation records end at `frame_count`);
- `captions` (declarative) and `questions` (interrogative), each with the `target_id` of the object
  that is looked for.

Each sentence becomes a sample `VID/RECORD/declarative/K` or `VID/RECORD/interrogative/K`. Both
numbers count from 0.

The boxes are VidOR's, one JSON file a video, in folders as downloaded. There, `trajectories[frame]`
is a list of `{tid, bbox: {xmin, ymin, xmax, ymax}}` in pixels. Without these files a sample has its
gold span and no tube. A frame on which VidOR has no box of the target leaves a gap.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from stvgkit.boxes import from_px
from stvgkit.datasets.folder import Files, find_video, video_files
from stvgkit.datasets.records import (
    BadRecord,
    SkipReport,
    box_rows,
    gold_tube,
    load_json,
    member,
    number,
    sentence,
    trim,
    whole,
)
from stvgkit.datasets.sample import Sample
from stvgkit.errors import InputError
from stvgkit.tubes import Span, Tube

KINDS = (("captions", "declarative"), ("questions", "interrogative"))


def read(
    annotations: Path | str,
    videos: Path | str | None = None,
    report: SkipReport | None = None,
    *,
    boxes: Path | str | None = None,
) -> Iterator[Sample]:
    """Yield a sample for each usable sentence; the others are counted in `report`.

    `boxes` is a folder with VidOR's JSON files. Raises `InputError` where the file is not a VidSTG
    annotation file.

    >>> path = getfixture("tmp_path") / "val.json"
    >>> record = '{"vid": "1071", "fps": 30, "frame_count": 90, "width": 640, "height": 360, '
    >>> record += '"used_segment": {"begin_fid": 0, "end_fid": 89}, '
    >>> record += '"temporal_gt": {"begin_fid": 30, "end_fid": 90}, "questions": [], '
    >>> record += '"captions": [{"description": "a child runs", "target_id": 2}]}'
    >>> _ = path.write_text("[" + record + "]")
    >>> sample = next(read(path))
    >>> sample.id, sample.span, sample.groups
    ('1071/0/declarative/0', Span(start=30, end=89), {'query': 'declarative'})
    """
    report = SkipReport() if report is None else report
    records = load_json(Path(annotations), list, report)
    files = video_files(videos)
    tracks = None if boxes is None else _Tracks(boxes)
    for i, record in enumerate(records):
        name = f"{record.get('vid') if isinstance(record, dict) else 'record'}/{i}"
        try:
            base = _base(name, record, files, report)
        except BadRecord as reason:
            report.skip(str(reason), name)
            continue
        yield from _sentences(base, record, tracks, report)


def _span(record: Any, key: str, exclusive: int) -> Span:
    part = member(record, key, dict)
    return Span(whole(part, "begin_fid"), whole(part, "end_fid") - exclusive)


def _base(name: str, record: Any, files: Files | None, report: SkipReport) -> Sample:
    """All that the sentences of one record share."""
    video = find_video(files, sentence(record, "vid"))
    width, height = whole(record, "width", 1), whole(record, "height", 1)
    whole_video = Span(0, whole(record, "frame_count", 1) - 1)
    window = trim(_span(record, "used_segment", 0), whole_video, report, name)
    span = trim(_span(record, "temporal_gt", 1), window, report, name)
    for key, _ in KINDS:
        member(record, key, list)
    return Sample(name, "", video, width, height, number(record, "fps"), window, span)


def _sentences(
    base: Sample, record: dict[str, Any], tracks: _Tracks | None, report: SkipReport
) -> Iterator[Sample]:
    for key, kind in KINDS:
        for k, item in enumerate(record[key]):
            name = f"{base.id}/{kind}/{k}"
            try:
                query, target = sentence(item, "description").strip(), whole(item, "target_id")
                vid = record["vid"]
                tube = tracks.tube(vid, target, base, report, name) if tracks else None
            except BadRecord as reason:
                report.skip(str(reason), name)
                continue
            yield Sample(
                name,
                query,
                base.video,
                base.width,
                base.height,
                base.fps,
                base.window,
                base.span,
                tube,
                {"query": kind},
            )


class _Tracks:
    """Boxes from a folder of VidOR's JSON files; the last few files read are kept."""

    def __init__(self, folder: Path | str) -> None:
        self.files = Files(folder, (".json",))
        self.load = lru_cache(maxsize=4)(self._load)  # a video's records follow each other

    def _load(self, path: Path) -> tuple[list[Any], int, int]:
        try:
            value = load_json(path, dict, SkipReport())
        except InputError as error:
            raise BadRecord("box file cannot be read") from error
        return (
            member(value, "trajectories", list),
            whole(value, "width", 1),
            whole(value, "height", 1),
        )

    def tube(self, vid: str, target: int, base: Sample, report: SkipReport, name: str) -> Tube:
        frames, width, height = self.load(self.files.find(vid, "box file"))
        found = [
            (frame, _corners(entry))
            for frame in range(base.span.start, min(base.span.end + 1, len(frames)))
            for entry in _entries(frames[frame])
            if entry.get("tid") == target
        ]
        if not found:
            raise BadRecord("no box")
        numbers = np.array([frame for frame, _ in found])
        if (np.diff(numbers) == 0).any():
            raise BadRecord("two boxes of the target on one frame")
        if (width, height) != (base.width, base.height):
            report.change("VidOR says another size than the record, VidOR's is used", name)
        if len(found) < len(base.span):
            report.change("some frames of the span without a box", name)
        boxes = from_px(box_rows([corners for _, corners in found], "bbox"), width, height)
        return gold_tube(numbers, boxes, report, name)


def _entries(frame: Any) -> list[dict[str, Any]]:
    if not isinstance(frame, list) or not all(isinstance(entry, dict) for entry in frame):
        raise BadRecord("'trajectories' is not a list of boxes for each frame")
    return frame


def _corners(entry: dict[str, Any]) -> list[float]:
    box = member(entry, "bbox", dict)
    return [member(box, key, int, float) for key in ("xmin", "ymin", "xmax", "ymax")]
