"""Prepare a benchmark: check every video, write the usable samples and an account of the rest.

The folder written holds `samples.jsonl` (see `stvgkit.datasets.prepared`), `README.md` (a card that
the hub can read) and `report.json`:

    benchmark, annotations, videos    what was read; videos is null where none were looked at
    samples, groups                   how many were written, in all and by group
    skipped, changed                  {reason: {"count": n, "ids": [...]}}
    broken_videos                     {path: what is wrong with it}
    stvgkit                           the version that wrote it

Without videos numpy is enough. Checking videos needs `stvgkit.video`, which is loaded then.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stvgkit import __version__
from stvgkit.datasets import read_benchmark
from stvgkit.datasets.prepared import FILE, write_prepared
from stvgkit.datasets.records import BadRecord, SkipReport, trim
from stvgkit.datasets.sample import Sample
from stvgkit.errors import InputError, VideoError, need
from stvgkit.files import replacing, write_json
from stvgkit.tubes import Span

if TYPE_CHECKING:
    from stvgkit.video import VideoInfo

TAGS = ["stvgkit", "spatio-temporal-video-grounding"]  # of all that goes on the hub
RATE_TOLERANCE = 0.05  # a share of the frame rate; HC-STVG's is rounded, and lacks a frame or two


def prepare(
    benchmark: str,
    annotations: Path | str,
    videos: Path | str | None,
    out: Path | str,
    *,
    boxes: Path | str | None = None,
    check: str = "shown",
    progress: bool = True,
) -> dict[str, Any]:
    """Write `samples.jsonl`, `report.json` and `README.md` into `out`; returns the report.

    Without `videos`, a folder, no video is looked for and none is checked. `check` says which
    frames are decoded: "shown", the two a second that a model sees, or "full", all. A broken video
    or record never stops the run. Raises `InputError` where an input cannot be used at all, or
    where nothing usable is left (the report is written all the same).
    """
    out, annotations = Path(out), Path(annotations)
    report = SkipReport()
    broken: dict[str, str] = {}
    groups: Counter[tuple[str, str]] = Counter()
    samples = read_benchmark(benchmark, annotations, videos, report, boxes=boxes)
    if videos is not None:
        samples = _checked(samples, report, broken, check, progress)
    source = f"{benchmark} {annotations.name}"
    written = write_prepared(out / FILE, _counted(samples, groups), source)
    account: dict[str, Any] = {
        "benchmark": benchmark,
        "annotations": str(annotations),
        "videos": None if videos is None else str(videos),
        "samples": written,
        "groups": {f"{group}: {name}": count for (group, name), count in sorted(groups.items())},
        **report.as_dict(),
        "broken_videos": broken,
        "stvgkit": __version__,
    }
    write_json(out / "report.json", account)
    if not written:
        raise InputError(f"not one sample is usable: {out / 'report.json'} lists why")
    with replacing(out / "README.md") as card:
        card.write(split_card(account))
    return account


def split_card(account: Mapping[str, Any]) -> str:
    """The hub's card of a prepared split, in Markdown; `account` is its `report.json`.

    The card says what was skipped and why, and that the videos are not part of it.

    >>> account = {"benchmark": "hcstvg", "videos": None, "samples": 2}
    >>> print(split_card({**account, "groups": {}, "skipped": {}, "changed": {}}))
    ---
    configs: [{"config_name": "default", "data_files": "samples.jsonl"}]
    pretty_name: "hcstvg, prepared"
    tags: ["stvgkit", "spatio-temporal-video-grounding", "hcstvg"]
    ---
    ...
    """
    benchmark = account["benchmark"]
    header = {
        "configs": [{"config_name": "default", "data_files": FILE}],
        "pretty_name": f"{benchmark}, prepared",
        "tags": [*TAGS, benchmark],
    }
    front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in header.items())  # is YAML too
    lines = [f"- {name}: {count}" for name, count in account["groups"].items()]
    for kind in ("skipped", "changed"):
        for reason, listed in account[kind].items():
            lines.append(f"- {kind}, {reason}: {listed['count']}")
    if account["videos"] is None:
        lines.append("- no video was looked at: sizes and lengths are the annotations'")
    listing = "\n".join(lines)
    return f"""---
{front}
---

# {benchmark}, prepared for stvgkit

{account["samples"]} samples: a sentence, a span of video frames (both ends inclusive) and a box,
relative to the frame, for each of them. Annotations alone: the videos and their licences are the
benchmark's own. All ids that were left out or changed are in `report.json`.

{listing}
"""


def _counted(samples: Iterable[Sample], groups: Counter[tuple[str, str]]) -> Iterator[Sample]:
    for sample in samples:
        groups.update(sample.groups.items())
        yield sample


def _checked(
    samples: Iterable[Sample],
    report: SkipReport,
    broken: dict[str, str],
    check: str,
    progress: bool,
) -> Iterator[Sample]:
    need("prepare with videos", "video", "av", "PIL", "tqdm")
    from tqdm.auto import tqdm

    from stvgkit.video import check_frames, probe, sample_indices

    infos: dict[Path | None, VideoInfo | None] = {}
    for sample in tqdm(samples, desc="prepare", unit=" samples", disable=not progress, leave=False):
        path = sample.video
        if path not in infos:
            try:
                infos[path] = probe(path)
                if check == "full":
                    check_frames(path)
            except VideoError as error:
                infos[path], broken[str(path)] = None, str(error)
        try:
            if (info := infos[path]) is None:
                raise BadRecord("broken video")
            fitted = _fitted(sample, info, report)
            if check == "shown":
                check_frames(path, sample_indices(info, window=fitted.window))
            yield fitted
        except BadRecord as reason:
            report.skip(str(reason), sample.id)
        except VideoError as error:
            report.skip("a frame of the video cannot be decoded", sample.id)
            broken[str(path)] = str(error)


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
