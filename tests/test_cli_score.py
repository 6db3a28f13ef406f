"""`stvgkit score`, `prepare` and `info` from the command line."""

import csv
import json
import random

import numpy as np
import pytest

from stvgkit import Answer, CoordinateSpace, Span, Tube, format_answer
from stvgkit.cli import main
from stvgkit.datasets import Sample, read_prepared, write_prepared
from stvgkit.predictions import Prediction, answer_span, answer_tube, read_completions

COLUMNS = ["t_Precision", "t_Recall", "t_IoU", "v_Precision", "v_Recall", "v_IoU", "v_IoU_Int"]
# bytedance/vidi, VUE_STG/README.md, "By November 21, 2025"
PUBLISHED = {
    "vidi2": ["0.730", "0.598", "0.532", "0.446", "0.363", "0.326", "0.603"],
    "qwen3-vl-32b-instruct": ["0.453", "0.392", "0.259", "0.086", "0.075", "0.051", "0.185"],
}


def score(*arguments, out=None):
    """Run `stvgkit score`; the exit code, and what it wrote as JSON."""
    code = main(["score", *map(str, arguments), *(["--json", str(out)] if out else [])])
    return code, json.loads(out.read_text()) if out and out.is_file() else None


@pytest.mark.parametrize("model", PUBLISHED)
def test_every_published_vue_stg_figure(shared_data, tmp_path, capsys, model):
    folder = shared_data / "vue_stg"
    tubes = folder / "results" / model / "tubes.csv"
    code, report = score(
        *("--benchmark", "vue-stg", "--annotations", folder, "--predictions", tubes),
        out=tmp_path / "scores.json",
    )
    assert code == 0
    assert list(report) == [
        *["protocol", "samples", "unparsed", "missing", "metrics", "groups"],
        *["reader", "lenient_only", "reasons"],
    ]
    assert (report["protocol"], report["samples"], report["unparsed"]) == ("vue-stg", 1600, 0)
    assert report["missing"] == {"vidi2": 2, "qwen3-vl-32b-instruct": 133}[model]
    assert list(report["metrics"]) == COLUMNS
    assert [f"{value:.3f}" for value in report["metrics"].values()] == PUBLISHED[model]
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("all "))
    assert row.split()[2:] == ["1600", *PUBLISHED[model]]
    assert {group: list(names) for group, names in report["groups"].items()} == {
        "gold length": ["<3s", "3-10s", "10-60s"],
        "object size": ["<10%", "10-30%", ">=30%"],
        "video length": ["<1min", "1-10min", "10-30min"],
    }
    for names in report["groups"].values():
        assert sum(row["samples"] for row in names.values()) == 1600
        for metric in ("t_Recall", "t_IoU", "v_Recall", "v_IoU"):  # defined on every query
            mean = sum(row["samples"] * row[metric] for row in names.values()) / 1600
            assert mean == pytest.approx(report["metrics"][metric], abs=1e-12)


