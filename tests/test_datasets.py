"""Readers on the real files, on their known damage, and on tables of malformed records."""

import copy
import json
from collections import Counter

import numpy as np
import pytest

from stvgkit.datasets import (
    BENCHMARKS,
    Sample,
    SkipReport,
    hcstvg,
    read_benchmark,
    read_prepared,
    vidstg,
    vue_stg,
    write_prepared,
)
from stvgkit.datasets.info import describe, detect_benchmark
from stvgkit.datasets.prepare import prepare
from stvgkit.errors import InputError
from stvgkit.tubes import Span, Tube
from stvgkit.video import write_video

NAN, INF = float("nan"), float("inf")

HC1 = {
    "bbox": [[64, 36, 128, 72], [70, 36, 128, 72], [76, 36, 128, 72]],
    "st_time": 1.0,
    "ed_time": 1.1,
    "st_frame": 31,
    "img_num": 600,
    "caption": "The woman in red turns.",
    "width": 640,
    "height": 360,
}
HC2 = {
    "bbox": HC1["bbox"],
    "st_frame": 31,
    "img_num": 500,
    "English": "The man sits down.",
    "img_size": [360, 640],
}
VID = {
    "vid": "1071",
    "fps": 30,
    "frame_count": 90,
    "width": 640,
    "height": 360,
    "used_segment": {"begin_fid": 10, "end_fid": 89},
    "temporal_gt": {"begin_fid": 30, "end_fid": 33},
    "captions": [{"description": "a child runs", "type": "person", "target_id": 2}],
    "questions": [{"description": "who runs", "type": "person", "target_id": 2}],
}
VIDOR = {
    "width": 640,
    "height": 360,
    "trajectories": [
        [
            {"tid": 1, "bbox": {"xmin": 0, "ymin": 0, "xmax": 9, "ymax": 9}},
            {"tid": 2, "bbox": {"xmin": 64, "ymin": 36, "xmax": 320, "ymax": 360}},
        ]
    ]
    * 90,
}


def with_(record, path, value):
    """A deep copy of a record with one value replaced; `...` removes the key."""
    record = copy.deepcopy(record)
    *parents, last = path.split(".")
    place = record
    for key in parents:
        place = place[int(key) if key.isdigit() else key]
    if value is ...:
        del place[last]
    else:
        place[int(last) if last.isdigit() else last] = value
    return record


def read_hc(folder, *records, **options):
    path = folder / "hc.json"
    path.write_text(json.dumps({f"{i}.mp4": record for i, record in enumerate(records)}))
    report = SkipReport()
    return list(hcstvg.read(path, None, report, **options)), report


def read_vid(folder, *records, vidor=None):
    path = folder / "vid.json"
    path.write_text(json.dumps(records))
    if vidor is not None:
        (folder / "boxes" / "1000").mkdir(parents=True, exist_ok=True)
        (folder / "boxes" / "1000" / "1071.json").write_text(json.dumps(vidor))
    report = SkipReport()
    boxes = None if vidor is None else folder / "boxes"
    return list(vidstg.read(path, None, report, boxes=boxes)), report


def write_vue(
    folder,
    query="q,a man,v\n",
    tubes="q,1000,0.1,0.1,0.5,0.5\nq,2000,0.1,0.1,0.5,0.5\n",
    video="v,30.5\n",
):
    (folder / "query.csv").write_text("query_id,query_text,video_id\n" + query)
    (folder / "tubes.csv").write_text("query_id,time_ms,x0,y0,x1,y1\n" + tubes)
    (folder / "video.csv").write_text("video_id,video_duration\n" + video)
    return folder


def read_vue(folder, **tables):
    report = SkipReport()
    return list(vue_stg.read(write_vue(folder, **tables), None, report)), report


