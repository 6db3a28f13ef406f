"""Files that appear only when they are complete, and output to what is no file at all."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from stvgkit.errors import InputError

if sys.platform != "win32":  # there, what a killed run left stays
    import fcntl


def is_stdout(path: Path | str | None) -> bool:
    """Whether a file is to be written to standard output: `-`, as everywhere, or its device."""
    return path is not None and str(path) in ("-", "/dev/stdout")


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[TextIO]:
    """Open a text file for writing that takes its name at the end, or not at all on an error.

    A link stays and its target is replaced. A device or a pipe is written to as it is, and `-` is
    standard output. An `OSError` names `path`.

    >>> path = getfixture("tmp_path") / "new" / "notes.txt"
    >>> with replacing(path) as out:
    ...     _ = out.write("done")
    >>> path.read_text()
    'done'
    """
    path = Path(path)
    try:
        if is_stdout(path):
            yield sys.stdout
            sys.stdout.flush()
        elif path.exists() and not path.is_file():
            with _text(path) as out:
                yield out
        else:
            with replacing_file(path) as part, _text(part) as out:
                yield out
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk has no name
        raise


@contextlib.contextmanager
def replacing_file(path: Path | str) -> Iterator[Path]:
    """A path to write to instead of `path`, which takes its place at the end, or not at all.

    It lies beside the target of `path`. What a killed run left there is removed. An `OSError` names
    `path`.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))
    name = os.fsdecode(os.fsencode(target.name)[:200])  # no file name is longer than 255 bytes
    part = target.with_name(f".{name}.{os.getpid()}.part")
    try:
        if not target.parent.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as held:
            if sys.platform != "win32":
                _lock(held.enter_context(part.open("wb")))
                _remove_left(part)
            yield part
            os.replace(part, target)
    except OSError as error:
        if error.filename in (str(part), str(target), str(target.parent)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        with contextlib.suppress(OSError):  # it was renamed, or never made
            part.unlink()


def _text(path: Path) -> TextIO:
    # A name in another encoding, and half of a surrogate pair, are written as JSON escapes them.
    return path.open("w", encoding="utf-8", errors="backslashreplace")


def _lock(file: BinaryIO) -> bool:
    """Hold a file; another process finds it held until this one closes it, or dies."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_left(part: Path) -> None:
    """Remove the unfinished siblings of `part` that no process holds."""
    name = part.name.rsplit(".", 2)[0]
    for left in part.parent.glob(f"{glob.escape(name)}.*.part"):
        if left != part:
            with contextlib.suppress(FileNotFoundError), left.open("rb") as file:
                if _lock(file):
                    left.unlink()


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


def check_target(path: Path | str) -> None:
    """Raise `InputError` where no file can be written at this path; before the work, not after.

    >>> check_target(getfixture("tmp_path"))
    Traceback (most recent call last):
    stvgkit.errors.InputError: ... is a folder: give the name of a file to write
    """
    if is_stdout(path):
        return
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file to write")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise InputError(f"{path} cannot be written: {above} is not a folder")
    if not os.access(path if path.exists() else above, os.W_OK):
        raise InputError(f"{path} cannot be written: permission denied")
