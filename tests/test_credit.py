"""Credit: what each part of an answer is paid, against definitions written out and a toy policy."""

import itertools

import numpy as np
import pytest

from stvgkit import Answer, CoordinateSpace, Span, Tube, format_answer, score_answer
from stvgkit.credit import CREDITS, PARTS, Payment, Scoring, pay_group
from stvgkit.errors import InputError
from stvgkit.grammar import part_ends
from stvgkit.rewards import spatial_rewards

SPACE = CoordinateSpace.relative(100)
GOLD = Tube([2, 3, 4], [[0.2, 0.2, 0.6, 0.6]] * 3)


def answer(start, end, think=0.0, pred=0.0, space=SPACE):
    """An answer whose boxes are the gold's, moved to the right by `think` and `pred`."""
    frames = range(start, end + 1)
    tubes = [
        Tube(frames, [[0.2 + shift, 0.2, 0.6 + shift, 0.6]] * len(frames))
        for shift in (think, pred)
    ]
    return format_answer(Answer(Span(start, end), *tubes, consistent=True), space)


GOOD = answer(2, 4, 0.1, 0.0)
LATE = answer(3, 5, 0.2, 0.1)
BROKEN_THINK = GOOD.replace("</think_bbox>", "</pred_bbox>")
BROKEN_TIME = "<time> 2 to 4 </time>"
CUT_OFF = GOOD[:-30]


class TestPartEnds:
    def test_of_a_whole_answer(self):
        time, think, end = part_ends(GOOD)
        assert GOOD[:time].endswith("</time>") and GOOD[:think].endswith("</think_bbox>")
        assert end == len(GOOD)

    def test_a_list_closed_by_the_wrong_tag_ends_where_the_tag_departs(self):
        time, think, end = part_ends(BROKEN_THINK)
        assert time and think is None
        assert BROKEN_THINK[end - 2 : end + 1] == "</p"

    def test_a_broken_time_has_no_end(self):
        assert part_ends(BROKEN_TIME) == (None, None, len("<time> 2 "))

    def test_a_text_that_is_cut_off_could_go_on(self):
        assert part_ends(CUT_OFF)[2] == len(CUT_OFF)

    def test_without_think_list_the_final_boxes_follow_the_time(self):
        text = "<time> 2 - 2 </time> <pred_bbox> </pred_bbox>"
        assert part_ends(text, think=False) == (20, 20, len(text))

    @pytest.mark.parametrize("text", ["", " ", "\ud800", "<time>" * 50, "\0", "<time> 1"])
    def test_hostile_texts(self, text):
        time, think, end = part_ends(text)
        assert time is None and think is None and 0 <= end <= len(text)


def standard(values, eps):
    """z of a list by hand."""
    mean = sum(values) / len(values)
    spread = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    return [(v - mean) / (spread + eps) for v in values]


class TestWhole:
    def test_every_token_gets_the_standardised_sum(self):
        texts = [GOOD, LATE, BROKEN_THINK, BROKEN_TIME]
        totals = [score_answer(text, GOLD, SPACE).total for text in texts]
        paid = pay_group(texts, GOLD, SPACE, "whole")
        for payment, advantage in zip(paid, standard(totals, 1e-4), strict=True):
            assert payment.of_tokens(["<time>", "anything", ""]) == pytest.approx(advantage)


class TestToGo:
    def test_a_part_is_paid_less_what_was_settled_before_it(self):
        texts = [GOOD, LATE, BROKEN_THINK]
        good, late, _ = (score_answer(text, GOLD, SPACE) for text in texts)
        said = [spatial_rewards(answer_of(text), GOLD)[0] for text in (GOOD, LATE)]
        assert said[0] == pytest.approx(0.3 / 0.5 - 0.2)  # IoU 0.6 in its own hull, L1 0.2
        to_go = {
            "time": [good.total, late.total, 0.0],
            "think": [good.total - 1.0, late.total - 0.5, 0.0 - 1.0],  # its time was right
            "pred": [good.total - 1.0 - said[0], late.total - 0.5 - said[1], 0.0],
        }
        spread = max(np.std(values, ddof=1) for values in to_go.values()) + 1e-4
        for place, part in enumerate(PARTS):
            wanted = (np.array(to_go[part]) - np.mean(to_go[part])) / spread
            paid = [p.advantages[place] for p in pay_group(texts, GOLD, SPACE, "to-go")]
            assert paid == pytest.approx(wanted.tolist())

    @pytest.mark.parametrize(
        "texts", [[BROKEN_THINK, LATE.replace("</think_bbox>", "</pred_bbox>")], [GOOD, GOOD]]
    )
    def test_a_group_whose_answers_earn_alike_is_not_blown_up(self, texts):
        """R is 0 for all that break, whether their time was right or late."""
        for payment in pay_group(texts, GOLD, SPACE, "to-go"):
            assert max(map(abs, payment.advantages)) < 1


