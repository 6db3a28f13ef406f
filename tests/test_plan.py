"""What a plan says, against the real processors, the real trainers, and arithmetic by hand."""

import importlib.util
import json

import numpy as np
import pytest

from stvgkit.cli import main
from stvgkit.datasets import Sample
from stvgkit.errors import InputError
from stvgkit.rows import gold_text, plan_row, row_images, row_messages
from stvgkit.training.cost import FSDP, ZERO3, Launch
from stvgkit.training.longest import QUERY, batch_of, describe
from stvgkit.training.plan import Plan, make_plan
from stvgkit.training.recipes import parse
from stvgkit.training.step import SWITCHES
from stvgkit.tubes import Span, Tube
from stvgkit.video import write_video

families = pytest.importorskip("families")


@pytest.fixture(scope="module", params=families.FAMILIES)
def checkpoint(request, tmp_path_factory):
    return families.save_family(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Sample:
    """Four seconds of 320 x 180 whose event fills them."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_video(path, np.full((32, 180, 320, 3), 90, np.uint8), 8)
    span = Span(0, 31)
    tube = Tube(span.frames(), [[0.25, 0.25, 0.75, 0.999]] * 32)
    return Sample("longest", QUERY, path, 320, 180, 8.0, span, span, tube)


def recipe(method: str, model, **settings):
    argv = [f"--{name}={value}" for name, value in settings.items()]
    return parse(method, ["--model", str(model), "--dtype", "float32", *argv])


def test_tokens_are_those_of_the_real_processor(checkpoint, filled):
    """Of the prompt that evaluation asks, and of the answer that SFT teaches."""
    task, model, args = recipe("sft", checkpoint, max_side=112)
    clip = make_plan("r", "sft", task, model, args, video=(320, 180), seconds=4).clip
    config, processor, clip_format = describe(model, task)
    row = plan_row(filled, clip_format)
    images = row_images(row)
    assert (clip.frames, clip.size) == (len(images), images[0].size) == (8, tuple(row["size"]))
    messages, frames = row_messages(row), iter(images)
    for part in messages[0]["content"]:
        if part["type"] == "image":
            part["image"] = next(frames)
    asked = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True
    )
    ids = np.asarray(asked["input_ids"]).reshape(-1)
    assert clip.visual_tokens + clip.text_tokens == len(ids)
    assert clip.visual_tokens == (ids == config.image_token_id).sum()
    if hasattr(processor.image_processor, "merge_size"):  # one token for each `factor` squared
        width, height = clip.size
        assert clip.visual_tokens == 8 * width * height // clip_format.factor**2
    taught = batch_of(processor, row, images)
    answer = taught["input_ids"][0][taught["labels"][0] != -100]
    assert clip.answer_tokens == len(answer)
    assert processor.tokenizer.decode(answer).strip().startswith(gold_text(row)[:20])


@pytest.fixture(scope="module")
def bench(root):
    spec = importlib.util.spec_from_file_location("plans", root / "benchmarks" / "plan.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("run", ["SFT, all weights", "SFT, checkpointing"])
def test_planned_memory_is_what_the_run_takes(bench, run, tmp_path):
    """Against PyTorch's own account of its allocator, during two steps of TRL's trainer."""
    method, settings = bench.RUNS[run]
    planned, measured = bench.compare("tiny", method, settings, tmp_path)
    assert planned == pytest.approx(measured, rel=0.15)


@pytest.fixture(scope="module")
def counted():
    """Plans of the tiny model in 32 bits, by launch and adapter."""

    def make(method="sft", **settings):
        task, model, args = recipe(method, "tiny", bf16=False, **settings)
        return make_plan("r", method, task, model, args, video=(64, 64), seconds=2)

    return make


def test_state_by_hand(counted):
    plan = counted()
    n = plan.parameters
    assert plan.trained == n and plan.memory["weights"] == plan.memory["gradients"] == 4 * n
    assert plan.memory["optimizer states"] == 8 * n


def test_an_adapter_alone_has_gradients(counted):
    plan = counted(use_peft=True, lora_r=4, train_vision=False)
    assert 0 < plan.trained < plan.parameters / 10
    assert plan.memory["gradients"] == 4 * plan.trained
    assert plan.memory["optimizer states"] == 8 * plan.trained
    assert plan.memory["weights"] == 4 * (plan.parameters + plan.trained)


def test_processes_share_the_state(counted):
    alone = counted()
    # Both launches ask for bf16. FSDP keeps trained weights and gradients in 32 bits, whatever type
    # they are read in; ZeRO-3 has gradients of 16 bits and their 32-bit copy.
    for name, split, gradient in (("fsdp-8", FSDP, 4), ("zero3-8", ZERO3, 2 + 4)):
        for dtype in ("float32", "bfloat16"):
            plan = counted(launch=name, dtype=dtype)
            assert (plan.launch.processes, plan.launch.split) == (8, split)
            assert plan.memory["optimizer states"] == alone.memory["optimizer states"] // 8
            assert plan.memory["gradients"] == gradient * plan.parameters // 8
    copies = counted(launch="ddp-8")
    assert copies.memory["optimizer states"] == alone.memory["optimizer states"]


def test_grpo_counts_the_reference_and_the_cache(counted):
    plan = counted("grpo", beta=0.001, per_device_train_batch_size=8)
    assert plan.memory["reference model"] == 4 * plan.parameters
    assert "generate" in plan.phases
    less = counted("grpo", beta=0.0, per_device_train_batch_size=8)
    assert "reference model" not in less.memory
    longer = counted("grpo", beta=0.0, per_device_train_batch_size=8, max_completion_length=2048)
    assert longer.phases["generate"] > less.phases["generate"]


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
def test_attention_in_one_call_takes_the_same_memory(name, tmp_path, monkeypatch):
    """As window by window and frame by frame, with and without checkpointing."""
    from stvgkit.training import step

    vision = dict(hidden_size=64, intermediate_size=64, depth=2, num_heads=2)  # it has the peak
    families.save_family(name, tmp_path, vision=vision)

    def peaks():
        for checkpointing in (False, True):
            settings = dict(gradient_checkpointing=checkpointing, max_side=224)
            task, model, args = recipe("sft", tmp_path, **settings)
            clips = dict(video=(320, 180), seconds=2)
            yield make_plan("r", "sft", task, model, args, **clips).memory["activations"]

    at_once = list(peaks())
    monkeypatch.setattr(step, "attend_at_once", lambda network: None)
    assert at_once == pytest.approx(list(peaks()), rel=0.01)


def test_a_gpu_keeps_no_copies_of_the_logits(tmp_path):
    """TRL's kernels work in place there; on a CPU some parts of the vocabulary are kept wide."""
    own = [getattr(module, name) for module, name in SWITCHES]  # they exist
    families.save_family("qwen3_vl", tmp_path)
    task, model, args = recipe("sft", tmp_path, max_side=112)
    clips = dict(video=(320, 180), seconds=4)
    gpu, cpu = (
        make_plan("r", "sft", task, model, args, **clips, on_cpu=on_cpu) for on_cpu in (False, True)
    )
    tokens = gpu.clip.visual_tokens + gpu.clip.text_tokens + gpu.clip.answer_tokens
    copy = 4 * 32_768 * tokens  # TRL's part of the vocabulary
    assert cpu.memory["activations"] - gpu.memory["activations"] > 3 * copy
    assert [getattr(module, name) for module, name in SWITCHES] == own


def test_gradients_of_the_batch_before_are_held(counted):
    """They are there from the second batch of a step on, while the next are being made."""
    first, second = counted(), counted(gradient_accumulation_steps=2)
    assert second.phases["train"] > first.phases["train"]
    assert second.phases["train"] == counted(gradient_accumulation_steps=8).phases["train"]


def test_vllm_takes_its_share_and_may_sleep():
    parts = dict(memory={}, phases={"train": 40_000_000_000, "rest": 20_000_000_000})
    parts |= dict(flops={}, vision_flops=0.0)
    plan = Plan("r", "m", "grpo", 1, 1, None, Launch(), **parts, vllm_share=0.5)
    assert plan.needs(80) == 80 and not plan.fits(80)
    asleep = Plan("r", "m", "grpo", 1, 1, None, Launch(), **parts, vllm_share=0.5, vllm_sleeps=True)
    assert asleep.needs(80) == 60 and asleep.fits(80)


def test_command_writes_json(capsys, tmp_path):
    argv = ["plan", "tiny-sft", "--gpu", "T4", "--gpu", "0.5", "--video", "64x64"]
    assert main([*argv, "--seconds", "2", "--json", str(tmp_path / "p.json")]) == 0
    said = capsys.readouterr().out
    assert "T4 (16 GB): fits" in said and "0.5 (0.5 GB): does not fit" in said
    plan = json.loads((tmp_path / "p.json").read_text())
    assert plan["gpus"]["T4"]["fits"] and not plan["gpus"]["0.5"]["fits"]
    assert plan["clip"]["frames"] == 4 and plan["clip"]["frames_as"] == "images"
    assert "an optimizer step" in said and 0 < plan["vision_flops"] < sum(plan["flops"].values())


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "which recipe?"),
        (["tiny-sft", "--gpu", "B9"], "--gpu is 'B9'"),
        (["tiny-sft", "--video", "wide"], "--video is 'wide'"),
        (["tiny-sft", "--launch", "none-3"], "no accelerate file 'none-3'"),
        (["t4-sft", "--model", "no/where"], "are not at hand"),
    ],
)
def test_bad_input_is_one_line(argv, said, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["plan", *argv]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("stvgkit: ") and said in error


def test_only_zero_stage_3_is_planned(tmp_path):
    path = tmp_path / "zero2.yaml"
    path.write_text("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 2}\n")
    with pytest.raises(InputError, match="only ZeRO stage 3"):
        Launch.read(str(path))


@pytest.mark.parametrize("name", families.PUBLISHED)
def test_parameters_are_those_of_the_published_weights(name, tmp_path):
    """Configurations as published, built without values."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    published = families.save_published(name, tmp_path)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(tmp_path))
    assert sum(weight.numel() for weight in model.parameters()) == published


class Hand:
    """Work of a Qwen-VL by hand: 2 for a weight and token, 4 for a pair of tokens and its size."""

    def __init__(self, folder, clip):
        from torch.nn import Conv3d, Linear
        from transformers import AutoModelForImageTextToText

        network = AutoModelForImageTextToText.from_pretrained(folder)
        text, seen = network.config.get_text_config(), network.config.vision_config

        def weights(part, kind=Linear):
            return sum(x.weight.numel() for x in part.modules() if isinstance(x, kind))

        size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        self.of_token = 2 * weights(network.model.language_model)
        self.of_pair = 4 * text.num_hidden_layers * text.num_attention_heads * size
        self.of_head = 2 * network.lm_head.weight.numel()
        width, height = clip.size
        patches = width * height // seen.patch_size**2  # of a frame
        visual, blocks = network.model.visual, weights(network.model.visual.blocks)
        linear = 2 * patches * (blocks + weights(visual, Conv3d))
        linear += 2 * patches // 4 * (weights(visual) - blocks)  # mergers see four patches as one
        squares = seen.depth * patches**2
        if hasattr(seen, "window_size"):  # of 8 x 8 patches, but in one of the two layers
            squares = patches**2 + patches * 64
        self.of_frame = linear + 4 * seen.hidden_size * squares

    def __call__(self, tokens, pairs, scored, frames):
        text = self.of_token * tokens + self.of_pair * pairs + self.of_head * scored
        return text + self.of_frame * frames


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
def test_work_by_hand(name, tmp_path):
    """Every part of a step, of SFT and of GRPO, with and without sharing."""
    families.save_family(name, tmp_path)
    clips = dict(video=(224, 112), seconds=1)
    sizes = dict(max_side=224, gradient_checkpointing=False, gradient_accumulation_steps=3)
    two = dict(per_device_train_batch_size=2) | sizes
    plan = make_plan("r", "sft", *recipe("sft", tmp_path, **two), **clips)
    work = Hand(tmp_path, plan.clip)
    prompt, answer = plan.clip.visual_tokens + plan.clip.text_tokens, plan.clip.answer_tokens
    length = prompt + answer
    close = dict(rel=2e-3)  # positions are turned by a small product, left out here
    forward = 6 * work(length, length * (length + 1) / 2, answer, plan.clip.frames)
    assert plan.flops["forward"] == pytest.approx(forward, **close)
    assert 2 * forward < plan.flops["backward"] < 3 * forward  # the head's three products

    sizes |= dict(per_device_train_batch_size=8, num_generations=8, max_completion_length=5, beta=0)
    shared = make_plan("r", "grpo", *recipe("grpo", tmp_path, **sizes), **clips)
    alone = recipe("grpo", tmp_path, **sizes, share_prompt=False)
    alone = make_plan("r", "grpo", *alone, **clips)
    frames, answer, length = plan.clip.frames, 5, prompt + 5
    read = work(prompt, prompt * (prompt + 1) / 2, 1, frames)
    assert shared.flops["prefill"] == pytest.approx(3 * read, **close)
    assert alone.flops["prefill"] == pytest.approx(24 * read, **close)
    told = 24 * work(answer - 1, sum(prompt + 1 + k for k in range(answer - 1)), answer - 1, 0)
    for one in (shared, alone):
        assert one.flops["decode"] == pytest.approx(told, **close)
    before = prompt - 1
    pairs = before * (before + 1) / 2 + 8 * (answer + 1) * (before + answer + 1)
    forward = 3 * work(before + 8 * (answer + 1), pairs, 8 * answer, frames)
    assert shared.flops["forward"] == pytest.approx(forward, **close)
    forward = 24 * work(length, length * (length + 1) / 2, answer, frames)
    assert alone.flops["forward"] == pytest.approx(forward, **close)
    # What TRL would do stands beside the shared plan, and is the plan of a run that does not share.
    assert shared.shared and not alone.shared and alone.alone == "share_prompt is false"
    assert shared.stock.flops == alone.flops
    assert shared.stock.phases == pytest.approx(alone.phases, rel=1e-3)
    assert shared.phases["train"] < alone.phases["train"]


def test_a_frozen_vision_part_works_forward_alone(counted):
    free, frozen = counted(), counted(use_peft=True, lora_r=4, train_vision=False)
    assert 0 < 2.5 * frozen.vision_flops < free.vision_flops < sum(free.flops.values())


def test_reference_and_old_scores_are_forwards(counted):
    """A reference model scores all answers; so does the model where it learns from them twice."""
    sizes = dict(per_device_train_batch_size=8, max_completion_length=4)
    plain = counted("grpo", beta=0, **sizes)
    assert plain.flops["scoring"] == 0
    assert counted("grpo", beta=0.1, **sizes).flops["scoring"] == plain.flops["forward"]
    twice = counted("grpo", beta=0, num_iterations=2, **sizes)
    assert twice.flops["prefill"] == plain.flops["prefill"] / 2
    assert twice.flops["scoring"] == plain.flops["forward"] / 2


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
def test_a_video_has_half_the_visual_tokens(name, tmp_path):
    """And takes less memory and less work, in SFT and in GRPO."""
    families.save_family(name, tmp_path)
    for method in ("sft", "grpo"):
        sizes = dict(per_device_train_batch_size=8, max_side=224)
        sizes |= dict(max_completion_length=8) if method == "grpo" else {}
        images, video = (
            make_plan(
                "r", method, *recipe(method, tmp_path, frames_as=form, **sizes), (224, 112), 3
            )
            for form in ("images", "video")
        )
        assert 2 * video.clip.visual_tokens == images.clip.visual_tokens
        assert video.phases["train"] < images.phases["train"]
        assert 1.7 * video.vision_flops < images.vision_flops
        assert "as video" in video.table({}) and "as images" in images.table({})
