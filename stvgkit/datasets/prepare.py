"""Prepare a benchmark: check every video, write the usable samples and an account of the rest.

The folder written holds `samples.jsonl` (see `stvgkit.datasets.prepared`) and `report.json`:

    benchmark, annotations, videos    what was read
    samples, groups                   how many were written, in all and by group
    skipped, changed                  {reason: {"count": n, "ids": [...]}}
    broken_videos                     {path: what is wrong with it}
    stvgkit                           the version that wrote it
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stvgkit import __version__
from stvgkit.datasets import read_benchmark
from stvgkit.datasets.prepared import FILE, write_prepared
from stvgkit.datasets.records import BadRecord, SkipReport, trim
from stvgkit.datasets.sample import Sample
from stvgkit.errors import InputError, VideoError
from stvgkit.files import write_json
from stvgkit.tubes import Span

if TYPE_CHECKING:
    from stvgkit.video import VideoInfo

RATE_TOLERANCE = 0.05  # a share of the frame rate; HC-STVG's is rounded, and lacks a frame or two


def prepare(
    benchmark: str,
    annotations: Path | str,
    videos: Path | str,
    out: Path | str,
    *,
    boxes: Path | str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Write `samples.jsonl` and `report.json` into `out`; returns the report.

    A broken video or record never stops the run. Raises `InputError` where an input cannot be used
    at all, or where nothing usable is left (the report is written all the same).
    """
    from tqdm.auto import tqdm

    from stvgkit.training.cards import describe_split

    out, annotations = Path(out), Path(annotations)
    report, broken, groups = SkipReport(), {}, Counter()
    samples = read_benchmark(benchmark, annotations, videos, report, boxes=boxes)
    samples = _checked(samples, report, broken)
    bar = tqdm(samples, desc="prepare", unit=" samples", disable=not progress, leave=False)
    source = f"{benchmark} {annotations.name}"
    written = write_prepared(out / FILE, _counted(bar, groups), source)
    account: dict[str, Any] = {
        "benchmark": benchmark,
        "annotations": str(annotations),
        "videos": str(videos),
        "samples": written,
        "groups": {f"{group}: {name}": count for (group, name), count in sorted(groups.items())},
        **report.as_dict(),
        "broken_videos": broken,
        "stvgkit": __version__,
    }
    write_json(out / "report.json", account)
    if not written:
        raise InputError(f"not one sample is usable: {out / 'report.json'} lists why")
    describe_split(out, account)
    return account


def _counted(samples: Iterable[Sample], groups: Counter) -> Iterator[Sample]:
    for sample in samples:
        groups.update(sample.groups.items())
        yield sample


def _checked(
    samples: Iterable[Sample], report: SkipReport, broken: dict[str, str]
) -> Iterator[Sample]:
    from stvgkit.video import probe

    infos: dict[Path, VideoInfo | None] = {}
    for sample in samples:
        path = sample.video
        if path not in infos:
            try:
                infos[path] = probe(path)
            except VideoError as error:
                infos[path], broken[str(path)] = None, str(error)
        try:
            if infos[path] is None:
                raise BadRecord("broken video")
            yield _fitted(sample, infos[path], report)
        except BadRecord as reason:
            report.skip(str(reason), sample.id)


def _fitted(sample: Sample, info: VideoInfo, report: SkipReport) -> Sample:
    """The sample as its video file has it: true size and frame rate, nothing beyond its end."""
    if abs(info.fps / sample.fps - 1) > RATE_TOLERANCE:
        raise BadRecord("video has another frame rate than the annotation: frames would not match")
    if (info.width, info.height) != (sample.width, sample.height):
        report.change("size differs from the annotation's, the video's is used", sample.id)
    window = sample.window.intersect(Span(0, info.num_frames - 1))
    if window != sample.window:
        report.change("video is shorter than the annotation says", sample.id)
    span = trim(sample.span, window, report, sample.id)
    tube = sample.tube and sample.tube.slice(span)
    if tube is not None and not len(tube):
        raise BadRecord("no box")
    return replace(
        sample,
        width=info.width,
        height=info.height,
        fps=info.fps,
        window=window,
        span=span,
        tube=tube,
    )
