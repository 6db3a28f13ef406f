"""Which file is opened for the video that an annotation names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata

import numpy as np
import pytest

from stvgkit.datasets.folder import VIDEO_SUFFIXES, Files
from stvgkit.datasets.prepared import read_prepared
from stvgkit.datasets.records import BadRecord
from stvgkit.video import write_video


def files(folder, *names: str, empty=()) -> Files:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name in empty else name.encode("utf-8", "surrogateescape"))
    return Files(folder, VIDEO_SUFFIXES)


def found(folder: Files, root, name: str) -> str:
    return folder.find(name, "video").relative_to(root).as_posix()


@pytest.mark.parametrize("named", ["clip.mp4", "clip.mkv", "clip.webm"])
def test_the_exact_name_wins(tmp_path, named):
    folder = files(tmp_path, "clip.mkv", "clip.mp4", "clip.webm")
    assert found(folder, tmp_path, named) == named


@pytest.mark.parametrize(
    ("there", "named", "opened"),
    [
        (["part3/a.mp4"], "a.mkv", "part3/a.mp4"),
        (["part3/a.mp4"], "a", "part3/a.mp4"),
        (["b/a.mp4", "a/a.mp4"], "a.mp4", "a/a.mp4"),
        (["b/a.mp4", "a/a.mp4"], "b/a.mp4", "b/a.mp4"),
        (["0001/7.mp4", "0002/7.mp4"], "0002/7", "0001/7.mp4"),
        (["Clip.MP4"], "clip.mp4", "Clip.MP4"),
        (["Clip.mp4", "clip.mp4"], "clip.mp4", "clip.mp4"),
        (["a.mkv", "a.mp4"], "a.avi", "a.mp4"),
        (["a.b.mp4", "a.mp4"], "a.b", "a.b.mp4"),
        (["a.unknown"], "a.unknown", "a.unknown"),
        *[([f"a{suffix}"], "a.mp4", f"a{suffix}") for suffix in VIDEO_SUFFIXES],
        *[([f"a{suffix}"], f"a{suffix}", f"a{suffix}") for suffix in (".h264", ".xyz", "")],
    ],
)
def test_the_file_that_is_opened(tmp_path, there, named, opened):
    assert found(files(tmp_path, *there), tmp_path, named) == opened


@pytest.mark.parametrize("named", ["55_v.1", "b", "a.txt", "a/../a.mp4", "clip"])
def test_another_video_is_not_taken_for_one_that_is_missing(tmp_path, named):
    folder = files(tmp_path, "55_v.mp4", "a.mp4", "notes/clip.txt")
    if named == "a/../a.mp4":
        assert found(folder, tmp_path, named) == "a.mp4"
        return
    with pytest.raises(BadRecord, match="missing video"):
        folder.find(named, "video")


def test_an_empty_file_does_not_stand_for_another_name(tmp_path):
    folder = files(tmp_path, "clip.mkv", "clip.mp4", empty=["clip.mp4"])
    assert found(folder, tmp_path, "clip.avi") == "clip.mkv"
    assert found(folder, tmp_path, "clip.mp4") == "clip.mp4"  # named: prepare says it is broken


def test_a_folder_is_no_video(tmp_path):
    assert found(files(tmp_path, "b.mp4/b.mp4"), tmp_path, "b.mp4") == "b.mp4/b.mp4"
    (tmp_path / "c.mp4").mkdir()
    with pytest.raises(BadRecord):
        Files(tmp_path, VIDEO_SUFFIXES).find("c.mp4", "video")


def test_linked_folders_are_searched_and_loops_end(tmp_path):
    files(tmp_path, "disk/part/a.mp4")
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "linked").symlink_to(tmp_path / "disk", target_is_directory=True)
    (tmp_path / "disk" / "up").symlink_to(videos, target_is_directory=True)
    (videos / "broken.mp4").symlink_to("nowhere.mp4")
    folder = Files(videos, VIDEO_SUFFIXES)
    assert found(folder, videos, "a.mp4") == "linked/part/a.mp4"
    with pytest.raises(BadRecord):
        folder.find("broken.mp4", "video")


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_an_accent_is_one_letter_however_it_is_written(tmp_path, on_disk, written):
    folder = files(tmp_path, unicodedata.normalize(on_disk, "café/clip é.mkv"))
    for name in ("clip é.mkv", "clip é.mp4", "café/clip é.mkv"):
        path = folder.find(unicodedata.normalize(written, name), "video")
        assert path.is_file()


def test_a_folder_named_in_another_encoding_is_prepared_and_read_back(tmp_path):
    videos = tmp_path / os.fsdecode(b"vid\xe9os")
    write_video(videos / "clip.mp4", np.zeros((30, 48, 64, 3), np.uint8), fps=30)
    record = {"bbox": [[1, 1, 20, 20]] * 5, "st_frame": 3, "img_num": 30, "fps": 30}
    record |= {"caption": "It moves.", "width": 64, "height": 48}
    (tmp_path / "ann.json").write_text(json.dumps({"clip.mp4": record}))
    for out in (videos / "out", tmp_path / "elsewhere"):
        options = ["--benchmark", "hcstvg", "--annotations", tmp_path / "ann.json"]
        options += ["--videos", videos, "--out", out]
        command = [sys.executable, "-m", "stvgkit", "prepare", *options]
        run = subprocess.run(command, capture_output=True, text=True, errors="replace")
        assert run.returncode == 0, run.stderr
        assert next(read_prepared(out)).video.is_file()
