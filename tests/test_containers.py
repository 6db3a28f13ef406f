"""The page in Chromium shows the frames that the reader reads, from every kind of file.

Frames carry their number as five black or white bars at the top, so that each picture says itself
which frame it is.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext

from stvgkit.errors import VideoError
from stvgkit.video import probe, read_frames
from stvgkit.viewing.players import show_player

COUNT, RATE, SIZE = 24, 25, (96, 64)
BARS = 5

SHOWN = """async () => {
  const root = document.querySelector('.stvg-player'), v = root.querySelector('video');
  const {times, last, frames} = JSON.parse(root.querySelector('script').textContent);
  const until = async (done) => {
    for (let i = 0; i < 300 && !done(); i++) await new Promise(r => setTimeout(r, 10));
  };
  await until(() => v.readyState >= 2 || v.error);
  if (v.error || v.readyState < 2) return {error: v.error?.message ?? 'it does not load'};
  const c = document.createElement('canvas'), g = c.getContext('2d', {willReadFrequently: true});
  [c.width, c.height] = [v.videoWidth, v.videoHeight];
  const shown = [];
  const at = () => {  // the time of the picture that the video shows now
    const copy = new VideoFrame(v), time = copy.timestamp / 1e6;
    copy.close();
    return time;
  };
  for (let i = 0; i < times.length; i++) {
    const step = i + 1 < times.length ? times[i + 1] - times[i] : last;
    v.currentTime = times[i] + step / 2;
    await until(() => !v.seeking && v.readyState >= 2 && Math.abs(at() - times[i]) < 0.002);
    g.drawImage(v, 0, 0);
    const light = b => g.getImageData((b + 0.5) * c.width / 12, c.height / 16, 1, 1).data[1] > 127;
    shown.push([0, 1, 2, 3, 4].reduce((sum, b) => sum + (light(b) << b), 0));
  }
  return {frames, shown};
}"""


def numbered(count: int = COUNT):
    width, height = SIZE
    for i in range(count):
        frame = np.full((height, width, 3), 40, np.uint8)
        frame[20:36, 2 + 2 * i : 18 + 2 * i] = (250, 30, 30)
        for bar in range(BARS):
            frame[:8, 8 * bar : 8 * bar + 8] = 255 * (i >> bar & 1)
        yield frame


def numbers_in(frames: np.ndarray) -> list[int]:
    lit = frames[:, 4, 4 : 8 * BARS : 8, 1] > 127
    return (lit @ (1 << np.arange(BARS))).tolist()


def encode(path: Path, codec="libx264", times=range(COUNT), **options) -> Path:
    """One file; `times` are in units of 1 / RATE seconds."""
    options = {"g": "8", "crf": "12", **options} if codec == "libx264" else options
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=RATE, options=options)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for frame, time in zip(numbered(), times, strict=False):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, RATE)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return path


def copy(source: Path, path: Path, start: int = 0) -> Path:
    """What `-c copy` does, from packet `start` on."""
    with av.open(str(source)) as given, av.open(str(path), "w") as out:
        stream = given.streams.video[0]
        new = out.add_stream_from_template(stream)
        to_avi = path.suffix == ".avi"
        if to_avi:
            new.time_base = Fraction(1, RATE)
        annexb = BitStreamFilterContext("h264_mp4toannexb", stream) if to_avi else None
        packets = [packet for packet in given.demux(stream) if packet.size][start:]
        if packets[0].dts is None:  # as a muxer guesses it
            packets = [packet for packet in packets if packet.dts is not None]
        for packet in packets:
            key = packet.is_keyframe
            for ready in annexb.filter(packet) if annexb else [packet]:
                ready.stream, ready.is_keyframe = new, key
                out.mux(ready)
    return path


UNEVEN = [0, 1, 2, 5, 6, 7, 12, 13, 15, 16, 20, 21, 22, 23, 24, 30, 31, 33, 34, 35, 36, 37, 38, 40]

FILES = {
    "mp4": lambda f: encode(f / "a.mp4", bf="0"),
    "mp4, B-frames": lambda f: encode(f / "a.mp4", bf="2"),
    "mp4, pyramid": lambda f: encode(f / "a.mp4", bf="3", **{"b-pyramid": "normal"}),
    "mp4, open groups": lambda f: encode(f / "a.mp4", bf="3", **{"x264-params": "open-gop=1"}),
    "mp4, uneven times": lambda f: encode(f / "a.mp4", times=UNEVEN, bf="0"),
    "mp4, uneven times, B-frames": lambda f: encode(f / "a.mp4", times=UNEVEN, bf="2"),
    "mov, B-frames": lambda f: encode(f / "a.mov", bf="2"),
    "3gp": lambda f: encode(f / "a.3gp", bf="2"),
    "mkv": lambda f: encode(f / "a.mkv", bf="0"),
    "mkv, B-frames": lambda f: encode(f / "a.mkv", bf="3"),
    "mkv, copied": lambda f: copy(encode(f / "a.mp4", bf="2"), f / "b.mkv"),
    "mkv, one frame": lambda f: encode(f / "a.mkv", times=[0]),
    "avi": lambda f: encode(f / "a.avi", bf="0"),
    "avi, B-frames": lambda f: encode(f / "a.avi", bf="3"),
    "avi, copied": lambda f: copy(encode(f / "a.mp4", bf="3"), f / "b.avi"),
    "mp4, from avi": lambda f: copy(encode(f / "a.avi", bf="3"), f / "b.mp4"),
    "mp4, from copied avi": lambda f: copy(FILES["avi, copied"](f), f / "c.mp4"),
    "mkv, from avi": lambda f: copy(encode(f / "a.avi", bf="3"), f / "b.mkv"),
    "avi, MPEG-4": lambda f: encode(f / "a.avi", "mpeg4", bf="2", g="8"),
    "flv, B-frames": lambda f: encode(f / "a.flv", bf="2"),
    "ts, B-frames": lambda f: encode(f / "a.ts", bf="2"),
    "mpg": lambda f: encode(f / "a.mpg", "mpeg2video", bf="2", g="8", b="2000000"),
    "webm": lambda f: encode(f / "a.webm", "libvpx-vp9", g="8", cpu_used="8"),
    "gif": lambda f: encode(f / "a.gif", "gif"),
    "raw": lambda f: encode(f / "a.h264", bf="3"),
}


@pytest.fixture(scope="module")
def tab(chromium):
    return chromium.new_page()


def shown_on(tab, page: Path) -> dict:
    tab.goto(page.as_uri())
    return tab.evaluate(SHOWN)


@pytest.mark.browser
@pytest.mark.parametrize("kind", FILES)
def test_the_page_shows_what_the_reader_reads(tab, tmp_path, kind):
    video = FILES[kind](tmp_path)
    count = 1 if "one frame" in kind else COUNT
    clip = read_frames(video)
    assert numbers_in(clip.frames) == list(range(count))
    show_player(video).save(tmp_path / "page.html")
    page = shown_on(tab, tmp_path / "page.html")
    assert page == {"frames": clip.indices.tolist(), "shown": clip.indices.tolist()}


@pytest.mark.parametrize("kind", FILES)
def test_every_frame_alone_is_the_one_asked_for(tmp_path, kind):
    video = FILES[kind](tmp_path)
    for number in range(probe(video).num_frames)[::3]:
        assert numbers_in(read_frames(video, indices=[number]).frames) == [number]


@pytest.mark.browser
@pytest.mark.parametrize(
    "name", ["x264.mkv", "x264.avi", "cut_copy.mkv", "raw.h264", "one_frame.mkv"]
)
def test_public_cases_are_shown_as_they_are_read(tab, shared_data, tmp_path, name):
    video = shared_data / "cases/video" / name
    if not video.exists():
        pytest.skip(f"{video.name} is not here")
    clip = read_frames(video)
    show_player(video).save(tmp_path / "page.html")
    page = shown_on(tab, tmp_path / "page.html")
    assert page["frames"] == clip.indices.tolist()
    height, width = clip.frames.shape[1:3]
    xs = ((np.arange(BARS) + 0.5) * width / 12).astype(int)
    bars = clip.frames[:, max(1, height // 16), xs, 1] > 127
    assert page["shown"] == (bars @ (1 << np.arange(BARS))).tolist()


def cut(source: Path, path: Path, share: float) -> Path:
    """The end of a stream of 188-byte packets, as a recorder that was switched on late has it."""
    data = source.read_bytes()
    path.write_bytes(data[188 * int(share * len(data) / 188) :])
    return path


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_a_stream_cut_inside_a_group_begins_with_the_first_frame_that_decodes(tmp_path, share):
    video = cut(encode(tmp_path / "a.ts", bf="2"), tmp_path / "b.ts", share)
    clip = read_frames(video)
    shown = numbers_in(clip.frames)
    assert shown == list(range(shown[0], COUNT)) and shown[0] > 0
    assert clip.times[0] == 0 and np.diff(clip.times).min() > 0
    for i in range(len(shown)):
        assert numbers_in(read_frames(video, indices=[i]).frames) == [shown[i]]


def test_a_stream_without_one_whole_group_is_refused(tmp_path):
    video = cut(encode(tmp_path / "a.ts", g="100", bf="2"), tmp_path / "b.ts", 0.5)
    with pytest.raises(VideoError, match="b.ts"):
        probe(video)