def test_vue_stg_groups_equal_a_loop_over_the_files(shared_data, tmp_path):
    """One group of each kind, counted anew from the CSV files."""
    folder = shared_data / "vue_stg"

    def rows(path):
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    def tubes(path):
        found = {}
        for row in rows(path):
            second = int(int(row["time_ms"]) / 1000 + 0.5)
            box = [float(row[key]) for key in ("x0", "y0", "x1", "y1")]
            found.setdefault(row["query_id"], {}).setdefault(second, box)
        return found

    gold, pred = tubes(folder / "tubes.csv"), tubes(folder / "results" / "vidi2" / "tubes.csv")
    seconds = {row["video_id"]: float(row["video_duration"]) for row in rows(folder / "video.csv")}
    video = {row["query_id"]: row["video_id"] for row in rows(folder / "query.csv")}

    def t_iou(name):
        a, b = set(gold[name]), set(pred.get(name, {}))
        return len(a & b) / len(a | b)

    def size(name):
        return np.mean([(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in gold[name].values()])

    members = {
        ("object size", "10-30%"): [name for name in gold if 0.1 <= size(name) < 0.3],
        ("gold length", "<3s"): [name for name in gold if len(gold[name]) < 3],
        ("video length", "1-10min"): [name for name in gold if 60 <= seconds[video[name]] < 600],
    }
    _, report = score(
        *("--benchmark", "vue-stg", "--annotations", folder),
        *("--predictions", folder / "results" / "vidi2" / "tubes.csv"),
        out=tmp_path / "scores.json",
    )
    for (group, name), chosen in members.items():
        row = report["groups"][group][name]
        assert row["samples"] == len(chosen) > 100
        assert row["t_IoU"] == pytest.approx(np.mean([t_iou(query) for query in chosen]), abs=1e-9)


def official_hcstvg(gold, pred):
    """The official evaluator's definition, on its own file form."""
    tious, vious = [], []
    for name, truth in gold.items():
        ious = []
        if name in pred:
            said = pred[name]
            for frame, b in truth["bbox"].items():
                if frame in said["bbox"]:
                    a = said["bbox"][frame]
                    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
                    inter = w * h if w > 0 and h > 0 else 0
                    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
                    ious.append(inter / (area - inter) if inter else 0)
            frames = max(truth["ed_frame"], said["ed_frame"])
            frames -= min(truth["st_frame"], said["st_frame"]) - 1
        tious.append(len(ious) / frames if ious else 0)
        vious.append(sum(ious) / frames if ious else 0)
    shares = [np.mean([viou > r for viou in vious]) for r in (0.3, 0.5)]
    return [np.mean(tious), np.mean(vious), *shares]


def hcstvg_files(folder, count=300, seed=0):
    """Annotations, official gold and official predictions; boxes leave the image here and there."""
    rng = random.Random(seed)
    annotations, gold, pred = {}, {}, {}
    for i in range(count):
        start, boxes = rng.randrange(1, 300), []
        for _ in range(rng.choice([1, 2, 30, 120])):
            boxes.append([rng.randrange(-30, 300), rng.randrange(200), rng.randrange(40, 400), 150])
        name = f"{i}_clip.mp4"
        annotations[name] = {
            "bbox": boxes,
            "st_frame": start,
            "img_num": 600,
            "caption": "A man waves.",
            "width": 640,
            "height": 360,
        }
        corners = [[x, y, x + w, y + h] for x, y, w, h in boxes]
        frames = range(start, start + len(boxes))
        gold[name] = {
            "st_frame": start,
            "ed_frame": frames[-1],
            "bbox": {str(f): box for f, box in zip(frames, corners, strict=True)},
        }
        if rng.random() < 0.1:
            continue  # missing
        shift, noise = rng.choice([0, 0, 1, 5, 40, 500]), rng.choice([0, 5, 30])
        moved = {
            str(f + shift): [c + rng.uniform(-noise, noise) for c in box]
            for f, box in zip(frames, corners, strict=True)
            if rng.random() < 0.9
        }
        pred[name] = {
            "st_frame": start + shift,
            "ed_frame": frames[-1] + shift,
            "bbox": moved,
        }
    paths = folder / "test.json", folder / "preds.json"
    for path, value in zip(paths, (annotations, pred), strict=True):
        path.write_text(json.dumps(value))
    return *paths, official_hcstvg(gold, pred)


def test_hcstvg_files_under_the_official_protocol(tmp_path, capsys):
    annotations, predictions, wanted = hcstvg_files(tmp_path)
    code, report = score(
        *("--benchmark", "hcstvg", "--annotations", annotations, "--predictions", predictions),
        *("--protocol", "hcstvg"),
        out=tmp_path / "out" / "scores.json",
    )
    assert code == 0 and report["protocol"] == "hcstvg" and report["missing"] > 10
    names = ["m_tIoU", "m_vIoU", "vIoU@0.3", "vIoU@0.5"]
    assert [report["metrics"][name] for name in names] == pytest.approx(wanted, abs=1e-9)
    (note,) = capsys.readouterr().err.strip().splitlines()  # the files are random, and say so
    assert "of the boxes leave the frame" in note


@pytest.mark.parametrize("protocol", ["default", "stcat", "tubedetr"])
def test_other_protocols_on_the_same_files(tmp_path, protocol):
    annotations, predictions, _ = hcstvg_files(tmp_path)
    arguments = ["--benchmark", "hcstvg", "--annotations", annotations, "--protocol", protocol]
    code, report = score(*arguments, "--predictions", predictions, out=tmp_path / "scores.json")
    assert code == 0 and report["protocol"] == protocol
    assert 0 < report["metrics"]["m_vIoU"] < report["metrics"]["m_tIoU"] < 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"st_frame": 0}, "'st_frame' is not a whole number from 1 on"),
        ({"ed_frame": "9"}, "'ed_frame' is not a number"),
        ({"bbox": [[1, 2, 3, 4]]}, "'bbox' is not an object"),
        ({"bbox": {"31": [1, 2, 3]}}, "'bbox' is not a list of boxes of four numbers"),
        ({"bbox": {"31": [1, 2, 3, float("nan")]}}, "box coordinates must be finite"),
        ({"bbox": {"x": [1, 2, 3, 4]}}, "a key of 'bbox' is not a frame number from 1 on"),
        ({"bbox": {"0": [1, 2, 3, 4]}}, "a key of 'bbox' is not a frame number from 1 on"),
        ({"bbox": {"9" * 30: [1, 2, 3, 4]}}, "a key of 'bbox' is not a frame number from 1 on"),
        ({"bbox": {"3": [1, 2, 3, 4], "03": [1, 2, 3, 4]}}, "frame numbers must be strictly"),
    ],
)
def test_a_malformed_official_prediction_counts_as_unparsed(tmp_path, capsys, changes, reason):
    annotations, predictions, _ = hcstvg_files(tmp_path, count=40)
    records = json.loads(predictions.read_text())
    broken = next(iter(records))
    records[broken].update(changes)
    predictions.write_text(json.dumps(records))
    code, report = score(
        *("--benchmark", "hcstvg", "--annotations", annotations, "--predictions", predictions),
        out=tmp_path / "scores.json",
    )
    assert (code, report["unparsed"]) == (0, 1)
    note = capsys.readouterr().err
    assert reason in note and broken in note