def answer_of(text):
    from stvgkit import parse_answer

    return parse_answer(text, SPACE)


class TestParts:
    def test_each_part_by_its_own_reward_and_the_form(self):
        texts = [GOOD, LATE, answer(2, 3, 0.0, 0.2), BROKEN_THINK, BROKEN_TIME]
        scores = [score_answer(text, GOLD, SPACE) for text in texts]
        spatial = [spatial_rewards(answer_of(text), GOLD) for text in texts[:3]]
        time = standard([s.temporal for s in scores[:3]], 0.1)
        think = standard([a for a, _ in spatial], 0.1)
        pred = standard([b + 0.5 * max(b - a, 0) for a, b in spatial], 0.1)
        form = standard([s.format + s.consistency for s in scores], 0.1)
        wanted = [(time[i], think[i] + form[i], pred[i] + form[i]) for i in range(3)]
        wanted += [(0.0, form[3], form[3])]
        paid = [p.advantages for p in pay_group(texts, GOLD, SPACE, "parts")]
        assert np.allclose(paid[:4], wanted)
        assert paid[4][0] == pytest.approx(form[4])  # the time itself is broken

    def test_missing_in_time_is_never_paid_for_the_boxes_that_it_avoids(self):
        poor = answer(2, 4, 0.35, 0.35)  # a spatial reward below 0
        missed = answer(7, 8, 0.35, 0.35)  # no overlap: a spatial reward of 0
        paid = pay_group([poor, missed] * 2, GOLD, SPACE, "parts")
        assert paid[0].advantages[0] > 0 > paid[1].advantages[0]

    def test_groups_in_which_nobody_or_one_parses(self):
        nobody = pay_group([BROKEN_TIME] * 4, GOLD, SPACE, "parts")
        assert all(p.advantages == (0.0, 0.0, 0.0) for p in nobody)
        one = pay_group([GOOD, BROKEN_THINK], GOLD, SPACE, "parts")
        assert one[0].advantages[0] == one[1].advantages[0] == 0.0
        assert one[0].advantages[1] > 0 > one[1].advantages[1]

    def test_weights_and_ablations_reach_the_parts(self):
        texts = [GOOD, BROKEN_THINK, LATE]
        scoring = Scoring(weights=(0, 0, 1, 1, 0.5), spatial="l1")
        paid = pay_group(texts, GOLD, SPACE, "parts", scoring)
        assert paid[1].advantages == (0.0, 0.0, 0.0)  # form is worth nothing here
        flat = "<time> 2 - 4 </time> <pred_bbox> </pred_bbox>"
        paid = pay_group([flat, GOOD], GOLD, SPACE, "parts", Scoring(think=False))
        assert paid[0].think_end == paid[0].time_end


