"""How fast the five rewards are, against the usual way to write them.

The baseline is what most training scripts do: every reward function parses the completion again
with regular expressions, and loops over the boxes in Python. Both score the same 64 completions of
40 + 40 boxes in turns, and must agree. Run: python benchmarks/rewards.py [--json FILE]
"""

import argparse
import json
import re
import statistics
import time
from pathlib import Path

import numpy as np

from stvgkit import Answer, CoordinateSpace, Tube, format_answer, rewards

COMPLETIONS, BOXES, ROUNDS = 64, 40, 20

BOX = r"(\d+)\.\s*\[\s*(-?[\d.]+),\s*(-?[\d.]+),\s*(-?[\d.]+),\s*(-?[\d.]+)\s*\]"
ANSWER = re.compile(
    r"\s*<time>\s*(\d+)\s*-\s*(\d+)\s*</time>\s*<think_bbox>(.*?)</think_bbox>"
    r"\s*<pred_bbox>(.*?)</pred_bbox>\s*",
    re.DOTALL,
)


def plain_parse(text, scale):
    match = ANSWER.fullmatch(text)
    if match is None:
        return None
    lists = []
    for body in match.groups()[2:]:
        boxes = {}
        for index, *corners in re.findall(BOX, body):
            boxes[int(index)] = [min(max(float(c) / scale, 0.0), 1.0) for c in corners]
        lists.append(boxes)
    return int(match[1]), int(match[2]), *lists


def plain_giou(a, b):
    area_a = max(a[2] - a[0], 0) * max(a[3] - a[1], 0)
    area_b = max(b[2] - b[0], 0) * max(b[3] - b[1], 0)
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = area_a + area_b - width * height
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return width * height / union - (hull - union) / hull


def plain_spatial(boxes, start, end, gold):
    frames = [frame for frame in gold if start <= frame <= end]
    total = 0.0
    for frame in frames:
        if frame in boxes:
            l1 = sum(abs(p - g) for p, g in zip(boxes[frame], gold[frame], strict=True))
            total += plain_giou(boxes[frame], gold[frame]) - l1
        else:
            total -= 5
    return total / len(frames) if frames else 0.0


def plain_format(text, gold, scale):
    return float(plain_parse(text, scale) is not None)


def plain_consistency(text, gold, scale):
    start, end, think, pred = plain_parse(text, scale)
    frames = list(range(start, end + 1))
    return float(list(think) == frames and list(pred) == frames)


def plain_temporal(text, gold, scale):
    start, end, *_ = plain_parse(text, scale)
    overlap = max(min(end, max(gold)) - max(start, min(gold)) + 1, 0)
    return overlap / (end - start + 1 + len(gold) - overlap)


def plain_spatial_sum(text, gold, scale):
    start, end, think, pred = plain_parse(text, scale)
    return plain_spatial(think, start, end, gold) + plain_spatial(pred, start, end, gold)


def plain_think(text, gold, scale):
    start, end, think, pred = plain_parse(text, scale)
    gain = plain_spatial(pred, start, end, gold) - plain_spatial(think, start, end, gold)
    return max(gain, 0.0)


PLAIN = [plain_format, plain_consistency, plain_temporal, plain_spatial_sum, plain_think]


def random_tube(rng, first):
    corners = np.sort(rng.random((BOXES, 2, 2)), axis=1).reshape(-1, 4)
    return Tube(np.arange(first, first + BOXES), corners)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", type=Path)
    out = arguments.parse_args().json

    rng = np.random.default_rng(0)
    space = CoordinateSpace.relative(1000)
    golds = [random_tube(rng, 5) for _ in range(COMPLETIONS // 8)]
    golds = [gold for gold in golds for _ in range(8)]  # groups of 8 share their gold tube
    texts = []
    for _ in golds:
        first = int(rng.integers(0, 10))
        think, pred = random_tube(rng, first), random_tube(rng, first)
        texts.append(format_answer(Answer(think.span, think, pred, True), space))
    chats = [[{"role": "assistant", "content": text}] for text in texts]
    columns = {
        "target_frames": [gold.frames.tolist() for gold in golds],
        "target_boxes": [gold.boxes.tolist() for gold in golds],
        "space": [space.name] * len(golds),
    }
    by_frame = [
        dict(zip(frames, boxes, strict=True))
        for frames, boxes in zip(columns["target_frames"], columns["target_boxes"], strict=True)
    ]

    def ours():
        return [reward(chats, **columns) for reward in rewards.REWARDS]

    def plain():
        return [
            [
                reward(chat[0]["content"], gold, 1000)
                for chat, gold in zip(chats, by_frame, strict=True)
            ]
            for reward in PLAIN
        ]

    assert np.allclose(ours(), plain(), atol=1e-9)
    seconds = {ours: [], plain: []}
    for _ in range(ROUNDS):
        for function, times in seconds.items():
            rewards._score_rows.cache_clear()  # every round is a batch not seen before
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
    ms = {function.__name__: 1000 * statistics.median(t) for function, t in seconds.items()}
    ratio = ms["plain"] / ms["ours"]
    print(
        f"five rewards, {COMPLETIONS} completions of {BOXES} + {BOXES} boxes: {ms['ours']:.1f} ms, "
        f"plain loops {ms['plain']:.1f} ms (medians of {ROUNDS}): {ratio:.1f} times as fast"
    )
    if out:
        out.write_text(json.dumps({"ours_ms": ms["ours"], "plain_ms": ms["plain"], "ratio": ratio}))


if __name__ == "__main__":
    main()