# What a model says, on frames sampled every 15 video frames.
FRAMES = list(range(0, 90, 15))
SPACE = CoordinateSpace.relative(1000)


def linear_tube(first, last):
    """A box that moves steadily, on every frame; linear, so sampling loses nothing."""
    frames = np.arange(first, last + 1)
    x = frames / 300
    return Tube(frames, np.stack([x, x * 0 + 0.2, x + 0.3, x * 0 + 0.7], axis=1))


def prepared(folder, names="abc"):
    gold = linear_tube(15, 45)
    groups = {"query": "declarative"}
    write_prepared(
        folder,
        [Sample(n, "q", None, 640, 360, 30.0, Span(0, 89), gold.span, gold, groups) for n in names],
        "by hand",
    )
    return gold


def line(name, completion, **changes):
    record = {"id": name, "completion": completion, "frames": FRAMES, "space": "0-1000"}
    return json.dumps(record | changes)


def said(first, last, think=True):
    """The completion that answers the steady box on sampled frames first..last."""
    tube = linear_tube(0, 89).at(FRAMES)
    tube = Tube(range(len(FRAMES)), tube.boxes).slice(Span(first, last))
    return format_answer(Answer(Span(first, last), tube if think else None, tube, True), SPACE)


def test_completions_are_spread_over_the_video_frames(tmp_path):
    gold = prepared(tmp_path)
    lines = [line("a", said(1, 3)), line("b", "I do not know."), line("z", said(1, 3))]
    (tmp_path / "preds.jsonl").write_text("\n".join(lines) + "\n")
    code, report = score(
        *("--benchmark", "prepared", "--annotations", tmp_path),
        *("--predictions", tmp_path / "preds.jsonl"),
        out=tmp_path / "scores.json",
    )
    assert (code, report["samples"], report["unparsed"], report["missing"]) == (0, 3, 1, 1)
    assert report["metrics"]["m_tIoU"] == pytest.approx(1 / 3)
    assert report["metrics"]["m_vIoU"] == pytest.approx(1 / 3, abs=2e-3)  # rounded to 1/1000
    assert report["groups"]["query"]["declarative"]["samples"] == 3
    tube = read_completions(tmp_path / "preds.jsonl")["a"].tube
    assert tube.frames.tolist() == gold.frames.tolist()


