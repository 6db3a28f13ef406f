"""Readers on arbitrary JSON: one damaged value anywhere may cost its sample, never the run."""

import copy
import json

import pytest
from annotations import HC1, HC2, VID, VIDOR
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stvgkit.datasets import Sample, SkipReport, hcstvg, read_prepared, vidstg, vue_stg
from stvgkit.datasets.prepared import write_prepared
from stvgkit.errors import InputError
from stvgkit.predictions import read_completions, read_hcstvg
from stvgkit.tubes import Span, Tube

SETTINGS = settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
texts = st.text(st.characters(exclude_categories=()), max_size=8)  # halves of pairs too
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.sampled_from(["\ud800", 0, -1, 1, 2**63, 10**30, 10**400, 1e308, -0.0, "1", "NaN", ""])
)
csv_texts = st.text(st.characters() | st.sampled_from('",\n\rqv019.'))
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


def places(value, path=()):
    """Every path to a value inside nested lists and dictionaries."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    if isinstance(value, dict | list):
        for key, item in items:
            yield from (
                places(item, (*path, key)) if isinstance(item, dict | list) else [(*path, key)]
            )


def damaged(record):
    """The record with one value somewhere replaced by anything."""

    def put(path, value):
        changed = copy.deepcopy(record)
        if not path:
            return value
        place = changed
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        return changed

    return st.builds(put, st.sampled_from(list(places(record))), values)


def check(folder, samples, report, good, total):
    """The good samples are there, each bad one was read properly or listed; all can be written."""
    assert good <= {sample.id for sample in samples}
    if samples:
        write_prepared(folder / "prepared", samples, "by hand")
        assert list(read_prepared(folder / "prepared")) == samples
    json.dumps(report.as_dict(), ensure_ascii=False).encode()
    listed = sum(len(ids) for ids in report.skipped.values())
    assert len(samples) + listed >= total
    for sample in samples:
        assert isinstance(sample, Sample) and len(sample.span)
        assert sample.window.start <= sample.span.start <= sample.span.end <= sample.window.end
        if sample.tube is not None:
            assert (
                len(sample.tube) and sample.tube.boxes.min() >= 0 and sample.tube.boxes.max() <= 1
            )
            assert sample.tube.span.intersect(sample.span) == sample.tube.span


@SETTINGS
@given(damaged(HC1) | damaged(HC2))
def test_hcstvg(tmp_path, record):
    path = tmp_path / "hc.json"
    path.write_text(json.dumps({"bad": record, "good": HC1}))
    report = SkipReport()
    check(tmp_path, list(hcstvg.read(path, None, report)), report, {"good"}, 2)


@SETTINGS
@given(damaged(VID))
def test_vidstg(tmp_path, record):
    path = tmp_path / "vid.json"
    path.write_text(json.dumps([record, VID]))
    report = SkipReport()
    good = {"1071/1/declarative/0", "1071/1/interrogative/0"}
    check(tmp_path, list(vidstg.read(path, None, report)), report, good, 3)


@SETTINGS
@given(damaged({**VIDOR, "trajectories": VIDOR["trajectories"][:33]}))
def test_vidor_boxes(tmp_path, boxes):
    (tmp_path / "vid.json").write_text(json.dumps([VID]))
    (tmp_path / "boxes").mkdir(exist_ok=True)
    (tmp_path / "boxes" / "1071.json").write_text(json.dumps(boxes))
    report = SkipReport()
    samples = list(vidstg.read(tmp_path / "vid.json", None, report, boxes=tmp_path / "boxes"))
    check(tmp_path, samples, report, set(), 2)


@SETTINGS
@given(csv_texts, csv_texts, csv_texts)
def test_vue_stg(tmp_path, query, tubes, video):
    for name, header, body in (
        ("query", "query_id,query_text,video_id", query),
        ("tubes", "query_id,time_ms,x0,y0,x1,y1", f"q,1000,0,0,1,1\n{tubes}"),
        ("video", "video_id,video_duration", f"v,9\n{video}"),
    ):
        first = "q,a man,v\n" if name == "query" else ""
        text = f"{header}\n{first}{body}"
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8", errors="replace")
    report = SkipReport()
    try:
        samples = list(vue_stg.read(tmp_path, None, report))
    except InputError as error:
        assert "is not CSV" in str(error)
    else:
        check(tmp_path, samples, report, {"q"}, 1)


GOOD = {"st_frame": 1, "ed_frame": 2, "bbox": {"1": [0, 0, 5, 5], "2": [0, 0, 5, 5]}}
TUBE = Tube([5, 6], [[0, 0, 0.5, 0.5], [0, 0, 1, 1]])
SAMPLE = Sample("good", "the dog", None, 64, 36, 5.0, Span(0, 9), Span(5, 6), TUBE, {"a": "b"})


@SETTINGS
@given(st.data())
def test_prepared(tmp_path, data):
    write_prepared(tmp_path, [SAMPLE], "by hand")
    path = tmp_path / "samples.jsonl"
    line = path.read_text()
    record = {**json.loads(line), "id": "bad"}
    path.write_text(line + json.dumps(data.draw(damaged(record))) + "\n")
    report = SkipReport()
    check(tmp_path, list(read_prepared(path, report)), report, {"good"}, 2)


@SETTINGS
@given(damaged(GOOD))
def test_official_predictions(tmp_path, record):
    path = tmp_path / "preds.json"
    path.write_text(json.dumps({"good": record}))
    prediction = read_hcstvg(path, [SAMPLE], SkipReport())["good"]
    assert prediction.tube is None or isinstance(prediction.span, Span)


@SETTINGS
@given(damaged({"id": "a", "completion": "x", "frames": [0, 15], "space": "0-1000"}))
def test_completions(tmp_path, record):
    path = tmp_path / "preds.jsonl"
    path.write_text(json.dumps(record))
    try:
        assert len(read_completions(path)) == 1
    except InputError as error:
        assert "line 1: " in str(error)


@pytest.mark.parametrize("reader", [hcstvg.read, vidstg.read, read_prepared, read_completions])
@SETTINGS
@given(content=st.binary(max_size=200))
def test_arbitrary_bytes(tmp_path, reader, content):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    try:
        list(reader(path))
    except InputError as error:
        assert str(path) in str(error)