class TestBoxes:
    """Each number by its own time or box; characters stand for tokens here."""

    @staticmethod
    def pay(texts, **settings):
        paid = pay_group(texts, GOLD, SPACE, "boxes", **settings)
        return [payment.of_tokens(text) for payment, text in zip(paid, texts, strict=True)]

    @staticmethod
    def at(text, paid, number, part=None, skip=0):
        """What the first digit of a number is paid, behind the opening tag of a part."""
        start = text.index(f"<{part}>") if part else 0
        for _ in range(skip + 1):
            start = text.index(number, start + 1)
        return paid[start]

    def test_a_box_is_paid_by_its_own_overlap_and_the_form(self):
        other = GOOD.replace("3. [20, 20, 60, 60]", "3. [60, 20, 99, 60]")  # one final box is off
        texts = [GOOD, other, BROKEN_THINK]
        paid = self.pay(texts)
        form = standard([2.0, 2.0, 0.0], 0.1)
        values = spatial_rewards(answer_of(GOOD), GOLD)
        off = Tube([3], [[0.6, 0.2, 0.99, 0.6]])
        lone = Answer(Span(3, 3), None, off, consistent=True)
        poor = spatial_rewards(lone, Tube([3], GOLD.boxes[1:2]))[0]
        right, wrong = standard([values[1] + 0.5 * (values[1] - values[0]), poor], 0.1)
        assert self.at(GOOD, paid[0], "20, 20", "pred_bbox", 1) == pytest.approx(right + form[0])
        assert self.at(other, paid[1], "60, 20", "pred_bbox") == pytest.approx(wrong + form[0])
        for frame in ("2. [", "4. ["):  # the same in both: paid for the form alone
            first = texts[1].index(frame, texts[1].index("<pred_bbox>")) + len(frame)
            assert paid[1][first] == pytest.approx(form[1])

    def test_words_are_paid_for_the_form_alone(self):
        texts = [GOOD, LATE, BROKEN_THINK]
        form = standard([2.0, 2.0, 0.0], 0.1)
        for text, paid, z in zip(texts, self.pay(texts), form, strict=True):
            assert paid[text.index("<think_bbox>")] == pytest.approx(z)
            assert paid[text.index("[")] == paid[text.index(", ")] == pytest.approx(z)
            assert paid[: text.index("<time>") + 6] == pytest.approx(z)

    def test_a_poor_time_is_blamed_also_where_the_answer_breaks_later(self):
        late = LATE.replace("</think_bbox>", "</pred_bbox>")
        texts = [GOOD, GOOD, late]
        times = np.add(standard([1.0, 1.0, 0.5], 0.1), standard([2.0, 2.0, 0.0], 0.1))
        for text, paid, z in zip(texts, self.pay(texts), times, strict=True):
            numbers = [text.index(number) for number in text[:14].split() if number.isdigit()]
            assert paid[numbers] == pytest.approx(z)

    def test_a_right_time_is_paid_more_than_a_poor_one_whether_the_answer_breaks_or_not(self):
        broken = [text.replace("</think_bbox>", "</pred_bbox>") for text in (GOOD, LATE)]
        paid = [values[7] for values in self.pay([GOOD, LATE, *broken])]
        assert paid[0] - paid[1] == pytest.approx(paid[2] - paid[3])
        assert paid[0] > paid[1] and paid[2] > paid[3]

    def test_boxes_before_a_break_are_judged_and_what_follows_is_not_paid(self):
        texts = [GOOD, BROKEN_THINK.replace("[30, 20", "[90, 20", 1)]
        paid = self.pay(texts)
        form = standard([2.0, 0.0], 0.1)
        right, wrong = (
            self.at(text, values, number, "think_bbox")
            for text, values, number in zip(texts, paid, ("30, 20", "90, 20"), strict=True)
        )
        assert right > form[0] and wrong < form[1]
        end = part_ends(texts[1])[2]
        assert not paid[1][end + 1 :].any()

    def test_boxes_at_frames_without_gold_have_no_reward_of_their_own(self):
        texts = [answer(4, 6, 0.1, 0.1), answer(4, 6, 0.3, 0.3)]
        for text, paid in zip(texts, self.pay(texts), strict=True):
            assert self.at(text, paid, "5. [", "think_bbox") == 0.0
            at_five = text.index("5. [") + len("5. [")
            assert paid[at_five] == 0.0 != paid[text.index("4. [") + len("4. [")]

    def test_weights_think_lists_and_tokens_of_several_characters(self):
        scoring = Scoring(weights=(0, 0, 1, 0, 0))
        paid = pay_group([GOOD, LATE], GOLD, SPACE, "boxes", scoring)
        assert paid[0].of_tokens(["<time> ", "2", " - ", "4", GOOD[12:]])[[1, 3]].min() > 0
        assert all(
            advantage == 0.0
            for payment in paid
            for start, _, advantage in payment.numbers
            if start > payment.time_end
        )
        flat = "<time> 2 - 2 </time> <pred_bbox> 2. [20, 20, 60, {}] </pred_bbox>"
        texts = [flat.format(60), flat.format(90)]
        paid = pay_group(texts, GOLD, SPACE, "boxes", Scoring(think=False))
        assert self.at(texts[0], paid[0].of_tokens(texts[0]), "60, 60") > 0
        assert paid[0].of_tokens(["<time> 2 - 2 </time> <pred_bbox> 2. [20", ", "])[0] > 0


