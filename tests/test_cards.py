"""What would be pushed to the hub; nothing here reaches it."""

from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, HfApi, ModelCard

from stvgkit.cli import main
from stvgkit.datasets.shapes import write_shapes

RUN = ["sft", "tiny-sft", "--max_steps", "1", "--per_device_train_batch_size", "2"]
RUN += ["--report_to", "none", "--disable_tqdm", "true", "--model", "tiny", "--save_steps", "9"]
NAME = ["--hub_model_id", "somebody/tiny"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return str(write_shapes(tmp_path_factory.mktemp("shapes"), "train", 2))


def test_a_trained_model_says_how_it_is_asked_and_is_pushed_whole(data, tmp_path, monkeypatch):
    """By the Trainer's own --push_to_hub, up to the call that would leave this machine."""
    pushed = {}

    class Repo:
        repo_id = "somebody/tiny"

    def upload(api, *, folder_path, repo_id, **kwargs):
        pushed[repo_id] = {path.name for path in Path(folder_path).iterdir()}

    monkeypatch.setattr(HfApi, "create_repo", lambda *args, **kwargs: Repo())
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    argv = [*RUN, "--data", data, "--out", str(tmp_path / "out")]
    assert main([*argv, "--push_to_hub", "true", "--hub_strategy", "end", *NAME]) == 0
    assert {"model.safetensors", "clip_format.json", "README.md"} <= pushed["somebody/tiny"]
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert {"stvgkit", "spatio-temporal-video-grounding", "trl", "sft"} <= set(card.data.tags)
    assert card.data.library_name == "transformers"
    assert "`space`: 0-100" in card.text and card.text.count("## How it is asked") == 1


def test_offline_a_push_is_refused_in_one_line_before_training(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    argv = [*RUN, "--data", data, "--out", str(tmp_path / "out"), "--push_to_hub", "true"]
    assert main([*argv, *NAME]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("stvgkit: ") and not (tmp_path / "out" / "log.json").exists()


def test_a_prepared_split_has_a_card(root, tmp_path):
    samples = root / "data_samples"
    argv = ["prepare", "--benchmark", "hcstvg", "--videos", str(samples), "--out", str(tmp_path)]
    annotations = next(path for path in samples.rglob("*.json") if "st_frame" in path.read_text())
    assert main([*argv, "--annotations", str(annotations)]) == 0
    card = DatasetCard.load(tmp_path / "README.md")
    assert card.data.tags == ["stvgkit", "spatio-temporal-video-grounding", "hcstvg"]
    assert "samples: a sentence" in card.text and "videos and their licences" in card.text
