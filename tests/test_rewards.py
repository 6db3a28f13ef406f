"""The five rewards against Eq. 3-10 written out frame by frame in exact fractions."""

import math
import pickle
import random
import threading
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from slow_rewards import (
    NAMES,
    SPACE,
    as_columns,
    as_list,
    as_tube,
    random_case,
    relative,
    seeded,
    slow_area,
    slow_score,
    write,
)

from stvgkit import CoordinateSpace, Tube, rewards, score_answer
from stvgkit.errors import InputError
from stvgkit.rewards import REWARD_WEIGHTS, REWARDS, RewardBreakdown


def test_thousands_of_random_answers_score_as_the_equations_say():
    seen = set()
    for answer, gold in seeded(4000, seed=1):
        got = as_list(score_answer(write(*answer), as_tube(gold), SPACE))
        expected = slow_score(answer, gold)
        assert got == pytest.approx([float(value) for value in expected], abs=1e-9)
        seen.add((expected[1], expected[2] > 0, expected[3] > 0, expected[4] > 0))
    assert len(seen) >= 8  # the cases reach every combination worth having


@pytest.mark.parametrize("terms", ["both", "giou", "l1"])
@pytest.mark.parametrize("lambda_k", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("think", [True, False])
def test_the_ablations_score_as_the_equations_say(terms, lambda_k, think):
    for answer, gold in seeded(150, seed=2):
        text = write(*answer) if think else write(answer[0], answer[1], answer[3])
        got = score_answer(
            text, as_tube(gold), SPACE, spatial=terms, lambda_k=lambda_k, think=think
        )
        expected = slow_score(answer, gold, terms, Fraction(lambda_k), think)
        assert as_list(got) == pytest.approx([float(value) for value in expected], abs=1e-9)


# --- facts that follow from the equations ------------------------------------------------------

cases = st.integers(0, 2**32).map(lambda seed: random_case(random.Random(seed)))


@given(cases)
def test_rewards_are_finite_and_bounded(case):
    answer, gold = case
    score = score_answer(write(*answer), as_tube(gold), SPACE)
    assert all(math.isfinite(value) for value in as_list(score))
    assert score.format in (0.0, 1.0) and score.consistency in (0.0, 1.0)
    assert 0 <= score.temporal <= 1
    assert -10 <= score.spatial <= 2
    assert 0 <= score.think <= 6
    assert -9 <= score.total <= 5


def perfect(gold):
    entries = [(frame, tuple(box)) for frame, box in gold.items()]
    return min(gold), max(gold), entries, entries


def proper(gold):
    """The gold boxes put in order, without gaps or boxes of no area."""
    boxes = [relative(box) for box in gold.values()]
    assume(len(gold) == max(gold) - min(gold) + 1 and all(slow_area(*box) for box in boxes))
    return {frame: [int(1000 * v) for v in box] for frame, box in zip(gold, boxes, strict=True)}


@given(cases, st.data())
def test_five_is_reached_by_a_perfect_answer_only(case, data):
    gold = proper(case[1])
    start, end, think, pred = perfect(gold)
    score = score_answer(write(start, end, think, pred), as_tube(gold), SPACE)
    assert as_list(score) == [1.0, 1.0, 1.0, 2.0, 0.0, 5.0]
    worse = [list(think), list(pred)]
    entries = data.draw(st.sampled_from(worse))
    place = data.draw(st.integers(0, len(entries) - 1))
    corner = data.draw(st.integers(0, 3))
    index, box = entries[place]
    moved = [*box]
    moved[corner] += 1 if moved[corner] < 1000 else -1
    entries[place] = (index, moved)
    assert score_answer(write(start, end, *worse), as_tube(gold), SPACE).total < 5
    assert score_answer(write(start, end + 1, think, pred), as_tube(gold), SPACE).total < 5


@given(cases, st.data())
def test_a_box_that_was_missing_never_lowers_the_sum(case, data):
    (start, end, *lists), gold = case
    entries = data.draw(st.sampled_from(lists))
    assume(start <= end)
    missing = sorted(set(range(start, end + 1)) - {index for index, _ in entries})
    if not missing:  # take one away, and give it back
        gone = data.draw(st.sampled_from(range(start, end + 1)))
        entries[:] = [entry for entry in entries if entry[0] != gone]
        missing = [gone]
    before = score_answer(write(start, end, *lists), as_tube(gold), SPACE)
    box = tuple(data.draw(st.integers(0, 1000)) for _ in range(4))
    entries.append((data.draw(st.sampled_from(missing)), box))
    entries.sort(key=lambda entry: entry[0])
    after = score_answer(write(start, end, *lists), as_tube(gold), SPACE)
    assert after.total >= before.total - 1e-9


@given(cases, st.integers(2, 7))
def test_scaling_the_video_changes_nothing(case, factor):
    (start, end, *lists), gold = case
    scaled = [[(i, [factor * v for v in box]) for i, box in entries] for entries in lists]
    small, large = (
        CoordinateSpace.pixels(640, 360),
        CoordinateSpace.pixels(640 * factor, 360 * factor),
    )
    target = as_tube(gold)
    assert score_answer(write(start, end, *lists), target, small) == score_answer(
        write(start, end, *scaled), target, large
    )


@given(cases, st.integers(1, 50))
def test_only_the_time_between_answer_and_gold_matters(case, later):
    (start, end, *lists), gold = case
    moved = [[(i + later, box) for i, box in entries] for entries in lists]
    assert score_answer(write(start, end, *lists), as_tube(gold), SPACE) == score_answer(
        write(start + later, end + later, *moved), as_tube(gold).shift(later), SPACE
    )


GOLD = {5: (100, 200, 300, 400), 6: (150, 200, 350, 400)}
FAR = [(5, (600, 600, 900, 900)), (6, (600, 600, 900, 900))]
CLOSE = [(5, (110, 200, 300, 400)), (6, (150, 200, 360, 400))]


def total(*answer, lambda_k=0.5):
    return score_answer(write(*answer), as_tube(GOLD), SPACE, lambda_k=lambda_k).total


@pytest.mark.parametrize(("lambda_k", "pays"), [(0.2, False), (0.5, False), (1.5, True)])
def test_spoiling_the_think_boxes_pays_only_with_a_large_weight(lambda_k, pays):
    honest = total(5, 6, CLOSE, CLOSE, lambda_k=lambda_k)
    spoiled = total(5, 6, FAR, CLOSE, lambda_k=lambda_k)
    assert (spoiled > honest) == pays


def test_each_reward_tells_a_good_answer_from_a_bad_one():
    good = score_answer(write(5, 6, FAR, CLOSE), as_tube(GOLD), SPACE)
    bad = {
        "format": "no answer",
        "consistency": write(5, 6, FAR[:1], CLOSE),
        "temporal": write(5, 9, FAR, CLOSE),
        "spatial": write(5, 6, FAR, FAR),
        "think": write(5, 6, CLOSE, FAR),
    }
    for name, text in bad.items():
        assert getattr(score_answer(text, as_tube(GOLD), SPACE), name) < getattr(good, name)


@pytest.mark.parametrize(
    ("answer", "expected", "why"),
    [
        ((5, 6, CLOSE[:1], CLOSE[:1]), [1, 0, 1], "both lists lack frame 6"),
        ((5, 7, CLOSE, CLOSE), [1, 0, 2 / 3], "a longer time than the lists"),
        ((7, 8, [(7, (0, 0, 1, 1)), (8, (0, 0, 1, 1))], []), [1, 0, 0, 0, 0, 1], "next to gold"),
        ((6, 5, [], []), [1, 0, 0, 0, 0, 1], "a reversed span with empty lists"),
        ((6, 5, CLOSE, CLOSE), [1, 0, 0, 0, 0, 1], "a reversed span with the right boxes"),
        ((5, 6, [], []), [1, 0, 1, -10, 0, -8], "the right time and no box"),
        ((0, 999999, [], []), [1, 0, 2 / 1000000, -10, 0, 1 + 2e-6 - 10], "all time, no box"),
        ((5, 6, CLOSE[::-1], CLOSE), [1, 0, 1], "a list out of order"),
        ((5, 6, [*CLOSE, CLOSE[0]], CLOSE), [1, 0, 1], "an index twice"),
    ],
)
def test_answers_with_known_rewards(answer, expected, why):
    got = as_list(score_answer(write(*answer), as_tube(GOLD), SPACE))
    assert got[: len(expected)] == pytest.approx(expected), why


def test_a_missing_box_is_the_worst_box():
    corner = {5: (0, 0, 0, 0)}
    opposite = score_answer(write(5, 5, [(5, (1000,) * 4)], []), as_tube(corner), SPACE)
    assert opposite.spatial == -10.0 and opposite.think == 0.0


def test_one_frame_overlap_is_charged_on_that_frame_alone():
    got = score_answer(write(6, 9, [(6, GOLD[6])], [(6, GOLD[6])]), as_tube(GOLD), SPACE)
    assert (got.temporal, got.spatial) == (1 / 5, 2.0)


def test_an_empty_gold_tube_is_never_met():
    got = score_answer(write(5, 6, CLOSE, CLOSE), Tube([], []), SPACE)
    assert as_list(got) == [1.0, 1.0, 0.0, 0.0, 0.0, 2.0]
    assert score_answer(write(6, 5, [], []), Tube([], []), SPACE).total == 1.0


def test_gold_boxes_outside_the_frame_are_clamped():
    outside = Tube([5], [[-0.5, 0.0, 0.5, 1.5]])
    got = score_answer(write(5, 5, *[[(5, (0, 0, 500, 1000))]] * 2), outside, SPACE)
    assert got.total == 5.0


def test_unknown_spatial_terms_are_refused():
    with pytest.raises(InputError, match="spatial term 'iou'"):
        score_answer("", as_tube(GOLD), SPACE, spatial="iou")


def test_a_breakdown_is_short_to_read():
    assert repr(RewardBreakdown(1.0, total=1.0)) == (
        "RewardBreakdown(format=1.000, consistency=0.000, temporal=0.000, spatial=0.000, "
        "think=0.000, total=1.000)"
    )


# --- the form TRL calls ------------------------------------------------------------------------


def batch(count=40, seed=3):
    drawn = seeded(count, seed)
    texts = [write(*answer) for answer, _ in drawn]
    texts[::7] = ["no answer"] * len(texts[::7])
    return texts, [gold for _, gold in drawn]


def test_a_batch_scores_as_its_rows_do_one_by_one():
    texts, golds = batch()
    together = {
        name: reward(texts, **as_columns(golds))
        for name, reward in zip(NAMES, REWARDS, strict=True)
    }
    for row, (text, gold) in enumerate(zip(texts, golds, strict=True)):
        alone = score_answer(text, as_tube(gold), SPACE)
        assert [together[name][row] for name in NAMES] == as_list(alone)[:5]
        assert [r([text], **as_columns([gold]))[0] for r in REWARDS] == as_list(alone)[:5]


def test_the_weighted_sum_is_the_total():
    texts, golds = batch()
    table = np.array([reward(texts, **as_columns(golds)) for reward in REWARDS])
    totals = [score_answer(t, as_tube(g), SPACE).total for t, g in zip(texts, golds, strict=True)]
    assert np.array(REWARD_WEIGHTS) @ table == pytest.approx(totals)


@pytest.mark.parametrize("reward", REWARDS, ids=lambda reward: reward.__name__)
def test_chats_and_parts_and_arrays_score_as_plain_text(reward, capfd):
    texts, golds = batch()
    columns = as_columns(golds)
    plain = reward(texts, **columns)
    assert all(type(value) is float for value in plain)
    chats = [[{"role": "assistant", "content": text}] for text in texts]
    parts = [[{"role": "assistant", "content": [{"type": "text", "text": t}]}] for t in texts]
    others = {"prompts": texts, "completion_ids": [[1]] * len(texts), "trainer_state": None}
    assert reward(chats, **columns, **others) == plain
    assert reward(parts, **columns, **others) == plain
    columns["target_frames"] = [np.array(frames) for frames in columns["target_frames"]]
    columns["target_boxes"] = [np.array(boxes) for boxes in columns["target_boxes"]]
    assert reward(texts, **columns) == plain
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("completion", "why"),
    [
        ([], "a chat without a message"),
        ([{"role": "assistant", "content": None}], "a tool call with empty text"),
        ([{"role": "assistant", "tool_calls": []}], "a tool call without text"),
        ([{"role": "assistant", "content": []}], "a message without parts"),
        ([{"role": "assistant", "content": [{"type": "image"}]}], "a part without text"),
        ("\x00", "a null byte"),
    ],
)
def test_completions_without_an_answer_score_nothing(completion, why):
    columns = as_columns([GOLD])
    assert [reward([completion], **columns) for reward in REWARDS] == [[0.0]] * 5, why


