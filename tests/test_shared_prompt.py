"""A group that shares its prompt teaches exactly what TRL's own way teaches, and costs less."""

import warnings

import numpy as np
import pytest
import torch
from grpo_trainers import make_trainer

from stvgkit.datasets import read_prepared
from stvgkit.datasets.shapes import write_shapes
from stvgkit.grammar import can_continue
from stvgkit.rows import gold_text, plan_row
from stvgkit.training import rollout
from stvgkit.training.models import load
from stvgkit.training.shared_prompt import SharedPromptTrainer
from stvgkit.training.trainers import lora

families = pytest.importorskip("families")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Three clips of the generated benchmark, with sentences of unequal length."""
    path = write_shapes(tmp_path_factory.mktemp("shapes"), "train", 3)
    return list(read_prepared(path))


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A checkpoint by the name of its family; `tiny` is the shipped one."""

    def folder(name: str) -> str:
        if name == "tiny":
            return "tiny"
        path = tmp_path_factory.getbasetemp() / f"start-{name}"
        return str(path if path.exists() else families.save_family(name, path))

    return folder


def trainer(start, samples, out, *, share, adapter=False, frames=3, **settings):
    changes = {} if start == "tiny" else {"max_side": 112, "max_frames": frames}
    grounder = load(start, dtype="float32", **changes)
    rows = [plan_row(sample, grounder.clip_format) for sample in samples]
    batch = dict(
        per_device_train_batch_size=4,
        gradient_accumulation_steps=3,
        num_generations=4,
        max_completion_length=8,
        seed=0,
    )
    peft = lora(grounder, r=4) if adapter else None
    made = make_trainer(
        SharedPromptTrainer, grounder, rows, out, batch | settings,
        peft_config=peft, share_prompt=share,
    )  # fmt: skip
    assert made.share_prompt is share
    return made, rows


def answers_for(made, rows, seed=0):
    """Four answers to each prompt: gold, gold cut short, gold with a wrong end, noise."""
    tokenizer = made.processing_class.tokenizer
    rng = np.random.default_rng(seed)
    answers = []
    for row in rows:
        gold = tokenizer.encode(gold_text(row), add_special_tokens=False)
        noise = rng.integers(10, 60, 12).tolist()
        end = [tokenizer.eos_token_id]
        some = [gold + end, gold[:25], gold[:40] + noise, noise[:5] + end]
        answers += some[: made.num_generations]
    return answers


def loss_and_gradients(made, rows, monkeypatch):
    """What one generation batch of fixed answers teaches: summed loss and every gradient."""
    answers = answers_for(made, rows)
    monkeypatch.setattr(made, "_generate_single_turn", lambda *a, **k: (answers, None))
    batch = [dict(example) for example in made.train_dataset for _ in range(made.num_generations)]
    made.model.train()
    made.current_gradient_accumulation_steps = made.args.gradient_accumulation_steps
    total = 0.0
    for _ in range(made.args.steps_per_generation):
        inputs = made._prepare_inputs(batch)
        loss = made.compute_loss(made.model, inputs)
        loss.backward()
        total += loss.item()
        made._step += 1
    gradients = {
        name: weight.grad.clone()
        for name, weight in made.model.named_parameters()
        if weight.grad is not None
    }
    return total, gradients


def difference(one: dict, other: dict) -> float:
    """The largest difference of two sets of gradients, relative to the largest gradient."""
    assert one.keys() == other.keys()
    scale = max(gradient.abs().max().item() for gradient in one.values())
    assert scale > 0
    return max((one[name] - other[name]).abs().max().item() for name in one) / scale


