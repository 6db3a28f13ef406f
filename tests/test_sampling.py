"""The clock of a video: times of frames, frames at times, and which frames are shown."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from videos import (
    COUNT,
    UNEVEN,
    cut_without_encoding,
    late_start,
    late_start_mkv,
    lost_presentation_times,
    numbers_in,
    transport_stream,
    uneven,
)

from stvgkit.errors import InputError
from stvgkit.tubes import Span
from stvgkit.video import VideoInfo, probe, read_frames, sample_indices


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