def test_the_last_message_is_the_answer():
    chat = [
        {"role": "assistant", "content": "Let me look."},
        {"role": "assistant", "content": write(5, 6, CLOSE, CLOSE)},
    ]
    assert REWARDS[0]([chat], **as_columns([GOLD])) == [1.0]


def test_each_completion_is_parsed_once_for_all_five(monkeypatch):
    texts, golds = batch(count=300, seed=4)
    parsed = []

    def counted(text, *args, **kwargs):
        parsed.append(text)
        return parse(text, *args, **kwargs)

    parse = rewards.parse_answer
    monkeypatch.setattr(rewards, "parse_answer", counted)
    for reward in REWARDS:
        reward(texts, **as_columns(golds))
    assert parsed == texts


def test_a_new_gold_tube_is_not_mistaken_for_the_last():
    texts, golds = batch()
    columns = as_columns(golds)
    first = REWARDS[3](texts, **columns)
    for boxes in columns["target_boxes"]:
        boxes[0] = [0.0, 0.0, 1.0, 1.0]  # the same lists, changed in place
    second = REWARDS[3](texts, **columns)
    moved = [gold | {min(gold): (0, 0, 1000, 1000)} for gold in golds]
    assert second != first
    assert second == [
        score_answer(t, as_tube(g), SPACE).spatial for t, g in zip(texts, moved, strict=True)
    ]


