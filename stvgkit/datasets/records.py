"""What all readers share: files that may be damaged, records that may be wrong, and the account.

A file that cannot be used at all raises `InputError`. A record that cannot be used raises
`BadRecord` inside its reader, which lists it in the `SkipReport` and goes on.
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stvgkit.boxes import area, clip
from stvgkit.errors import InputError
from stvgkit.tubes import Span, Tube

MAX_FRAME = 10**9  # a frame number above this is damage, and would overflow further on


class BadRecord(ValueError):
    """One record cannot be used; the message is the reason under which it is counted."""


@dataclass
class SkipReport:
    """What a reader left out, and what it changed, each by reason with the ids concerned.

    `skipped` are samples that are not there; `changed` are samples that are there but repaired
    (a box clipped to the image, a span trimmed to the clip) or otherwise remarkable.

    >>> report = SkipReport()
    >>> report.skip("no box", "a.mp4")
    >>> print(report)
    skipped 1: no box (a.mp4)
    """

    skipped: dict[str, list[str]] = field(default_factory=dict)
    changed: dict[str, list[str]] = field(default_factory=dict)

    def skip(self, reason: str, sample_id: str) -> None:
        """Count a sample that is left out."""
        self.skipped.setdefault(reason, []).append(_printable(sample_id))

    def change(self, what: str, sample_id: str) -> None:
        """Count a sample that is kept, but not as it was written."""
        self.changed.setdefault(what, []).append(_printable(sample_id))

    def as_dict(self) -> dict[str, Any]:
        """Counts and ids by reason, ready for JSON."""
        return {
            kind: {reason: {"count": len(ids), "ids": ids} for reason, ids in reasons.items()}
            for kind, reasons in (("skipped", self.skipped), ("changed", self.changed))
        }

    def __str__(self) -> str:
        lines = []
        for kind, reasons in (("skipped", self.skipped), ("changed", self.changed)):
            for reason, ids in reasons.items():
                shown = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
                lines.append(f"{kind} {len(ids)}: {reason} ({shown})")
        return "\n".join(lines)


def _printable(text: str) -> str:
    """The text with `?` for what no file can hold: JSON may escape half a surrogate pair."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def load_json(path: Path, kind: type, report: SkipReport) -> Any:
    """The JSON value of a file, which must be of this kind: `dict`, `list`, `object` for either.

    A key that comes twice in one object keeps its first value and is counted as skipped. Raises
    `InputError` where the file is empty, is not JSON or holds something else.
    """

    def first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key, item in pairs:
            if key in value:
                report.skip("duplicate id (the first is kept)", key)
            value.setdefault(key, item)
        return value

    text = read_text(path)
    try:
        value = json.loads(text, object_pairs_hook=first_wins)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}): give the benchmark's own file") from error
    names = {dict: "an object {...}", list: "a list [...]", object: "an object or a list"}
    if type(value) not in names or not isinstance(value, kind):
        raise InputError(
            f"{path} holds {names.get(type(value), 'a single value')} where {names[kind]} is "
            "expected: is it the right file, of the right benchmark?"
        )
    return value