class TestHcstvg:
    def test_version_1_and_2_side_by_side(self, tmp_path):
        (one, two), report = read_hc(tmp_path, HC1, HC2)
        assert str(report) == ""
        assert (one.id, one.query, one.fps) == ("0.mp4", "The woman in red turns.", 30.0)
        assert (two.query, two.fps) == ("The man sits down.", 25.0)
        for sample in (one, two):
            assert (sample.width, sample.height) == (640, 360)  # img_size is [height, width]
            assert sample.span == Span(30, 32)  # st_frame counts from 1
            assert np.allclose(sample.tube.boxes[0], [0.1, 0.1, 0.3, 0.3])
        assert two.window == Span(0, 499)

    def test_the_real_record(self, shared_data):
        report = SkipReport()
        (sample,) = hcstvg.read(shared_data / "hcstvg" / "v1_one_record.json", None, report)
        assert sample.span == sample.tube.span == Span(307, 399)
        assert len(sample.tube) == 93  # though the times span 100 frames
        assert list(report.changed) == ["boxes and times differ by more than a frame, boxes hold"]

    def test_boxes_that_leave_the_image_are_clipped_unless_asked_not_to(self, tmp_path):
        record = with_(HC1, "bbox.1", [-64, 300, 128, 120])
        (sample,), report = read_hc(tmp_path, record)
        assert np.allclose(sample.tube.boxes[1], [0, 300 / 360, 0.1, 1])
        assert report.changed == {"boxes clipped to the image": ["0.mp4"]}
        (sample,), report = read_hc(tmp_path, record, crop=False)
        assert np.allclose(sample.tube.boxes[1], [-0.1, 300 / 360, 0.1, 420 / 360])
        assert str(report) == ""

    @pytest.mark.parametrize(
        "box",
        [[64, 36, -5, 10], [64, 36, 0, 10], [NAN, 36, 5, 10], [64, INF, 5, 5], [700, 0, 5, 5]],
    )
    def test_a_useless_box_leaves_a_gap_and_a_line(self, tmp_path, box):
        (sample,), report = read_hc(tmp_path, with_(HC1, "bbox.1", box))
        assert sample.tube.frames.tolist() == [30, 32] and sample.span == Span(30, 32)
        assert "some boxes without area or not finite, left out" in report.changed

    def test_a_span_that_leaves_the_clip_is_trimmed(self, tmp_path):
        (sample,), report = read_hc(tmp_path, with_(HC1, "img_num", 31))
        assert sample.span == sample.tube.span == Span(30, 30)
        assert "span trimmed to the clip" in report.changed

    @pytest.mark.parametrize(
        ("path", "value", "reason"),
        [
            ("bbox", ..., "no key 'bbox'"),
            ("bbox", {"1": [0, 0, 1, 1]}, "'bbox' is not a list"),
            ("bbox", [], "'bbox' is not a list of boxes of four numbers"),
            ("bbox", [[1, 2, 3]], "'bbox' is not a list of boxes of four numbers"),
            ("bbox", [[1, 2, 3, 4], [1, 2]], "'bbox' is not a list of boxes of four numbers"),
            ("bbox", [["1", "2", "3", "4"]], "'bbox' is not a list of boxes of four numbers"),
            ("bbox", [[1, 2, 3, 10**30]], "'bbox' is not a list of boxes of four numbers"),
            ("bbox", [[NAN, NAN, NAN, NAN]], "no box"),
            ("bbox", [[10, 10, -4, 4]], "no box"),
            ("caption", ..., "no key 'caption'"),
            ("caption", "  ", "'caption' is blank"),
            ("caption", 7, "'caption' is not text"),
            ("width", -640, "'width' is not a whole number from 1 on"),
            ("width", "640", "'width' is not a number"),
            ("height", True, "'height' is not a whole number from 1 on"),
            ("img_size", [360], "'img_size' is not [height, width]"),
            ("img_size", [360, None], "'width' is not a number"),
            ("img_num", 0, "'img_num' is not a whole number from 1 on"),
            ("img_num", NAN, "'img_num' is not a whole number from 1 on"),
            ("img_num", 10**400, "'img_num' is not a whole number from 1 on"),
            ("img_num", 20, "span outside the clip"),
            ("st_frame", 0, "'st_frame' is not a whole number from 1 on"),
            ("st_frame", 1.5, "'st_frame' is not a whole number from 1 on"),
            ("st_frame", ..., "no key 'st_frame'"),
        ],
    )
    def test_a_malformed_record_is_listed_and_the_others_are_read(
        self, tmp_path, path, value, reason
    ):
        samples, report = read_hc(tmp_path, HC1, with_(HC1, path, value), HC2)
        assert [sample.id for sample in samples] == ["0.mp4", "2.mp4"]
        assert report.skipped == {reason: ["1.mp4"]}

    @pytest.mark.parametrize("record", [None, [], "text", 5])
    def test_a_record_that_is_no_object(self, tmp_path, record):
        samples, report = read_hc(tmp_path, record)
        assert samples == []
        assert report.skipped == {"the record is not an object {...}": ["0.mp4"]}

    @pytest.mark.parametrize("times", [(None, 2), (10**400, 2), ("1", "2"), (NAN, NAN)])
    def test_useless_times_do_not_matter(self, tmp_path, times):
        record = {**HC1, "st_time": times[0], "ed_time": times[1]}
        (sample,), report = read_hc(tmp_path, record)
        assert sample.span == Span(30, 32) and str(report) == ""

    def test_duplicate_ids_keep_the_first(self, tmp_path):
        path = tmp_path / "hc.json"
        first, second = json.dumps(HC1), json.dumps(HC2)
        path.write_text(f'{{"a.mp4": {first}, "a.mp4": {second}}}')
        report = SkipReport()
        (sample,) = hcstvg.read(path, None, report)
        assert sample.query == HC1["caption"]
        assert report.skipped == {"duplicate id (the first is kept)": ["a.mp4"]}


