"""Exact frames of a video file by number or by time, and video files that every browser plays.

Three rules hold throughout:

- A frame's number is its place in **presentation order**, from 0; what the header claims about
  the number of frames or the frame rate is not believed.
- A frame's time is its own timestamp in seconds, on the clock of a browser's player
  (`video.currentTime`). The first is mostly, not always, 0: many phones start the picture a frame
  after the sound. The frame *at* time t is the one a player shows then: the last whose time is at
  most t. (The clocks of MPEG streams, which start anywhere, are counted from the first frame.)
- Frames are **upright**: rotation and mirroring stored in the file are applied, as browsers do.

Files are read through decord where their packets prove that it seeks exactly, else through PyAV.
The proof is needed: without an error, decord 3.4 returns other frames than those asked for where
groups of pictures are open (the default of x265), in MPEG-TS, MPEG-4 ASP, files cut without
re-encoding, and files whose presentation times were lost.

Simplified away: of several video streams only the main one is read; pixels are taken as square.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stvgkit.errors import InputError, VideoError, need
from stvgkit.tubes import Span

need("stvgkit.video", "video", "av", "PIL")

# Annotations print times with three decimals: 0.0333667 becomes 0.033, and is meant all the same.
TIME_TOLERANCE = 0.001
SEEK_OVER = 8  # frames that are decoded rather than jumped over

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoInfo:
    """Size of the upright frame in pixels, mean frame rate, number of frames, and seconds.

    `times` is when each frame is first shown, `(num_frames,)` float64 seconds, increasing; evenly
    spaced from 0 where it is not given. `duration` is how long the picture lasts, from the first
    frame to the end of the last.

    >>> VideoInfo(width=320, height=240, fps=25.0, num_frames=50, duration=2.0).times[:3]
    array([0.  , 0.04, 0.08])
    """

    width: int
    height: int
    fps: float
    num_frames: int
    duration: float
    times: np.ndarray = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        times = np.arange(self.num_frames) / self.fps if self.times is None else self.times
        times = np.array(times, dtype=np.float64)
        times.setflags(write=False)  # shared by all who probe the same file
        object.__setattr__(self, "times", times)

    def frames_at(self, times) -> np.ndarray:
        """Number of the frame shown at each time, `(n,)` int64.

        That is the last frame whose time is at most `t`, or at most a millisecond past it (times
        are often written with three decimals). Before the first frame it is the first, after the
        end the last, where a player halts too. Raises `InputError` for a time that is not finite.

        >>> VideoInfo(320, 240, fps=25.0, num_frames=50, duration=2.0).frames_at([0.039, 0.041, 9])
        array([ 1,  1, 49])
        """
        times = np.asarray(times, dtype=np.float64).reshape(-1)
        if not np.isfinite(times).all():
            raise InputError(f"times must be finite seconds, got {times[~np.isfinite(times)][0]}")
        frames = np.searchsorted(self.times, times + TIME_TOLERANCE, side="right") - 1
        return np.clip(frames, 0, self.num_frames - 1)


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


def probe(path) -> VideoInfo:
    """Size, frame rate, true number of frames and their times, from the packets of the file.

    Raises `VideoError` where the file is missing, empty, truncated or holds no video.

    >>> folder = getfixture("tmp_path")
    >>> write_video(folder / "clip.mp4", np.zeros((30, 48, 64, 3), np.uint8), fps=29.97)
    >>> probe(folder / "clip.mp4")
    VideoInfo(width=64, height=48, fps=29.97, num_frames=30, duration=1.00...)
    """
    return _scan(Path(path)).info


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
    inside = _inside(info, window)
    start, end = info.times[inside.start], info.times[inside.end]
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

    >>> path = getfixture("tmp_path") / "clip.mp4"
    >>> write_video(path, np.zeros((30, 48, 64, 3), np.uint8), fps=10)
    >>> clip = read_frames(path, times=[0.0, 0.55, 2.0])
    >>> clip.indices, clip.times, clip.frames.shape
    (array([ 0,  5, 20]), array([0. , 0.5, 2. ]), (3, 48, 64, 3))
    """
    if times is not None and indices is not None:
        raise InputError("read_frames takes times or indices, not both")
    scan = _scan(Path(path))
    if times is not None:
        indices = scan.info.frames_at(times)
    indices = _frame_numbers(scan, indices)
    needed, places = np.unique(indices, return_inverse=True)
    frames = _read_decord(scan, needed) if scan.for_decord and len(needed) else None
    if frames is None:
        frames = _read_pyav(scan, needed)
    if not np.array_equal(places, np.arange(len(needed))):
        frames = frames[places]
    return Clip(frames, scan.info.times[indices], indices)


