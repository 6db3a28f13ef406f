"""`prepare --for`: each file is read as its framework reads it, and scored by its plug-in."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from stvgkit import errors
from stvgkit.cli import main
from stvgkit.datasets import Sample, write_prepared
from stvgkit.errors import InputError
from stvgkit.plugins import easyr1, files, openrlhf, swift, unpack_ground_truth, verl
from stvgkit.plugins.files import FRAMEWORKS, write_training_file
from stvgkit.rewards import REWARDS
from stvgkit.rows import ClipFormat, gold_text, plan_row
from stvgkit.tubes import Span, Tube
from stvgkit.video import write_video

QUERIES = ["the dog", 'she says: "l\'été"\nand leaves', "a <image> of a dog", "<|im_end|>"]


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Three seconds at 10 fps: two usable samples, two with a control token, one without boxes."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    write_video(path, np.zeros((30, 180, 320, 3), np.uint8), fps=10)
    tube = Tube(np.arange(8, 22), [[0.1, 0.2, 0.4, 0.8]] * 14)
    made = [
        Sample(f"sample {n}", query, path, 320, 180, 10.0, Span(0, 29), tube.span, tube)
        for n, query in enumerate(QUERIES)
    ]
    return [*made, Sample("bare", "the dog", path, 320, 180, 10.0, Span(0, 29), tube.span)]


@pytest.fixture
def split(samples, tmp_path):
    write_prepared(tmp_path, samples, "by hand")
    return tmp_path


def read(path):
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().split("\n") if line]
    parquet = pytest.importorskip("pyarrow.parquet")
    return parquet.read_table(path).to_pylist()


def prompt_of(framework, row):
    if framework == "trl":
        parts = row["prompt"][0]["content"]
        return "".join("<image>" if part["type"] == "image" else part["text"] for part in parts)
    if framework == "easyr1":
        return row["prompt"]
    (turn,) = row["messages" if framework == "swift" else "prompt"]
    assert turn["role"] == "user"
    return turn["content"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_prompt_has_a_placeholder_for_each_frame_after_its_time(framework, split):
    path, count, report = write_training_file(framework, split)
    rows = read(path)
    assert path.parent == split / framework and len(rows) == count == 2
    for row, query in zip(rows, QUERIES, strict=False):
        prompt = prompt_of(framework, row)
        times = re.findall("<([0-9.]+) seconds><image>", prompt)
        assert times == ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5"]
        assert prompt.count("<image>") == len(row["images"]) == 6
        assert f'"{query}"' in prompt and "integers from 0 to 1000" in prompt
        for image in row["images"]:
            with Image.open(image["image"] if framework == "verl" else image) as opened:
                assert (opened.size, opened.format) == ((320, 192), "JPEG")
    listed = {reason: ids for reason, ids in report.skipped.items()}
    assert listed == {
        "query holds '<image>', which is no text to a framework": ["sample 2"],
        "query holds '<|', which is no text to a framework": ["sample 3"],
        "no gold boxes to learn from": ["bare"],
    }


@pytest.mark.parametrize("space", ["0-1000", "pixels"])
def test_the_gold_answer_earns_nearly_the_most_in_every_framework(split, samples, space):
    found = {f: read(write_training_file(f, split, space=space)[0])[0] for f in FRAMEWORKS}
    clip_format = ClipFormat(space, factor=32 if space == "0-1000" else 28)
    planned = plan_row(samples[0], clip_format)
    gold = gold_text(planned)
    truth = found["verl"]["reward_model"]["ground_truth"]
    target, shown = unpack_ground_truth(truth)
    assert target == Tube(planned["target_frames"], planned["target_boxes"])
    assert shown.name == planned["space"] == ("0-1000" if space == "0-1000" else "308x168")
    assert found["easyr1"]["answer"] == found["swift"]["ground_truth"] == truth

    row = found["verl"]
    score = verl.compute_score(row["data_source"], gold, truth, row["extra_info"])
    most = score["score"]
    assert 4.9 < most <= 5.0
    answers = [{"response": gold, "response_length": 9, "ground_truth": found["easyr1"]["answer"]}]
    assert easyr1.compute_score(answers)[0]["overall"] == most
    columns = {key: [value] for key, value in found["swift"].items()}
    assert swift.StvgSpatial()([gold], **columns) == [score["spatial"]]
    label = found["swift"]["ground_truth"]  # OpenRLHF reads the same file
    assert openrlhf.reward_func(["Q" + gold], ["Q"], [label])["rewards"].item() == pytest.approx(
        most
    )
    columns = {key: [value] for key, value in found["trl"].items()}
    rewards = [reward([gold], **columns)[0] for reward in REWARDS]
    assert rewards[:4] == [1.0, 1.0, 1.0, score["spatial"]]


def test_verls_row_is_what_its_data_set_asks_for(split):
    row = read(write_training_file("verl", split)[0])[1]
    assert row["data_source"] == row["ability"] == "stvg"
    assert row["reward_model"]["style"] == "rule"
    assert row["extra_info"] == {"index": 1, "id": "sample 1", "query": QUERIES[1]}


def test_long_clips_are_shown_in_fewer_frames(split):
    path, _, _ = write_training_file("swift", split, max_frames=3)
    assert len(read(path)[0]["images"]) == 3


def test_the_command_line_writes_the_split_and_the_file(tmp_path, samples, capsys):
    record = {"bbox": [[32, 36, 96, 108]] * 14, "st_frame": 9, "img_num": 30, "fps": 10}
    record |= {"caption": "the dog", "width": 320, "height": 180}
    annotations = tmp_path / "ann.json"
    annotations.write_text(json.dumps({"clip.mp4": record}))
    arguments = ["prepare", "--benchmark", "hcstvg", "--annotations", str(annotations)]
    arguments += ["--videos", str(samples[0].video.parent), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--for", "swift", "--space", "pixels", "--max-frames", "4"]) == 0
    path = tmp_path / "out/swift/rows.jsonl"
    assert capsys.readouterr().out.splitlines()[-1] == f"1 rows for swift: {path}"
    (row,) = read(path)
    assert (row["id"], len(row["images"])) == ("clip.mp4", 4)
    assert '"308x168"' in row["ground_truth"]
    assert main([*arguments, "--for", "trl", "--max-frames", "0"]) == 2
    assert "max_frames is 0: give 1 or more" in capsys.readouterr().err


def test_a_missing_pyarrow_is_named_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    arguments = ["--benchmark", "hcstvg", "--annotations", "no.json", "--videos", str(tmp_path)]
    assert main(["prepare", *arguments, "--out", str(tmp_path / "out"), "--for", "verl"]) == 2
    said = capsys.readouterr().err
    assert said == ("stvgkit: prepare --for verl needs pyarrow: pip install 'stvgkit[train]'\n")
    assert not (tmp_path / "out").exists()


def test_wrong_choices_and_empty_splits_are_one_sentence(split, samples, tmp_path):
    with pytest.raises(InputError, match="unknown choice 'vllm': use one of verl, easyr1"):
        write_training_file("vllm", split)
    with pytest.raises(InputError, match="unknown choice '0-100': use one of 0-1000, pixels"):
        write_training_file("swift", split, space="0-100")
    write_prepared(tmp_path / "none", samples[2:], "by hand")
    with pytest.raises(InputError, match="not one sample can be used: skipped 1: query holds"):
        write_training_file("swift", tmp_path / "none")
    assert not (tmp_path / "none" / "swift" / "rows.jsonl").exists()


def test_an_interrupted_parquet_leaves_nothing_behind(split, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")

    def fails(table, path):
        path.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(parquet, "write_table", fails)
    with pytest.raises(OSError, match="disk full"):
        files.write_training_file("verl", split)
    assert [path.name for path in (split / "verl").iterdir()] == ["frames"]