class TestVidstg:
    def test_all_real_validation_records_are_read(self, shared_data):
        report = SkipReport()
        path = shared_data / "vidstg" / "val_annotations.json"
        samples = list(vidstg.read(path, None, report))
        kinds = Counter(sample.groups["query"] for sample in samples)
        assert kinds == {"declarative": 3996, "interrogative": 4960}
        assert str(report) == ""
        records = json.loads(path.read_text())
        assert len({sample.id.split("/")[1] for sample in samples}) == len(records) == 3996
        assert len({sample.id for sample in samples}) == len(samples)
        for sample in samples:
            assert sample.window.start <= sample.span.start <= sample.span.end
            assert sample.span.end <= sample.window.end
            record = records[int(sample.id.split("/")[1])]
            assert sample.span.end == record["temporal_gt"]["end_fid"] - 1  # exclusive, as read
            assert sample.window.end < record["frame_count"]

    def test_a_real_video_with_its_queries(self, shared_data):
        path = shared_data / "vidstg" / "test_5587257558.json"
        samples = list(read_benchmark("vidstg", path, shared_data / "vidor"))
        assert len(samples) == 10
        assert all(sample.video.name == "5587257558.mp4" for sample in samples)

    def test_ends_and_ids(self, tmp_path):
        (caption, question), report = read_vid(tmp_path, VID)
        assert (caption.id, question.id) == ("1071/0/declarative/0", "1071/0/interrogative/0")
        assert caption.window == Span(10, 89)  # inclusive
        assert caption.span == Span(30, 32)  # exclusive
        assert caption.tube is None and question.groups == {"query": "interrogative"}
        assert str(report) == ""

    def test_boxes_come_from_vidor(self, tmp_path):
        (sample, _), report = read_vid(tmp_path, VID, vidor=VIDOR)
        assert sample.tube.frames.tolist() == [30, 31, 32]
        assert np.allclose(sample.tube.boxes, [0.1, 0.1, 0.5, 1.0])
        assert str(report) == ""

    def test_frames_without_the_target_are_gaps(self, tmp_path):
        vidor = copy.deepcopy(VIDOR)
        vidor["trajectories"][31] = [{"tid": 1, "bbox": {}}]
        (sample, _), report = read_vid(tmp_path, VID, vidor=vidor)
        assert sample.tube.frames.tolist() == [30, 32]
        assert list(report.changed) == ["some frames of the span without a box"]

    @pytest.mark.parametrize(
        ("vidor", "reason"),
        [
            (with_(VIDOR, "trajectories", []), "no box"),
            (with_(VIDOR, "trajectories.31", VIDOR["trajectories"][0][1:] * 2), "two boxes"),
            (with_(VIDOR, "trajectories", {}), "'trajectories' is not a list"),
            (with_(VIDOR, "trajectories.30", None), "'trajectories' is not a list of boxes for"),
            (with_(VIDOR, "trajectories.30", [3]), "'trajectories' is not a list of boxes for"),
            (with_(VIDOR, "trajectories.30", [{"tid": 2}]), "no key 'bbox'"),
            (
                with_(VIDOR, "trajectories.30", [{"tid": 2, "bbox": {"xmin": "1"}}]),
                "'xmin' is not a number",
            ),
            (with_(VIDOR, "width", 0), "'width' is not a whole number"),
            ([], "box file cannot be read"),
        ],
    )
    def test_damaged_box_files(self, tmp_path, vidor, reason):
        samples, report = read_vid(tmp_path, VID, vidor=vidor)
        assert samples == []
        assert [key[: len(reason)] for key in report.skipped] == [reason]
        assert len(report.skipped.popitem()[1]) == 2  # both sentences

    def test_a_missing_box_file(self, tmp_path):
        samples, report = read_vid(tmp_path, with_(VID, "vid", "99"), vidor=VIDOR)
        assert samples == [] and list(report.skipped) == ["missing box file"]

    @pytest.mark.parametrize(
        ("path", "value", "reason"),
        [
            ("vid", ..., "no key 'vid'"),
            ("vid", 7, "'vid' is not text"),
            ("fps", 0, "'fps' is not a positive number"),
            ("fps", NAN, "'fps' is not a positive number"),
            ("fps", "30", "'fps' is not a number"),
            ("width", -1, "'width' is not a whole number from 1 on"),
            ("used_segment", [0, 9], "'used_segment' is not an object"),
            ("used_segment.end_fid", ..., "no key 'end_fid'"),
            ("used_segment.begin_fid", -1, "'begin_fid' is not a whole number from 0 on"),
            ("temporal_gt.end_fid", 30, "span is empty"),
            ("temporal_gt.end_fid", 20, "span is empty"),
            ("temporal_gt", {"begin_fid": 0, "end_fid": 9}, "span outside the clip"),
            ("captions", "text", "'captions' is not a list"),
            ("questions", ..., "no key 'questions'"),
        ],
    )
    def test_a_malformed_record_is_listed_once(self, tmp_path, path, value, reason):
        samples, report = read_vid(tmp_path, VID, with_(VID, path, value))
        assert len(samples) == 2
        assert [len(ids) for ids in report.skipped.values()] == [1]
        assert list(report.skipped) == [reason]

    @pytest.mark.parametrize(
        ("path", "value", "reason"),
        [
            ("captions.0.description", "", "'description' is blank"),
            ("captions.0.target_id", ..., "no key 'target_id'"),
            ("captions.0.target_id", None, "'target_id' is not a number"),
            ("captions.0", None, "the record is not an object {...}"),
        ],
    )
    def test_a_malformed_sentence_costs_only_itself(self, tmp_path, path, value, reason):
        samples, report = read_vid(tmp_path, with_(VID, path, value))
        assert [sample.groups["query"] for sample in samples] == ["interrogative"]
        assert report.skipped == {reason: ["1071/0/declarative/0"]}

    def test_a_gold_span_that_leaves_its_clip_is_trimmed(self, tmp_path):
        samples, report = read_vid(tmp_path, with_(VID, "temporal_gt.end_fid", 300))
        assert {sample.span for sample in samples} == {Span(30, 89)}
        assert list(report.changed) == ["span trimmed to the clip"]