def write_video(path, frames: Iterable[np.ndarray], fps: float, *, crf: int = 20) -> None:
    """Write `(t, height, width, 3)` uint8 RGB frames as an H.264 file that every browser plays.

    That is mp4 with its index in front, yuv420p marked BT.709, no B-frames and a key frame at least
    every half second, so that a player steps to the exact frame at once. H.264 in yuv420p needs
    even sides: an odd one is padded by repeating its last row or column (relative boxes are then
    too large by one pixel's share). `frames` may be a generator; `crf` is x264's quality, lower is
    better. Folders are made; the file appears under its name only when it is complete. Raises
    `InputError` for no frames, or frames of another shape or type.
    """
    if not (fps > 0 and np.isfinite(fps)):
        raise InputError(f"fps must be positive, got {fps}")
    rate = Fraction(fps).limit_denominator(100_000)
    _encode(Path(path), enumerate(frames), 1 / rate, rate, crf)


def transcode(
    path,
    out,
    *,
    window: Span | None = None,
    max_side: int | None = None,
    crf: int = 23,
    max_rate: float | None = None,
) -> np.ndarray:
    """Copy the frames of `window` into a file like `write_video`'s; return their numbers.

    Frame i of the new file is frame `returned[i]` of the video, shown for as long as there:
    presentation times are kept, less that of the first, so the new file starts at 0. `max_side`
    limits the longer side (a smaller video keeps its size); sides are made even by scaling, so
    relative boxes hold for both files. `max_rate` bounds the bytes per second (over about a
    second), at the cost of quality. Sound is left out.

    >>> folder = getfixture("tmp_path")
    >>> write_video(folder / "a.mp4", np.zeros((30, 48, 64, 3), np.uint8), fps=10)
    >>> transcode(folder / "a.mp4", folder / "b.mp4", window=Span(4, 6), max_side=32)
    array([4, 5, 6])
    """
    scan = _scan(Path(path))
    indices = _inside(scan.info, window).frames()
    sides = (scan.info.width, scan.info.height)
    scale = min(1.0, (max_side or np.inf) / max(sides))
    size = tuple(max(2, 2 * round(side * scale / 2)) for side in sides)
    ticks = (scan.pts[indices] - scan.pts[indices[0]]).tolist()
    frames = (_upright_rgb(frame, scan.turn, size) for frame in _decode(scan, indices))
    rate = Fraction(scan.info.fps).limit_denominator(100_000)
    _encode(Path(out), zip(ticks, frames, strict=True), scan.time_base, rate, crf, max_rate)
    return indices


def _inside(info: VideoInfo, window: Span | None) -> Span:
    whole = Span(0, info.num_frames - 1)
    inside = whole if window is None else window.intersect(whole)
    if not len(inside):
        raise InputError(
            f"frames {window.start} to {window.end} are not in a video of {info.num_frames} frames"
        )
    return inside


def _frame_numbers(scan: _Scan, indices) -> np.ndarray:
    count = scan.info.num_frames
    indices = np.asarray(np.arange(count) if indices is None else indices).reshape(-1)
    if len(indices) and indices.dtype.kind not in "iu":
        raise InputError(f"frame numbers must be whole, got {indices[0]!r}")
    wrong = indices[(indices < 0) | (indices >= count)]
    if len(wrong):
        raise InputError(f"{scan.path} has frames 0 to {count - 1}, there is no frame {wrong[0]}")
    return indices.astype(np.int64)


# ---------------------------------------------------------------------------------------------
# The index of a file


class _Turn(NamedTuple):
    """What makes a decoded frame upright, in this order."""

    transpose: bool = False
    mirror: bool = False  # left to right
    flip: bool = False  # upside down


@dataclass(frozen=True)
class _Scan:
    path: Path
    info: VideoInfo
    pts: np.ndarray  # (n,) int64, not decreasing: the timestamps of the frames that are shown
    time_base: Fraction  # seconds per unit of pts
    keys: np.ndarray  # (k,) int64, increasing: the timestamps where decoding may start
    turn: _Turn
    in_order: bool  # a decoded frame carries its own pts; otherwise only their order is right
    for_decord: bool  # decord is proven to return the right frames


class _Packet:
    """What is kept of a packet."""

    __slots__ = ("pts", "dts", "duration", "key", "discard", "corrupt", "closed")

    def __init__(self, packet, codec: str) -> None:
        self.pts, self.dts, self.duration = packet.pts, packet.dts, packet.duration
        self.key, self.discard = packet.is_keyframe, packet.is_discard
        self.corrupt = packet.is_corrupt
        self.closed = self.key and _is_closed(packet, codec)


