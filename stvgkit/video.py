"""Exact frames of a video file by number or by time, and video files that every browser plays.

Three rules hold throughout:

- A frame's number is its place in **presentation order**, from 0; what the header claims about
  the number of frames or the frame rate is not believed.
- A frame's time is in seconds **since the first frame**, from its own timestamp. Files whose first
  timestamp is not 0, and files of variable frame rate, need no special care. The frame *at* time t
  is the one that a player shows then: the last whose time is at most t.
- Frames are **upright**: rotation stored in the file is applied, as browsers do.

Files are read through decord, and through PyAV where decord is not installed or gets a file wrong.
Simplified away: of several video streams only the main one is read; pixels are taken as square.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from stvgkit.errors import InputError, VideoError
from stvgkit.tubes import Span

# Annotations print times with three decimals: 0.0333667 becomes 0.033, and is meant all the same.
TIME_TOLERANCE = 0.001
THREADS = 2
SEEK_OVER = 8  # frames that are decoded rather than jumped over

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoInfo:
    """Size of the upright frame in pixels, mean frame rate, number of frames, and seconds.

    `times` is when each frame is first shown, `(num_frames,)` float64 seconds from 0. Where it is
    not given, the frames are evenly spaced.

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
        object.__setattr__(self, "times", np.asarray(times, dtype=np.float64))

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

    `frames` is `(t, height, width, 3)` uint8 RGB, `times` `(t,)` seconds since the video's first
    frame, `indices` `(t,)` int64 frame numbers in the video.
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
    first to the last frame of that grid. Their times are `info.times[indices]`.

    >>> info = VideoInfo(320, 240, fps=10.0, num_frames=40, duration=4.0)
    >>> sample_indices(info)
    array([ 0,  5, 10, 15, 20, 25, 30, 35])
    >>> sample_indices(info, window=Span(12, 30), max_frames=3)
    array([12, 19, 27])
    """
    info = video if isinstance(video, VideoInfo) else probe(video)
    window = Span(0, info.num_frames - 1) if window is None else window
    inside = window.intersect(Span(0, info.num_frames - 1))
    if not len(inside):
        raise InputError(f"no frame of {window} is in a video of {info.num_frames} frames")
    if not fps > 0 or (max_frames is not None and max_frames < 1):
        raise InputError(f"fps and max_frames must be positive, got {fps} and {max_frames}")
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
    count = scan.info.num_frames
    if times is not None:
        indices = scan.info.frames_at(times)
    indices = np.asarray(np.arange(count) if indices is None else indices).reshape(-1)
    indices = indices.astype(np.int64, casting="safe" if len(indices) else "unsafe")
    if len(indices) and not 0 <= indices.min() <= indices.max() < count:
        wrong = indices[(indices < 0) | (indices >= count)][0]
        raise InputError(f"{path} has frames 0 to {count - 1}, there is no frame {wrong}")
    needed, back = np.unique(indices, return_inverse=True)
    frames = _read_decord(scan, needed)
    if frames is None:
        frames = _read_pyav(scan, needed)
    if len(needed) < len(indices) or np.any(np.diff(back) < 0):
        frames = frames[back]
    return Clip(frames, scan.info.times[indices], indices)


def write_video(path, frames: Iterable[np.ndarray], fps: float, *, crf: int = 20) -> None:
    """Write `(t, height, width, 3)` uint8 RGB frames as an H.264 file that every browser plays.

    yuv420p in mp4, index first, colours marked BT.709, no B-frames and a key frame at least every
    half second, so that browsers step to the exact frame at once. H.264 in yuv420p needs even
    sides: an odd one is padded by repeating its last row or column (relative boxes then shrink by
    one pixel's share). `frames` may be a generator; `crf` is x264's quality, lower is better. The
    file appears under its name only when it is complete. Raises `InputError` for no frames, or
    frames of another shape or type.
    """
    rate = Fraction(fps).limit_denominator(100_000)
    if rate <= 0:
        raise InputError(f"fps must be positive, got {fps}")
    _encode(Path(path), enumerate(frames), 1 / rate, float(fps), crf)


def transcode(
    path,
    out,
    *,
    window: Span | None = None,
    max_side: int | None = None,
    fps: float | None = None,
    crf: int = 23,
    max_rate: float | None = None,
) -> np.ndarray:
    """Copy part of a video into a file like `write_video`'s; return the video frames it holds.

    Frame i of the new file is frame `returned[i]` of the video, shown for as long as there: the
    presentation times are kept, less that of the first. `max_side` limits the longer side (smaller
    videos keep their size); sides are made even by scaling, so relative boxes stay right. `fps`
    keeps only as many frames as `sample_indices` would. `max_rate` bounds the bytes per second (over
    about two seconds), at the cost of quality. The sound is left out.

    >>> folder = getfixture("tmp_path")
    >>> write_video(folder / "a.mp4", np.zeros((30, 48, 64, 3), np.uint8), fps=10)
    >>> transcode(folder / "a.mp4", folder / "b.mp4", window=Span(4, 6), max_side=32)
    array([4, 5, 6])
    """
    scan = _scan(Path(path))
    info = scan.info
    rate = info.fps if fps is None else fps
    if fps is None:
        inside = (window or Span(0, info.num_frames - 1)).intersect(Span(0, info.num_frames - 1))
        if not len(inside):
            raise InputError(f"{path}: no frame of {window} in {info.num_frames} frames")
        indices = inside.frames()
    else:
        indices = sample_indices(info, fps, window)
    scale = min(1.0, (max_side or np.inf) / max(info.width, info.height))
    size = tuple(max(2, 2 * round(side * scale / 2)) for side in (info.width, info.height))
    ticks = (scan.pts[indices] - scan.pts[indices[0]]).tolist()
    frames = (_upright_rgb(frame, scan.turns, size) for frame in _decode(scan, indices))
    _encode(Path(out), zip(ticks, frames, strict=True), scan.time_base, rate, crf, max_rate)
    return indices


# ---------------------------------------------------------------------------------------------
# Reading


@dataclass(frozen=True)
class _Scan:
    path: Path
    info: VideoInfo
    pts: np.ndarray  # (n,) int64, increasing: the timestamps of the frames that are shown
    time_base: Fraction  # seconds per unit of pts
    keys: np.ndarray  # (k,) int64, timestamps where decoding may start
    turns: int  # quarter turns counter-clockwise that make a decoded frame upright
    in_order: bool  # decoded frames carry their own pts; otherwise only their order is right


def _scan(path: Path) -> _Scan:
    """Read every packet's timestamp, and decode one frame for its size and rotation."""
    with _open(path) as (container, stream):
        packets, first = [], None
        for packet in container.demux(stream):
            if packet.size:
                packets.append(_Packet(packet))
            if first is None:
                first = next(iter(packet.decode()), None)
        if first is None:
            raise VideoError(f"{path}: not one frame can be decoded; get the file again")
        if packets[-1].corrupt:
            raise VideoError(f"{path}: the file is truncated; get it again")
        time_base, reorders = stream.time_base, stream.codec_context.has_b_frames
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    shown = [packet for packet in packets if not packet.discard]
    pts = np.array([-1 if packet.pts is None else packet.pts for packet in shown], dtype=np.int64)
    own = all(packet.pts is not None for packet in shown) and len(np.unique(pts)) == len(pts)
    if own:
        # A careless remux copies decoding times over presentation times: the set is right, but
        # with B-frames the decoder hands them out with the wrong frames.
        own = not (reorders and all(packet.pts == packet.dts for packet in shown))
        pts = np.sort(pts)
    else:  # raw streams carry no times at all
        count = sum(1 for _ in _decode_all(path))
        time_base = 1 / rate
        pts = np.arange(count, dtype=np.int64)
    steps = np.diff(pts)
    last = shown[-1].duration or (int(np.median(steps)) if len(steps) else 1)
    span = int(pts[-1] - pts[0]) * time_base
    fps = (len(pts) - 1) / span if span else rate
    turns = round(first.rotation / 90) % 4
    size = (first.width, first.height)[:: -1 if turns % 2 else 1]
    times = (pts - pts[0]) * float(time_base)
    duration = float(span + last * time_base)
    info = VideoInfo(*size, float(fps), len(pts), duration, times)
    keys = np.array(sorted(packet.pts for packet in packets if packet.key and own), np.int64)
    return _Scan(path, info, pts, time_base, keys, turns, own)


class _Packet:
    """What outlives a packet, without its data."""

    __slots__ = ("pts", "dts", "duration", "key", "discard", "corrupt")

    def __init__(self, packet) -> None:
        self.pts, self.dts, self.duration = packet.pts, packet.dts, packet.duration
        self.key, self.discard = packet.is_keyframe, packet.is_discard
        self.corrupt = packet.is_corrupt


@contextlib.contextmanager
def _open(path: Path):
    """The open file and its main video stream; every failure becomes a `VideoError`."""
    import av

    if not path.is_file():
        raise VideoError(f"{path}: there is no such file; check the path")
    if not path.stat().st_size:
        raise VideoError(f"{path}: the file is empty; get it again")
    try:
        # An absolute path, since FFmpeg takes "a:b.mp4" for an address of protocol "a".
        with av.open(str(path.resolve())) as container:
            kind = container.format.name
            stream = container.streams.best("video")
            if kind.endswith("_pipe") or kind in ("image2", "tty"):
                raise VideoError(f"{path}: this is not a video; give an mp4, webm, mkv or avi file")
            if stream is None or stream.disposition & stream.disposition.attached_pic:
                raise VideoError(f"{path}: there is no video in it, only sound; give another file")
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = THREADS
            yield container, stream
    except av.FFmpegError as error:
        raise VideoError(
            f"{path}: not a video, truncated or damaged ({error.strerror}); get the file again"
        ) from error


def _read_decord(scan: _Scan, numbers: np.ndarray) -> np.ndarray | None:
    """Upright frames `(t, h, w, 3)` through decord; None where it cannot be relied on."""
    try:
        import decord
    except (ImportError, OSError):  # OSError: its libraries do not load on this machine
        return None
    decord.logging.set_level(decord.logging.QUIET)  # the error below says it in one line
    try:
        reader = decord.VideoReader(
            str(scan.path.resolve()), ctx=decord.cpu(0), num_threads=THREADS
        )
        frames = reader.get_batch(numbers)
    except decord.DECORDError as error:
        logger.info("%s: decord failed, PyAV reads it (%s)", scan.path, error)
        return None
    return frames.asnumpy()


def _read_pyav(scan: _Scan, numbers: np.ndarray) -> np.ndarray:
    """Upright frames `(t, h, w, 3)` of increasing numbers through PyAV."""
    size = (scan.info.width, scan.info.height)
    frames = np.empty((len(numbers), size[1], size[0], 3), dtype=np.uint8)
    for slot, frame in zip(frames, _decode(scan, numbers), strict=True):
        slot[:] = _upright_rgb(frame, scan.turns, size)
    return frames


def _upright_rgb(frame, turns: int, size: tuple[int, int]) -> np.ndarray:
    width, height = size[:: -1 if turns % 2 else 1]
    return np.rot90(frame.to_ndarray(format="rgb24", width=width, height=height), turns)


def _decode_all(path: Path) -> Iterator:
    with _open(path) as (container, stream):
        yield from container.decode(stream)


def _decode(scan: _Scan, numbers: np.ndarray) -> Iterator:
    """The decoded frames of increasing `numbers`, seeking only where that skips something."""
    if not scan.in_order:
        wanted = set(numbers.tolist())
        for number, frame in enumerate(_decode_all(scan.path)):
            if number in wanted:
                wanted.remove(number)
                yield frame
            if not wanted:
                return
        raise VideoError(f"{scan.path}: frame {min(wanted)} cannot be decoded; get the file again")
    with _open(scan.path) as (container, stream):
        frames, position = container.decode(stream), -1
        for number in numbers.tolist():
            target = scan.pts[number]
            keys = scan.keys[scan.keys <= target]
            frame = None
            if not len(keys) or np.searchsorted(scan.pts, keys[-1]) <= position + SEEK_OVER:
                frame = _forward(frames, target)
            # Not there: frames right after a key frame may need the one before (open GOP), and
            # some files mark key frames that are none.
            for key in dict.fromkeys([*keys[-1:], *keys[-2:-1], *keys[:1]]):
                if frame is None:
                    container.seek(int(key), stream=stream)
                    frames = container.decode(stream)
                    frame = _forward(frames, target)
            if frame is None:
                raise VideoError(f"{scan.path}: frame {number} cannot be decoded; get it again")
            yield frame
            position = number


def _forward(frames: Iterator, target: int):
    """The frame with timestamp `target`, or None where decoding has run past it."""
    frame = next((frame for frame in frames if frame.pts is None or frame.pts >= target), None)
    return frame if frame is not None and frame.pts == target else None


# ---------------------------------------------------------------------------------------------
# Writing


def _encode(
    path: Path,
    frames: Iterable,
    time_base: Fraction,
    fps: float,
    crf: int,
    max_rate: float | None = None,
) -> None:
    """Write `(pts, frame)` pairs, pts in units of `time_base`."""
    import av

    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with av.open(part, "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = None
            for pts, frame in frames:
                frame = _checked(frame, stream)
                if stream is None:
                    stream = _h264(container, frame.shape, time_base, fps, crf, max_rate)
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
                picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
                picture.pts, picture.time_base = pts, time_base
                container.mux(stream.encode(picture))
            if stream is None:
                raise InputError(f"{path}: no frames to write")
            container.mux(stream.encode(None))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _h264(
    container,
    shape: tuple[int, ...],
    time_base: Fraction,
    fps: float,
    crf: int,
    max_rate: float | None,
):
    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(100_000))
    stream.height, stream.width = shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.time_base = stream.codec_context.time_base = time_base
    stream.codec_context.thread_count = 1  # the same bytes on every machine
    stream.codec_context.gop_size = max(1, round(fps / 2))
    stream.options = {"crf": str(crf), "preset": "veryfast", "bf": "0"}
    if max_rate is not None:
        bits = str(round(8 * max_rate))
        stream.options = {**stream.options, "maxrate": bits, "bufsize": bits}
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
    context.color_range = 1  # 16..235, as players expect
    return stream


def _checked(frame, stream) -> np.ndarray:
    frame = np.asarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise InputError(
            f"a frame must be (height, width, 3) uint8 RGB, got {frame.shape} {frame.dtype}"
        )
    frame = np.pad(frame, [(0, n % 2) for n in frame.shape[:2]] + [(0, 0)], mode="edge")
    if stream is not None and frame.shape[:2] != (stream.height, stream.width):
        raise InputError(f"frames of one video must have one size, got {frame.shape}")
    return np.ascontiguousarray(frame)
