"""Adapters: which layers get one, what is saved, and where its base is found."""

import json
from pathlib import Path

import pytest
import torch
from peft import get_peft_model
from transformers import BitsAndBytesConfig

from stvgkit.datasets import read_prepared
from stvgkit.datasets.shapes import write_shapes
from stvgkit.errors import InputError
from stvgkit.rows import plan_rows
from stvgkit.tiny.learning import CLIP_FORMAT
from stvgkit.training.evaluation import complete
from stvgkit.training.models import adapter_base, load, merge
from stvgkit.training.trainers import freeze_vision, grpo, lora, sft

STEP = dict(max_steps=2, per_device_train_batch_size=2, learning_rate=1e-2)
STEP |= dict(report_to="none", disable_tqdm=True)


@pytest.fixture(scope="module")
def tiny_rows(tmp_path_factory):
    path = write_shapes(tmp_path_factory.mktemp("shapes"), "train", 4)
    return plan_rows(read_prepared(path), CLIP_FORMAT)


@pytest.mark.parametrize("vision", [False, True])
def test_only_the_chosen_layers_get_an_adapter(vision):
    grounder = load("tiny")
    model = get_peft_model(grounder.model, lora(grounder, vision=vision, r=2))
    adapted = {name for name, _ in model.named_parameters() if "lora_A" in name}
    seeing = {name for name in adapted if ".visual." in name}
    assert bool(seeing) == vision
    assert len(adapted - seeing) == 4 * 7  # layers times linear layers; the head has none


def test_train_save_reload_merge(tiny_rows, tmp_path):
    grounder = load("tiny", dtype="float32")
    before = [w.clone() for w in grounder.model.parameters()]
    out = sft(grounder, tiny_rows, tmp_path, peft_config=lora(grounder, r=4), **STEP)
    assert (out / "adapter_model.safetensors").exists()
    assert not (out / "model.safetensors").exists()
    again = load(str(out), dtype="float32")
    base = [w for name, w in again.model.named_parameters() if "lora" not in name]
    assert all(torch.equal(a, b) for a, b in zip(before, base, strict=True))
    said = complete(again, tiny_rows, max_new_tokens=24)
    assert said != complete(load("tiny"), tiny_rows, max_new_tokens=24)
    merged = merge(again)
    assert not [name for name, _ in merged.model.named_parameters() if "lora" in name]
    assert complete(merged, tiny_rows, max_new_tokens=24) == said
    merged.save(tmp_path / "merged")
    saved = load(str(tmp_path / "merged"), dtype="float32")
    assert complete(saved, tiny_rows, max_new_tokens=24) == said


def test_grpo_goes_on_with_the_adapter_of_sft(tiny_rows, tmp_path):
    grounder = load("tiny", dtype="float32")
    first = sft(grounder, tiny_rows, tmp_path / "sft", peft_config=lora(grounder, r=4), **STEP)
    settings = dict(num_generations=2, max_completion_length=8)
    out = grpo(load(str(first)), tiny_rows, tmp_path / "grpo", **STEP | settings)
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["r"] == 4 and config["base_model_name_or_path"].endswith("checkpoint")


def test_an_adapter_and_its_base_move_together(tiny_rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # so that the base is known by a path that holds here alone
    sft(load("tiny", dtype="float32"), tiny_rows, "out/sft", **STEP)
    grounder, settings = load("out/sft"), dict(num_generations=2, max_completion_length=8)
    adapter = lora(grounder, r=4)
    grpo(grounder, tiny_rows, "out/grpo", peft_config=adapter, **STEP | settings)
    assert adapter_base("out/grpo") == "out/sft"
    Path("out").rename("moved")
    monkeypatch.chdir("/")
    assert adapter_base(str(tmp_path / "moved/grpo")) == str(tmp_path / "moved/sft")
    assert load(str(tmp_path / "moved/grpo")).model.peft_config["default"].r == 4
    (tmp_path / "moved/sft").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="an adapter of 'out/sft'"):
        load(str(tmp_path / "moved/grpo"))


def test_frozen_vision_stays_as_it_was(tiny_rows, tmp_path):
    grounder = load("tiny", dtype="float32")
    freeze_vision(grounder)
    before = {name: w.clone() for name, w in grounder.model.named_parameters()}
    sft(grounder, tiny_rows, tmp_path, **STEP)
    after = dict(grounder.model.named_parameters())
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and not [name for name in changed if "visual" in name]


def test_four_bit_base_with_an_adapter(tiny_rows, tmp_path):
    """bitsandbytes 0.49 and later also runs on a CPU, so the real thing is tested here."""
    pytest.importorskip("bitsandbytes")
    four_bit = {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
        )
    }
    grounder = load("tiny", dtype="float32", model_settings=four_bit)
    kinds = {type(part).__name__ for part in grounder.model.modules()}
    assert "Linear4bit" in kinds
    out = sft(grounder, tiny_rows, tmp_path, peft_config=lora(grounder, r=4), **STEP)
    again = load(str(out), dtype="float32", model_settings=four_bit)
    assert all(isinstance(text, str) for text in complete(again, tiny_rows, max_new_tokens=4))
