"""What an annotation file holds, in a few lines: `stvgkit info ANNOTATIONS`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from stvgkit.datasets import SkipReport, read_benchmark
from stvgkit.datasets.prepared import FILE
from stvgkit.datasets.records import load_json
from stvgkit.datasets.sample import sample_groups
from stvgkit.errors import InputError


def detect_benchmark(path: Path | str) -> str:
    """The name of the benchmark whose annotations these are, by the shape of the file.

    >>> path = getfixture("tmp_path") / "val.json"
    >>> _ = path.write_text("[]")
    >>> detect_benchmark(path)
    'vidstg'
    """
    path = Path(path)
    if (path / "query.csv").is_file():
        return "vue-stg"
    if (path / FILE).is_file() or path.suffix == ".jsonl":
        return "prepared"
    if path.suffix == ".json":
        value = load_json(path, object, SkipReport())
        return "hcstvg" if isinstance(value, dict) else "vidstg"
    raise InputError(
        f"{path} is no annotation file that stvgkit knows: give HC-STVG's or VidSTG's .json, "
        "VUE-STG's folder, or a prepared samples.jsonl"
    )


def describe(path: Path | str) -> str:
    """Samples, videos, lengths and groups of an annotation file, and what cannot be used.

    >>> path = getfixture("tmp_path") / "test.json"
    >>> record = '{"bbox": [[64, 36, 64, 36]], "st_frame": 268, "img_num": 600, '
    >>> record += '"caption": "The woman turns.", "width": 640, "height": 360}'
    >>> _ = path.write_text('{"55_vfjywN5CN0Y.mp4": ' + record + '}')
    >>> print(describe(path))
    hcstvg: 1 samples, 1 with boxes
    gold span: median 0.0 s, longest 0.0 s
    gold length: <3s 1
    object size: <10% 1
    """
    name, report = detect_benchmark(path), SkipReport()
    samples = list(read_benchmark(name, path, report=report))
    if not samples:
        raise InputError(f"{path} holds not one usable sample: {report}")
    seconds = np.array([len(sample.span) / sample.fps for sample in samples])
    boxed = sum(sample.tube is not None for sample in samples)
    lines = [
        f"{name}: {len(samples)} samples, {boxed} with boxes",
        f"gold span: median {np.median(seconds):.1f} s, longest {seconds.max():.1f} s",
    ]
    counts = Counter(pair for sample in samples for pair in sample_groups(sample).items())
    for group in sorted({group for group, _ in counts}):
        names = sorted((name, n) for (owner, name), n in counts.items() if owner == group)
        lines.append(f"{group}: " + ", ".join(f"{name} {n}" for name, n in names))
    return "\n".join([*lines, *filter(None, [str(report)])])