class TestVueStg:
    def test_the_real_benchmark(self, shared_data):
        report = SkipReport()
        samples = list(vue_stg.read(shared_data / "vue_stg", None, report))
        assert len(samples) == 1600 and str(report) == ""
        assert sum(len(sample.tube) for sample in samples) == 12_147
        lengths = Counter(sample.groups["gold length"] for sample in samples)
        assert lengths == {"<3s": 179, "3-10s": 1013, "10-60s": 408}

    def test_times_round_half_up_and_the_first_box_of_a_second_counts(self, tmp_path):
        rows = "q,2500,0,0,1,1\nq,1499,0,0,0.1,1\nq,3499,0,0,0.2,1\nq,500,0,0,0.3,1\n"
        (sample,), _ = read_vue(tmp_path, tubes=rows)
        assert sample.tube.frames.tolist() == [1, 3]  # 0.5 and 1.499 are 1; 2.5 and 3.499 are 3
        assert sample.tube.boxes[:, 2].tolist() == [0.1, 1.0]

    def test_swapped_corners_and_coordinates_beyond_the_frame(self, tmp_path):
        (sample,), _ = read_vue(tmp_path, tubes="q,1000,0.5,0.9,0.1,-3\n")
        assert sample.tube.boxes.tolist() == [[0.1, 0.0, 0.5, 0.9]]

    @pytest.mark.parametrize(
        "row", ["q,x,0,0,1,1", "q,,0,0,1,1", "q,1000,0,0,nan,1", "q,-5,0,0,1,1", "q,1e99,0,0,1,1"]
    )
    def test_rows_that_are_not_numbers_are_left_out_and_listed(self, tmp_path, row):
        (sample,), report = read_vue(tmp_path, tubes=f"{row}\nq,2000,0,0,1,1\nq,3000\n")
        assert sample.tube.frames.tolist() == [2]
        assert report.changed == {
            "rows of tubes.csv that are not numbers, left out": ["line 2", "line 4"]
        }

    @pytest.mark.parametrize(
        ("tables", "reason"),
        [
            (dict(query="q, ,v\n"), "'query_text' is blank"),
            (dict(query="q,a man,w\n"), "the video is not in video.csv"),
            (dict(query="r,a man,v\n"), "no box"),
            (dict(tubes="q,1000,x,0,1,1\n"), "no box"),
            (dict(tubes="q,1000,0.5,0,0.5,1\n"), "no box"),
            (dict(video="v,-3\n"), "the video is not in video.csv"),
            (dict(video="v,nan\n"), "the video is not in video.csv"),
            (dict(video="v,long\n"), "the video is not in video.csv"),
            (dict(tubes="q,99000,0,0,1,1\n"), "span outside the clip"),
        ],
    )
    def test_a_malformed_query_is_listed(self, tmp_path, tables, reason):
        samples, report = read_vue(tmp_path, **tables)
        assert samples == []
        assert list(report.skipped) == [reason]

    def test_duplicate_ids_keep_the_first(self, tmp_path):
        samples, report = read_vue(tmp_path, query="q,a man,v\nq,a woman,v\n")
        assert [sample.query for sample in samples] == ["a man"]
        assert report.skipped == {"duplicate id (the first is kept)": ["q"]}

    def test_a_query_with_commas_and_line_breaks(self, tmp_path):
        samples, _ = read_vue(tmp_path, query='q,"a man,\nrunning \u2028 ""fast""",v\n')
        assert samples[0].query == 'a man,\nrunning \u2028 "fast"'

    def test_with_the_videos_frames_are_those_of_the_file(self, tmp_path):
        (tmp_path / "videos").mkdir()
        write_video(tmp_path / "videos" / "v.mp4", np.zeros((40, 48, 64, 3), np.uint8), fps=10.0)
        folder = write_vue(tmp_path, video="v,4.0\n")
        (sample,) = vue_stg.read(folder, tmp_path / "videos")
        assert sample.tube.frames.tolist() == [10, 20] and sample.span == Span(10, 20)
        assert (sample.width, sample.height, sample.fps) == (64, 48, pytest.approx(10.0))
        assert sample.window == Span(0, 39)

    @pytest.mark.parametrize("name", ["query.csv", "tubes.csv", "video.csv"])
    def test_a_missing_file_and_a_missing_column(self, tmp_path, name):
        folder = write_vue(tmp_path)
        (folder / name).write_text("a,b\n1,2\n")
        with pytest.raises(InputError, match="has no column '.*_id'"):
            list(vue_stg.read(folder))
        (folder / name).unlink()
        with pytest.raises(InputError, match="is not a file"):
            list(vue_stg.read(folder))