def _is_closed(packet, codec: str) -> bool:
    """Whether no later frame needs anything before this key frame."""
    if codec != "h264":
        return codec in ("vp8", "vp9")
    data, at = bytes(packet), 0
    while at + 4 < len(data):  # units of a 4-byte length, a byte whose low bits are the type, ...
        if data[at + 4] & 31 == 5:  # an IDR slice, as against a mere recovery point
            return True
        at += 4 + int.from_bytes(data[at : at + 4], "big")
    return False


def _scan(path: Path) -> _Scan:
    """What is known of a file, kept while it does not change: training reads it many times."""
    if not path.is_file():
        raise VideoError(f"{path}: there is no such file; check the path")
    state = path.stat()
    if not state.st_size:
        raise VideoError(f"{path}: the file is empty; get it again")
    return _scan_packets(path, path.resolve(), state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=64)
def _scan_packets(path: Path, *_state) -> _Scan:
    """Read the timestamps of every packet, and decode one frame for its size and turn."""
    packets, first = [], None
    with _open(path) as (container, stream):
        codec = stream.codec_context
        for packet in container.demux(stream):
            if packet.size:
                packets.append(_Packet(packet, codec.name))
            if first is None:
                first = next(iter(packet.decode()), None)
        kind, reorders, time_base = container.format.name, codec.has_b_frames, stream.time_base
        rate = stream.guessed_rate or Fraction(25)
    if first is None:
        raise VideoError(f"{path}: not one frame can be decoded; get the file again")
    cut_short = kind.startswith("matroska") and path.stat().st_size < _matroska_size(path)
    if packets[-1].corrupt or cut_short:
        raise VideoError(f"{path}: the file is truncated; get it again")

    shown = [packet for packet in packets if not packet.discard]
    if all(packet.pts is not None for packet in shown):
        pts = np.sort([packet.pts for packet in shown])
        last = shown[-1].duration or (int(np.median(np.diff(pts))) if len(pts) > 1 else 0)
        # With B-frames, presentation differs from decoding times by varying amounts. Where it does
        # not, a careless remux lost it: the decoder gives these times to the wrong frames.
        lost = reorders and len({packet.pts - (packet.dts or 0) for packet in shown}) == 1
        in_order = len(np.unique(pts)) == len(pts) and not lost
    else:  # a raw stream
        pts = np.arange(sum(1 for _ in _decode_all(path)))
        time_base, last, in_order = 1 / rate, 1, False
    span = int(pts[-1] - pts[0]) * time_base
    duration = span + last * time_base
    loose = kind in ("mpegts", "mpeg")  # the clock starts anywhere, there is no index to seek by
    turn = _turn(first)
    size = (first.width, first.height)[:: -1 if turn.transpose else 1]
    info = VideoInfo(
        *size,
        fps=float((len(pts) - 1) / span if span else rate),
        num_frames=len(pts),
        duration=float(duration),
        times=(pts - (pts[0] if loose else 0)) * time_base.numerator / time_base.denominator,
    )
    keys = [packet.pts for packet in packets if packet.key] if in_order and not loose else []
    for_decord = (
        in_order
        and turn == _Turn()
        and len(shown) == len(packets)
        and all(packet.closed for packet in packets if packet.key)
        and kind.startswith(("mov", "matroska"))
        and first.format.name in ("yuv420p", "yuvj420p")
        and size[0] % 2 == size[1] % 2 == 0
    )
    keys = np.sort(np.array(keys, dtype=np.int64))
    return _Scan(path, info, pts, time_base, keys, turn, in_order, for_decord)


def _matroska_size(path: Path) -> int:
    """The size that an mkv or webm file gives itself; 0 where it leaves it open (recordings).

    Unlike mp4 and avi, such a file reads without an error when its end is missing. It is two
    elements: a header, then a segment with all the rest. Each begins with a name of 4 bytes and a
    size; the size's leading zero bits say how long it is itself, all ones stand for open.
    """
    with path.open("rb") as file:
        head, end = file.read(256), 0
    for name in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        if head[end : end + 4] != name:
            return 0
        start = end + 4 + 9 - head[end + 4].bit_length()
        size = int.from_bytes(head[end + 4 : start], "big")
        marker = 1 << size.bit_length() - 1
        end = start + (size ^ marker)
    return 0 if size ^ marker == marker - 1 else end


