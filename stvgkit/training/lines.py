"""The lines of a predictions file while it is written: whose they are, and which are done.

Each line says who answered (`by`: the model, its weights, the form in which it was asked) and what
it was asked (`query`, `frames`). A file that is gone on with must agree in both, so that nobody's
answers are taken for another's. A line that is damaged, or that says why there is no answer
(`failed`), is asked again.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stvgkit.datasets.records import read_text
from stvgkit.errors import InputError
from stvgkit.files import replacing
from stvgkit.rows import ClipFormat
from stvgkit.training.runs import differences


@dataclass(frozen=True)
class NoAnswer:
    """What stands in for a completion where the model could not be asked: `kind: what exactly`."""

    reason: str


def asked_by(
    name: str,
    clip_format: ClipFormat,
    max_new_tokens: int,
    weights: str | None = None,
    bits: int | None = None,
) -> dict[str, Any]:
    """Who answers, as each line keeps it."""
    model = {"model": name, "weights": weights, "bits": bits}
    return model | asdict(clip_format) | {"max_new_tokens": max_new_tokens}


def new_line(row: dict, answer: str | NoAnswer, by: Mapping[str, Any]) -> str:
    """The line of one row's answer, without its end."""
    line = {key: row[key] for key in ("id", "query", "frames", "times", "space")}
    if not row["think"]:
        line["think"] = False
    if isinstance(answer, NoAnswer):
        return json.dumps(line | {"completion": None, "failed": answer.reason, "by": by})
    return json.dumps(line | {"completion": answer, "by": by})


def parts_of(out: Path) -> list[Path]:
    """The files in which the processes of an unfinished run keep their lines."""
    return sorted(out.parent.glob(f"{glob.escape(out.name)}.part*"))


def read_lines(out: Path) -> dict[str, dict]:
    """The usable lines of a file and of its parts by sample id; those with an answer win.

    A damaged line is left out. Raises `InputError` for a file that holds no line of ours at all.
    """
    lines: dict[str, dict] = {}
    for path in (out, *parts_of(out)):
        if not path.exists() or not path.read_bytes().strip():
            continue
        texts = [text for text in read_text(path).split("\n") if text.strip()]
        records = [record for record in map(_record, texts) if record is not None]
        if not records and path == out:
            raise InputError(f"{out} is not a predictions file: give another --out")
        for record in records:
            if not is_done(lines.get(record["id"], {})):
                lines[record["id"]] = record
    return lines


def _record(text: str) -> dict | None:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    ours = isinstance(record, dict) and isinstance(record.get("id"), str) and "frames" in record
    return record if ours else None


def is_done(line: Mapping[str, Any]) -> bool:
    """Whether a line holds an answer, or has to be asked again."""
    return isinstance(line.get("completion"), str) and "failed" not in line


def check_lines(
    out: Path, lines: Mapping[str, dict], rows: Iterable[dict], by: Mapping[str, Any]
) -> None:
    """Raise `InputError` where lines are another model's, or answer other questions than these."""
    advice = "give another --out or delete it"
    for line in lines.values():
        if by and "by" not in line:
            raise InputError(f"{out} does not say who wrote it (an older stvgkit did): {advice}")
        if found := differences(line.get("by", {}), by):
            raise InputError(f"{out} holds another model's answers: {'; '.join(found)}; {advice}")
    for row in rows:
        line = lines.get(row["id"], {})
        for key in ("query", "frames", "space"):
            if key in line and line[key] != row[key]:
                raise InputError(
                    f"{out} holds answers about other data: the {key} of sample {row['id']} is "
                    f"{_short(line[key])} there and {_short(row[key])} here; {advice}"
                )


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def cut_torn_line(path: Path) -> None:
    """Cut off the last line where a kill has cut it short."""
    if path.exists():
        data = path.read_bytes()
        os.truncate(path, data.rfind(b"\n") + 1)


def gather(out: Path) -> None:
    """Make one file of a file and its parts, sorted by sample id."""
    parts, lines = parts_of(out), read_lines(out)
    with replacing(out) as file:
        file.writelines(json.dumps(lines[name]) + "\n" for name in sorted(lines))
    for part in parts:
        part.unlink()


def check_answered(out: Path, rows: Sequence[dict]) -> None:
    """Raise `InputError` where not one row has an answer: then no score says anything."""
    lines = read_lines(out)
    asked = [lines[row["id"]] for row in rows if row["id"] in lines]
    if asked and not any(map(is_done, asked)):
        raise InputError(
            f"not one of {len(asked)} samples has an answer: {asked[0].get('failed')}; run the "
            "same command again to ask again"
        )