@pytest.mark.parametrize("name", ["hcstvg", "vidstg"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"not json", "is not JSON"),
        (b'{"a": [1, 2', "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"1" * 10_000, "is not JSON"),
        (b"\xff\xfe\x00", "is not text in UTF-8"),
        (b"7", "holds a single value where"),
        (b'"text"', "holds a single value where"),
        (b"null", "holds a single value where"),
    ],
)
def test_files_that_are_no_annotations(tmp_path, name, content, message):
    path = tmp_path / "annotations.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_benchmark(name, path))


@pytest.mark.parametrize(("name", "content"), [("hcstvg", "[]"), ("vidstg", "{}")])
def test_the_other_benchmarks_file(tmp_path, name, content):
    path = tmp_path / "annotations.json"
    path.write_text(content)
    with pytest.raises(InputError, match="of the right benchmark"):
        list(read_benchmark(name, path))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_no_such_file(tmp_path, name):
    with pytest.raises(InputError, match="nowhere"):
        list(read_benchmark(name, tmp_path / "nowhere.json"))


def test_a_byte_order_mark_is_no_damage(tmp_path):
    path = tmp_path / "hc.json"
    path.write_text(json.dumps({"a.mp4": HC1}), encoding="utf-8-sig")
    assert len(list(hcstvg.read(path))) == 1


def test_boxes_belong_to_vidstg_alone(tmp_path):
    with pytest.raises(InputError, match="leave --boxes out"):
        read_benchmark("hcstvg", tmp_path, boxes=tmp_path)


def test_missing_videos_are_listed_and_containers_may_differ(tmp_path):
    (tmp_path / "videos" / "part1").mkdir(parents=True)
    (tmp_path / "videos" / "part1" / "b.MKV").touch()
    path = tmp_path / "hc.json"
    path.write_text(json.dumps({"a.mp4": HC1, "b.mp4": HC1}))
    report = SkipReport()
    (sample,) = hcstvg.read(path, tmp_path / "videos", report)
    assert sample.video.name == "b.MKV"
    assert report.skipped == {"missing video": ["a.mp4"]}
    with pytest.raises(InputError, match="is not a folder"):
        list(hcstvg.read(path, tmp_path / "none"))


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
