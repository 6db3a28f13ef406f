"""Which file of a folder an annotation means: by its exact name, else by that without suffix."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from stvgkit.datasets.records import BadRecord
from stvgkit.errors import InputError

# Where several containers of one name lie side by side and none is named, the first of these.
VIDEO_SUFFIXES = (
    *(".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".ts", ".m2ts", ".mts", ".flv", ".f4v"),
    *(".mpg", ".mpeg", ".wmv", ".asf", ".ogv", ".ogm", ".3gp", ".3g2", ".vob", ".qt", ".divx"),
    *(".rm", ".rmvb", ".mxf", ".dv", ".gif"),
)


class Files:
    """The files below a folder, found as an annotation names them.

    Benchmarks come in nested part folders and people re-encode containers, so `a.mkv` in an
    annotation may well be `part3/a.mp4` on disk. The exact name wins: with its folders, then
    anywhere below, then in other capitals. After that the name without suffix counts; of several
    such files one that is not empty, in the order of `suffixes`, then of paths. Names are equal
    when they look equal: Unicode has two ways to write an accent, and file systems differ in it.

    >>> folder = getfixture("tmp_path")
    >>> (folder / "part1").mkdir()
    >>> _ = (folder / "part1" / "a.mp4").write_bytes(b"video")
    >>> Files(folder, VIDEO_SUFFIXES).find("a.mkv", "video").name
    'a.mp4'
    """

    def __init__(self, folder: Path | str, suffixes: Sequence[str]) -> None:
        self.suffixes = suffixes
        self.named: dict[str, Path] = {}
        self.stems: dict[str, Path] = {}
        files = [(path, _same(path.relative_to(folder).as_posix())) for path in _walk(Path(folder))]
        for key in (lambda name: name, _last, lambda name: _last(name).casefold()):
            for path, name in files:
                self.named.setdefault(key(name), path)
        known = [path for path, _ in files if path.suffix.lower() in suffixes]
        order = list(suffixes).index
        for path in sorted(known, key=lambda p: (not p.stat().st_size, order(p.suffix.lower()))):
            self.stems.setdefault(_same(path.stem), path)

    def find(self, name: str, what: str) -> Path:
        """The path for a file name with or without a known suffix; `BadRecord` if missing."""
        name = _same(name)
        last = _last(name)
        stem = Path(last).stem if Path(last).suffix.lower() in self.suffixes else last
        path = (
            self.named.get(name)
            or self.named.get(last)
            or self.named.get(last.casefold())
            or self.stems.get(stem)
        )
        if path is None:
            raise BadRecord(f"missing {what}")
        return path


def _walk(folder: Path) -> Iterator[Path]:
    """Every file below a folder, by path; links to folders are followed, each folder once."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: check the path")

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be read ({error.strerror})") from error

    seen = set()
    for root, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        state = os.stat(root)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()  # a link that leads back
            continue
        seen.add((state.st_dev, state.st_ino))
        folders.sort()
        paths = (Path(root, name) for name in sorted(names))
        yield from (path for path in paths if path.is_file())


def _same(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def find_video(videos: Files | None, name: str) -> Path | None:
    """The video of this name; None where no folder of videos was given."""
    return None if videos is None else videos.find(name, "video")


def video_files(folder: Path | str | None) -> Files | None:
    """The videos below a folder; None for None."""
    return None if folder is None else Files(folder, VIDEO_SUFFIXES)