CASES = {
    "tiny, all weights": ("tiny", {}),
    "tiny, sampled coldly": ("tiny", {"temperature": 0.5}),
    "tiny, adapter": ("tiny", {"adapter": True}),
    "tiny, reference model": ("tiny", {"beta": 0.1}),
    "tiny, adapter switched off as reference": ("tiny", {"beta": 0.1, "adapter": True}),
    "tiny, answers used twice": ("tiny", {"num_iterations": 2}),
    "tiny, one micro-batch": (
        "tiny",
        {"per_device_train_batch_size": 12, "gradient_accumulation_steps": 1},
    ),
    "tiny, groups cut by micro-batches": (
        "tiny",
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 6},
    ),
    "tiny, gradient checkpointing": ("tiny", {"gradient_checkpointing": True}),
    "tiny, the loss of GRPO": ("tiny", {"loss_type": "grpo"}),
    "qwen2_5_vl": ("qwen2_5_vl", {}),
    "qwen3_vl": ("qwen3_vl", {}),
    "qwen3_vl, adapter": ("qwen3_vl", {"adapter": True, "beta": 0.1}),
    "idefics3": ("idefics3", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_are_those_of_trl(case, start, rows, tmp_path, monkeypatch):
    name, settings = CASES[case]
    if name != "tiny":  # a vocabulary of 151,936 takes its time
        rows = rows[:2]
        few = {"num_generations": 2, "per_device_train_batch_size": 4}
        settings = few | {"gradient_accumulation_steps": 1} | settings
    results = []
    for share in (False, True):
        torch.manual_seed(0)
        made, planned = trainer(start(name), rows, tmp_path, share=share, **settings)
        results.append(loss_and_gradients(made, planned, monkeypatch))
    (stock, stock_gradients), (ours, our_gradients) = results
    assert ours == pytest.approx(stock, rel=1e-5, abs=1e-6)
    assert difference(stock_gradients, our_gradients) < 1e-5


@pytest.fixture(params=["tiny", *families.FAMILIES])
def asked(request, start, rows, tmp_path):
    """A trainer that has read twelve prompts, three clips four times each."""
    made, _ = trainer(start(request.param), rows, tmp_path, share=True)
    batch = [dict(example) for example in made.train_dataset for _ in range(4)]
    made._examples = batch
    made._tokenize_prompts([prepared(row) for row in batch])
    made.model.eval()
    return made


def warped(logits, config):
    """The distribution that `generate` samples from, by its own processors."""
    logits = logits.clone()
    logits[config.suppress_tokens] = -torch.inf
    logits = logits / config.temperature
    kept = logits.topk(min(config.top_k, len(logits))).indices if config.top_k else None
    if kept is not None:
        only = torch.full_like(logits, -torch.inf)
        only[kept] = logits[kept]
        logits = only
    return logits.softmax(-1)


def test_the_next_token_is_as_likely_as_in_a_plain_forward(asked, monkeypatch):
    seen, sampled = [], []
    real = torch.multinomial

    def watched(chances, count):
        seen.append(chances.clone())
        sampled.append(real(chances, count))
        return sampled[-1]

    monkeypatch.setattr(torch, "multinomial", watched)
    config = asked.generation_config
    config.temperature, config.top_k, config.max_new_tokens = 0.7, 5, 3
    config.eos_token_id = []  # nobody leaves, so that rows stay in order
    torch.manual_seed(1)
    rollout.sample(asked.model, asked._prompts, config)
    assert len(seen) == 3
    for row, prompt in enumerate(asked._prompts):
        ids = torch.cat([prompt.ids, *(tokens[row] for tokens in sampled[:2])])[None]
        told = {"mm_token_type_ids"} & prompt.inputs.keys()
        text = {key: torch.nn.functional.pad(prompt.inputs[key], (0, 2)) for key in told}
        with torch.no_grad():
            logits = asked.model(
                input_ids=ids, attention_mask=torch.ones_like(ids), **prompt.media, **text
            ).logits[0, -3:]
        for step in range(3):
            wanted = warped(logits[step].float(), config)
            assert torch.allclose(seen[step][row], wanted, atol=1e-4)


def test_the_likeliest_answers_are_those_of_generate(asked):
    """Rows leave at different times here, and the buffers grow."""
    config = asked.generation_config
    config.top_k, config.max_new_tokens = 1, rollout.ROOM + 10
    tokenizer = asked.processing_class.tokenizer
    config.eos_token_id = [tokenizer.eos_token_id, *range(20, 60)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)  # of an argument that has a new name
        answers = rollout.sample(asked.model, asked._prompts, config)
    for row in (0, 4, 8):
        assert answers[row] == answers[row + 1] == answers[row + 2] == answers[row + 3]
        prompt = asked._prompts[row]
        with torch.no_grad():
            ids = asked.model.generate(**prompt.inputs, generation_config=config)
        assert ids[0, len(prompt.ids) :].tolist() == answers[row]


def prepared(row):
    from trl.data_utils import prepare_multimodal_messages

    return prepare_multimodal_messages(row["prompt"], images=row["images"])


def test_pixels_are_made_once_for_a_group(start, rows, tmp_path, monkeypatch):
    made, _ = trainer(start("tiny"), rows, tmp_path, share=True, max_completion_length=4)
    processor, asked = type(made.processing_class), []
    real = processor.__call__

    def counted(self, *args, **kwargs):
        asked.extend(kwargs.get("images") or [])
        return real(self, *args, **kwargs)

    monkeypatch.setattr(processor, "__call__", counted)
    batch = [dict(example) for example in made.train_dataset for _ in range(4)]
    output = made._generate_and_score_completions(batch)
    assert len(asked) == len(made.train_dataset) == len(set(output["prompts"]))
    assert all("images" in example for example in batch)  # as they were


def test_a_broken_answer_is_stopped_at_its_break(start, rows, tmp_path):
    made, _ = trainer(start("tiny"), rows, tmp_path, share=True, max_completion_length=40)
    batch = [dict(example) for example in made.train_dataset for _ in range(4)]
    made._examples = batch
    made._tokenize_prompts([prepared(row) for row in batch])
    made.model.eval()
    answers, _ = made._generate_single_turn(None, None, {}, 4)
    decode = made.processing_class.tokenizer.decode
    for answer in answers:
        before = decode(answer[:-1], skip_special_tokens=True)
        assert can_continue(before)  # nothing was written behind a break
    assert any(not can_continue(decode(answer, skip_special_tokens=True)) for answer in answers)


def test_stopped_answers_are_counted_apart_from_those_cut_off(start, rows, tmp_path):
    made, _ = trainer(start("tiny"), rows, tmp_path, share=True, max_completion_length=40)
    batch = [dict(example) for example in made.train_dataset for _ in range(4)]
    made.model.train()
    made._generate_and_score_completions(batch)
    metrics = made._metrics["train"]
    assert metrics["completions/stopped_ratio"][0] > 0
    whole = metrics["completions/stopped_ratio"][0] + metrics["completions/clipped_ratio"][0]
    assert whole <= 1 and metrics["completions/clipped_ratio"][0] >= 0


def test_what_cannot_share_falls_back_and_says_so(start, rows, tmp_path):
    grounder = load(start("tiny"), dtype="float32")
    grounder.model.config.get_text_config().layer_types = ["sliding_attention"] * 4
    planned = [plan_row(sample, grounder.clip_format) for sample in rows]
    two = {"num_generations": 2, "per_device_train_batch_size": 2}
    with pytest.warns(UserWarning, match="prompts are not shared in their groups: some layers"):
        made = make_trainer(SharedPromptTrainer, grounder, planned, tmp_path, two)
    assert not made.share_prompt
