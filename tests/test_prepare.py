"""Prepared splits: written, read back, checked against the videos, and described."""

import json

import numpy as np
import pytest
from annotations import HC1, VID, with_, write_vue

from stvgkit.datasets import Sample, SkipReport, read_benchmark, read_prepared, write_prepared
from stvgkit.datasets.info import describe, detect_benchmark
from stvgkit.datasets.prepare import prepare
from stvgkit.errors import InputError
from stvgkit.tubes import Span, Tube
from stvgkit.video import write_video

NAN, INF = float("nan"), float("inf")


class TestPrepared:
    SAMPLE = Sample(
        "a", "the dog \u2028 \N{DOG FACE}", None, 640, 360, 29.97, Span(0, 99), Span(5, 9)
    )

    def line(self, folder, **changes):
        """A good line as an object, with some of its values changed."""
        write_prepared(folder, [self.SAMPLE], "by hand")
        record = json.loads((folder / "samples.jsonl").read_text())
        return {**record, "frames": [5, 6], "boxes": [[0, 0, 0.5, 0.5], [0, 0, 1, 1]], **changes}

    def test_round_trip(self, tmp_path):
        tube = Tube([5, 9], np.random.default_rng(0).random((2, 4)))
        (tmp_path / "in" / "videos").mkdir(parents=True)
        samples = [
            self.SAMPLE,
            Sample(
                "b",
                "q",
                tmp_path / "in" / "videos" / "v.mp4",
                64,
                48,
                8.0,
                Span(2, 29),
                Span(5, 9),
                tube,
                {"query": "declarative"},
            ),
            Sample("c", "q", tmp_path / "v.mp4", 64, 48, 8.0, Span(0, 9), Span(5, 9), tube),
        ]
        assert write_prepared(tmp_path / "in", samples, "by hand") == 3
        assert list(read_prepared(tmp_path / "in")) == samples
        assert list(read_benchmark("shapes", tmp_path / "in" / "samples.jsonl")) == samples
        (tmp_path / "in").rename(tmp_path / "moved")  # videos beside the file move with it
        moved = list(read_prepared(tmp_path / "moved"))
        assert moved[1].video == tmp_path / "moved" / "videos" / "v.mp4"
        assert moved[2].video == tmp_path / "v.mp4"

    def test_an_error_halfway_leaves_the_old_file(self, tmp_path):
        write_prepared(tmp_path, [self.SAMPLE], "by hand")

        def broken():
            yield self.SAMPLE
            raise RuntimeError("disk on fire")

        with pytest.raises(RuntimeError, match="disk on fire"):
            write_prepared(tmp_path, broken(), "by hand")
        assert len(list(read_prepared(tmp_path))) == 1
        assert [path.name for path in tmp_path.iterdir()] == ["samples.jsonl"]

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"id": ""}, "'id' is blank"),
            ({"id": 3}, "'id' is not text"),
            ({"query": None}, "'query' is not text"),
            ({"video": 3}, "'video' is not text or null"),
            ({"width": -1}, "'width' is not a whole number from 0 on"),
            ({"fps": 0}, "'fps' is not a positive number"),
            ({"window": [0]}, "'window' is not [first, last]"),
            ({"window": [0, "9"]}, "'window' is not a number"),
            ({"span": [9, 5]}, "span outside the clip"),
            ({"span": [5, 100]}, "span outside the clip"),
            ({"frames": 5}, "'frames' is not a list or null"),
            ({"frames": [6, 5]}, "frame numbers must be strictly increasing"),
            ({"frames": [5]}, "1 frames but 2 boxes"),
            ({"frames": [5, 50]}, "box outside the span"),
            ({"boxes": None}, "'boxes' is not a list"),
            ({"boxes": [[0, 0, 1, 1], [0, 0, NAN, 1]]}, "box coordinates must be finite"),
            ({"boxes": [[0, 0, 1, 1], [0, 0, 640, 1]]}, "box outside the frame: coordinates are"),
            ({"groups": []}, "'groups' is not an object"),
        ],
    )
    def test_a_malformed_line_is_listed(self, tmp_path, changes, reason):
        records = [self.line(tmp_path, id="good"), self.line(tmp_path, **changes)]
        path = tmp_path / "samples.jsonl"
        path.write_text("\n".join(map(json.dumps, records)))
        report = SkipReport()
        assert [sample.id for sample in read_prepared(path, report)] == ["good"]
        assert [key[: len(reason)] for key in report.skipped] == [reason]
        assert report.skipped.popitem()[1] == ["line 2"]

    def test_lines_that_are_not_json_and_repeated_ids(self, tmp_path):
        line = json.dumps(self.line(tmp_path))
        path = tmp_path / "samples.jsonl"
        path.write_text(f"{line}\n{{\n[1]\n\n{line}\n")
        report = SkipReport()
        assert len(list(read_prepared(path, report))) == 1
        assert report.skipped == {
            "not JSON": ["line 2"],
            "the record is not an object {...}": ["line 3"],
            "duplicate id (the first is kept)": ["line 5"],
        }

    def test_a_file_without_any_sample(self, tmp_path):
        path = tmp_path / "samples.jsonl"
        path.write_text("{}\n")
        with pytest.raises(InputError, match="holds no sample"):
            list(read_prepared(path))


