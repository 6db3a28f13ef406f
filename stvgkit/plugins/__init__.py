"""The five rewards where other frameworks look for them: verl, EasyR1, ms-swift, OpenRLHF.

These frameworks hand a reward one text for the truth of a row. `pack_ground_truth` writes it,
`unpack_ground_truth` reads it:

    {"version": 1, "space": "0-1000", "frames": [5, 6], "boxes": [[0.1, 0.2, 0.3, 0.4], ...]}

`frames` are the indices of the shown frames that carry a gold box, `boxes` relative corners, and
`space` names the numbers that the model writes. `stvgkit prepare --for FRAMEWORK` writes files
with this text in the column that the framework reads; docs/elsewhere.md has the settings.

Only numpy is imported, so the package can be installed beside any framework's own versions.
"""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np

from stvgkit.answers import CoordinateSpace
from stvgkit.datasets.records import box_rows, member, whole
from stvgkit.errors import InputError
from stvgkit.rewards import RewardBreakdown, score_answer
from stvgkit.tubes import Tube

VERSION = 1

__all__ = ["VERSION", "pack_ground_truth", "score_row", "unpack_ground_truth"]


def pack_ground_truth(target: Tube, space: CoordinateSpace) -> str:
    """A gold tube on shown frames, and the space of the answers, as one line of JSON.

    Raises `InputError` for a space that its name does not tell whole.

    >>> pack_ground_truth(Tube([5], [[0, 0, 0.5, 1]]), CoordinateSpace.relative(1000))
    '{"version": 1, "space": "0-1000", "frames": [5], "boxes": [[0.0, 0.0, 0.5, 1.0]]}'
    """
    if CoordinateSpace.parse(space.name) != space:
        raise InputError(f"coordinate space {space!r} is not what its name says")
    frames, boxes = target.frames.tolist(), target.boxes.tolist()
    return json.dumps({"version": VERSION, "space": space.name, "frames": frames, "boxes": boxes})


def unpack_ground_truth(text: str) -> tuple[Tube, CoordinateSpace]:
    """What `pack_ground_truth` wrote; `InputError` for any other text or value.

    >>> unpack_ground_truth(pack_ground_truth(Tube([5], [[0, 0, 0.5, 1]]),
    ...                                       CoordinateSpace.pixels(336, 196)))[1].name
    '336x196'
    >>> unpack_ground_truth('{"version": 9}')
    Traceback (most recent call last):
    stvgkit.errors.InputError: the ground truth has version 9, this stvgkit reads 1: ...
    """
    again = "write the file again with stvgkit prepare --for"
    if not isinstance(text, str):
        raise InputError(f"the ground truth is a {type(text).__name__}, not text: {again}")
    try:
        record = json.loads(text)
        version = member(record, "version", int)
        if version != VERSION:
            raise InputError(
                f"the ground truth has version {version}, this stvgkit reads {VERSION}: {again}"
            )
        frames = [whole({"frames": frame}, "frames") for frame in member(record, "frames", list)]
        boxes = box_rows(member(record, "boxes", list), "boxes") if frames else np.empty((0, 4))
        return Tube(frames, boxes), CoordinateSpace.parse(member(record, "space", str))
    except json.JSONDecodeError as error:
        raise InputError(f"the ground truth {text[:40]!r} is not JSON: {again}") from error
    except RecursionError as error:
        raise InputError(f"the ground truth is nested too deeply: {again}") from error
    except InputError:
        raise
    except ValueError as error:  # BadRecord, or what Tube says
        raise InputError(f"the ground truth cannot be used, {error}: {again}") from error


def score_row(row: str, text: str, ground_truth: str, **options) -> RewardBreakdown:
    """`score_answer` on a packed ground truth; `row` names the row in an `InputError`.

    `options` are those of `score_answer`: `spatial`, `lambda_k`, `think`.

    >>> score_row("row 3", "It is the dog.", "7")
    Traceback (most recent call last):
    stvgkit.errors.InputError: row 3: the ground truth cannot be used, ...
    """
    for what, value in (("answer", text), ("ground truth", ground_truth)):
        if not isinstance(value, str):
            raise InputError(f"{row}: the {what} is {type(value).__name__}, not text")
    try:
        return _score(text, ground_truth, **options)
    except InputError as error:
        raise InputError(f"{row}: {error}") from error


@lru_cache(maxsize=1024)  # ms-swift asks for the five rewards of an answer one after another
def _score(text: str, ground_truth: str, **options) -> RewardBreakdown:
    return score_answer(text, *unpack_ground_truth(ground_truth), **options)
