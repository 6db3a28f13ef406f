"""Exact frames from files with every trouble that real ones have."""

import io
import itertools
import os
import subprocess
import sys

import av
import decord
import numpy as np
import pytest
from videos import (
    COUNT,
    HEIGHT,
    HIDDEN,
    MAKERS,
    TURNS,
    WIDTH,
    b_frames,
    late_start_mkv,
    numbers_in,
    open_groups,
    our_own,
    picture,
    transport_stream,
    turn,
    webm,
    wrong_count_in_header,
)

from stvgkit.errors import InputError, VideoError
from stvgkit.video import decode, packets, probe, read_frames, transcode, write_video


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
