"""A video as H.264 bytes that fit into a web page, with the time of every frame.

A small file goes in as it is, without its sound, where its packets prove that a browser shows the
frames that `read_frames` reads. Any other is cut, scaled and encoded anew, and `note` says what is
cut or scaled. Boxes are relative, so they stay right at any
size; frame numbers are kept, so the player shows those of the original file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stvgkit.errors import InputError
from stvgkit.tubes import Span
from stvgkit.video import VideoInfo, probe, transcode
from stvgkit.video.packets import scan_file

# 65 kB a second look well at 640x360; other sizes need about as much more as their side is longer.
RATE, RATE_PIXELS = 65_000, 640 * 360
CONTAINER = 20_000  # bytes for the tables of a short MP4
SMALLEST_SIDE = 320  # a clip too long even at this size is cut, not scaled further


@dataclass(frozen=True, eq=False)
class WebVideo:
    """H.264 in MP4: its bytes, what each of its frames is in the original file, and when shown.

    `frames` `(n,)` int64 are numbers in the original file, `times` `(n,)` seconds since the first
    of them. `info` is the original's. `note` says what was cut or scaled; empty if nothing was.
    """

    data: bytes
    frames: np.ndarray
    times: np.ndarray
    info: VideoInfo
    note: str


def web_video(
    path: Path | str,
    window: Span | None = None,
    *,
    around: Sequence[Span] = (),
    budget: int = 3_500_000,
) -> WebVideo:
    """Read `path`, or its frames inside `window`, into at most `budget` bytes of H.264.

    Of what is too long, the part around the first of the spans `around` that fits is kept, with as
    much before it as after; if none fits, the part that begins with the last of them.

    Raises `VideoError` where the file is no video, `InputError` where the window holds no frame of
    it or the budget is less than any video needs.

    >>> from stvgkit.video import write_video
    >>> path = getfixture("tmp_path") / "clip.mp4"
    >>> write_video(path, np.zeros((10, 48, 64, 3), np.uint8), fps=5)
    >>> clip = web_video(path, Span(2, 5))
    >>> clip.frames, clip.times, clip.note
    (array([2, 3, 4, 5]), array([0. , 0.2, 0.4, 0.6]), 'Shown here: frames 2 to 5 of 10.')
    """
    if budget < 2 * CONTAINER:
        raise InputError(f"{path}: no video fits into {budget} bytes: give a larger budget")
    path = Path(path)
    info = probe(path)
    everything = Span(0, info.num_frames - 1)
    asked = everything if window is None else window.intersect(everything)
    if not len(asked):
        raise InputError(f"{path}: no frame of {window} is among its {info.num_frames} frames")
    size, kept, rate = _plan(info, asked, around, budget)
    if kept == everything and scan_file(path).for_browser and path.stat().st_size < budget:
        data = _remux(path)
        if len(data) <= min(rate * _seconds(info, kept) + CONTAINER, budget):
            return WebVideo(data, kept.frames(), info.times - info.times[0], info, "")
    data = _encode(path, kept, size, rate)
    if len(data) > budget:  # the rate holds over seconds only, so a short clip may run over it
        data = _encode(path, kept, size, rate * 0.8 * budget / len(data))
    if len(data) > budget:
        raise InputError(f"{path}: does not fit into {budget} bytes: give a larger budget")
    times = info.times[kept.start : kept.end + 1] - info.times[kept.start]
    return WebVideo(data, kept.frames(), times, info, _note(info, size, kept, asked))


def _seconds(info: VideoInfo, span: Span) -> float:
    return float(info.times[span.end] - info.times[span.start]) + 1 / info.fps


def _plan(
    info: VideoInfo, asked: Span, around: Sequence[Span], budget: int
) -> tuple[int, Span, float]:
    """Longer side, frames and bytes per second that keep within the budget."""
    room = 0.9 * (budget - CONTAINER)
    longest = max(info.width, info.height)
    rate = RATE * (info.width * info.height / RATE_PIXELS) ** 0.5
    scale = min(room / (rate * _seconds(info, asked)), 1.0)
    scale = max(scale, min(SMALLEST_SIDE / longest, 1.0))
    rate = max(rate * scale, 10_000)
    if rate * _seconds(info, asked) <= room:
        return round(longest * scale), asked, rate
    return round(longest * scale), _part(info, asked, around, max(room, 0) / rate), rate


def _part(info: VideoInfo, asked: Span, around: Sequence[Span], seconds: float) -> Span:
    """The frames of `asked` that fit into `seconds`, with one of the spans `around` among them."""
    first, last = info.times[asked.start], info.times[asked.end]
    begin = first
    for span in around:
        inside = span.intersect(asked)
        if not len(inside):
            continue
        begin, length = info.times[inside.start], _seconds(info, inside)
        if length <= seconds:
            begin -= (seconds - length) / 2
            break
    begin = max(first, min(begin, last + 1 / info.fps - seconds))
    start, end = info.frames_at([begin, begin + seconds - 1 / info.fps])
    return Span(max(int(start), asked.start), min(int(end), asked.end))


def _remux(path: Path) -> bytes:
    """The same H.264 packets in a fresh MP4 that starts at 0: no sound, no metadata."""
    import av

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "web.mp4"
        with (
            av.open(str(path.resolve())) as source,
            av.open(str(out), "w", options={"movflags": "faststart"}) as target,
        ):
            stream = source.streams.best("video")
            copy = target.add_stream_from_template(stream)
            packets = [packet for packet in source.demux(stream) if packet.size]
            first = min(packet.pts for packet in packets)
            for packet in packets:
                packet.stream, packet.pts, packet.dts = copy, packet.pts - first, packet.dts - first
                target.mux(packet)
        return out.read_bytes()


def _encode(path: Path, kept: Span, size: int, rate: float) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "web.mp4"
        transcode(path, out, window=kept, max_side=size, max_rate=rate)
        return out.read_bytes()


def _note(info: VideoInfo, size: int, kept: Span, asked: Span) -> str:
    """One line that says what of the original is not shown; empty where all of it is."""
    parts = []
    if kept != asked:
        start, end = info.times[kept.start], info.times[kept.end] + 1 / info.fps
        parts.append(
            f"seconds {start:.0f} to {end:.0f} (frames {kept.start} to {kept.end}) of a part of "
            f"{_seconds(info, asked):.0f} seconds, to keep the page small"
        )
    elif len(kept) < info.num_frames:
        parts.append(f"frames {kept.start} to {kept.end} of {info.num_frames}")
    longest = max(info.width, info.height)
    if size < longest - 1:
        width, height = (round(side * size / longest) for side in (info.width, info.height))
        parts.append(f"{info.width}x{info.height} scaled to {width}x{height}")
    return f"Shown here: {'; '.join(parts)}." if parts else ""
