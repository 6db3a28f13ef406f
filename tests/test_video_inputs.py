"""Frames as the model's own video input: place and time of a thing survive, and are learned."""

import re
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from stvgkit.answers import CoordinateSpace, parse_answer
from stvgkit.cli import main
from stvgkit.datasets import Sample
from stvgkit.errors import InputError
from stvgkit.predictions import Prediction
from stvgkit.rows import ClipFormat, gold_text, plan_row, row_images, row_messages
from stvgkit.training import serving, trainers
from stvgkit.training.evaluation import complete
from stvgkit.training.inputs import Collator, conversation, filled, model_inputs, seconds_a_step
from stvgkit.training.longest import visual_tokens
from stvgkit.training.models import load
from stvgkit.training.packing import Prompt
from stvgkit.training.row_dataset import row_dataset
from stvgkit.tubes import Span, Tube

families = pytest.importorskip("families")
QWEN = ("qwen2_5_vl", "qwen3_vl")
WIDTH, HEIGHT, START, END = 336, 224, 2.2, 4.6  # pixels; seconds in which the thing is seen
BOX = np.array([0.25, 0.25, 0.5, 0.75])  # multiples of a token for both families

RATES = {"24": 24.0, "25": 25.0, "29.97": 30000 / 1001}


def times_of(rate: str, seconds: float = 7.1) -> np.ndarray:
    if rate != "variable":
        return np.arange(0, seconds, 1 / RATES[rate])
    steps = np.random.default_rng(0).uniform(0.02, 0.12, 200)
    times = np.concatenate([[0], np.cumsum(steps)]).round(3)
    return times[times < seconds]


