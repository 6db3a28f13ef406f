"""What a video file holds, read from its packets: sizes, times, key frames, and what to trust.

Packets are read without being decoded, so that this is fast; only one frame is decoded, for its
size and turn.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stvgkit.errors import InputError, VideoError
from stvgkit.tubes import Span

# Annotations print times with three decimals: 0.0333667 becomes 0.033, and is meant all the same.
TIME_TOLERANCE = 0.001


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
    times: np.ndarray = field(default=None, repr=False, compare=False)  # type: ignore[arg-type]

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


def probe(path) -> VideoInfo:
    """Size, frame rate, true number of frames and their times, from the packets of the file.

    Raises `VideoError` where the file is missing, empty, truncated or holds no video.

    >>> from stvgkit.video import write_video
    >>> folder = getfixture("tmp_path")
    >>> write_video(folder / "clip.mp4", np.zeros((30, 48, 64, 3), np.uint8), fps=29.97)
    >>> probe(folder / "clip.mp4")
    VideoInfo(width=64, height=48, fps=29.97, num_frames=30, duration=1.00...)
    """
    return scan_file(Path(path)).info


def inside(info: VideoInfo, window: Span | None) -> Span:
    whole = Span(0, info.num_frames - 1)
    window = whole if window is None else window  # an empty span is false, and no whole video
    frames = window.intersect(whole)
    if not len(frames):
        raise InputError(
            f"frames {window.start} to {window.end} are not in a video of {info.num_frames} frames"
        )
    return frames


class Turn(NamedTuple):
    """What makes a decoded frame upright, in this order."""

    transpose: bool = False
    mirror: bool = False  # left to right
    flip: bool = False  # upside down


@dataclass(frozen=True)
class Scan:
    path: Path
    info: VideoInfo
    pts: np.ndarray  # (n,) int64, not decreasing: the timestamps of the frames that are shown
    time_base: Fraction  # seconds per unit of pts
    keys: np.ndarray  # (k,) int64, increasing: the timestamps where decoding may start
    turn: Turn
    in_order: bool  # a decoded frame carries its own pts; otherwise only their order is right
    for_decord: bool  # decord is proven to return the right frames
    for_browser: bool  # so is a browser, for these packets in an MP4


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


def scan_file(path: Path) -> Scan:
    """What is known of a file, kept while it does not change: training reads it many times."""
    if not path.is_file():
        raise VideoError(f"{path}: there is no such file; check the path")
    state = path.stat()
    if not state.st_size:
        raise VideoError(f"{path}: the file is empty; get it again")
    return _scan_packets(path, path.resolve(), state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=64)
def _scan_packets(path: Path, *_state) -> Scan:
    """Read the timestamps of every packet, and decode one frame for its size and turn."""
    held = _read_packets(path)
    packets, first, kind = held.packets, held.first, held.kind
    cut_short = kind.startswith("matroska") and path.stat().st_size < _matroska_size(path)
    if packets[-1].corrupt or cut_short:
        raise VideoError(f"{path}: the file is truncated; get it again")
    pts, last, time_base, in_order = _timestamps(path, held)
    span = int(pts[-1] - pts[0]) * time_base
    # These clocks start anywhere; AVI has none, and counts the delay of the decoder as well.
    start = pts[0] if kind in ("mpegts", "mpeg", "avi") else 0
    turn = _turn(first)
    size = (first.width, first.height)[:: -1 if turn.transpose else 1]
    info = VideoInfo(
        width=size[0],
        height=size[1],
        fps=float((len(pts) - 1) / span if span else held.rate),
        num_frames=len(pts),
        duration=float(span + last * time_base),
        times=(pts - start) * time_base.numerator / time_base.denominator,
    )
    has_index = kind not in ("mpegts", "mpeg")
    keys = [packet.pts for packet in packets if packet.key] if in_order and has_index else []
    for_decord = (
        in_order
        and turn == Turn()
        and not any(packet.discard for packet in packets)
        and all(packet.closed for packet in packets if packet.key)
        and kind.startswith(("mov", "matroska"))
        and first.format.name in ("yuv420p", "yuvj420p")
        and size[0] % 2 == size[1] % 2 == 0
    )
    for_browser = (
        for_decord
        and packets[0].closed
        and held.codec == "h264"
        and first.format.name == "yuv420p"
        and _plays_in_order(packets)
    )
    sorted_keys = np.sort(np.array(keys, dtype=np.int64))
    return Scan(path, info, pts, time_base, sorted_keys, turn, in_order, for_decord, for_browser)


class _Held(NamedTuple):
    """What was read from a file: its packets in decoding order, and the first frame of them."""

    packets: list[_Packet]
    first: Any
    kind: str  # FFmpeg's name of the container
    codec: str
    reorders: bool  # presentation order may differ from decoding order
    time_base: Fraction
    rate: Fraction


def _read_packets(path: Path) -> _Held:
    packets, first = [], None
    with open_video(path) as (container, stream):
        codec = stream.codec_context
        for packet in container.demux(stream):
            if packet.size:
                packets.append(_Packet(packet, codec.name))
            if first is None:
                first = next(iter(packet.decode()), None)
        if first is None:
            raise VideoError(f"{path}: not one frame can be decoded; get the file again")
        rate = stream.guessed_rate or Fraction(25)
        reorders = bool(codec.has_b_frames)
        return _Held(
            packets, first, container.format.name, codec.name, reorders, stream.time_base, rate
        )


def _timestamps(path: Path, held: _Held) -> tuple[np.ndarray, int, Fraction, bool]:
    """Sorted timestamps of the frames shown, how long the last is, their unit, and `in_order`."""
    shown = [packet for packet in held.packets if not packet.discard]
    given = [packet.pts for packet in shown]  # in decoding order
    if None in given:  # a raw stream
        return np.arange(sum(1 for _ in decode_all(path))), 1, 1 / held.rate, False
    pts = np.sort(given)
    last = shown[-1].duration or (int(np.median(np.diff(pts))) if len(pts) > 1 else 0)
    # With B-frames, decoding order is not presentation order. Where the times say that it is, a
    # careless remux lost them: the decoder gives these times to the wrong frames. AVI never has
    # presentation times.
    lost = held.reorders and given == pts.tolist()
    if held.kind == "avi":
        lost = held.reorders or held.codec in ("h264", "hevc")
    in_order = len(np.unique(pts)) == len(pts) and not lost
    if not held.packets[0].key or (in_order and held.first.pts != pts[0]):
        # Cut inside a group of pictures: what comes before the first that decodes is lost.
        decoded = [frame.pts for frame in decode_all(path)]
        pts = pts[np.isin(pts, decoded)] if in_order else pts[-len(decoded) :]
    return pts, last, held.time_base, in_order


def _plays_in_order(packets: list[_Packet]) -> bool:
    """Whether a browser that is given these times shows every frame at its own.

    Decoding times must be there, increase, and come before those of presentation. Chromium takes
    the step to the next *decoded* frame for how long a frame is shown: with B-frames that is right
    only where the steps are even.
    """
    if any(packet.dts is None for packet in packets):
        return False
    dts = np.array([packet.dts for packet in packets])
    pts = np.array([packet.pts for packet in packets])
    steps = np.diff(np.sort(pts))
    even = not len(steps) or np.ptp(steps) <= np.mean(steps) / 4
    reordered = (np.diff(pts) < 0).any()
    return bool((np.diff(dts) > 0).all() and (dts <= pts).all() and (even or not reordered))


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


def _turn(frame) -> Turn:
    """The quarter turns and mirrorings of a frame's display matrix.

    A pixel at (x, y) is shown at (a x + c y, b x + d y), up to a shift.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Turn()
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].tolist()
    return Turn(True, c < 0, b < 0) if abs(b) > abs(a) else Turn(False, a < 0, d < 0)


@contextlib.contextmanager
def open_video(path: Path):
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


def decode_all(path: Path) -> Iterator:
    with open_video(path) as (container, stream):
        yield from container.decode(stream)