def read_text(path: Path) -> str:
    """The text of a file; `InputError` where it is missing, a folder, empty or not UTF-8.

    A byte order mark is left out; with one, UTF-16, which PowerShell writes, is read as well.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file: check the path")
    data = path.read_bytes()
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8: is it the right file?") from error
    text = "\n".join(text.split("\r\n"))
    if not text.strip():
        raise InputError(f"{path} is empty: download or write it again")
    return text


def member(record: Any, key: str, *kinds: type) -> Any:
    """`record[key]`, which must be there and of one of these kinds."""
    if not isinstance(record, dict):
        raise BadRecord("the record is not an object {...}")
    if key not in record:
        raise BadRecord(f"no key {key!r}")
    if not isinstance(record[key], kinds):
        names = {str: "text", list: "a list", dict: "an object", type(None): "null"}
        wanted = dict.fromkeys(names.get(kind, "a number") for kind in kinds)
        raise BadRecord(f"{key!r} is not {' or '.join(wanted)}")
    return record[key]


def sentence(record: Any, key: str) -> str:
    """`record[key]`, a text that is not blank and that can be written to a file."""
    text: str = member(record, key, str)
    if not text.strip():
        raise BadRecord(f"{key!r} is blank")
    if text != _printable(text):
        raise BadRecord(f"{key!r} is damaged text (half of a surrogate pair)")
    return text


def number(record: Any, key: str) -> float:
    """`record[key]`, a finite number above 0."""
    value = member(record, key, int, float)
    if isinstance(value, bool) or not 0 < value <= MAX_FRAME:  # NaN fails the comparison too
        raise BadRecord(f"{key!r} is not a positive number")
    return float(value)


def whole(record: Any, key: str, least: int = 0) -> int:
    """`record[key]`, a whole number from `least` on."""
    value = member(record, key, int, float)
    if isinstance(value, bool) or not least <= value <= MAX_FRAME or value != math.floor(value):
        raise BadRecord(f"{key!r} is not a whole number from {least} on")
    return int(value)


def box_rows(rows: Any, key: str) -> np.ndarray:
    """A list of lists of four numbers as `(n, 4)` float64; NaN and infinity pass through."""
    try:
        array = np.asarray(rows)
    except ValueError:  # rows of unequal length
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "if" or array.ndim != 2 or array.shape[1] != 4:
        raise BadRecord(f"{key!r} is not a list of boxes of four numbers")
    return array.astype(np.float64)


def gold_tube(
    frames: np.ndarray, boxes: np.ndarray, report: SkipReport, sample_id: str, *, crop: bool = True
) -> Tube:
    """Gold boxes, clipped to the image unless `crop` is off; useless ones leave a gap.

    A box is useless where a coordinate is not finite or no area is left. Raises `BadRecord` where
    no box remains.
    """
    kept = clip(boxes) if crop else boxes
    good = np.isfinite(boxes).all(axis=1) & (area(kept) > 0)
    if not good.any():
        raise BadRecord("no box")
    if not good.all():
        report.change("some boxes without area or not finite, left out", sample_id)
    if not np.array_equal(kept[good], boxes[good]):
        report.change("boxes clipped to the image", sample_id)
    return Tube(frames[good], kept[good])


def judge_boxes(
    boxes: np.ndarray, pixel: np.ndarray, expected: str, report: SkipReport, name: str
) -> None:
    """Tell what share of a file's boxes cannot be meant as they are read, and the likely reason.

    `boxes` are `(n, 4)`, relative, before they are clipped; `pixel` is a pixel's relative width and
    height, `(2,)` or `(n, 2)`; `expected` says what the file's numbers are taken for.

    >>> report = SkipReport()
    >>> pixels = np.array([[100, 50, 200, 90], [110, 50, 210, 90]])
    >>> judge_boxes(pixels, np.array([1e-3, 1e-3]), "relative, 0 to 1", report, "a.csv")
    >>> print(report)
    changed 1: 100% of the boxes leave the frame: the file's numbers are read as ...
    """
    if not len(boxes):
        return
    sides = boxes[:, 2:] - boxes[:, :2]
    faults = {
        "leave the frame": ((boxes < -0.01) | (boxes > 1.01)).any(axis=1),
        "are smaller than a pixel": (sides < pixel).all(axis=1),
    }
    for fault, wrong in faults.items():
        share = float(wrong.mean())
        if share >= 0.01:
            report.change(
                f"{share:.0%} of the boxes {fault}: the file's numbers are read as {expected}"
                + ("; are they in another unit?" if share > 0.5 else ""),
                name,
            )


def trim(span: Span, window: Span, report: SkipReport, sample_id: str) -> Span:
    """The part of a gold span inside its clip; `BadRecord` where there is none."""
    inside = span.intersect(window)
    if not len(span):
        raise BadRecord("span is empty")
    if not len(inside):
        raise BadRecord("span outside the clip")
    if inside != span:
        report.change("span trimmed to the clip", sample_id)
    return inside


def plain_ints(values: Iterable[Any]) -> list[int]:
    """Numbers as built-in ints, which JSON can write."""
    return [int(value) for value in values]