def test_a_model_without_think_boxes_says_so(tmp_path):
    (tmp_path / "p.jsonl").write_text(
        line("a", said(1, 3, think=False), think=False) + "\n" + line("b", said(1, 3, think=False))
    )
    predictions = read_completions(tmp_path / "p.jsonl")
    assert len(predictions["a"].tube) == 31
    assert predictions["b"] == Prediction(None, lenient_only=True)


def test_answers_beyond_the_frames_shown():
    tube = Tube([4, 5, 9], [[0, 0, 0.5, 0.5]] * 3)
    answer = Answer(Span(4, 9), tube, tube, False)
    assert answer_span(answer, FRAMES) == Span(60, 75)
    assert answer_tube(answer, FRAMES).span == Span(60, 75)
    for span in (Span(6, 9), Span(3, 1)):  # all beyond; reversed
        answer = Answer(span, tube, tube, False)
        assert len(answer_span(answer, FRAMES)) == len(answer_tube(answer, FRAMES)) == 0
    assert len(answer_span(answer, [])) == len(answer_tube(answer, [])) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 2: Expecting"),
        ("[]", "line 2: the record is not an object"),
        (line("a", "x"), "line 2: id 'a' comes twice"),
        (line(7, "x"), "line 2: 'id' is not text"),
        (line("b", 7), "line 2: 'completion' is not text or null"),
        (line("b", "x", frames=None), "line 2: 'frames' is not a list"),
        (line("b", "x", frames=[0, "1"]), "line 2: 'frames' is not a number"),
        (line("b", "x", frames=[0, -1]), "line 2: 'frames' is not a whole number"),
        (line("b", "x", frames=[0, 0]), "line 2: 'frames' do not increase"),
        (line("b", "x", space="inches"), "line 2: unknown coordinate space 'inches'"),
        (line("b", "x", space=None), "line 2: 'space' is not text"),
        ("[" * 100_000, "line 2: "),
    ],
)
def test_a_damaged_predictions_file_is_refused_with_its_line(tmp_path, capsys, text, message):
    prepared(tmp_path)
    path = tmp_path / "preds.jsonl"
    path.write_text(line("a", "x") + "\n" + text)
    arguments = ("--benchmark", "prepared", "--annotations", tmp_path, "--predictions", path)
    assert score(*arguments)[0] == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{path} {message}" in error


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_files_that_windows_writes_are_read(tmp_path, capsys, encoding):
    """A byte order mark and line ends of two characters; UTF-16 without a mark is refused."""
    prepared(tmp_path)
    path = tmp_path / "preds.jsonl"
    path.write_bytes(f"{line('a', said(0, 5))}\r\n{line('b', 'x')}\r\n".encode(encoding))
    arguments = ("--benchmark", "prepared", "--annotations", tmp_path, "--predictions", path)
    if encoding == "utf-16-le":
        assert score(*arguments)[0] == 2
        assert str(path) in capsys.readouterr().err
    else:
        assert score(*arguments)[0] == 0
        assert "1 without a prediction, 1 not parsed" in capsys.readouterr().out


def test_the_commonest_reasons_are_named_with_counts_and_an_example(tmp_path, capsys):
    prepared(tmp_path)
    path, good = tmp_path / "preds.jsonl", said(0, 5)
    texts = {"a": f"```\n{good}\n```", "b": f"```xml\n{good}", "c": f"{good}<|im_end|>"}
    path.write_text("\n".join(line(name, text) for name, text in texts.items()))
    code, report = score(
        *("--benchmark", "prepared", "--annotations", tmp_path, "--predictions", path),
        out=tmp_path / "scores.json",
    )
    assert code == 0 and report["unparsed"] == 3
    first, second = report["reasons"].items()
    assert first[0] == "a code fence stands around the answer" and first[1]["count"] == 2
    assert first[1]["example"].startswith("a: The format is broken at character 1: ")
    assert second[1]["count"] == 1 and second[0].startswith("a control token is left in the text")
    printed = capsys.readouterr().out
    assert "not parsed 2: a code fence stands around the answer (such as a: The" in printed


