"""Exact frames from files with every trouble that real ones have, and files that browsers play."""

import io
import itertools
import json
import os
import struct
import subprocess
import sys
from fractions import Fraction

import av
import decord
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stvgkit.boxes import to_px
from stvgkit.datasets import SkipReport, data_samples, read_benchmark
from stvgkit.errors import InputError, VideoError
from stvgkit.tubes import Span
from stvgkit.video import (
    VideoInfo,
    decode,
    packets,
    probe,
    read_frames,
    sample_indices,
    transcode,
    write_video,
)

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


@pytest.fixture(scope="module")
def troubled(tmp_path_factory):
    """Makes each file once."""
    made = {}

    def get(maker):
        if maker not in made:
            made[maker] = maker(tmp_path_factory.mktemp(maker.__name__))
        return made[maker]

    return get


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_every_frame_is_the_one_asked_for(troubled, maker):
    path, hidden = troubled(maker), HIDDEN.get(maker, 0)
    info = probe(path)
    assert info.num_frames == COUNT - hidden
    assert numbers_in(read_frames(path).frames) == list(range(hidden, COUNT))
    random = np.random.default_rng(0)
    for wanted in ([info.num_frames - 1], *(random.integers(0, info.num_frames, 5),) * 3):
        wanted = random.permutation(wanted)
        clip = read_frames(path, indices=wanted)
        assert [n - hidden for n in numbers_in(clip.frames)] == clip.indices.tolist()
        assert clip.indices.tolist() == wanted.tolist()
        assert clip.times.tolist() == info.times[wanted].tolist()


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_both_readers_give_the_same_pixels(troubled, maker):
    scan = packets.scan_file(troubled(maker))
    assert scan.for_decord == MAKERS[maker]
    if scan.for_decord:
        random = np.random.default_rng(1)
        choices = [np.arange(COUNT), *(np.unique(random.integers(0, COUNT, 6)) for _ in range(4))]
        for wanted in choices:
            ours, theirs = decode._read_pyav(scan, wanted), decode._read_decord(scan, wanted)
            assert np.abs(ours.astype(int) - theirs).max() <= 2


def test_decord_is_wrong_without_an_error_where_it_is_not_trusted(troubled):
    """If this fails, decord has been mended, and `for_decord` may trust it further."""
    scan = packets.scan_file(troubled(transport_stream))
    assert numbers_in(decode._read_decord(scan, np.array([40]))) != [40]
    assert numbers_in(decode._read_pyav(scan, np.array([40]))) == [40]


@pytest.mark.parametrize("failure", ["absent", "fails"])
def test_pyav_reads_where_decord_is_absent_or_fails(troubled, monkeypatch, failure):
    path = troubled(b_frames)
    before = read_frames(path, indices=[3, 50])

    def fail(*args, **kwargs):
        raise decord.DECORDError("no")

    if failure == "absent":
        monkeypatch.setitem(sys.modules, "decord", None)
    else:
        monkeypatch.setattr(decord, "VideoReader", fail)
    after = read_frames(path, indices=[3, 50])
    assert np.abs(before.frames.astype(int) - after.frames).max() <= 2


