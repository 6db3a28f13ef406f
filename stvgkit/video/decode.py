"""Frames of a video by number or by time, as pixels.

Files are read through decord where their packets prove that it seeks exactly, else through PyAV.
The proof is needed: without an error, decord 3.4 returns other frames than those asked for where
groups of pictures are open (the default of x265), in MPEG-TS, MPEG-4 ASP, files cut without
re-encoding, and files whose presentation times were lost.
"""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from stvgkit.errors import InputError, VideoError
from stvgkit.tubes import Span
from stvgkit.video.packets import (
    TIME_TOLERANCE,
    Scan,
    Turn,
    VideoInfo,
    decode_all,
    inside,
    open_video,
    probe,
    scan_file,
)

SEEK_OVER = 8  # frames that are decoded rather than jumped over

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of one video, in the order asked for.

    `frames` is `(t, height, width, 3)` uint8 RGB, `times` `(t,)` seconds on the
    player's clock, `indices` `(t,)` int64 frame numbers in the video.
    """

    frames: np.ndarray
    times: np.ndarray
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)


def sample_indices(
    video, fps: float = 2.0, window: Span | None = None, max_frames: int | None = None
) -> np.ndarray:
    """Frame numbers shown at `fps` per second inside `window`, strictly increasing int64.

    `video` is a `VideoInfo` or a path. The grid starts at the window's first frame and advances by
    `1 / fps` seconds of real time until the window's last frame (both inclusive; the whole video
    where there is no window). Where the video itself is slower than `fps`, each frame comes once.
    More than `max_frames` are replaced by `max_frames` that are spread evenly in time from the
    first to the last point of that grid. Their times are `info.times[indices]`.

    >>> info = VideoInfo(320, 240, fps=10.0, num_frames=40, duration=4.0)
    >>> sample_indices(info)
    array([ 0,  5, 10, 15, 20, 25, 30, 35])
    >>> sample_indices(info, window=Span(12, 30), max_frames=3)
    array([12, 19, 27])
    """
    info = video if isinstance(video, VideoInfo) else probe(video)
    if not (fps > 0 and np.isfinite(fps)):
        raise InputError(f"fps must be positive, got {fps}")
    if max_frames is not None and max_frames < 1:
        raise InputError(f"max_frames must be at least 1, got {max_frames}")
    span = inside(info, window)
    start, end = info.times[span.start], info.times[span.end]
    grid = start + np.arange(int((end - start + TIME_TOLERANCE) * fps) + 1) / fps
    indices = np.unique(info.frames_at(grid))
    if max_frames is not None and len(indices) > max_frames:
        indices = np.unique(info.frames_at(np.linspace(grid[0], grid[-1], max_frames)))
    return indices


def read_frames(path, *, times=None, indices=None) -> Clip:
    """Read the frames shown at `times` (seconds) or numbered `indices`, in that order.

    With neither, every frame. Repeats are allowed; `VideoInfo.frames_at` says which frame belongs
    to a time. Raises `VideoError` where the file cannot be read, `InputError` for a frame number
    that the video does not have.

    >>> from stvgkit.video import write_video
    >>> path = getfixture("tmp_path") / "clip.mp4"
    >>> write_video(path, np.zeros((30, 48, 64, 3), np.uint8), fps=10)
    >>> clip = read_frames(path, times=[0.0, 0.55, 2.0])
    >>> clip.indices, clip.times, clip.frames.shape
    (array([ 0,  5, 20]), array([0. , 0.5, 2. ]), (3, 48, 64, 3))
    """
    if times is not None and indices is not None:
        raise InputError("read_frames takes times or indices, not both")
    scan = scan_file(Path(path))
    if times is not None:
        indices = scan.info.frames_at(times)
    indices = _frame_numbers(scan, indices)
    needed, places = np.unique(indices, return_inverse=True)
    trusted = scan.for_decord and len(needed) and _decord_may_load()
    frames = _read_decord(scan, needed) if trusted else None
    if frames is None:
        frames = _read_pyav(scan, needed)
    if not np.array_equal(places, np.arange(len(needed))):
        frames = frames[places]
    return Clip(frames, scan.info.times[indices], indices)


def check_frames(path: Path | str, indices=None) -> None:
    """Decode these frames, or all, and drop them; `VideoError` where one cannot be decoded.

    What `probe` reads is an index; the frames themselves may be missing all the same, as after a
    download that was not finished.
    """
    scan = scan_file(Path(path))
    numbers = np.unique(_frame_numbers(scan, indices))
    for _ in decode(scan, numbers):
        pass


def _frame_numbers(scan: Scan, indices) -> np.ndarray:
    count = scan.info.num_frames
    indices = np.asarray(np.arange(count) if indices is None else indices).reshape(-1)
    if len(indices) and indices.dtype.kind not in "iu":
        raise InputError(f"frame numbers must be whole, got {indices[0]!r}")
    wrong = indices[(indices < 0) | (indices >= count)]
    if len(wrong):
        raise InputError(f"{scan.path} has frames 0 to {count - 1}, there is no frame {wrong[0]}")
    return indices.astype(np.int64)


def _decord_may_load() -> bool:
    """Whether decord can be loaded without breaking torch.

    Where decord2 3.4 is loaded before torch, torch's products of matrices on the CPU end the
    process. So where torch is installed, PyAV reads until torch is loaded.
    """
    loaded = {"decord", "torch"} & sys.modules.keys()
    return bool(loaded) or find_spec("torch") is None


def _read_decord(scan: Scan, numbers: np.ndarray) -> np.ndarray | None:
    """Frames `(t, h, w, 3)` of increasing numbers through decord; None where it fails."""
    try:
        import decord
    except (ImportError, OSError):  # OSError: its libraries do not load on this machine
        return None
    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(str(scan.path.resolve()), ctx=decord.cpu(0), num_threads=1)
        frames = reader.get_batch(numbers)
    except decord.DECORDError as error:
        logger.info("%s: decord fails, PyAV reads it (%s)", scan.path, error)
        return None
    # An array of another library where the caller has set decord's bridge.
    return frames.asnumpy() if hasattr(frames, "asnumpy") else np.asarray(frames)


def _read_pyav(scan: Scan, numbers: np.ndarray) -> np.ndarray:
    """Frames `(t, h, w, 3)` of increasing numbers through PyAV."""
    size = (scan.info.width, scan.info.height)
    frames = np.empty((len(numbers), size[1], size[0], 3), dtype=np.uint8)
    for slot, frame in zip(frames, decode(scan, numbers), strict=True):
        slot[:] = upright_rgb(frame, scan.turn, size)
    return frames


def upright_rgb(frame, turn: Turn, size: tuple[int, int]) -> np.ndarray:
    width, height = size[:: -1 if turn.transpose else 1]
    rgb = frame.to_ndarray(format="rgb24", width=width, height=height)
    rgb = rgb.swapaxes(0, 1) if turn.transpose else rgb
    return rgb[:: -1 if turn.flip else 1, :: -1 if turn.mirror else 1]


def decode(scan: Scan, numbers: np.ndarray) -> Iterator:
    """The decoded frames of increasing `numbers`."""
    return _decode_seeking(scan, numbers) if scan.in_order else _decode_counting(scan, numbers)


def _decode_counting(scan: Scan, numbers: np.ndarray) -> Iterator:
    frames, position = decode_all(scan.path), -1
    for number in numbers.tolist():
        frame = next(itertools.islice(frames, number - position - 1, None), None)
        if frame is None:
            raise VideoError(f"{scan.path}: frame {number} cannot be decoded; get the file again")
        yield frame
        position = number


def _decode_seeking(scan: Scan, numbers: np.ndarray) -> Iterator:
    with open_video(scan.path) as (container, stream):
        frames, position = container.decode(stream), -1
        for number in numbers.tolist():
            target = scan.pts[number]
            keys = scan.keys[scan.keys <= target]
            ahead = np.searchsorted(scan.pts, keys[-1]) - position if len(keys) else 0
            frame = _forward(frames, target) if ahead <= SEEK_OVER else None
            # After a jump the frame may still be missing, since it needs more than this key frame
            # (an open group of pictures, a gradual refresh): try the one before, then the start.
            for key in keys[:-3:-1].tolist():
                if frame is None:
                    frames = _decode_from(container, stream, key)
                    frame = _forward(frames, target)
            if frame is None:
                frames = decode_all(scan.path)
                frame = _forward(frames, target)
            if frame is None:
                raise VideoError(f"{scan.path}: frame {number} cannot be decoded; get it again")
            yield frame
            position = number


def _decode_from(container, stream, key: int) -> Iterator:
    """Decode from a key frame on; nothing where seeking lands behind it."""
    container.seek(key, stream=stream)
    packets = itertools.dropwhile(lambda packet: not packet.is_keyframe, container.demux(stream))
    first = next(packets, None)
    if first is not None and first.pts is not None and first.pts <= key:
        for packet in itertools.chain([first], packets):
            yield from packet.decode()


def _forward(frames: Iterator, target: int):
    """The frame with timestamp `target`, or None where decoding has run past it."""
    for frame in frames:
        if frame.pts is not None and frame.pts >= target:
            return frame if frame.pts == target else None
    return None
