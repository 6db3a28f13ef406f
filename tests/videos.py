"""Videos that name their frames, and files with every trouble that real ones have."""

import struct
from fractions import Fraction

import av
import numpy as np

from stvgkit.video import write_video

WIDTH, HEIGHT, COUNT, BITS = 128, 64, 60, 7
RATE = Fraction(30)
QUARTER_TURN = ((0, 1, -1, 0), lambda f: np.rot90(f, -1))  # clockwise, as phones write it
TURNS = {
    "quarter": QUARTER_TURN,
    "half": ((-1, 0, 0, -1), lambda f: np.rot90(f, 2)),
    "three quarters": ((0, -1, 1, 0), lambda f: np.rot90(f, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda f: f[:, ::-1]),
    "mirrored quarter": ((0, -1, -1, 0), lambda f: np.rot90(f[:, ::-1], -1)),
}


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A frame that carries its number as a bar code, over a gradient with a moving block."""
    y, x = np.mgrid[0:height, 0:width]
    frame = np.stack([x * 255 // width, y * 255 // height, 0 * x + number * 4], axis=2)
    for bit in range(BITS):
        column = slice(bit * width // BITS, (bit + 1) * width // BITS)
        frame[height // 4 : height // 2, column] = 255 * (number >> bit & 1)
    at = number * 3 % (width - 12)
    frame[-height // 4 :, at : at + 12] = (255, 40, 40)
    return frame.astype(np.uint8)


def number_in(frame: np.ndarray) -> int:
    height, width = frame.shape[:2]
    bars = [frame[height * 3 // 8, int((bit + 0.5) * width / BITS)].mean() for bit in range(BITS)]
    return sum((bar > 128) << bit for bit, bar in enumerate(bars))


def numbers_in(frames) -> list[int]:
    return [number_in(frame) for frame in frames]


def encode(path, *, codec="libx264", pts=None, base=1 / RATE, size=(WIDTH, HEIGHT), **options):
    """COUNT pictures through any encoder; `pts` in units of `base`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height = size
        stream.pix_fmt = {"gif": "rgb8"}.get(codec, "yuv420p")
        stream.time_base = stream.codec_context.time_base = base
        stream.options = {key.replace("_", "-"): str(value) for key, value in options.items()}
        for number in range(COUNT):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame.pts, frame.time_base = number if pts is None else int(pts[number]), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remux(source, target, change):
    """Copy the packets of a file, each changed by `change(packet)`, without decoding."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for packet in old.demux(stream):
            if packet.size:
                change(packet)
                packet.stream = copy
                new.mux(packet)
    return target


def turn(path, matrix) -> None:
    """Write a display matrix (a, b, c, d) into an mp4 file's track header."""
    data = bytearray(path.read_bytes())
    a, b, c, d = (part << 16 for part in matrix)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


UNEVEN = np.cumsum(np.random.default_rng(0).integers(10, 90, COUNT))
MS = Fraction(1, 1000)
B_FRAMES = dict(bf=3, g=20, x264_params="b-adapt=0:scenecut=0")


def b_frames(folder):
    return encode(folder / "b.mp4", **B_FRAMES)


def open_groups(folder):
    options = dict(bf=3, g=16, x264_params="open-gop=1:b-adapt=0:scenecut=0")
    return encode(folder / "open.mp4", **options)


def gradual_refresh(folder):
    return encode(folder / "refresh.mp4", g=20, x264_params="intra-refresh=1")


def uneven(folder):
    return encode(folder / "uneven.mp4", pts=UNEVEN, base=MS, bf=2)


def late_start(folder):
    return encode(folder / "late.mp4", pts=UNEVEN + 700, base=MS, bf=2)


def late_start_mkv(folder):
    return encode(folder / "late.mkv", pts=UNEVEN + 700, base=MS, bf=2)


def cut_without_encoding(folder):
    """Starts 0.5 s into a group of pictures: an edit list hides the frames before."""

    def earlier(packet):
        packet.pts -= int(Fraction(1, 2) / packet.time_base)
        packet.dts -= int(Fraction(1, 2) / packet.time_base)

    return remux(b_frames(folder), folder / "cut.mp4", earlier)


def lost_presentation_times(folder):
    """What careless tools write: decoding times in place of presentation times."""

    def forget(packet):
        packet.dts += int(Fraction(2, 30) / packet.time_base)
        packet.pts = packet.dts

    return remux(b_frames(folder), folder / "lost.mp4", forget)


def wrong_count_in_header(folder):
    path = encode(folder / "count.avi", codec="mpeg4", g=12, b=2_000_000)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"avih") + 8 + 16, 1000)  # main header: frames
    struct.pack_into("<I", data, data.index(b"strh") + 8 + 32, 1000)  # stream header: length
    path.write_bytes(data)
    return path


def fragments(folder):
    path = folder / "fragments.mp4"
    with av.open(str(b_frames(folder))) as old:
        stream = old.streams.video[0]
        options = {"movflags": "frag_keyframe+empty_moov"}  # no number of frames anywhere
        with av.open(str(path), "w", options=options) as new:
            copy = new.add_stream_from_template(stream)
            for packet in old.demux(stream):
                if packet.size:
                    packet.stream = copy
                    new.mux(packet)
    return path


def transport_stream(folder):
    return encode(folder / "stream.ts", **B_FRAMES)


def mpeg4_b_frames(folder):
    return encode(folder / "asp.avi", codec="mpeg4", bf=2, g=12, b=2_000_000)


def h264_in_avi(folder):
    return encode(folder / "h264.avi", **B_FRAMES)


def bare_h264(folder):
    return encode(folder / "bare.h264", **B_FRAMES)


def webm_of_odd_size(folder):
    quick = dict(deadline="realtime", cpu_used=8, b=800_000, g=16)
    return encode(folder / "odd.webm", codec="libvpx-vp9", size=(129, 65), **quick)


def webm(folder):
    quick = dict(deadline="realtime", cpu_used=8, b=800_000, g=16)
    return encode(folder / "clip.webm", codec="libvpx-vp9", **quick)


def our_own(folder):
    write_video(folder / "own.mp4", (picture(i) for i in range(COUNT)), fps=30)
    return folder / "own.mp4"


# Each maker, and whether decord is proven right for its file.
MAKERS = {
    our_own: True,
    b_frames: True,
    uneven: True,
    late_start: True,
    late_start_mkv: True,
    fragments: True,
    webm: True,
    webm_of_odd_size: False,  # decord guesses the colours of the last column
    open_groups: False,
    gradual_refresh: False,
    cut_without_encoding: False,
    lost_presentation_times: False,
    wrong_count_in_header: False,
    transport_stream: False,
    mpeg4_b_frames: False,
    h264_in_avi: False,
    bare_h264: False,
}
HIDDEN = {cut_without_encoding: 15}  # frames before the first that is shown