def film(path, times: np.ndarray) -> Sample:
    """A white thing at `BOX` on black, from START to END; lossless, with these very times."""
    seen = (times >= START) & (times <= END)
    x1, y1, x2, y2 = (BOX * [WIDTH, HEIGHT, WIDTH, HEIGHT]).astype(int)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"qp": "0", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        stream.codec_context.time_base = Fraction(1, 30000)
        for moment, there in zip(times, seen, strict=True):
            picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            picture[y1:y2, x1:x2] = 255 * there
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(moment * 30000), Fraction(1, 30000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    inside = np.flatnonzero(seen)
    tube = Tube(inside, np.tile(BOX, (len(inside), 1)))
    span = Span(0, len(times) - 1)
    shown = Span(int(inside[0]), int(inside[-1]))
    return Sample("a", "the white thing", path, WIDTH, HEIGHT, 25.0, span, shown, tube)


@pytest.fixture(scope="module", params=QWEN)
def family(request):
    torch.manual_seed(0)
    model, processor = families.FAMILIES[request.param](families.qwen_tokenizer())
    return model, processor


@pytest.fixture(scope="module", params=[*RATES, "variable"])
def filmed(request, tmp_path_factory):
    times = times_of(request.param)
    return film(tmp_path_factory.mktemp("films") / "film.mp4", times), times


def form(processor, **changes) -> ClipFormat:
    factor = processor.image_processor.patch_size * processor.image_processor.merge_size
    return ClipFormat(frames_as="video", factor=factor, **changes)


def pictures(inputs, processor) -> np.ndarray:
    """The frames that the model is given, `(2T, height, width)` in [0, 1], from its patches."""
    steps, high, wide = inputs["video_grid_thw"][0].tolist()
    videos = processor.video_processor
    size, merge = videos.patch_size, videos.merge_size
    patches = inputs["pixel_values_videos"].numpy().reshape(
        steps, high // merge, wide // merge, merge, merge, 3, 2, size, size
    )  # fmt: skip
    frames = patches.transpose(0, 6, 1, 3, 7, 2, 4, 8, 5)
    frames = frames.reshape(2 * steps, high * size, wide * size, 3)
    return (frames * videos.image_std + videos.image_mean).mean(-1)


def test_time_and_place_come_back(family, filmed):
    """What is bright in the model's input is so at the box and the frames of the gold answer."""
    model, processor = family
    sample, times = filmed
    row = plan_row(sample, form(processor))
    inputs = model_inputs(processor, [conversation(row)])
    frames, count = pictures(inputs, processor), len(row["frames"])
    assert len(frames) == count + count % 2
    assert np.array_equal(frames[count:], frames[count - 1 : count][: count % 2])  # padding repeats
    bright = frames[:count] > 0.5
    seen = np.flatnonzero(bright.any((1, 2)))
    assert seen.tolist() == row["target_frames"]
    for number in seen:
        rows, columns = np.flatnonzero(bright[number].any(1)), np.flatnonzero(bright[number].any(0))
        high, wide = bright[number].shape
        box = [columns[0] / wide, rows[0] / high, (columns[-1] + 1) / wide, (rows[-1] + 1) / high]
        assert np.abs(np.array(box) - BOX).max() <= 2 / high
    # The answer that names these indices is about the moments at which the thing was filmed.
    answer = parse_answer(gold_text(row), CoordinateSpace.parse(row["space"]))
    assert answer.span == Span(int(seen[0]), int(seen[-1])) and answer.span.end < count
    told = Prediction.from_answer(answer, row["frames"])
    moments = times[[told.tube.frames[0], told.tube.frames[-1]]]
    assert START <= moments[0] <= START + 0.6 and END - 0.6 <= moments[1] <= END


def test_each_step_has_its_own_time(family, filmed):
    """Qwen3-VL reads the mean of its two frames, Qwen2.5-VL counts positions by its seconds."""
    model, processor = family
    sample, times = filmed
    row = plan_row(sample, form(processor))
    inputs = model_inputs(processor, [conversation(row)])
    shown = times[row["frames"]] - times[row["frames"][0]]
    pairs = np.append(shown, shown[-1:])[: len(shown) + len(shown) % 2].reshape(-1, 2)
    if "second_per_grid_ts" not in inputs:
        text = processor.tokenizer.decode(inputs["input_ids"][0])
        stamps = [float(stamp) for stamp in re.findall(r"<([\d.]+) seconds>", text)]
        assert np.abs(np.array(stamps) - pairs.mean(1)).max() <= 0.051
        return
    steady = np.diff(shown).std() < 0.03
    seconds = inputs["second_per_grid_ts"].item()
    assert seconds == pytest.approx(2 * np.diff(shown).mean(), rel=0.02)
    place = Prompt(inputs, model.model).positions[0][inputs["mm_token_type_ids"][0] == 2].unique()
    rate = model.config.vision_config.tokens_per_second
    assert len(place) == len(pairs)
    off = np.abs((place - place[0]).numpy() / rate - pairs[:, 0])
    assert off.max() <= (0.05 if steady else 0.5)


def test_seconds_of_a_step_are_not_cut():
    """At 4 frames a second a step is half a second, at 1 two seconds, at 3 two thirds."""
    for fps, seconds in ((4, 0.5), (1, 2.0), (3, 2 / 3), (0.5, 4.0)):
        assert seconds_a_step((np.arange(200) / fps).tolist()) == pytest.approx(seconds)


@pytest.mark.parametrize("count", [1, 2, 3, 200])
def test_tokens_are_counted_by_hand(family, count):
    from PIL import Image

    model, processor = family
    factor = form(processor).factor
    row = plan_row_of(count, factor)
    images = [Image.new("RGB", tuple(row["size"]))] * count
    inputs = model_inputs(processor, [conversation(row, images)])
    assert inputs["video_grid_thw"][0, 0] == (count + 1) // 2
    assert visual_tokens(model.config, inputs) == (count + 1) // 2 * 2 * 3


def plan_row_of(count: int, factor: int, frames_as: str = "video") -> dict:
    return {
        "id": "a", "query": "the dog", "times": [i / 2 for i in range(count)], "think": True,
        "size": [2 * factor, 3 * factor], "space": "0-1000", "template": "full",
        "frames_as": frames_as, "target_frames": [0], "target_boxes": [[0, 0, 1, 1]],
    }  # fmt: skip


def test_the_question_says_what_an_index_counts():
    video = row_messages(plan_row_of(5, 28))[0]["content"]
    assert [part["type"] for part in video] == ["video", "text"]
    assert "step k holds frames 2k and 2k + 1" in video[1]["text"]
    assert (
        "numbered from 0 to 4" in video[1]["text"]
        and "counts frames, not steps" in video[1]["text"]
    )
    images = row_messages(plan_row_of(5, 28, "images"))[0]["content"]
    assert "steps" not in images[-1]["text"]


@pytest.mark.parametrize("longest", [None, 150])
def test_images_are_collated_as_by_trl(family, longest):
    """The same tensors as TRL's collator, for prompts of unequal length."""
    from PIL import Image

    _, processor = family
    factor = form(processor).factor
    rng = np.random.default_rng(0)
    examples = []
    for count in (3, 1):
        row = plan_row_of(count, factor, "images")
        noise = rng.integers(0, 255, (count, 3 * factor, 2 * factor, 3), np.uint8)
        answer = [{"role": "assistant", "content": gold_text(row)}]
        images = [Image.fromarray(frame) for frame in noise]
        examples.append({"prompt": row_messages(row), "images": images, "completion": answer})
    ours = Collator(processor, longest)(examples)
    theirs = DataCollatorForVisionLanguageModeling(
        processor, max_length=longest, completion_only_loss=True
    )([dict(example) for example in examples])
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert torch.equal(ours[key], value), key


@pytest.fixture(scope="module", params=QWEN)
def folder(request, tmp_path_factory):
    return families.save_family(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return film(tmp_path_factory.mktemp("clip") / "clip.mp4", times_of("25"))


SMALL = dict(dtype="float32", max_side=112, max_frames=5, frames_as="video")
QUIET = dict(report_to="none", disable_tqdm=True, max_steps=1, use_cpu=True, bf16=False)


@pytest.mark.slow
def test_steps_of_sft_and_grpo_then_an_answer(folder, clip, tmp_path):
    """Weights move, and the form is kept beside the checkpoint, so it is asked in it again."""
    grounder = load(str(folder), **SMALL)
    rows = [plan_row(clip, grounder.clip_format)] * 2
    before = grounder.model.get_input_embeddings().weight.detach().clone()
    settings = QUIET | dict(per_device_train_batch_size=2, learning_rate=1e-2)
    out = trainers.sft(grounder, rows, tmp_path / "sft", **settings)
    tuned = load(str(out), dtype="float32")
    assert tuned.clip_format.frames_as == "video"
    assert not torch.equal(tuned.model.get_input_embeddings().weight, before)
    more = dict(num_generations=2, max_completion_length=4, stop_broken=False)
    trainers.grpo(tuned, rows, tmp_path / "grpo", **settings, **more)
    assert all(isinstance(text, str) for text in complete(tuned, rows, max_new_tokens=3))


@pytest.mark.slow
def test_shared_video_prompts_teach_what_each_alone_would(folder, clip, tmp_path):
    """Log-probabilities and gradients against one plain forward of the model for each answer."""
    from trl import GRPOConfig

    from stvgkit.rewards import REWARDS
    from stvgkit.training.shared_prompt import SharedPromptTrainer

    grounder = load(str(folder), **SMALL)
    rows = [plan_row(clip, grounder.clip_format)]
    rows.append(rows[0] | {"id": "b", "query": "the thing that is white and leaves again"})
    args = GRPOConfig(
        output_dir=str(tmp_path), num_generations=2, remove_unused_columns=False,
        per_device_train_batch_size=4, **QUIET,
    )  # fmt: skip
    made = SharedPromptTrainer(
        model=grounder.model, args=args, reward_funcs=REWARDS, train_dataset=row_dataset(rows),
        processing_class=grounder.processor,
    )  # fmt: skip
    batch = [dict(example) for example in made.train_dataset for _ in range(2)]
    made._examples = batch
    prompts, images, fields = made._tokenize_prompts([example["prompt"] for example in batch])
    assert not images and not fields
    generator = torch.Generator().manual_seed(0)
    answers = torch.randint(10, 900, (4, 6), generator=generator)
    mask = torch.ones(4, 6)
    mask[1, 4:] = mask[2, 1:] = 0
    model = made.model.eval()
    ours, _, _ = made._get_per_token_logps_and_entropies(model, answers, mask, 6)
    (ours * mask).sum().backward()
    gradients = {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}
    model.zero_grad()
    wanted = torch.zeros(4, 6)
    for row, example in enumerate(batch):
        inputs = model_inputs(grounder.processor, [filled(example)])
        kept = answers[row][mask[row].bool()]
        ids = torch.cat([inputs["input_ids"][0], kept])[None]
        text = {"mm_token_type_ids": torch.nn.functional.pad(
            inputs.pop("mm_token_type_ids"), (0, len(kept)))}  # fmt: skip
        inputs |= text | {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        logits = model(**inputs).logits[0, -len(kept) - 1 : -1]
        chosen = (logits / args.temperature).log_softmax(-1).gather(1, kept[:, None])[:, 0]
        chosen.sum().backward()
        wanted[row, : len(kept)] = chosen.detach()
    assert torch.allclose(ours.detach() * mask, wanted, atol=1e-4)
    scale = max(gradient.abs().max() for gradient in gradients.values())
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            assert (weight.grad - gradients[name]).abs().max() < 1e-4 * scale, name
    assert any("visual" in name and g.abs().max() > 0 for name, g in gradients.items())


def test_what_cannot_take_video_says_so(tmp_path, capsys):
    with pytest.raises(InputError, match="frames_as is 'film'"):
        ClipFormat(frames_as="film")
    grounder = load("tiny", frames_as="video")
    settings = QUIET | dict(num_generations=2, per_device_train_batch_size=2)
    row = plan_row(film(tmp_path / "f.mp4", times_of("25", 5.0)), grounder.clip_format)
    with pytest.raises(InputError, match="share_prompt"):
        trainers.grpo(grounder, [row], tmp_path / "g", share_prompt=False, **settings)
    with pytest.raises(InputError, match="a server is sent pictures"):
        serving._form_of("tiny", {"frames_as": "video"})
    argv = ["sft", "tiny-sft", "--frames_as", "film"]
    with pytest.raises(SystemExit):
        main(argv)
    assert "invalid choice" in capsys.readouterr().err


def test_a_family_without_video_is_named(tmp_path):
    families.save_family("idefics3", tmp_path)
    with pytest.raises(InputError, match="idefics3, whose video input is not known"):
        load(str(tmp_path), frames_as="video")


def test_images_of_rows_stay_images(family, filmed):
    """The two forms show the same pixels: half the tokens, two frames in each."""
    model, processor = family
    sample, _ = filmed
    video = plan_row(sample, form(processor, max_frames=6))
    images = video | {"frames_as": "images"}
    ours = model_inputs(processor, [conversation(video)])
    assert len(row_images(video)) == 6
    both = [visual_tokens(model.config, ours)]
    both.append(visual_tokens(model.config, model_inputs(processor, [conversation(images)])))
    width, height = video["size"]
    assert both[0] == 3 * width * height // form(processor).factor ** 2