def _turn(frame) -> _Turn:
    """The quarter turns and mirrorings of a frame's display matrix.

    A pixel at (x, y) is shown at (a x + c y, b x + d y), up to a shift.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return _Turn()
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].tolist()
    return _Turn(True, c < 0, b < 0) if abs(b) > abs(a) else _Turn(False, a < 0, d < 0)


# ---------------------------------------------------------------------------------------------
# Reading


@contextlib.contextmanager
def _open(path: Path):
    """The open file and its main video stream; every failure becomes a `VideoError`."""
    import av

    try:
        # An absolute path, since FFmpeg takes "a:b.mp4" for an address of protocol "a".
        with av.open(str(path.resolve()), metadata_errors="replace") as container:
            kind = container.format.name
            stream = container.streams.best("video")
            if kind.endswith("_pipe") or kind in ("image2", "tty"):
                raise VideoError(f"{path}: this is not a video; give an mp4, webm, mkv or avi file")
            if stream is None or stream.disposition & stream.disposition.attached_pic:
                raise VideoError(f"{path}: there is no video in it; give another file")
            if stream.codec_context is None:
                raise VideoError(f"{path}: truncated, or of an unknown codec; get the file again")
            stream.codec_context.thread_count = 1  # as fast here, and readers run side by side
            yield container, stream
    except av.FFmpegError as error:
        raise VideoError(
            f"{path}: not a video, truncated or damaged ({error.strerror}); get the file again"
        ) from error


def _read_decord(scan: _Scan, numbers: np.ndarray) -> np.ndarray | None:
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


def _read_pyav(scan: _Scan, numbers: np.ndarray) -> np.ndarray:
    """Frames `(t, h, w, 3)` of increasing numbers through PyAV."""
    size = (scan.info.width, scan.info.height)
    frames = np.empty((len(numbers), size[1], size[0], 3), dtype=np.uint8)
    for slot, frame in zip(frames, _decode(scan, numbers), strict=True):
        slot[:] = _upright_rgb(frame, scan.turn, size)
    return frames


def _upright_rgb(frame, turn: _Turn, size: tuple[int, int]) -> np.ndarray:
    width, height = size[:: -1 if turn.transpose else 1]
    rgb = frame.to_ndarray(format="rgb24", width=width, height=height)
    rgb = rgb.swapaxes(0, 1) if turn.transpose else rgb
    return rgb[:: -1 if turn.flip else 1, :: -1 if turn.mirror else 1]


def _decode_all(path: Path) -> Iterator:
    with _open(path) as (container, stream):
        yield from container.decode(stream)


def _decode(scan: _Scan, numbers: np.ndarray) -> Iterator:
    """The decoded frames of increasing `numbers`."""
    return _decode_seeking(scan, numbers) if scan.in_order else _decode_counting(scan, numbers)


def _decode_counting(scan: _Scan, numbers: np.ndarray) -> Iterator:
    frames, position = _decode_all(scan.path), -1
    for number in numbers.tolist():
        frame = next(itertools.islice(frames, number - position - 1, None), None)
        if frame is None:
            raise VideoError(f"{scan.path}: frame {number} cannot be decoded; get the file again")
        yield frame
        position = number


def _decode_seeking(scan: _Scan, numbers: np.ndarray) -> Iterator:
    with _open(scan.path) as (container, stream):
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
                frames = _decode_all(scan.path)
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


# ---------------------------------------------------------------------------------------------
# Writing


def _encode(
    path: Path,
    frames: Iterable,
    time_base: Fraction,
    rate: Fraction,
    crf: int,
    max_rate: float | None = None,
) -> None:
    """Write `(pts, frame)` pairs, pts in units of `time_base`."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.resolve().with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = None
            for pts, frame in frames:
                frame = _even(frame)
                if stream is None:
                    stream = _h264(container, frame.shape, time_base, rate, crf)
                    if max_rate is not None:
                        bits = str(round(8 * max_rate))
                        stream.options = {**stream.options, "maxrate": bits, "bufsize": bits}
                if frame.shape[:2] != (stream.height, stream.width):
                    raise InputError(f"the frames of one video must have one size: {path}")
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
                picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
                picture.pts, picture.time_base = pts, time_base
                container.mux(stream.encode(picture))
            if stream is None:
                raise InputError(f"there are no frames to write: {path}")
            container.mux(stream.encode(None))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _h264(container, shape: tuple[int, ...], time_base: Fraction, rate: Fraction, crf: int):
    stream = container.add_stream("libx264", rate=rate)
    stream.options = {"crf": str(crf), "preset": "veryfast", "bf": "0"}
    stream.height, stream.width = shape[:2]
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    stream.time_base = context.time_base = time_base
    context.thread_count = 1  # the same bytes on every machine
    context.gop_size = max(1, round(rate / 2))
    context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
    context.color_range = 1  # 16 to 235
    return stream


def _even(frame) -> np.ndarray:
    frame = np.asarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise InputError(
            f"a frame must be (height, width, 3) uint8 RGB, got {frame.shape} {frame.dtype}"
        )
    height, width = frame.shape[:2]
    frame = np.pad(frame, [(0, height % 2), (0, width % 2), (0, 0)], mode="edge")
    return np.ascontiguousarray(frame)
