"""Random answers as plain data, and their rewards by Eq. 3-10 in exact fractions."""

import random
from fractions import Fraction

import numpy as np

from stvgkit import CoordinateSpace, Tube

NAMES = ["format", "consistency", "temporal", "spatial", "think"]
SPACE = CoordinateSpace.relative(1000)


# --- answers as plain data: (start, end, think entries, pred entries), integers of 0-1000 --------


def write(start, end, *lists):
    tags = ("think_bbox", "pred_bbox")[-len(lists) :]
    text = f"<time> {start} - {end} </time>"
    for tag, entries in zip(tags, lists, strict=True):
        text += f" <{tag}> {', '.join(f'{i}. {list(box)}' for i, box in entries)} </{tag}>"
    return text


def random_box(rng):
    if rng.random() < 0.1:  # degenerate, reversed or outside the frame
        return tuple(rng.randint(-300, 1300) for _ in range(4))
    (x1, x2), (y1, y2) = (sorted(rng.sample(range(1001), 2)) for _ in range(2))
    return x1, y1, x2, y2


def near(box, rng):
    return tuple(min(max(value + rng.randint(-60, 60), 0), 1000) for value in box)


def random_case(rng):
    """An answer and its gold boxes, `{frame: box}`; every kind of fault now and then."""
    first = rng.randint(0, 8)
    gold = {frame: random_box(rng) for frame in range(first, first + rng.randint(1, 6))}
    if rng.random() < 0.1 and len(gold) > 2:
        del gold[first + 1]  # a gap
    start = max(first + rng.randint(-3, 3), 0)
    end = max(start + rng.randint(-1, 6), 0)
    lists = []
    for _ in range(2):
        entries = [
            (i, near(gold.get(i, random_box(rng)), rng) if rng.random() < 0.7 else random_box(rng))
            for i in range(start, end + 1)
        ]
        for _ in range(rng.choice([0, 0, 0, 1, 2])):
            fault = rng.choice(["drop", "repeat", "stray", "shuffle"])
            if fault == "drop" and entries:
                entries.pop(rng.randrange(len(entries)))
            if fault == "repeat" and entries:
                entries.append((rng.choice(entries)[0], random_box(rng)))
            if fault == "stray":
                entries.append((rng.randint(0, 20), random_box(rng)))
            if fault == "shuffle":
                rng.shuffle(entries)
        lists.append(entries)
    return (start, end, *lists), gold


# --- the slow oracle ---------------------------------------------------------------------------


def relative(box):
    return [min(max(Fraction(value, 1000), Fraction(0)), Fraction(1)) for value in box]


def slow_area(x1, y1, x2, y2):
    return (x2 - x1) * (y2 - y1) if x2 > x1 and y2 > y1 else Fraction(0)


def slow_giou(a, b):
    meet = slow_area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    if not (slow_area(*a) and slow_area(*b)):
        meet = Fraction(0)
    union = slow_area(*a) + slow_area(*b) - meet
    xs, ys = [a[0], a[2], b[0], b[2]], [a[1], a[3], b[1], b[3]]
    hull = slow_area(min(xs), min(ys), max(xs), max(ys))
    if not hull:
        return Fraction(1 if a == b else -1)
    return (meet / union if union else 0) - (hull - union) / hull


def slow_r_spa(entries, span, gold, terms):
    frames = [frame for frame in gold if frame in span]
    if not frames:
        return Fraction(0)
    boxes = {}
    for index, box in entries:
        boxes.setdefault(index, relative(box))
    total = Fraction(0)
    for frame in frames:
        giou, l1 = Fraction(-1), Fraction(4)  # the worst there is, for a missing box
        if frame in boxes:
            a, b = boxes[frame], relative(gold[frame])
            giou, l1 = slow_giou(a, b), sum(abs(p - q) for p, q in zip(a, b, strict=True))
        total += {"both": giou - l1, "giou": giou, "l1": -l1}[terms]
    return total / len(frames)


def slow_score(answer, gold, terms="both", lambda_k=Fraction(1, 2), think=True):
    start, end, *lists = answer
    span, gold_span = range(start, end + 1), range(min(gold), max(gold) + 1)
    lists = lists if think else lists[-1:]
    covered = all([index for index, _ in entries] == list(span) for entries in lists)
    union = set(span) | set(gold_span)
    r_t = Fraction(len(set(span) & set(gold_span)), len(union))
    r_spa = [slow_r_spa(entries, span, gold, terms) for entries in lists]
    r_k = max(r_spa[-1] - r_spa[0], Fraction(0))
    r_c = int(covered and len(span) > 0)
    return [1, r_c, r_t, sum(r_spa), r_k, 1 + r_c + r_t + sum(r_spa) + lambda_k * r_k]


def as_list(breakdown):
    return [getattr(breakdown, name) for name in [*NAMES, "total"]]


def as_tube(gold):
    return Tube(list(gold), np.array(list(gold.values())) / 1000)


def as_columns(golds, space=SPACE):
    return {
        "target_frames": [list(gold) for gold in golds],
        "target_boxes": [(np.array(list(gold.values())) / 1000).tolist() for gold in golds],
        "space": [space.name] * len(golds),
    }


def seeded(count, seed):
    rng = random.Random(seed)
    return [random_case(rng) for _ in range(count)]
