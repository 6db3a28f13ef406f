"""Video files that every browser plays, written from frames or from another video."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from stvgkit.errors import InputError
from stvgkit.files import replacing_file
from stvgkit.tubes import Span
from stvgkit.video.decode import decode, upright_rgb
from stvgkit.video.packets import inside, scan_file


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
    scan = scan_file(Path(path))
    indices = inside(scan.info, window).frames()
    sides = (scan.info.width, scan.info.height)
    scale = min(1.0, (max_side or np.inf) / max(sides))
    width, height = (max(2, 2 * round(side * scale / 2)) for side in sides)
    ticks = (scan.pts[indices] - scan.pts[indices[0]]).tolist()
    frames = (upright_rgb(frame, scan.turn, (width, height)) for frame in decode(scan, indices))
    rate = Fraction(scan.info.fps).limit_denominator(100_000)
    _encode(Path(out), zip(ticks, frames, strict=True), scan.time_base, rate, crf, max_rate)
    return indices


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

    with (
        replacing_file(path) as part,
        av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
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
