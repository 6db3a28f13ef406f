"""One query on one video with its gold tube, and the groups under which it is reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stvgkit.boxes import area
from stvgkit.tubes import Span, Tube

# Bins under which samples are reported apart: (upper edge, name). The edges are VUE-STG's.
OBJECT_SIZES = ((0.10, "<10%"), (0.30, "10-30%"), (np.inf, ">=30%"))
VIDEO_LENGTHS = ((60, "<1min"), (600, "1-10min"), (1800, "10-30min"), (np.inf, ">=30min"))
GOLD_LENGTHS = ((3, "<3s"), (10, "3-10s"), (60, "10-60s"), (np.inf, ">=60s"))
BINS = (OBJECT_SIZES, VIDEO_LENGTHS, GOLD_LENGTHS)


@dataclass(frozen=True)
class Sample:
    """What every benchmark's reader yields.

    Frame numbers are those of the video file, from 0. `window` is the part of the video that the
    query belongs to (VidSTG's `used_segment`; elsewhere the whole video); only these frames are
    shown to a model and scored. `span` is the gold span, `tube` the gold boxes; `tube` is None
    where a benchmark ships none (VidSTG without VidOR). `groups` are the names under which scores
    are reported apart, such as `{"query": "declarative"}`.
    """

    id: str
    query: str
    video: Path | None
    width: int
    height: int
    fps: float
    window: Span
    span: Span
    tube: Tube | None = None
    groups: dict[str, str] = field(default_factory=dict)


def bin_name(value: float, bins: Sequence[tuple[float, str]]) -> str:
    """The name of the first bin whose upper edge, not included, lies above `value`.

    >>> bin_name(3, GOLD_LENGTHS)
    '3-10s'
    """
    return next(name for edge, name in bins if value < edge)


def sample_groups(sample: Sample) -> dict[str, str]:
    """The groups under which a sample is reported: object size, gold length, and its own.

    Object size is the mean area of the gold boxes as a share of the frame, gold length the seconds
    of the gold span; the bins are VUE-STG's. The sample's own groups come on top and win.
    """
    groups = {"gold length": bin_name(len(sample.span) / sample.fps, GOLD_LENGTHS)}
    if sample.tube is not None and len(sample.tube):
        groups["object size"] = bin_name(float(area(sample.tube.boxes).mean()), OBJECT_SIZES)
    return {**groups, **sample.groups}
