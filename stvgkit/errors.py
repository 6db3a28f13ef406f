"""Errors that a person can act on."""

from __future__ import annotations

from importlib.util import find_spec


class InputError(ValueError):
    """Something the user gave is wrong; the message says what, where, and what to do.

    The command line prints the message in one line and exits with code 2.
    """


class VideoError(InputError):
    """A video file cannot be read (truncated, empty, no video stream, not a video)."""


class MissingExtra(InputError, ImportError):
    """A package is not installed that a part of stvgkit needs; the message names the extra."""


def need(part: str, extra: str, *packages: str) -> None:
    """Raise `MissingExtra` where one of `packages`, which `stvgkit[extra]` brings, is missing.

    >>> need("stvgkit.training", "train", "numpy", "no_such_package")
    Traceback (most recent call last):
    stvgkit.errors.MissingExtra: stvgkit.training needs no_such_package: pip install ...
    """
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtra(f"{part} needs {package}: pip install 'stvgkit[{extra}]'")
