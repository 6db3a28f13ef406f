"""Each plug-in is called as its framework calls it, without the framework."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import stvgkit.plugins
from stvgkit import CoordinateSpace, Tube, score_answer
from stvgkit.errors import InputError
from stvgkit.plugins import easyr1, openrlhf, pack_ground_truth, swift, unpack_ground_truth, verl

SPACE = CoordinateSpace.relative(100)
GOLD = Tube([5, 6], [[0, 0, 0.5, 0.5], [0.1, 0, 0.6, 0.5]])
TRUTH = pack_ground_truth(GOLD, SPACE)
FINAL = "<pred_bbox> 5. [0, 0, 50, 50], 6. [10, 0, 60, 50] </pred_bbox>"
TALL = "<think_bbox> 5. [0, 0, 50, 100], 6. [10, 0, 60, 100] </think_bbox>"
# The first guess is twice as high as the gold box: GIoU 0.5, L1 0.5, so R_spa(think) = 0.
ANSWER = f"<time> 5 - 6 </time> {TALL} {FINAL}"
PARTS = {"format": 1.0, "consistency": 1.0, "temporal": 1.0, "spatial": 1.0, "think": 1.0}
BROKEN = dict.fromkeys(PARTS, 0.0)
SWIFT = [swift.StvgFormat, swift.StvgConsistency, swift.StvgTemporal, swift.StvgSpatial]
SWIFT.append(swift.StvgThink)


def loaded_from_its_path(module):
    """The module as frameworks load it: from a file, under a name of their own."""
    spec = importlib.util.spec_from_file_location("custom_reward_fn", module.__file__)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


# --- the ground truth as one text ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "space"),
    [
        (GOLD, SPACE),
        (Tube([0, 7], [[1 / 3, 0.1, 2 / 3, 0.7], [0, 0, 1, 1]]), CoordinateSpace.pixels(336, 196)),
        (Tube([], []), CoordinateSpace.relative(1000)),
    ],
)
def test_a_ground_truth_is_read_back_to_the_last_bit(target, space):
    assert unpack_ground_truth(pack_ground_truth(target, space)) == (target, space)


def test_a_space_that_its_name_does_not_tell_is_not_packed():
    with pytest.raises(InputError, match="not what its name says"):
        pack_ground_truth(GOLD, CoordinateSpace("0-100", 200, 100))


def changed(**fields):
    return json.dumps(json.loads(TRUTH) | fields)


def without(key):
    record = json.loads(TRUTH)
    del record[key]
    return json.dumps(record)


BAD_TRUTHS = [
    (7, "the ground truth is .*int.*not text"),
    (None, "not text"),
    ({"frames": [5]}, "not text"),
    ("", "is not JSON"),
    ("the dog", "is not JSON"),
    ("7", "not an object"),
    ("[" * 100_000, "nested too deeply"),
    (changed(version=2), "has version 2, this stvgkit reads 1"),
    (changed(version="1"), "'version' is not a number"),
    (without("version"), "no key 'version'"),
    (without("frames"), "no key 'frames'"),
    (without("boxes"), "no key 'boxes'"),
    (without("space"), "no key 'space'"),
    (changed(space=1000), "'space' is not text"),
    (changed(space="metres"), "unknown coordinate space 'metres'"),
    (changed(space="0-0"), "has no area"),
    (changed(frames=[6, 5]), "strictly increasing"),
    (changed(frames=[5.5, 6]), "'frames' is not a whole number"),
    (changed(frames=[-1, 6]), "'frames' is not a whole number"),
    (changed(frames="56"), "'frames' is not a list"),
    (changed(boxes=[[0, 0, 1, 1]]), "2 frames but 1 boxes"),
    (changed(boxes=[[0, 0, 1, 1], [0, 0, 1]]), "'boxes' is not a list of boxes"),
    (changed(boxes=[[0, 0, 1, 1], [0, 0, 1, float("nan")]]), "must be finite"),
    (changed(boxes=[["0", "0", "1", "1"]] * 2), "'boxes' is not a list of boxes"),
]


@pytest.mark.parametrize(("truth", "said"), BAD_TRUTHS)
def test_a_bad_ground_truth_is_one_sentence_that_says_what_to_do(truth, said):
    with pytest.raises(InputError, match=said) as raised:
        unpack_ground_truth(truth)
    message = str(raised.value)
    assert "\n" not in message and len(message) < 300
    assert "write the file again" in message or "use 0-1000" in message or "positive" in message


@pytest.mark.parametrize("truth", [truth for truth, _ in BAD_TRUTHS])
def test_every_plug_in_names_the_row_of_a_bad_ground_truth(truth):
    with pytest.raises(InputError, match="^hcstvg clip-7: "):
        verl.compute_score("hcstvg", ANSWER, truth, {"id": "clip-7"})
    row = {"response": ANSWER, "response_length": 9, "ground_truth": truth}
    good = row | {"ground_truth": TRUTH}
    with pytest.raises(InputError, match="^answer 1 of the batch: "):
        easyr1.compute_score([good, row])
    with pytest.raises(InputError, match="^answer 1 of the batch: "):
        swift.StvgFormat()([ANSWER, ANSWER], ground_truth=[TRUTH, truth])
    with pytest.raises(InputError, match="^answer 1 of the batch"):
        openrlhf.reward_func(["Q" + ANSWER] * 2, ["Q", "Q"], [TRUTH, truth])


def test_an_answer_that_is_no_text_is_named():
    with pytest.raises(InputError, match="^hcstvg: the answer is float, not text"):
        verl.compute_score("hcstvg", 0.5, TRUTH)
    with pytest.raises(InputError, match="^answer 0 of the batch: the answer is NoneType"):
        easyr1.compute_score([{"response": None, "ground_truth": TRUTH}])
    with pytest.raises(InputError, match="^answer 0 of the batch: the answer is int"):
        swift.StvgThink()([3], ground_truth=[TRUTH])


def test_a_missing_column_is_named():
    with pytest.raises(InputError, match="answer 0 of the batch has no 'ground_truth'"):
        easyr1.compute_score([{"response": ANSWER}])
    with pytest.raises(InputError, match="no column 'ground_truth'"):
        swift.StvgFormat()([ANSWER])
    with pytest.raises(InputError, match="has no label: add --data.label_key"):
        openrlhf.reward_func([ANSWER], [""], [""])


# --- the call forms ------------------------------------------------------------------------------


def test_verl_gets_plain_floats_under_the_names_that_gdpo_asks_for():
    result = loaded_from_its_path(verl).compute_score(
        data_source="hcstvg",
        solution_str=ANSWER,
        ground_truth=TRUTH,
        extra_info={"id": "clip-7", "num_turns": None},
        reward_router_address=None,
        reward_model_tokenizer=None,
    )
    assert result == {"score": 4.5, **PARTS}
    assert {type(value) for value in result.values()} == {float}
    assert verl.compute_score("hcstvg", "no", TRUTH) == {"score": 0.0, **BROKEN}


def test_verl_passes_reward_kwargs_as_keywords():
    assert verl.compute_score("hcstvg", ANSWER, TRUTH, lambda_k=2.0)["score"] == 6.0
    assert verl.compute_score("hcstvg", ANSWER, TRUTH, spatial="giou")["spatial"] == 1.5
    no_think = f"<time> 5 - 6 </time> {FINAL}"
    assert verl.compute_score("hcstvg", no_think, TRUTH, think=False)["score"] == 4.0
    with pytest.raises(InputError, match="unknown spatial term"):
        verl.compute_score("hcstvg", ANSWER, TRUTH, spatial="iou")


def test_easyr1_gets_a_dictionary_for_each_answer_of_the_batch():
    module = loaded_from_its_path(easyr1)
    assert (module.REWARD_NAME, module.REWARD_TYPE) == ("stvg", "batch")
    inputs = [
        {"response": text, "response_length": len(text), "ground_truth": TRUTH}
        for text in (ANSWER, "no")
    ]
    results = module.compute_score(inputs)
    assert results == [{"overall": 4.5, **PARTS}, {"overall": 0.0, **BROKEN}]
    assert module.compute_score(inputs, lambda_k=2.0)[0]["overall"] == 6.0
    assert module.compute_score([]) == []
    with pytest.raises(TypeError, match="lamda_k"):
        module.compute_score(inputs, lamda_k=2.0)


def test_swift_gets_five_rewards_in_the_order_of_the_paper(monkeypatch):
    columns = {"ground_truth": [TRUTH, TRUTH], "query": ["it", "it"], "trainer_state": None}
    for reward, value in zip(SWIFT, PARTS.values(), strict=True):
        assert reward(args=None)([ANSWER, "no"], **columns) == [value, 0.0]
    monkeypatch.setattr(swift.Reward, "options", {"spatial": "giou"})
    assert swift.StvgSpatial()([ANSWER], ground_truth=[TRUTH]) == [1.5]


def test_swift_finds_the_rewards_by_name_and_its_own_package_too(monkeypatch, tmp_path):
    package = tmp_path / "swift"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "rewards.py").write_text("class ORM:\n    pass\n\n\norms = {}\n")
    monkeypatch.delitem(sys.modules, "swift", raising=False)
    folder = str(Path(swift.__file__).parent)
    monkeypatch.setattr(sys, "path", [folder, str(tmp_path), *sys.path])  # as ms-swift does
    try:
        loaded_from_its_path(swift)
        assert folder not in sys.path
        from swift.rewards import ORM, orms

        assert list(orms) == [f"stvg_{name}" for name in PARTS]
        assert all(issubclass(reward, ORM) for reward in orms.values())
        assert orms["stvg_temporal"]()([ANSWER], ground_truth=[TRUTH]) == [1.0]
    finally:
        for name in ("swift", "swift.rewards"):
            sys.modules.pop(name, None)


def test_openrlhf_gets_tensors_and_the_answer_is_cut_out_of_the_query():
    prompt = "<|im_start|>user\nWhen? <time> 1 - 2 </time><|im_end|>\n<|im_start|>assistant\n"
    queries = [f"{prompt}{ANSWER}<|im_end|>", f"{prompt}It is the dog.<|im_end|>\n"]
    result = loaded_from_its_path(openrlhf).reward_func(queries, [prompt] * 2, [TRUTH] * 2)
    assert result["rewards"].tolist() == [4.5, 0.0]
    assert result["scores"].tolist() == pytest.approx([0.9, 0.0])
    logs = {name: values.tolist() for name, values in result["extra_logs"].items()}
    assert logs == {name: [value, 0.0] for name, value in PARTS.items()}
    again = openrlhf.reward_func(queries, [prompt] * 2, [TRUTH] * 2, lambda_k=2.0)
    assert again["rewards"].tolist() == [6.0, 0.0]


def test_openrlhf_scores_stay_between_0_and_1_where_the_total_does_not():
    far = "<time> 5 - 6 </time> <think_bbox> </think_bbox> <pred_bbox> </pred_bbox>"
    result = openrlhf.reward_func([far], [""], [TRUTH])
    assert result["rewards"].tolist() == [score_answer(far, GOLD, SPACE).total] == [-8.0]
    assert result["scores"].tolist() == [0.0]


PADS = "<|vision_start|>{}<|vision_end|>"


@pytest.mark.parametrize(
    ("query", "prompt"),
    [
        ("Q: A", "Q: "),
        ("Q: A<|im_end|>", "Q: "),
        ("Q: A</s> ", "Q: "),
        ("Q: A<end_of_utterance>", "Q: "),
        (f"{PADS.format('<|image_pad|>' * 64) * 9}Q: A", f"{PADS.format('<|image_pad|>') * 9}Q: "),
        ("<img>" * 64 + "q" * 200 + "A", "<img>" + "q" * 200),
        ("x" * 50 + "q" * 200 + "A", "start" + "x" * 150 + "q" * 200),  # cut at its start
    ],
)
def test_openrlhf_answers_are_found_after_prompts_with_images(query, prompt):
    assert openrlhf.answer_of(query, prompt) == "A"


def test_openrlhf_leaves_all_but_the_end_of_the_turn_in_the_answer():
    assert openrlhf.answer_of("Q<time>5<|im_end|>6<|im_end|>", "Q") == "<time>5<|im_end|>6"
    assert openrlhf.answer_of("Q<time><time>5", "Q") == "<time><time>5"
    with pytest.raises(InputError, match="does not hold the end of its prompt"):
        openrlhf.answer_of("something else", "Q: ")


def test_all_four_agree_with_score_answer():
    texts = [ANSWER, ANSWER.replace("50", "70"), ANSWER.replace("5 - 6", "4 - 5"), FINAL, ""]
    expected = [score_answer(text, GOLD, SPACE) for text in texts]
    totals = [row.total for row in expected]
    truths = [TRUTH] * len(texts)
    assert [verl.compute_score("x", text, TRUTH)["score"] for text in texts] == totals
    inputs = [{"response": text, "ground_truth": TRUTH} for text in texts]
    assert [row["overall"] for row in easyr1.compute_score(inputs)] == totals
    for reward in SWIFT:
        assert reward()(texts, ground_truth=truths) == [
            getattr(row, reward.part) for row in expected
        ]
    queries = ["When? " + text for text in texts]
    rewards = openrlhf.reward_func(queries, ["When? "] * len(texts), truths)["rewards"]
    assert rewards.tolist() == pytest.approx(totals, abs=1e-6)


def test_importing_a_plug_in_loads_no_framework(tmp_path):
    import subprocess

    code = (
        "import sys, stvgkit.plugins.verl, stvgkit.plugins.easyr1, stvgkit.plugins.openrlhf\n"
        "import stvgkit.plugins.swift\n"
        "print(*{name.partition('.')[0] for name in sys.modules} & "
        "{'torch', 'transformers', 'datasets', 'pandas', 'PIL', 'av', 'verl', 'swift'})"
    )
    root = str(Path(stvgkit.plugins.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.strip() == ""