def test_all_credits_are_finite_on_hostile_texts():
    texts = ["", "\ud800", GOOD, "<time> 9 - 1 </time>", GOOD * 2, "<time>" * 400, CUT_OFF]
    for credit in CREDITS:
        for payment in pay_group(texts, GOLD, SPACE, credit):
            assert np.isfinite(payment.advantages).all()
            assert np.isfinite(payment.of_tokens("x" * 50)).all()


def test_an_unknown_credit_is_refused():
    with pytest.raises(
        InputError, match="unknown credit 'half': use one of whole, to-go, parts, boxes"
    ):
        pay_group([GOOD], GOLD, SPACE, "half")


def test_tokens_are_paid_by_where_they_begin():
    payment = Payment((1.0, 2.0, 3.0), time_end=3, think_end=float("inf"), end=5)
    assert payment.of_tokens(["a", "bcd", "e", "", "f", "g"]).tolist() == [1, 1, 2, 2, 2, 0]


class ToyPolicy:
    """Three choices, each a softmax of its own: a time; think boxes or a break; final boxes or one.

    Small enough that every group of two answers can be listed, so expectations are exact.
    """

    TIMES = [(2, 4), (3, 5), (6, 8)]
    SHIFTS = [0.0, 0.3, None]  # None breaks the list

    def __init__(self, seed):
        self.logits = np.random.default_rng(seed).normal(size=(3, 3))
        self.chances = np.exp(self.logits) / np.exp(self.logits).sum(axis=1, keepdims=True)

    def outcomes(self):
        """Every answer: its chance, text, and the gradient of its log-chance by part `(3, 3)`."""
        for time, think, pred in itertools.product(range(3), repeat=3):
            broken = self.SHIFTS[think] is None
            if broken and pred:
                continue  # nothing is chosen behind a break
            chance = self.chances[0, time] * self.chances[1, think]
            chance *= 1.0 if broken else self.chances[2, pred]
            score = np.zeros((3, 3))
            for part, choice in enumerate((time, think) if broken else (time, think, pred)):
                score[part] = np.eye(3)[choice] - self.chances[part]
            yield chance, self.text(time, think, pred), score

    def text(self, time, think, pred):
        shifts = [self.SHIFTS[think] or 0.0, self.SHIFTS[pred] or 0.0]
        text = answer(*self.TIMES[time], *shifts)
        if self.SHIFTS[think] is None:
            return text.split("</think_bbox>")[0] + "</pred_bbox>"
        return text.removesuffix("</pred_bbox>") if self.SHIFTS[pred] is None else text


def gradient_moments(policy, credit, scale=False):
    """Mean and total variance of a group's gradient, over every group of two answers."""
    mean, square = np.zeros((3, 3)), 0.0
    for pair in itertools.product(policy.outcomes(), repeat=2):
        chance = pair[0][0] * pair[1][0]
        paid = pay_group([text for _, text, _ in pair], GOLD, SPACE, credit, scale=scale)
        gradient = sum(
            np.asarray(payment.advantages)[:, None] * score
            for payment, (_, _, score) in zip(paid, pair, strict=True)
        )
        mean += chance * gradient
        square += chance * (gradient**2).sum()
    return mean, square - (mean**2).sum()


@pytest.mark.parametrize("seed", range(3))
def test_to_go_has_the_expectation_of_whole_and_less_variance(seed):
    policy = ToyPolicy(seed)
    whole, to_go = (gradient_moments(policy, credit) for credit in ("whole", "to-go"))
    print(f"seed {seed}: variance {whole[1]:.3f} whole, {to_go[1]:.3f} to-go")
    assert np.allclose(whole[0], to_go[0], atol=1e-12)
    assert to_go[1] < whole[1]


@pytest.mark.parametrize("seed", range(3))
def test_dividing_by_the_deviation_moves_to_go_away_from_whole(seed):
    """As TRL does by default: the deviation of R depends on what comes later as well."""
    policy = ToyPolicy(seed)
    whole, to_go = (gradient_moments(policy, credit, scale=True) for credit in ("whole", "to-go"))
    apart = np.abs(whole[0] - to_go[0]).max() / np.abs(whole[0]).max()
    print(f"seed {seed}: expected gradients differ by {apart:.1%} of the largest entry")
    assert 0.01 < apart < 1


def test_weights_are_the_papers():
    assert list(Scoring().weights) == [1, 1, 1, 1, 0.5]  # λ_k = 0.5
