"""Written and transcoded files: what browsers play, with the frames and times that went in."""

import av
import numpy as np
import pytest
from videos import (
    COUNT,
    QUARTER_TURN,
    b_frames,
    late_start,
    lost_presentation_times,
    number_in,
    numbers_in,
    open_groups,
    our_own,
    picture,
    turn,
    webm_of_odd_size,
)

from stvgkit.errors import InputError
from stvgkit.tubes import Span
from stvgkit.video import probe, read_frames, transcode, write_video


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