def test_torch_computes_after_a_video_was_read_before_it(tmp_path):
    """decord, loaded before torch, would end the process in torch's first product."""
    write_video(tmp_path / "a.mp4", np.zeros((20, 64, 96, 3), np.uint8), 10)
    code = "import sys; from stvgkit.video import read_frames; read_frames(sys.argv[1])\n"
    code += "import torch; print((torch.ones(300, 300) @ torch.ones(300, 300))[0, 0].item())"
    command = [sys.executable, "-c", code, str(tmp_path / "a.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "300.0", done.stderr[-2000:]


def test_a_narrow_video_is_read_although_decord_fails(tmp_path):
    """Rows of 96 pixels are padded by decord 3.4, which then refuses to copy them."""
    write_video(tmp_path / "narrow.mp4", [picture(i, 96, 64) for i in range(8)], fps=4)
    assert numbers_in(read_frames(tmp_path / "narrow.mp4", indices=[2, 7]).frames) == [2, 7]


def test_decord_reads_where_it_is_trusted(troubled, monkeypatch):
    monkeypatch.setattr(decode, "_read_pyav", None)
    assert numbers_in(read_frames(troubled(b_frames), indices=[3, 50]).frames) == [3, 50]


def test_another_decord_bridge_changes_nothing(troubled):
    decord.bridge.set_bridge("torch")
    try:
        frames = read_frames(troubled(b_frames), indices=[3]).frames
    finally:
        decord.bridge.set_bridge("native")
    assert isinstance(frames, np.ndarray) and numbers_in(frames) == [3]


@pytest.mark.parametrize("name", TURNS)
def test_frames_are_upright(troubled, tmp_path, name):
    matrix, expected = TURNS[name]
    path = tmp_path / "turned.mp4"
    path.write_bytes(troubled(b_frames).read_bytes())
    turn(path, matrix)
    plain, turned = (read_frames(p, indices=[7, 30]).frames for p in (troubled(b_frames), path))
    for before, after in zip(plain, turned, strict=True):
        assert np.abs(expected(before).astype(int) - after).max() <= 2
    info = probe(path)
    assert (info.height, info.width) == turned.shape[1:3]


def test_times_are_those_in_the_file(troubled):
    assert np.allclose(probe(troubled(uneven)).times, UNEVEN / 1000)
    assert np.allclose(probe(troubled(late_start)).times, (UNEVEN + 700) / 1000)
    assert np.allclose(probe(troubled(late_start_mkv)).times, (UNEVEN + 700) / 1000)
    assert np.allclose(probe(troubled(lost_presentation_times)).times, np.arange(COUNT) / 30)
    shown = probe(troubled(cut_without_encoding)).times
    assert np.allclose(shown, np.arange(COUNT - 15) / 30)


def test_an_mpeg_stream_is_counted_from_its_first_frame(troubled):
    assert np.allclose(probe(troubled(transport_stream)).times, np.arange(COUNT) / 30, atol=1e-4)


def test_a_time_gives_the_frame_shown_then(troubled):
    path = troubled(late_start)
    shown_from = (UNEVEN + 700) / 1000
    middle = (shown_from[:-1] + shown_from[1:]) / 2
    assert read_frames(path, times=middle).indices.tolist() == list(range(COUNT - 1))
    assert numbers_in(read_frames(path, times=middle[::9]).frames) == list(range(0, COUNT - 1, 9))
    assert read_frames(path, times=[0, 99]).indices.tolist() == [0, COUNT - 1]


def test_a_time_with_three_decimals_finds_its_frame():
    info = VideoInfo(64, 48, fps=30000 / 1001, num_frames=600, duration=20.02)
    assert info.frames_at(np.round(info.times, 3)).tolist() == list(range(600))


STEPS = st.lists(st.floats(0.004, 2.0), min_size=1, max_size=40)


@settings(deadline=None)
@given(STEPS, st.floats(-1, 3), st.lists(st.floats(-5, 100), max_size=20))
def test_frames_at_equals_a_plain_search(steps, start, wanted):
    times = start + np.cumsum(steps)
    info = VideoInfo(64, 48, 1.0, len(times), float(times[-1]), times)
    expected = []
    for t in wanted:
        earlier = [k for k, shown in enumerate(times) if shown <= t + 0.001]
        expected.append(earlier[-1] if earlier else 0)
    assert info.frames_at(wanted).tolist() == expected


@pytest.mark.parametrize("time", [float("nan"), float("inf")])
def test_a_time_that_is_no_number_is_refused(time):
    with pytest.raises(InputError, match="finite"):
        VideoInfo(64, 48, 30.0, 60, 2.0).frames_at([0.0, time])


@settings(deadline=None)
@given(STEPS, st.sampled_from([0.5, 1, 2, 3.7]), st.integers(0, 39), st.integers(0, 39))
def test_sampling_equals_a_walk_along_the_clock(steps, fps, first, last):
    times = np.cumsum(steps)
    last = max(0, min(max(first, last), len(times) - 1))
    first = min(first, last)
    info = VideoInfo(64, 48, 1.0, len(times), float(times[-1]), times)
    expected, tick = [], 0
    while times[first] + tick / fps <= times[last] + 0.001:
        now = times[first] + tick / fps + 0.001
        frame = max(k for k, shown in enumerate(times) if shown <= now)
        expected += [frame] if frame not in expected else []
        tick += 1
    assert sample_indices(info, fps, Span(first, last)).tolist() == expected


@given(st.integers(1, 50), st.integers(1, 400))
@settings(deadline=None)
def test_at_most_max_frames_are_sampled_evenly_with_both_ends(limit, count):
    info = VideoInfo(64, 48, 10.0, count, count / 10)
    free, limited = sample_indices(info), sample_indices(info, max_frames=limit)
    assert len(limited) == min(limit, len(free)) and limited[0] == 0
    assert limit == 1 or limited[-1] == free[-1]
    assert len(limited) < 3 or np.ptp(np.diff(limited)) <= 1


def test_sampling_reads_the_clock_of_a_file(troubled):
    path = troubled(uneven)
    indices = sample_indices(path, fps=4, window=Span(10, 50))
    assert indices[0] == 10 and indices[-1] <= 50
    times = probe(path).times[indices]
    grid = times[0] + np.arange(len(times)) / 4
    assert np.all(times <= grid + 0.001) and np.all(grid - times < 0.09)


@pytest.mark.parametrize(
    "arguments, says",
    [
        (dict(fps=0), "fps"),
        (dict(fps=float("nan")), "fps"),
        (dict(max_frames=0), "max_frames"),
        (dict(window=Span(70, 80)), "70 to 80"),
        (dict(window=Span(5, 4)), "5 to 4"),
    ],
)
def test_impossible_sampling_is_refused(arguments, says):
    with pytest.raises(InputError, match=says):
        sample_indices(VideoInfo(64, 48, 30.0, 60, 2.0), **arguments)


@pytest.mark.parametrize("wanted", [[-1], [COUNT], [0, 10**12], [1.5]])
def test_a_frame_number_that_does_not_exist_is_refused(troubled, wanted):
    with pytest.raises(InputError):
        read_frames(troubled(b_frames), indices=wanted)


def test_reading_no_frames_gives_an_empty_clip(troubled):
    clip = read_frames(troubled(b_frames), indices=[])
    assert len(clip) == 0 and clip.frames.shape == (0, HEIGHT, WIDTH, 3)


def only_sound(path):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def still_picture(path):
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture(3)).save(buffer, "png")
    path.write_bytes(buffer.getvalue())


BROKEN = {
    "missing": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "a folder": lambda path: path.mkdir(),
    "text": lambda path: path.write_text("caption,start,end\n" * 100),
    "random bytes": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
    "only sound": only_sound,
    "a still picture": still_picture,
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("name", ["clip.mp4", "clip.txt", "clip.avi"])
def test_what_is_not_a_video_is_named_in_one_line(tmp_path, what, name):
    path = tmp_path / name
    BROKEN[what](path)
    for use in (probe, read_frames, lambda p: transcode(p, tmp_path / "out.mp4")):
        with pytest.raises(VideoError, match=name) as error:
            use(path)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.9])
