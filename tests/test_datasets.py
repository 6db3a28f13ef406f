"""Readers on the real files, on their known damage, and on tables of malformed records."""

import copy
import json
from collections import Counter

import numpy as np
import pytest
from annotations import HC1, HC2, VID, VIDOR, read_hc, read_vid, read_vue, with_, write_vue

from stvgkit.datasets import BENCHMARKS, SkipReport, hcstvg, read_benchmark, vidstg, vue_stg
from stvgkit.errors import InputError
from stvgkit.tubes import Span
from stvgkit.video import write_video

NAN, INF = float("nan"), float("inf")


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
