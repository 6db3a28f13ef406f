"""One line for each phase of long work: how far it is, the time left, and what is seen so far.

On a terminal and in a notebook the line is drawn anew in its place. In a file or another program's
log that would fill pages, so there a plain line is written now and then. Lines in place are drawn
by tqdm, which every extra brings, the smallest of them `stvgkit[video]`.
"""

from __future__ import annotations

import math
import os
import sys
import time
from typing import Any, TextIO

from stvgkit.errors import need

PAUSE = 10.0  # seconds between two plain lines; the first and the last of a phase always come
LIVE = "{desc} {n_fmt}/{total_fmt} |{bar:12}| {remaining} left{postfix}"


class Progress:
    """The line of one phase; a context manager that ends it.

    `done` of `total` was done before. With `shown=False` nothing is written. Writes to standard
    error, as tqdm does.

    >>> with Progress("clips", 2, shown=False) as line:
    ...     line.at(1)
    ...     line.at(2, "all of them")
    >>> line.done
    2
    """

    def __init__(self, name: str, total: int, *, done: int = 0, shown: bool = True) -> None:
        need("a progress line", "video", "tqdm")
        self.name, self.total, self.done, self.shown = name, total, done, shown
        self._began, self._before = time.monotonic(), done
        self._wrote = -math.inf
        self._bar = _live_bar(name, total, done) if shown else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def at(self, done: int, note: str = "") -> None:
        """Say that so many are done, and what is seen at this point."""
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self.done)
        elif self.shown and self._is_due(done):
            self._wrote = time.monotonic()
            left = self._left(done)
            said = f"{self.name} {done}/{self.total}, {left} left" + (f", {note}" if note else "")
            print(said, file=sys.stderr, flush=True)
        self.done = done

    def step(self) -> None:
        """Say that one more is done."""
        self.at(self.done + 1)

    def close(self) -> None:
        """Leave the line as it is; what is written next begins on a line of its own."""
        if self._bar is not None:
            self._bar.close()

    def _is_due(self, done: int) -> bool:
        waited = time.monotonic() - self._wrote
        return done > self.done and (done >= self.total or waited >= PAUSE)

    def _left(self, done: int) -> str:
        """Minutes and seconds until all is done, at the pace so far."""
        pace = (time.monotonic() - self._began) / max(done - self._before, 1)
        minutes, seconds = divmod(round(pace * max(self.total - done, 0)), 60)
        return f"{minutes:02}:{seconds:02}"


def _live_bar(name: str, total: int, done: int) -> Any:
    """A bar of tqdm where it can be drawn in place; None elsewhere."""
    from tqdm import auto, std

    in_notebook = auto.notebook_tqdm is not std.tqdm
    if not in_notebook and not _has_width(sys.stderr):
        return None
    looks = {} if in_notebook else {"bar_format": LIVE, "dynamic_ncols": True}
    return auto.tqdm(total=total, initial=done, desc=name, **looks)


def _has_width(stream: TextIO) -> bool:
    """Whether a stream is a terminal that says how wide it is; recorders give some that do not."""
    return stream.isatty() and os.get_terminal_size(stream.fileno()).columns > 0
