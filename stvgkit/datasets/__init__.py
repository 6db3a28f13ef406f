"""Readers: one per benchmark, each turning annotation files into `Sample`s.

`hcstvg`, `vidstg`, `vue_stg` read a benchmark's own files, `prepared` those that `prepare` writes
(of any benchmark, and of generated clips). All yield lazily, and list what they leave out, and why,
in a `SkipReport`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stvgkit.datasets import hcstvg, vidstg, vue_stg
from stvgkit.datasets.prepared import read_prepared, write_prepared
from stvgkit.datasets.records import SkipReport
from stvgkit.datasets.sample import Sample
from stvgkit.errors import InputError

BENCHMARKS = ("hcstvg", "vidstg", "vue-stg", "prepared", "shapes")

__all__ = [
    "BENCHMARKS",
    "Sample",
    "SkipReport",
    "data_samples",
    "read_benchmark",
    "read_prepared",
    "write_prepared",
]


def read_benchmark(
    name: str,
    annotations: Path | str,
    videos: Path | str | None = None,
    report: SkipReport | None = None,
    *,
    boxes: Path | str | None = None,
) -> Iterator[Sample]:
    """Yield the samples of a benchmark by name: hcstvg (v1 or v2), vidstg, vue-stg, prepared.

    `shapes`, the generated clips, are stored as a prepared split. With `videos`, a folder, samples
    whose video is not in it are skipped. `boxes` is VidOR's folder of JSON files, for vidstg.

    >>> next(read_benchmark("charades", "test.json"))
    Traceback (most recent call last):
    stvgkit.errors.InputError: unknown benchmark 'charades': use one of hcstvg, vidstg, vue-stg, ...
    """
    if boxes is not None and name != "vidstg":
        raise InputError(f"{name} has its boxes in its own annotations: leave --boxes out")
    if videos is not None and not Path(videos).is_dir():
        raise InputError(f"{videos} is not a folder of videos: check the path")
    if name == "hcstvg":
        return hcstvg.read(annotations, videos, report)
    if name == "vidstg":
        return vidstg.read(annotations, videos, report, boxes=boxes)
    if name == "vue-stg":
        return vue_stg.read(annotations, videos, report)
    if name in ("prepared", "shapes"):
        return read_prepared(annotations, report)
    raise InputError(f"unknown benchmark {name!r}: use one of {', '.join(BENCHMARKS)}")


def data_samples() -> Path:
    """The folder of sample clips, annotations and logs: in the package, or beside it in a clone.

    >>> data_samples().name
    'data_samples'
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "data_samples", package.parent / "data_samples"):
        if folder.is_dir():
            return folder
    raise InputError(f"no data_samples in {package}: install stvgkit again")
