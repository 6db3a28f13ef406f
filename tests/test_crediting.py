"""Credit in TRL's trainer: which token of a batch gets which advantage, and what it teaches."""

import numpy as np
import pytest
import torch
from grpo_trainers import make_trainer

from stvgkit import CoordinateSpace, Tube
from stvgkit.credit import CREDITS, Scoring, pay_group
from stvgkit.datasets import read_prepared
from stvgkit.datasets.shapes import write_shapes
from stvgkit.errors import InputError
from stvgkit.rows import gold_text, plan_row
from stvgkit.training.crediting import CreditTrainer
from stvgkit.training.models import load
from stvgkit.training.shared_prompt import SharedPromptTrainer

pytestmark = pytest.mark.slow
GROUP = 4


@pytest.fixture(scope="module")
def grounder():
    return load("tiny", dtype="float32")


@pytest.fixture(scope="module")
def rows(grounder, tmp_path_factory):
    path = write_shapes(tmp_path_factory.mktemp("shapes"), "train", 2)
    return [plan_row(sample, grounder.clip_format) for sample in read_prepared(path)]


@pytest.fixture
def make(grounder, rows, tmp_path):
    """A trainer of two groups of four."""

    def make(kind, **more):
        settings = dict(
            per_device_train_batch_size=GROUP,
            gradient_accumulation_steps=2,
            num_generations=GROUP,
            max_completion_length=200,
        )
        made = make_trainer(kind, grounder, rows, tmp_path, settings, **more)
        made.model.train()
        made.current_gradient_accumulation_steps = 2
        return made

    return make


def scored(made, texts, monkeypatch):
    """What the trainer makes of these answers, four to each prompt."""
    tokenizer = made.processing_class.tokenizer
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    ids = [one + [tokenizer.eos_token_id] for one in ids]
    monkeypatch.setattr(made, "_generate_single_turn", lambda *a, **k: (ids, None))
    batch = [dict(example) for example in made.train_dataset for _ in range(GROUP)]
    return made._generate_and_score_completions(batch)


def answers(row):
    """Gold, gold one frame late, a list that never ends, and a list closed by the wrong tag."""
    gold = gold_text(row)
    late = gold_text(row | {"target_frames": [frame + 1 for frame in row["target_frames"]]})
    cut, mixed = gold[: gold.index("</pred_bbox>")], gold.replace("</think_bbox>", "</pred_bbox>")
    return [gold, late, cut, mixed]


@pytest.fixture(scope="module")
def texts(rows):
    return [text for row in rows for text in answers(row)]


@pytest.mark.parametrize("credit", [credit for credit in CREDITS if credit != "whole"])
def test_each_token_is_paid_by_where_it_begins_in_the_text(credit, make, rows, texts, monkeypatch):
    """Against the tokenizer's own account of where a token lies."""
    made = make(CreditTrainer, credit=credit, scoring=Scoring())
    output = scored(made, texts, monkeypatch)
    paid, mask = output["advantages"], output["completion_mask"].bool()
    assert paid.shape == mask.shape and not paid[~mask].any()
    tokenizer = made.processing_class.tokenizer
    for number, row in enumerate(rows):
        group = texts[number * GROUP : (number + 1) * GROUP]
        gold = Tube(row["target_frames"], row["target_boxes"])
        payments = pay_group(group, gold, CoordinateSpace.parse(row["space"]), credit)
        for k, (text, payment) in enumerate(zip(group, payments, strict=True)):
            asked = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            starts = [start for start, _ in asked["offset_mapping"]] + [len(text)]
            parts = payment.part_at(np.array(starts))
            expected = np.asarray(payment.advantages)[parts]
            for begin, end, advantage in payment.numbers:
                ends = [*starts[1:], len(text)]
                inside = [a < end and b > begin for a, b in zip(starts, ends, strict=True)]
                expected[inside] += advantage
            expected[np.array(starts) > payment.end] = 0
            place = number * GROUP + k
            assert torch.allclose(
                paid[place][mask[place]].double(), torch.from_numpy(expected), atol=1e-6
            )
    assert paid.abs().max() > 0.5


def test_whole_is_what_trl_pays(make, texts, monkeypatch):
    stock = scored(make(SharedPromptTrainer), texts, monkeypatch)
    ours = scored(make(CreditTrainer, credit="whole", scoring=Scoring()), texts, monkeypatch)
    assert ours.keys() == stock.keys()
    assert ours["advantages"].shape == (2 * GROUP,)
    for name, value in stock.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(ours[name], value), name


def test_boxes_pays_the_numbers_that_differ_and_nothing_else(make, rows, monkeypatch):
    """Three answers are gold, and in one the last number of the last box is wrong."""
    texts = []
    for row in rows:
        gold = gold_text(row)
        start = gold.rindex("[")
        numbers = gold[start + 1 : gold.rindex("]")].split(", ")
        worse = f"{gold[:start]}[{', '.join(numbers[:3])}, {int(numbers[3]) - 9}] </pred_bbox>"
        texts += [gold, gold, gold, worse]
    made = make(CreditTrainer, credit="boxes", scoring=Scoring())
    output = scored(made, texts, monkeypatch)
    tokenizer = made.processing_class.tokenizer
    for place, text in enumerate(texts):
        ids = tokenizer.encode(text, add_special_tokens=False)
        paid = output["advantages"][place][: len(ids)]
        told = "".join(tokenizer.decode(ids[k]) for k in paid.nonzero().flatten())
        box = text[text.rindex("[") + 1 : text.rindex("]")]
        assert told.replace(" ", "") == box.replace(", ", "")
        signs = paid[paid != 0].sign().unique().tolist()
        assert signs == ([-1.0] if place % GROUP == GROUP - 1 else [1.0])


def test_a_step_learns_from_each_tokens_own_advantage(make, texts, monkeypatch):
    """The loss of the first step is minus the mean advantage: every ratio is 1 there."""
    made = make(CreditTrainer, credit="boxes", scoring=Scoring())
    output = scored(made, texts, monkeypatch)
    monkeypatch.setattr(made, "_generate_and_score_completions", lambda inputs: output)
    total = 0.0
    for _ in range(2):
        total += made.compute_loss(made.model, made._prepare_inputs([{}] * 2 * GROUP)).item()
        made._step += 1
    kept = output["completion_mask"].bool()
    mean = output["advantages"][kept].sum() / kept.sum()
    assert total == pytest.approx(-mean.item(), abs=1e-5) and abs(mean) > 0.01


def test_an_unknown_credit_is_refused_before_anything_is_made():
    with pytest.raises(InputError, match="unknown credit 'each': use one of whole, to-go"):
        CreditTrainer(credit="each", scoring=Scoring())