def test_every_kind_of_wrong_argument_gives_one_line_and_code_2(tmp_path, capsys):
    prepared(tmp_path / "split")
    annotations, predictions, _ = hcstvg_files(tmp_path, count=3)
    (tmp_path / "empty.json").touch()
    (tmp_path / "other.jsonl").write_text(line("elsewhere", "x"))
    (tmp_path / "none.json").write_text("{}")
    split = tmp_path / "split"
    cases = [
        (["prepared", split, predictions], "predictions for prepared are .jsonl files"),
        (["vue-stg", tmp_path, predictions], "is not a file"),
        (["hcstvg", annotations, tmp_path / "no.json"], "is not a file: check the path"),
        (["hcstvg", annotations, tmp_path], "predictions for hcstvg are .json or .jsonl files"),
        (["hcstvg", annotations, tmp_path / "empty.json"], "is empty"),
        (["hcstvg", annotations, tmp_path / "other.jsonl"], "no prediction for any of the 3"),
        (["hcstvg", annotations, tmp_path / "none.json"], "no prediction for any of the 3"),
        (["hcstvg", tmp_path / "none.json", predictions], "not one usable sample"),
        (["vidstg", annotations, tmp_path / "other.jsonl"], "of the right benchmark"),
        (["hcstvg", annotations, predictions, "--protocol", "vue-stg"], "does not fit hcstvg"),
        (["vue-stg", tmp_path, predictions, "--protocol", "stcat"], "does not fit vue-stg"),
        (["hcstvg", annotations, predictions, "--boxes", split], "leave --boxes out"),
    ]
    for (benchmark, gold, pred, *more), message in cases:
        arguments = ["--benchmark", benchmark, "--annotations", gold, "--predictions", pred, *more]
        assert score(*arguments)[0] == 2, arguments
        error = capsys.readouterr().err
        assert error.startswith("stvgkit: ") and error.count("\n") == 1
        assert message in error


def test_times_alone_are_scored_where_boxes_are_not_known(shared_data, tmp_path, capsys):
    path = shared_data / "vidstg" / "test_5587257558.json"
    completion = "<time>0-1</time><think_bbox></think_bbox><pred_bbox></pred_bbox>"
    (tmp_path / "p.jsonl").write_text(line("5587257558/0/declarative/0", completion))
    arguments = ["--benchmark", "vidstg", "--annotations", path]
    code, report = score(
        *arguments, "--predictions", tmp_path / "p.jsonl", out=tmp_path / "scores.json"
    )
    assert code == 0 and report["metrics"]["m_vIoU"] is None
    assert report["metrics"]["m_tIoU"] == pytest.approx(16 / 235 / 10)  # frames 0-15 of 0-234
    assert "needs gold boxes" in capsys.readouterr().err


def test_prepare_then_info(shared_data, tmp_path, capsys):
    arguments = ["--annotations", shared_data / "vidstg" / "test_5587257558.json"]
    arguments += ["--videos", shared_data / "vidor", "--out", tmp_path / "out"]
    assert main(["prepare", "--benchmark", "vidstg", *map(str, arguments)]) == 0
    assert "10 samples written" in capsys.readouterr().out
    assert len(list(read_prepared(tmp_path / "out"))) == 10
    assert main(["info", str(tmp_path / "out")]) == 0
    assert "prepared: 10 samples, 0 with boxes" in capsys.readouterr().out
    assert main(["info", str(shared_data / "vidor" / "5587257558.mp4")]) == 0
    assert "640x360 pixels, 540 frames" in capsys.readouterr().out
    assert main(["info", str(tmp_path / "no.mp4")]) == 2
    assert main(["info", str(tmp_path / "no.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 2