class TestPrepare:
    @pytest.fixture
    def inputs(self, tmp_path):
        """Five HC-STVG records: fine, missing video, broken video, short video, other rate."""
        videos = tmp_path / "videos"
        videos.mkdir()
        frame = np.zeros((36, 64, 3), np.uint8)
        write_video(videos / "fine.mp4", [frame] * 100, fps=5.0)
        write_video(videos / "short.mp4", [frame] * 32, fps=5.0)
        write_video(videos / "rate.mp4", [frame] * 100, fps=25.0)
        (videos / "broken.mp4").write_bytes(b"no video at all")
        record = {**HC1, "img_num": 100, "width": 64, "height": 36, "ed_time": 1.6}
        record["bbox"] = [[6.4, 3.6, 12.8, 7.2]] * 3
        names = ["fine", "missing", "broken", "short", "rate"]
        path = tmp_path / "test.json"
        path.write_text(json.dumps({f"{name}.mp4": record for name in names}))
        return path, videos

    def test_nothing_is_dropped_silently(self, inputs, tmp_path):
        account = prepare("hcstvg", *inputs, tmp_path / "out", progress=False)
        fine, short = read_prepared(tmp_path / "out")
        assert (fine.id, fine.span, fine.window) == ("fine.mp4", Span(30, 32), Span(0, 99))
        assert (short.id, short.span, short.window) == ("short.mp4", Span(30, 31), Span(0, 31))
        assert len(short.tube) == 2
        assert {reason: entry["ids"] for reason, entry in account["skipped"].items()} == {
            "missing video": ["missing.mp4"],
            "broken video": ["broken.mp4"],
            "video has another frame rate than the annotation: frames would not match": [
                "rate.mp4"
            ],
        }
        assert account["changed"]["span trimmed to the clip"]["ids"] == ["short.mp4"]
        assert list(account["broken_videos"]) == [str(inputs[1] / "broken.mp4")]
        assert json.loads((tmp_path / "out" / "report.json").read_text()) == account
        assert account["samples"] == 2

    def test_the_videos_size_wins(self, inputs, tmp_path):
        record = json.loads(inputs[0].read_text())["fine.mp4"]
        record.update(width=640, height=360)
        inputs[0].write_text(json.dumps({"fine.mp4": record}))
        account = prepare("hcstvg", *inputs, tmp_path / "out", progress=False)
        (sample,) = read_prepared(tmp_path / "out")
        assert (sample.width, sample.height) == (64, 36)
        assert np.allclose(sample.tube.boxes[0], [0.01, 0.01, 0.03, 0.03])  # of the annotation
        assert list(account["changed"]) == [
            "size differs from the annotation's, the video's is used"
        ]

    def test_not_one_usable_sample(self, inputs, tmp_path):
        (inputs[1] / "fine.mp4").unlink()
        (inputs[1] / "short.mp4").unlink()
        with pytest.raises(InputError, match="not one sample is usable"):
            prepare("hcstvg", *inputs, tmp_path / "out", progress=False)
        account = json.loads((tmp_path / "out" / "report.json").read_text())
        assert account["skipped"]["missing video"]["count"] == 3

    def test_without_videos_nothing_is_checked_and_the_account_says_so(self, inputs, tmp_path):
        account = prepare("hcstvg", inputs[0], None, tmp_path / "out")
        samples = list(read_prepared(tmp_path / "out"))
        assert account["samples"] == len(samples) == 5
        assert account["videos"] is None and account["broken_videos"] == {}
        assert all(sample.video is None for sample in samples)
        assert "no video was looked at" in (tmp_path / "out" / "README.md").read_text()

    def test_a_real_video(self, shared_data, tmp_path):
        account = prepare(
            "vidstg",
            shared_data / "vidstg" / "test_5587257558.json",
            shared_data / "vidor",
            tmp_path,
            progress=False,
        )
        assert account["samples"] == 10 and account["skipped"] == {}
        assert account["groups"] == {"query: declarative": 5, "query: interrogative": 5}
        assert all(sample.video.is_file() for sample in read_prepared(tmp_path))


class TestInfo:
    def test_each_benchmark_is_recognised(self, tmp_path):
        (tmp_path / "vue").mkdir()
        write_vue(tmp_path / "vue")
        write_prepared(tmp_path / "prepared", [TestPrepared.SAMPLE], "by hand")
        (tmp_path / "hc.json").write_text(json.dumps({"a.mp4": HC1}))
        (tmp_path / "vid.json").write_text(json.dumps([VID]))
        names = {
            "vue": "vue-stg",
            "prepared": "prepared",
            "hc.json": "hcstvg",
            "vid.json": "vidstg",
        }
        assert {name: detect_benchmark(tmp_path / name) for name in names} == names

    def test_what_is_told(self, tmp_path):
        path = tmp_path / "vid.json"
        path.write_text(json.dumps([VID, with_(VID, "fps", 0)]))
        assert describe(path).splitlines() == [
            "vidstg: 2 samples, 0 with boxes",
            "gold span: median 0.1 s, longest 0.1 s",
            "gold length: <3s 2",
            "query: declarative 1, interrogative 1",
            "skipped 1: 'fps' is not a positive number (1071/1)",
        ]

    @pytest.mark.parametrize("name", ["notes.txt", "none.json", "."])
    def test_what_is_no_annotation_file(self, tmp_path, name):
        (tmp_path / "notes.txt").write_text("hello")
        with pytest.raises(InputError):
            describe(tmp_path / name)
