"""Training files for other frameworks: `stvgkit prepare ... --for verl | easyr1 | swift | trl`.

A prepared split becomes one file of prompts in the form that the framework reads, with the frames
as JPEG files beside it. The prompt is the one that stvgkit trains with: the time of each frame,
the frame, then the question. Frames are written out, rather than videos named, because every
framework picks the frames of a video in its own way, and an answer counts the frames.

    verl      rows.parquet   prompt, images, data_source, ability, reward_model, extra_info
    easyr1    rows.jsonl     prompt, images, answer
    swift     rows.jsonl     messages, images, ground_truth
    trl       rows.jsonl     prompt, images, target_frames, target_boxes, space

Numpy is enough to import this. Writing needs `stvgkit.video`, and for verl pyarrow, which
`stvgkit[train]` and verl itself bring.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from stvgkit.answers import CoordinateSpace
from stvgkit.datasets.prepared import read_prepared
from stvgkit.datasets.records import SkipReport
from stvgkit.datasets.sample import Sample
from stvgkit.errors import InputError, need
from stvgkit.files import replacing, replacing_file
from stvgkit.plugins import pack_ground_truth
from stvgkit.rows import ClipFormat, plan_rows, row_images, row_messages
from stvgkit.tubes import Tube

# The frame sizes that pass the processor of the family unchanged, by the numbers it writes.
SPACES = {"0-1000": ClipFormat("0-1000", factor=32), "pixels": ClipFormat("pixels", factor=28)}

_CONTROL = re.compile(r"<(?:image|video|audio)>|<\|")
_QUALITY = 95  # of JPEG


def write_training_file(
    framework: str, split: Path | str, *, space: str = "0-1000", max_frames: int | None = None
) -> tuple[Path, int, SkipReport]:
    """Write `SPLIT/FRAMEWORK/rows.*` and its frames; returns the path, how many rows, what is not.

    `split` is a folder that `prepare` wrote; `space` and `max_frames` are those of `ClipFormat`.
    Samples that cannot be learned from are left out and listed: those without gold boxes, and those
    whose query a framework would take for frames or control tokens. Raises `InputError` where no
    sample is left.
    """
    for given, known in ((framework, _ROWS), (space, SPACES)):
        if given not in known:
            raise InputError(f"unknown choice {given!r}: use one of {', '.join(known)}")
    need("prepare --for", "video", "av", "PIL", "tqdm")
    if framework == "verl":
        need("prepare --for verl", "train", "pyarrow")
    from tqdm.auto import tqdm

    report, clip_format = SkipReport(), replace(SPACES[space], max_frames=max_frames)
    folder = Path(split).resolve() / framework
    samples = _plain(read_prepared(split, report), report)
    rows = plan_rows(samples, clip_format, report, need_boxes=True)
    bar = tqdm(enumerate(rows), desc="frames", total=len(rows), leave=False, disable=None)
    lines = [_ROWS[framework](row, _frames(row, folder / f"frames/{i:06}"), i) for i, row in bar]
    path = folder / ("rows.parquet" if framework == "verl" else "rows.jsonl")
    if framework == "verl":
        _write_parquet(path, lines)
    else:
        with replacing(path) as out:
            out.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    return path, len(lines), report


def _plain(samples: Iterator[Sample], report: SkipReport) -> Iterator[Sample]:
    for sample in samples:
        if found := _CONTROL.search(sample.query):
            report.skip(f"query holds {found[0]!r}, which is no text to a framework", sample.id)
        else:
            yield sample


def _frames(row: dict, folder: Path) -> list[str]:
    """Write the shown frames of a row; returns their absolute paths in order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i:04}.jpg" for i in range(len(row["frames"]))]
    for path, image in zip(paths, row_images(row), strict=True):
        image.save(path, quality=_QUALITY)
    return [str(path) for path in paths]


def _text(row: dict) -> str:
    """The prompt as one text in which `<image>` stands for a frame."""
    parts = row_messages(row)[0]["content"]
    return "".join(part.get("text", "<image>") for part in parts)


def _truth(row: dict) -> str:
    target = Tube(row["target_frames"], row["target_boxes"])
    return pack_ground_truth(target, CoordinateSpace.parse(row["space"]))


def _verl(row: dict, paths: list[str], number: int) -> dict:
    return {
        "data_source": "stvg",
        "prompt": [{"role": "user", "content": _text(row)}],
        "images": [{"image": path} for path in paths],
        "ability": "stvg",
        "reward_model": {"style": "rule", "ground_truth": _truth(row)},
        "extra_info": {"index": number, "id": row["id"], "query": row["query"]},
    }


def _easyr1(row: dict, paths: list[str], number: int) -> dict:
    return {"id": row["id"], "prompt": _text(row), "images": paths, "answer": _truth(row)}


def _swift(row: dict, paths: list[str], number: int) -> dict:
    messages = [{"role": "user", "content": _text(row)}]
    return {"id": row["id"], "messages": messages, "images": paths, "ground_truth": _truth(row)}


def _trl(row: dict, paths: list[str], number: int) -> dict:
    columns = {key: row[key] for key in ("id", "target_frames", "target_boxes", "space")}
    return {**columns, "prompt": row_messages(row), "images": paths}


_ROWS = {"verl": _verl, "easyr1": _easyr1, "swift": _swift, "trl": _trl}
FRAMEWORKS = tuple(_ROWS)


def _write_parquet(path: Path, lines: list[dict]) -> None:
    import pyarrow
    import pyarrow.parquet

    with replacing_file(path) as part:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(lines), part)
