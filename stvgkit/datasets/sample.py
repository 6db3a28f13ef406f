"""One query on one video with its gold tube."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from stvgkit.tubes import Span, Tube


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
