"""How fast scoring is on VUE-STG's 1,600 queries, against a plain loop over frames.

Both sides get the same input, give the same seven figures for each query, and are timed in turns;
reading files is not counted. The input is all tubes end to end (`TubeBatch`), as files hold them;
and, timed apart, lists of `Tube`s, which we first have to lay end to end. With the benchmark's
folder the real gold and predictions are scored, else random tubes of the same shape.
Run: python benchmarks/scoring.py [--data VUE_STG_FOLDER] [--json FILE]
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path

import numpy as np

from stvgkit.datasets import SkipReport, vue_stg
from stvgkit.metrics import TubeBatch, score_tubes
from stvgkit.tubes import Tube

QUERIES, ROUNDS = 1600, 30
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "vue_stg"


def real_tubes(folder):
    samples = list(vue_stg.read(folder))
    tubes = vue_stg.read_tubes(
        folder / "results" / "qwen3-vl-32b-instruct" / "tubes.csv", SkipReport()
    )
    return [tubes.get(sample.id) for sample in samples], [sample.tube for sample in samples]


def random_tubes(rng):
    """Gold of 7.6 boxes and predictions of 13.2 on average, one in twelve missing."""

    def tube(first, mean):
        corners = np.sort(rng.random((1 + rng.poisson(mean), 2, 2)), axis=1).reshape(-1, 4)
        return Tube(first + np.arange(len(corners)), corners)

    golds = [tube(int(rng.integers(0, 1500)), 6.6) for _ in range(QUERIES)]
    preds = [tube(gold.span.start + int(rng.integers(-5, 6)), 12.2) for gold in golds]
    return [None if i % 12 == 0 else pred for i, pred in enumerate(preds)], golds


def plain_area(box):
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def plain_iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (plain_area(a) + plain_area(b) - width * height)


def plain_split(batch):
    """One dictionary a query: box by frame."""
    tubes = [{} for _ in batch.lengths]
    rows = zip(batch.owner.tolist(), batch.frames.tolist(), batch.boxes.tolist(), strict=True)
    for owner, frame, box in rows:
        tubes[owner][frame] = box
    return tubes


def plain_dict(tube):
    if tube is None:
        return {}
    return dict(zip(tube.frames.tolist(), tube.boxes.tolist(), strict=True))


def plain_scores(pred, gold):
    in_pred = in_gold = in_both = in_either = 0
    total = 0.0
    for frame in pred.keys() | gold.keys():
        p, g = pred.get(frame), gold.get(frame)
        has_p, has_g = p is not None and plain_area(p) > 0, g is not None and plain_area(g) > 0
        in_pred += has_p
        in_gold += has_g
        in_either += has_p or has_g
        if has_p and has_g:
            in_both += 1
            total += plain_iou(p, g)

    def share(top, bottom):
        return top / bottom if bottom else math.nan

    return (
        share(in_both, in_pred),
        share(in_both, in_gold),
        share(in_both, in_either),
        share(total, in_pred),
        share(total, in_gold),
        share(total, in_either),
        share(total, in_both),
    )


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, default=DATA)
    arguments.add_argument("--json", type=Path)
    arguments = arguments.parse_args()

    real = arguments.data.is_dir()
    pred_list, gold_list = (
        real_tubes(arguments.data) if real else random_tubes(np.random.default_rng(0))
    )
    preds, golds = TubeBatch.of(pred_list), TubeBatch.of(gold_list)

    def ours():
        return np.stack(list(score_tubes(preds, golds, "vue-stg").values()), axis=1)

    def plain():
        pairs = zip(plain_split(preds), plain_split(golds), strict=True)
        return [plain_scores(pred, gold) for pred, gold in pairs]

    def ours_from_tubes():
        return np.stack(list(score_tubes(pred_list, gold_list, "vue-stg").values()), axis=1)

    def plain_from_tubes():
        pairs = zip(map(plain_dict, pred_list), map(plain_dict, gold_list), strict=True)
        return [plain_scores(pred, gold) for pred, gold in pairs]

    seconds = {ours: [], plain: [], ours_from_tubes: [], plain_from_tubes: []}
    assert all(np.allclose(ours(), f(), atol=1e-9, equal_nan=True) for f in seconds)
    for _ in range(ROUNDS):
        for function, times in seconds.items():
            start = time.process_time()
            function()
            times.append(time.process_time() - start)
    ms = {function.__name__: 1000 * statistics.median(t) for function, t in seconds.items()}
    result = {
        "queries": len(golds),
        "boxes": len(preds.frames) + len(golds.frames),
        "data": "VUE-STG" if real else "random",
        **{f"{name}_ms": value for name, value in ms.items()},
        "ratio": ms["plain"] / ms["ours"],
        "ratio_from_tubes": ms["plain_from_tubes"] / ms["ours_from_tubes"],
    }
    print(
        f"scoring {result['queries']} queries of {result['data']}, {result['boxes']} boxes: "
        f"{ms['ours']:.2f} ms, plain loop {ms['plain']:.1f} ms "
        f"(medians of {ROUNDS}, processor time): "
        f"{result['ratio']:.1f} times as fast; from lists of tubes "
        f"{ms['ours_from_tubes']:.2f} ms, {result['ratio_from_tubes']:.1f} times"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
