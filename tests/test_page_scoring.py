"""Parser and rewards in JavaScript against those in Python, in a real Chromium."""

from __future__ import annotations

import dataclasses
import json
import random
import unicodedata
from importlib.resources import files

import pytest
from answer_texts import TOKENS
from test_answers import ACCEPTED, BROKEN, INCONSISTENT, KNOWN, LONG, RELATIVE

from stvgkit import (
    CoordinateSpace,
    Tube,
    explain_answer,
    format_answer,
    parse_answer,
    score_answer,
)

pytestmark = pytest.mark.browser

TEXTS = 20_000
SPACES = ["0-1000", "0-100", "640x360", "336x189", "1x1"]
OPTIONS = [
    {"spatial": spatial, "lambda_k": lambda_k, "think": think}
    for spatial in ("both", "giou", "l1")
    for lambda_k in (0.5, 0.0, 2.5)
    for think in (True, False)
]

ASK = """(cases) => JSON.stringify(JSON.parse(cases).map(([text, target, space, options]) => {
  const { parseAnswer, formatAnswer, explainAnswer, scoreAnswer } = window.stvgkit;
  const answer = parseAnswer(text, space, options);
  return {
    answer,
    written: answer && formatAnswer(answer, space),
    said: explainAnswer(text, options),
    score: scoreAnswer(text, target, space, options),
  };
}))"""


@pytest.fixture(scope="module")
def page(chromium):
    folder = files("stvgkit.viewing").joinpath("reward_lab")
    script = "".join(folder.joinpath(f"{name}.js").read_text() for name in ("answers", "rewards"))
    page = chromium.new_page()
    page.add_script_tag(content=script)
    return page


def python_says(text: str, target: Tube, space: CoordinateSpace, options: dict) -> dict:
    form = {"think": options["think"]}
    answer = parse_answer(text, space, **form)
    return {
        "answer": answer
        and {
            "span": [answer.span.start, answer.span.end],
            "think": None if answer.think is None else _tube(answer.think),
            "pred": _tube(answer.pred),
            "consistent": answer.consistent,
        },
        "written": answer and format_answer(answer, space),
        "said": explain_answer(text, **form),
        "score": dataclasses.asdict(score_answer(text, target, space, **options)),
    }


def _tube(tube: Tube) -> dict:
    return {"frames": tube.frames.tolist(), "boxes": tube.boxes.tolist()}


def check_page(page, cases: list[tuple[str, Tube, str, dict]]) -> list[float]:
    """Ask the page about all cases and compare; returns the sums of the rewards."""
    # As one ASCII string: half a surrogate pair does not survive the way into the browser.
    sent = json.dumps([[text, _tube(target), space, opts] for text, target, space, opts in cases])
    totals = []
    answers = json.loads(page.evaluate(ASK, sent))
    for (text, target, name, options), found in zip(cases, answers, strict=True):
        truth = python_says(text, target, CoordinateSpace.parse(name), options)
        assert found["score"].keys() == truth["score"].keys()
        apart = max(abs(found["score"][part] - value) for part, value in truth["score"].items())
        assert apart <= 1e-9, (text, name, options)
        assert found["answer"] == truth["answer"], (text, name, options)
        assert found["written"] == truth["written"], (text, name, options)
        # A browser may know characters that are newer than Python's and show them as they are.
        if all(unicodedata.category(character) != "Cn" for character in text):
            assert found["said"] == truth["said"], (text, name, options)
        totals.append(truth["score"]["total"])
    return totals


def random_target(rng: random.Random) -> Tube:
    frames = sorted(rng.sample(range(14), rng.choice([0, 1, 3, 6, 11])))
    corners = [[rng.uniform(-0.2, 1.2) for _ in range(4)] for _ in frames]
    if rng.random() < 0.7:
        corners = [[*sorted(box[::2]), *sorted(box[1::2])] for box in corners]
        corners = [[x1, y1, x2, y2] for x1, x2, y1, y2 in corners]
    return Tube(frames, corners)


