"""Metrics against slow oracles written from each protocol's definition, and against print."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stvgkit.datasets import Sample
from stvgkit.metrics import (
    PROTOCOLS,
    TubeBatch,
    sampled_grid,
    score_tube,
    score_tubes,
)
from stvgkit.predictions import Prediction
from stvgkit.scoring import score_samples, summarize
from stvgkit.tubes import Span, Tube

BOX = [0.1, 0.2, 0.5, 0.6]


def slow_iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    sizes = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(sizes) - width * height)


def as_dict(tube):
    return {} if tube is None else dict(zip(tube.frames.tolist(), tube.boxes.tolist(), strict=True))


def slow_default(pred, gold, p, g, grid):
    pred_frames, gold_frames = set(range(p.start, p.end + 1)), set(range(g.start, g.end + 1))
    inter, union = pred_frames & gold_frames, pred_frames | gold_frames
    scored = union - (gold_frames - set(gold))
    ious = {f: slow_iou(pred[f], gold[f]) for f in set(pred) & set(gold)}
    return {
        "tIoU": len(inter) / len(union),
        "vIoU": sum(ious.get(f, 0) for f in inter) / len(scored),
        "gt_vIoU": sum(ious.values()) / len(gold),
    }


def slow_hcstvg(pred, gold, p, g, grid):
    common = [slow_iou(pred[f], gold[f]) for f in gold if f in pred]
    every = max(g.end, p.end) - min(g.start, p.start) + 1
    return {
        "tIoU": len(common) / every,
        "vIoU": sum(common) / every,
        "gt_vIoU": sum(common) / len(gold),
    }


def slow_stcat(pred, gold, p, g, grid):
    start, end = [g.start, p.start], [g.end, p.end + 1]  # the gold's end loses its frame
    inter = max(min(end) - max(start), 0)
    union = (end[0] - start[0]) + (end[1] - start[1]) - inter
    ious = {f: slow_iou(pred[f], gold[f]) for f in gold if f in pred}
    inside = [f for f in gold if f in range(max(start), min(end))]
    return {
        "tIoU": inter / union if inter else 0.0,
        "vIoU": sum(ious.get(f, 0) for f in inside) / max(len(range(min(start), max(end))), 1),
        "gt_vIoU": sum(ious.values()) / len(gold),
    }


def slow_tubedetr(pred, gold, p, g, grid):
    ious = {f: slow_iou(pred[f], gold[f]) for f in gold if f in pred and f in grid}
    hull = [f for f in grid if min(p.start, g.start) <= f <= max(p.end, g.end)]
    inside = [f for f in grid if max(p.start, g.start) <= f <= min(p.end, g.end)]
    default = slow_default(pred, gold, p, g, grid)
    return {
        "tIoU": default["tIoU"],
        "vIoU": sum(ious.get(f, 0) for f in inside) / max(len(hull), 1),
        "gt_vIoU": sum(ious.values()) / max(len([f for f in gold if f in grid]), 1),
    }


def slow_vue_stg(pred, gold, p, g, grid):
    def solid(tube):
        return {f for f, box in tube.items() if box[2] > box[0] and box[3] > box[1]}

    pred_set, gold_set = solid(pred), solid(gold)
    inter, union = pred_set & gold_set, pred_set | gold_set
    total = sum(slow_iou(pred[f], gold[f]) for f in inter)

    def share(top, bottom):
        return top / bottom if bottom else math.nan

    return {
        "t_Precision": share(len(inter), len(pred_set)),
        "t_Recall": share(len(inter), len(gold_set)),
        "t_IoU": share(len(inter), len(union)),
        "v_Precision": share(total, len(pred_set)),
        "v_Recall": share(total, len(gold_set)),
        "v_IoU": share(total, len(union)),
        "v_IoU_Int": share(total, len(inter)),
    }


SLOW = {
    "default": slow_default,
    "hcstvg": slow_hcstvg,
    "stcat": slow_stcat,
    "tubedetr": slow_tubedetr,
    "vue-stg": slow_vue_stg,
}


def random_tube(rng, first, last, *, gaps, loose_boxes):
    frames = [f for f in range(first, last + 1) if not gaps or f == first or rng.random() < 0.7]
    boxes = []
    for _ in frames:
        x, y = sorted(rng.sample(range(101), 2)), sorted(rng.sample(range(101), 2))
        if loose_boxes and rng.random() < 0.1:
            x = x[::-1]  # a box without area
        boxes.append([x[0] / 100, y[0] / 100, x[1] / 100, y[1] / 100])
    return Tube(frames, boxes)


def random_pair(rng):
    """Predictions of every kind: missing, apart, touching, one frame, gaps, times beyond boxes."""
    start = rng.randrange(40)
    gold = random_tube(rng, start, start + rng.choice([0, 1, 5, 30]), gaps=False, loose_boxes=False)
    if rng.random() < 0.05:
        return None, gold, None
    start = rng.choice([start, start + len(gold), start + 60, rng.randrange(60)])
    last = start + rng.choice([0, 1, 7, 25])
    pred = random_tube(rng, start, last, gaps=rng.random() < 0.5, loose_boxes=True)
    span = Span(start - rng.randrange(3), last + rng.randrange(3)) if rng.random() < 0.3 else None
    return pred, gold, span


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_equals_the_oracle_on_ten_thousand_random_pairs(protocol):
    rng = random.Random(0)
    preds, golds, spans = map(list, zip(*(random_pair(rng) for _ in range(10_000)), strict=True))
    grids = [np.arange(rng.randrange(3), 120, rng.randrange(1, 7)) for _ in golds]
    scores = score_tubes(preds, golds, protocol, pred_spans=spans, grids=grids)
    met = {"missing": 0, "no overlap": 0, "one frame": 0, "gaps": 0}
    for i, (pred, gold, span) in enumerate(zip(preds, golds, spans, strict=True)):
        own = {name: float(values[i]) for name, values in scores.items()}
        if pred is None and protocol != "vue-stg":
            assert set(own.values()) == {0.0}
        else:
            span = span or (Span(0, -1) if pred is None else pred.span)
            grid = set(grids[i].tolist())
            wanted = SLOW[protocol](as_dict(pred), as_dict(gold), span, gold.span, grid)
            assert own == pytest.approx(wanted, abs=1e-9, nan_ok=True), i
        met["missing"] += pred is None
        if pred is not None:
            met["no overlap"] += not len(pred.span.intersect(gold.span))
            met["one frame"] += len(pred) == 1
            met["gaps"] += len(pred) < len(pred.span)
    assert min(met.values()) > 300, met  # each kind was really there


def test_gold_gaps_are_left_out_of_viou_but_not_of_tiou():
    rng = random.Random(1)
    for _ in range(500):
        gold = random_tube(rng, 5, 25, gaps=True, loose_boxes=False)
        pred = random_tube(rng, rng.randrange(20), 28, gaps=True, loose_boxes=True)
        own = score_tube(pred, gold, gold_span=Span(3, 27))
        wanted = slow_default(as_dict(pred), as_dict(gold), pred.span, Span(3, 27), None)
        assert own == pytest.approx(wanted, abs=1e-9)
    gold = Tube([1, 3], [BOX, BOX])
    assert score_tube(gold.interpolate(), gold)["vIoU"] == 1.0
    assert score_tube(gold, gold)["vIoU"] == 1.0


def drawn_tubes(side):
    """Tubes whose boxes have sides drawn from `side`."""
    return st.lists(st.integers(0, 30), min_size=1, max_size=12, unique=True).flatmap(
        lambda frames: st.lists(
            st.tuples(*[side] * 4), min_size=len(frames), max_size=len(frames)
        ).map(lambda boxes: Tube(sorted(frames), boxes))
    )


tubes = drawn_tubes(st.floats(0, 1))
# A thousandth apart at least: an area near the smallest float there is has no IoU to speak of.
sized_tubes = drawn_tubes(st.integers(0, 1000).map(lambda thousandths: thousandths / 1000))


@settings(deadline=None, max_examples=200)
@given(tubes, tubes, st.sampled_from(sorted(PROTOCOLS)))
def test_every_score_lies_in_0_to_1(pred, gold, protocol):
    grid = np.arange(0, 31, 3)
    for value in score_tube(pred, gold, protocol, grid=grid).values():
        assert math.isnan(value) or 0 <= value <= 1 + 1e-12


@settings(deadline=None, max_examples=100)
@given(sized_tubes, sized_tubes, st.sampled_from(["default", "hcstvg", "stcat", "vue-stg"]))
def test_scaling_the_frame_or_shifting_time_changes_nothing(pred, gold, protocol):
    grown = [Tube(tube.frames + 7, tube.boxes * [640, 360, 640, 360]) for tube in (pred, gold)]
    assert score_tube(*grown, protocol) == pytest.approx(
        score_tube(pred, gold, protocol), abs=1e-9, nan_ok=True
    )


def test_a_perfect_tube_scores_one_except_where_stcat_loses_a_frame():
    tube = Tube(range(10, 15), [BOX] * 5)
    for protocol in ("default", "hcstvg", "tubedetr"):
        scores = score_tube(tube, tube, protocol, grid=range(0, 30, 2))
        assert scores == {"tIoU": 1.0, "vIoU": 1.0, "gt_vIoU": 1.0}
    assert set(score_tube(tube, tube, "vue-stg").values()) == {1.0}
    assert score_tube(tube, tube, "stcat")["tIoU"] == pytest.approx(4 / 5)


def test_scores_do_not_depend_on_what_else_is_in_the_batch():
    rng = random.Random(2)
    pairs = [random_pair(rng) for _ in range(200)]
    preds, golds, spans = map(list, zip(*pairs, strict=True))
    batch = score_tubes(preds, golds, pred_spans=spans)
    for i, (pred, gold, span) in enumerate(pairs):
        alone = score_tube(pred, gold, pred_span=span)
        assert alone == {name: values[i] for name, values in batch.items()}
    packed = score_tubes(TubeBatch.of(preds), TubeBatch.of(golds), pred_spans=spans)
    assert all(np.array_equal(packed[name], batch[name]) for name in batch)


def test_frame_numbers_far_apart_do_not_overflow():
    far = Tube([3, 2**62], [BOX, BOX])
    scores = score_tubes([far] * 50, [Tube([3], [BOX])] * 50)
    assert np.allclose(scores["gt_vIoU"], 1.0)


def test_no_samples_at_all():
    scores = score_tubes([], [])
    assert summarize(scores).metrics["m_vIoU"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(preds=[None], golds=[]), "equally many"),
        (dict(preds=[None], golds=[None], pred_spans=[]), "equally many"),
        (dict(preds=[None], golds=[None], protocol="best"), "unknown protocol 'best'"),
        (dict(preds=[None], golds=[None], protocol="tubedetr"), "needs the sampled frames"),
    ],
)
def test_misuse_is_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        score_tubes(**arguments)


def test_viou_at_r_is_strictly_greater():
    gold = Tube([0, 1], [BOX, BOX])
    half = Tube([1], [BOX])  # vIoU exactly 0.5
    metrics = summarize(score_tubes([half, gold], [gold, gold])).metrics
    assert (metrics["vIoU@0.3"], metrics["vIoU@0.5"]) == (1.0, 0.5)


def slow_grid(first, last, fps):
    """TubeDETR's loop over frames, as its loaders define it."""
    frames, rate = [first], 5 / fps
    for frame in range(first, last):
        if int(frames[-1] * rate) < int(frame * rate):
            frames.append(frame)
    if len(frames) > 200:
        frames = [frames[(j * len(frames)) // 200] for j in range(200)]
    return frames


@pytest.mark.parametrize("fps", [5.0, 12.5, 23.976, 24.0, 25.0, 29.97002997, 30.0, 60.0])
@pytest.mark.parametrize(("first", "last"), [(0, 599), (7, 7), (13, 14), (31, 3000), (0, 1005)])
def test_sampled_grid_follows_tubedetr(fps, first, last):
    assert sampled_grid(Span(first, last), fps).tolist() == slow_grid(first, last, fps)


def sample(name, **groups):
    tube = Tube([10, 11], [BOX, BOX])
    return Sample(name, "a dog", None, 640, 360, 10.0, Span(0, 99), tube.span, tube, groups)


def test_missing_and_unparsed_count_zero_and_are_told_apart():
    samples = [sample(name) for name in "abcd"]
    predictions = {
        "a": Prediction(samples[0].tube),
        "b": Prediction(None),
        "elsewhere": Prediction(samples[0].tube),
    }
    report = score_samples(samples, predictions)
    assert (report.samples, report.unparsed, report.missing) == (4, 1, 2)
    assert report.metrics == dict.fromkeys(report.metrics, 0.25)
    assert list(report.metrics) == ["m_tIoU", "m_vIoU", "vIoU@0.3", "vIoU@0.5", "gt_vIoU"]


def test_an_answered_span_counts_even_without_its_boxes():
    report = score_samples([sample("a")], {"a": Prediction(Tube([], []), Span(10, 11))})
    assert (report.metrics["m_tIoU"], report.metrics["m_vIoU"]) == (1.0, 0.0)


def test_groups_split_the_samples_and_average_to_the_whole():
    samples = [sample(str(i), query=["declarative", "interrogative"][i % 2]) for i in range(7)]
    predictions = {str(i): Prediction(samples[i].tube) for i in (0, 2, 3)}
    report = score_samples(samples, predictions)
    assert set(report.groups) == {"query", "object size", "gold length"}
    assert report.groups["query"]["declarative"]["m_vIoU"] == pytest.approx(2 / 4)
    assert report.groups["query"]["interrogative"]["m_vIoU"] == pytest.approx(1 / 3)
    assert report.groups["gold length"] == {"<3s": {"samples": 7, **report.metrics}}
    assert report.groups["object size"] == {"10-30%": {"samples": 7, **report.metrics}}


@pytest.mark.parametrize(
    ("protocol", "tiou"), [("default", 0.2), ("tubedetr", 0.2), ("stcat", 2 / 9), ("hcstvg", None)]
)
def test_gold_without_boxes_has_times_scored_only(protocol, tiou):
    bare = Sample("a", "a dog", None, 640, 360, 10.0, Span(0, 99), Span(10, 19))
    predictions = {"a": Prediction(Tube([10, 11], [BOX, BOX]))}
    report = score_samples([bare], predictions, protocol)
    assert report.metrics["m_tIoU"] == (tiou and pytest.approx(tiou))
    assert report.metrics["m_vIoU"] is None and report.metrics["vIoU@0.5"] is None
    assert "-" in report.table()


def test_the_table_names_protocol_counts_and_groups_in_order():
    report = score_samples([sample("a"), sample("b")], {"a": Prediction(None)}, "hcstvg")
    lines = report.table().splitlines()
    assert lines[0].startswith("protocol hcstvg: 2 samples, 1 without a prediction, 1 not parsed")
    assert [line.split("  ")[0] for line in lines[3:]] == [
        "all samples",
        "gold length: <3s",
        "object size: 10-30%",
    ]
    assert len({len(line) for line in lines[2:]}) == 1  # columns line up
