"""Standard output that outlives its reader, and runs that clean up when they are stopped."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def lasting_output() -> Iterator[None]:
    """Go on when whoever reads standard output or error has gone, as `head` does.

    What a command writes to files is written all the same. Characters that the terminal does not
    know are shown as escapes. A request to end (SIGTERM) ends the run as Ctrl-C does, so that no
    unfinished file is left.
    """
    given = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_lasting, given)
    before = None  # outside the main thread, which alone gets signals
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with contextlib.suppress(OSError):  # a full disk, which was told already
                stream.flush()
        sys.stdout, sys.stderr = given
        if before is not None:
            signal.signal(signal.SIGTERM, before)


class _Lasting(io.FileIO):
    """A file descriptor that becomes the null device when its reader has gone or its disk is full;
    only the latter is an error."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if not isinstance(error, BrokenPipeError):
                raise
            return len(data)


def _lasting(stream: Any) -> Any:
    if stream is None or stream not in (sys.__stdout__, sys.__stderr__):
        return stream  # closed, or a notebook's, or a test's
    raw = _Lasting(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