@pytest.mark.parametrize("maker", [our_own, b_frames, late_start_mkv, webm, wrong_count_in_header])
def test_a_truncated_file_is_an_error(troubled, tmp_path, maker, share):
    whole = troubled(maker)
    path = tmp_path / f"truncated{whole.suffix}"
    path.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    with pytest.raises(VideoError, match="truncated"):
        read_frames(path, indices=[0])


def test_a_damaged_file_is_an_error_or_reads_on(troubled, tmp_path):
    """Whatever the bytes, no other exception and no frame of another size."""
    whole = troubled(b_frames).read_bytes()
    random, path = np.random.default_rng(0), tmp_path / "damaged.mp4"
    errors = 0
    for _ in range(40):
        data = np.frombuffer(whole, np.uint8).copy()
        at = random.integers(0, len(data), 30)
        data[at] = random.integers(0, 256, 30)
        path.write_bytes(data.tobytes())
        try:
            clip = read_frames(path, indices=[0])
        except VideoError:
            errors += 1
        else:
            assert clip.frames.dtype == np.uint8 and clip.frames.shape[3] == 3
    assert errors > 0


def test_a_name_with_a_colon_is_a_file(troubled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video("a:b é.mp4", [picture(5)] * 4, fps=4)
    assert numbers_in(read_frames("a:b é.mp4", indices=[2]).frames) == [5]


def test_a_file_that_was_replaced_is_read_anew(tmp_path):
    path = tmp_path / "clip.mp4"
    for number, count in [(3, 4), (5, 9)]:
        write_video(path, [picture(number)] * count, fps=4)
        assert probe(path).num_frames == count
        assert set(numbers_in(read_frames(path).frames)) == {number}
    path.unlink()
    with pytest.raises(VideoError, match="no such file"):
        probe(path)


def test_reading_closes_what_it_opens(troubled):
    paths = [troubled(b_frames), troubled(open_groups)]

    def held():
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("counts open files through /proc")
    for path in paths:
        read_frames(path, indices=[0, 40])
    before = held()
    for _ in range(10):
        for path in paths:
            read_frames(path, indices=[0, 40])
    assert held() == before


@pytest.mark.parametrize("fps", [29.97, 30000 / 1001, 24, 7, 26.777, 0.5])
def test_written_rate_and_length_are_kept(tmp_path, fps):
    write_video(tmp_path / "clip.mp4", [picture(0)] * 31, fps=fps)
    info = probe(tmp_path / "clip.mp4")
    assert isinstance(info.fps, float) and info.fps == pytest.approx(fps, rel=1e-6)
    assert info.num_frames == 31 and info.duration == pytest.approx(31 / fps, rel=1e-6)


def test_written_colours_come_back(tmp_path):
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255] * 3, [0] * 3, [128, 64, 200]])
    frames = [np.full((48, 64, 3), colour, np.uint8) for colour in colours]
    write_video(tmp_path / "clip.mp4", frames, fps=2)
    back = read_frames(tmp_path / "clip.mp4").frames
    assert np.abs(back.astype(int) - np.stack(frames)).max() <= 4