def random_number(rng: random.Random, most: int) -> str:
    kind = rng.random()
    if kind < 0.7:
        return str(rng.randint(-most // 5, most + most // 5))
    if kind < 0.9:
        return f"{rng.uniform(-most, 2 * most):.{rng.randint(1, 12)}f}"
    return rng.choice(["-0", "000", "0.000000000000000001", "999999999.5", "-12.25"])


def random_answer(rng: random.Random, target: Tube, space: CoordinateSpace, think: bool) -> str:
    """A well-formed answer: near the gold tube, or anywhere, or with lists of anything."""
    start = int(target.span.start) + rng.randint(-1, 2) if len(target) else rng.randint(0, 9)
    start = max(start, 0)
    end = start + rng.randint(-1, 8)
    gap = rng.choice(["", " ", "\n", "\r\n\t", " \f\v"])
    most = int(max(space.width, space.height))

    def entries() -> str:
        indices = list(range(start, end + 1))
        if rng.random() < 0.3:
            indices = [rng.randint(0, 14) for _ in range(rng.randint(0, 7))]
        gold = dict(zip(target.frames.tolist(), space.encode(target.boxes).tolist(), strict=True))
        rows = []
        for index in indices:
            numbers = [random_number(rng, most) for _ in range(4)]
            if index in gold and rng.random() < 0.7:
                numbers = [str(value + rng.randint(-3, 3)) for value in gold[index]]
            rows.append(f"{index}{gap}.{gap}[{gap}{f'{gap},{gap}'.join(numbers)}{gap}]")
        return f"{gap},{gap}".join(rows)

    lists = [f"<{tag}>{gap}{entries()}{gap}</{tag}>" for tag in ("think_bbox", "pred_bbox")]
    lists = lists if think else lists[1:]
    return gap.join(["", f"<time>{gap}{start}{gap}-{gap}{end}{gap}</time>", *lists, ""])


def damage(rng: random.Random, text: str) -> str:
    """The text with a cut, a repeat, a swap, or something foreign in it."""
    a, b = sorted(rng.randint(0, len(text)) for _ in range(2))
    foreign = rng.choice(TOKENS) if rng.random() < 0.7 else chr(rng.choice(CHARACTERS))
    return rng.choice(
        [
            text[:a] + text[a + 1 :],
            text[:a] + text[b:],
            text[:a] + foreign + text[a:],
            text[:a] + foreign + text[a + 1 :],
            text[:b] + text[a:],
            text[:a],
            text[:a] + text[a:b].upper() + text[b:],
        ]
    )


CHARACTERS = [
    *range(0x300),
    *range(0x2000, 0x2070),
    0x660,
    0x4E94,
    0xFEFF,
    0xFF15,
    0x1F600,
    0xE0001,
]


def random_case(rng: random.Random) -> tuple[str, Tube, str, dict]:
    target, name, options = random_target(rng), rng.choice(SPACES), rng.choice(OPTIONS)
    kind = rng.random()
    if kind < 0.02:
        text = "".join(rng.choice(TOKENS) for _ in range(rng.randint(0, 20)))
    elif kind < 0.05:
        text = "".join(chr(rng.choice(CHARACTERS)) for _ in range(rng.randint(0, 6)))
    else:
        think = options["think"] != (rng.random() < 0.05)
        text = random_answer(rng, target, CoordinateSpace.parse(name), think)
        if kind < 0.4:
            text = damage(rng, text)
    return text, target, name, options


def test_random_and_hostile_answers_earn_what_python_gives(page):
    rng = random.Random(0)
    totals = check_page(page, [random_case(rng) for _ in range(TEXTS)])
    assert len(set(totals)) > TEXTS / 4 and min(totals) < -5 and max(totals) > 4


def test_every_listed_text_is_read_and_explained_as_by_python(page):
    gold = Tube([5, 6, 7], [[0.271, 0.03, 0.395, 0.212]] * 3)
    texts = [row[0] for row in [*ACCEPTED, *BROKEN, *INCONSISTENT, *KNOWN, [RELATIVE]]]
    cases = [(text, gold, "0-1000", options) for text in texts for options in OPTIONS[:2]]
    check_page(page, cases)


def test_very_long_texts_are_read_in_one_pass(page):
    """With a step back for each character, any of these would take hours."""
    gold = Tube([5], [[0.1, 0.1, 0.5, 0.5]])
    check_page(page, [(row[0][:200_000], gold, "0-1000", OPTIONS[0]) for row in LONG])


def test_what_no_option_and_no_space_is_raises(page):
    gold = "{frames: [], boxes: []}"
    call = f"([space, options]) => window.stvgkit.scoreAnswer('', {gold}, space, options)"
    assert page.evaluate(call, ["0-1000", {}])["total"] == 0
    assert page.evaluate(call, [{"width": 640, "height": 360}, {}])["total"] == 0
    for space, options in [
        ("1000", {}), ("0-0", {}), (None, {}), ({}, {}),
        ("0-1000", {"lambdaK": 1}), ("0-1000", {"spatial": "toString"}),
    ]:  # fmt: skip
        with pytest.raises(Exception, match="RangeError"):
            page.evaluate(call, [space, options])
