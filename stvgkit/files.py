"""Files that appear only when they are complete."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[TextIO]:
    """Open a text file for writing that takes its name at the end, or not at all on an error.

    >>> path = getfixture("tmp_path") / "new" / "notes.txt"
    >>> with replacing(path) as out:
    ...     _ = out.write("done")
    >>> path.read_text()
    'done'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as out:
            yield out
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path | str, value: Any) -> None:
    """Write a value as indented JSON; NaN and infinity are refused, since JSON has neither.

    >>> path = getfixture("tmp_path") / "report.json"
    >>> write_json(path, {"samples": 3})
    >>> path.read_text()
    '{\\n  "samples": 3\\n}\\n'
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as out:
        out.write(text + "\n")