def test_written_file_is_what_browsers_play(troubled):
    data = troubled(our_own).read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(troubled(our_own))) as container:
        stream = container.streams.video[0]
        keys = [i for i, p in enumerate(container.demux(stream)) if p.is_keyframe]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.codec_context.colorspace == 1  # BT.709
    assert keys[0] == 0 and max(np.diff(keys)) <= 15


def test_odd_sides_are_padded_by_their_last_pixels(tmp_path):
    frames = np.stack([picture(i, 97, 65) for i in range(6)])
    write_video(tmp_path / "clip.mp4", frames, fps=6, crf=1)
    back = read_frames(tmp_path / "clip.mp4").frames
    assert back.shape == (6, 66, 98, 3)
    assert np.abs(back[:, :65, :97].astype(int) - frames).mean() < 4
    assert np.abs(back[:, :, 97].astype(int) - back[:, :, 96]).mean() < 4


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [np.zeros((48, 64), np.uint8)],
        [np.zeros((48, 64, 4), np.uint8)],
        [np.zeros((48, 64, 3))],
        [np.zeros((0, 64, 3), np.uint8)],
        [np.zeros((48, 64, 3), np.uint8), np.zeros((64, 48, 3), np.uint8)],
    ],
)
def test_what_is_no_video_is_not_written(tmp_path, frames):
    with pytest.raises(InputError):
        write_video(tmp_path / "clip.mp4", frames, fps=5)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, [picture(1)] * 4, fps=4)

    def interrupted():
        yield picture(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(path, interrupted(), fps=4)
    assert list(tmp_path.iterdir()) == [path]
    assert set(numbers_in(read_frames(path).frames)) == {1}


@pytest.mark.parametrize("maker", [late_start, open_groups, lost_presentation_times])
def test_transcoding_keeps_frames_and_times(troubled, tmp_path, maker):
    source, out = troubled(maker), tmp_path / "deep" / "out.mp4"
    held = transcode(source, out, window=Span(21, 99))
    assert held.tolist() == list(range(21, COUNT))
    assert numbers_in(read_frames(out).frames) == held.tolist()
    times = probe(source).times[held]
    assert np.allclose(probe(out).times, times - times[0], atol=1e-4)


def test_transcoding_shrinks_and_turns_upright(troubled, tmp_path):
    path, out = tmp_path / "turned.mp4", tmp_path / "out.mp4"
    path.write_bytes(troubled(b_frames).read_bytes())
    turn(path, QUARTER_TURN[0])
    transcode(path, out, max_side=48)
    info = probe(out)
    assert (info.width, info.height, info.num_frames) == (24, 48, COUNT)
    upright = np.rot90(read_frames(out, indices=[9]).frames[0])
    assert number_in(upright) == 9
    transcode(troubled(webm_of_odd_size), out)
    info = probe(out)
    assert (info.width, info.height) == (128, 64)


def test_a_file_may_be_transcoded_onto_itself(troubled, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(troubled(b_frames).read_bytes())
    transcode(path, path, window=Span(5, 8))
    assert numbers_in(read_frames(path).frames) == [5, 6, 7, 8]


def test_a_bound_on_the_rate_bounds_the_file(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 96, 128, 3), dtype=np.uint8)
    write_video(tmp_path / "noise.mp4", noise, fps=20, crf=30)
    transcode(tmp_path / "noise.mp4", tmp_path / "out.mp4", max_rate=20_000)
    assert (tmp_path / "out.mp4").stat().st_size < 2 * 20_000 * 1.5
    assert (tmp_path / "noise.mp4").stat().st_size > 2 * 20_000 * 1.5


REAL = ["opencv/box.mp4", "opencv/cup.mp4", "vidor/5587257558.mp4", "pets/vtest.avi"]


@pytest.mark.parametrize("name", REAL)
def test_real_videos_read_the_same_in_any_way(shared_data, name):
    """Straight through with PyAV alone, against random access through either reader."""
    path = shared_data / name
    count = probe(path).num_frames
    wanted = np.unique(np.random.default_rng(0).integers(0, min(count, 220), 8))
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        straight = [
            frame.to_ndarray(format="rgb24")
            for number, frame in enumerate(itertools.islice(frames, 220))
            if number in wanted
        ]
    assert np.abs(read_frames(path, indices=wanted).frames.astype(int) - straight).max() <= 2
    scan = packets.scan_file(path)
    assert np.abs(decode._read_pyav(scan, wanted).astype(int) - straight).max() <= 2
    if scan.for_decord:
        assert np.abs(decode._read_decord(scan, wanted).astype(int) - straight).max() <= 2


def test_real_videos_are_probed_truly(shared_data):
    box = probe(shared_data / "opencv/box.mp4")  # its header says 456; the last is never shown
    assert box.num_frames == 455 and not packets.scan_file(shared_data / "opencv/box.mp4").in_order
    vidor = probe(shared_data / "vidor/5587257558.mp4")
    assert vidor.num_frames == 540 and vidor.fps == pytest.approx(30000 / 1001)
    assert vidor.times[0] == pytest.approx(1001 / 30000)  # the sound starts a frame before
    assert (vidor.width, vidor.height) == (640, 360)


def yellow(frame):
    red, green, blue = frame.astype(int).transpose(2, 0, 1)
    return (red > 110) & (green > 70) & (red - blue > 90)


def dark_grey(frame):
    return (frame.max(axis=2) < 100) & (np.ptp(frame, axis=2) < 16)


@pytest.mark.parametrize("number, colour, gap", [(0, yellow, 9), (1, dark_grey, 3)])
def test_boxes_of_the_sample_clips_fit_the_object(number, colour, gap):
    """By its colour: nearly all such pixels are inside, and each edge has some close by."""
    folder, report = data_samples() / "opencv", SkipReport()
    samples = list(read_benchmark("hcstvg", folder / "annotations.json", folder, report))
    sample = samples[number]
    assert len(samples) == 2
    assert not report.skipped and not report.changed
    info = probe(sample.video)
    assert (info.width, info.height, info.num_frames) == (320, 240, len(sample.window))
    assert info.fps == pytest.approx(sample.fps, abs=1e-3)
    assert sample.video.stat().st_size < 300_000
    assert sample.span.start > 0 and sample.span.end < info.num_frames - 1
    assert sample.tube.frames.tolist() == sample.span.frames().tolist()
    assert sample.tube.boxes.min() >= 0 and sample.tube.boxes.max() <= 1

    clip = read_frames(sample.video, indices=sample.tube.frames)
    boxes_px = to_px(sample.tube.boxes, 320, 240).round().astype(int)
    for frame, (x1, y1, x2, y2) in zip(clip.frames, boxes_px, strict=True):
        coloured = colour(frame)
        inside = coloured[y1:y2, x1:x2]
        assert inside.sum() >= 0.99 * coloured.sum()
        for edge in (inside[:gap], inside[-gap:], inside[:, :gap], inside[:, -gap:]):
            assert edge.any()


def test_times_of_the_sample_annotations_are_those_of_the_frames():
    folder = data_samples() / "opencv"
    for name, record in json.loads((folder / "annotations.json").read_text()).items():
        info = probe(folder / name)
        first = record["st_frame"] - 1
        after = first + len(record["bbox"])
        assert record["st_time"] == pytest.approx(info.times[first], abs=1e-3)
        assert record["ed_time"] == pytest.approx(info.times[after], abs=1e-3)
