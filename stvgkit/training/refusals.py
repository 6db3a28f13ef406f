"""What a library refuses, in one line: settings that torch, transformers, TRL or PEFT cannot take.

They find out in the middle of their own code, each with another exception. The line says what they
say, and the whole traceback is kept in a file. An error in the code of stvgkit itself passes: it is
a fault to report.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub.errors import HTTPError  # of the HTTP client that the hub uses

import stvgkit
from stvgkit.errors import InputError
from stvgkit.files import replacing

TRACEBACK = "traceback.txt"
OURS = Path(stvgkit.__file__).parent


@contextlib.contextmanager
def one_line(folder: Path | None = None) -> Iterator[None]:
    """Turn what a library raises inside into an `InputError`; its traceback goes to `folder`."""
    try:
        yield
    except (InputError, OSError):
        raise
    except HTTPError as error:  # --push_to_hub
        raise InputError(f"the hub does not answer: {error}; log in, or leave it out") from error
    except ImportError as error:  # of vLLM, flash attention, DeepSpeed
        raise InputError(f"the recipe asks for a package that is not here: {error}") from error
    except Exception as error:
        if is_ours(error):
            raise
        said = str(error).strip().splitlines() or ["no more is said"]
        line = f"these settings do not work: {type(error).__name__}: {said[0]}"
        if folder is not None:
            with replacing(folder / TRACEBACK) as out:
                out.write("".join(traceback.format_exception(error)))
            line += f" (the whole traceback is in {folder / TRACEBACK})"
        raise InputError(line) from error


def is_ours(error: BaseException) -> bool:
    """Whether an error was raised by a line of stvgkit, and not of a library that it calls."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(os.path.abspath(frames[-1].filename)).is_relative_to(OURS)