def test_threads_do_not_disturb_each_other():
    batches = [batch(seed=seed) for seed in range(6)]
    expected = [[r(t, **as_columns(g)) for r in REWARDS] for t, g in batches]
    got = [None] * len(batches)

    def work(place):
        texts, golds = batches[place]
        got[place] = [reward(texts, **as_columns(golds)) for reward in REWARDS]

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == expected


def test_rewards_go_to_other_processes_under_their_names():
    assert [reward.__name__ for reward in REWARDS] == [f"{name}_reward" for name in NAMES]
    for reward in REWARDS:
        assert pickle.loads(pickle.dumps(reward)) is reward
    ablated = pickle.loads(pickle.dumps(partial(REWARDS[3], spatial="l1", think=False)))
    text = write(5, 6, CLOSE)
    alone = score_answer(text, as_tube(GOLD), SPACE, spatial="l1", think=False)
    assert ablated([text], **as_columns([GOLD])) == [alone.spatial]


def test_wrong_columns_are_named():
    columns = as_columns([GOLD])
    with pytest.raises(InputError, match="unknown coordinate space 'qwen'"):
        REWARDS[0]([""], **columns | {"space": ["qwen"]})
    with pytest.raises(TypeError, match="target_boxes"):
        REWARDS[0]([""], target_frames=[[5]], space=["0-100"])
    with pytest.raises(ValueError):
        REWARDS[0](["", ""], **columns)
