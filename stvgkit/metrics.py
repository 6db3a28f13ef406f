"""Metrics: how well predicted tubes match gold tubes, under five named protocols.

Per sample, with S_i the frames in both spans and S_u the frames in either:

    tIoU    = |S_i| / |S_u|
    vIoU    = (1 / |S_u|) * sum over f in S_i of IoU(pred_f, gold_f)
    gt_vIoU = (1 / |gold frames|) * sum over gold frames of IoU(pred_f, gold_f)

Over samples: m_tIoU, m_vIoU and gt_vIoU are means, vIoU@R is the share with vIoU strictly greater
than R. A sample without a prediction, or whose completion does not parse, scores 0 in all of them.

Evaluators in the field differ by a frame here and there, so every number names its protocol:
`default`, `hcstvg`, `stcat`, `tubedetr`, `vue-stg`. `PROTOCOLS` maps each name to the function
whose docstring says exactly what it counts.

All samples are scored at once: their frames are laid end to end and matched by one binary search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stvgkit.boxes import Floats, Ints, area, iou
from stvgkit.tubes import Span, Tube

Mask = NDArray[np.bool_]  # which boxes of a batch


@dataclass(frozen=True, eq=False)
class TubeBatch:
    """The tubes of n samples laid end to end, so that all are scored in a few array operations.

    >>> batch = TubeBatch.of([Tube([5, 6], np.zeros((2, 4))), None, Tube([9], np.zeros((1, 4)))])
    >>> batch.owner, batch.frames
    (array([0, 0, 2]), array([5, 6, 9]))
    """

    lengths: Ints  # (n,) boxes of each sample
    owner: Ints  # (m,) the sample of each box, increasing
    frames: Ints  # (m,) increasing within a sample
    boxes: Floats  # (m, 4)

    @classmethod
    def of(cls, tubes: Sequence[Tube | None]) -> TubeBatch:
        """Lay tubes end to end; None is a sample without any box."""
        lengths = np.array([0 if t is None else len(t.frames) for t in tubes], dtype=np.int64)
        some = [tube for tube in tubes if tube is not None]
        return cls(
            lengths,
            np.repeat(np.arange(len(lengths)), lengths),
            np.concatenate([np.empty(0, np.int64), *(tube.frames for tube in some)]),
            np.concatenate([np.empty((0, 4)), *(tube.boxes for tube in some)]),
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def spans(self, given: Sequence[Span | None] | None) -> np.ndarray:
        """First and last frame of each sample, `(n, 2)`, where no span is given instead."""
        rows = np.tile(np.array([0, -1]), (len(self), 1))  # an empty tube has an empty span
        some, ends = self.lengths > 0, np.cumsum(self.lengths)
        rows[some, 0] = self.frames[(ends - self.lengths)[some]]
        rows[some, 1] = self.frames[ends[some] - 1]
        told = [(i, s.start, s.end) for i, s in enumerate(given or ()) if s is not None]
        if told:
            where, *both = np.array(told, dtype=np.int64).T
            rows[where] = np.stack(both, axis=1)
        return rows


@dataclass(frozen=True, eq=False)
class Pairs:
    """Predictions and gold of n samples with their m matched frames: what protocols count on.

    A matched frame has a box in both tubes. A span is a row `(first, last)`, both inclusive.
    """

    preds: TubeBatch
    golds: TubeBatch
    pred_spans: Ints  # (n, 2)
    gold_spans: Ints  # (n, 2)
    pred_at: Ints  # (m,) place of each matched box in `preds`
    gold_at: Ints  # (m,) and in `golds`
    overlap: Floats  # (m,) IoU of the two
    grids: Sequence[np.ndarray] | None  # per sample, the frames that `tubedetr` looks at

    @property
    def owner(self) -> Ints:
        """The sample of each matched frame, `(m,)`."""
        return self.golds.owner[self.gold_at]

    @property
    def frame(self) -> Ints:
        """The number of each matched frame, `(m,)`."""
        return self.golds.frames[self.gold_at]

    def total(self, keep: Mask | slice = slice(None)) -> Floats:
        """Sum of the overlaps of each sample, over the matched frames in `keep`, `(n,)`."""
        owner, overlap = self.owner[keep], self.overlap[keep]
        sums = np.bincount(owner, weights=overlap, minlength=len(self.golds))
        return sums.astype(np.float64, copy=False)  # they are, but numpy's annotation says int

    def count(self, keep: Mask | slice = slice(None)) -> Ints:
        """Number of matched frames of each sample, of those in `keep`, `(n,)`."""
        return np.bincount(self.owner[keep], minlength=len(self.golds))


def _match(preds: TubeBatch, golds: TubeBatch) -> tuple[Ints, Ints]:
    """Where the frames with a box in both lie: their places in `preds` and in `golds`."""
    if not len(preds.frames) or not len(golds.frames):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    low, high = golds.frames.min(), golds.frames.max()
    stride = high - low + 3
    # Frames beyond every gold frame match nothing; pushed to the edge, the key cannot overflow.
    near = np.clip(preds.frames, low - 1, high + 1)
    pred_key = preds.owner * stride + (near - low)
    gold_key = golds.owner * stride + (golds.frames - low)
    place = np.searchsorted(pred_key, gold_key)  # keys increase, as frames do within a tube
    place[place == len(pred_key)] = 0
    found = pred_key[place] == gold_key
    return place[found], np.flatnonzero(found)


def _divide(top: Floats | Ints, bottom: Ints, empty: float) -> Floats:
    """`top / bottom` with `empty` where the bottom is not positive."""
    shares: Floats = np.full(len(top), empty)
    np.divide(top, bottom, out=shares, where=bottom > 0)
    return shares


def _half_open(pairs: Pairs, gold_end: int) -> tuple[np.ndarray, ...]:
    """Predicted [s, e + 1) and gold [s, e + gold_end): both starts and ends, overlap, tIoU."""
    p0, p1 = pairs.pred_spans[:, 0], pairs.pred_spans[:, 1] + 1
    g0, g1 = pairs.gold_spans[:, 0], pairs.gold_spans[:, 1] + gold_end
    inter = np.maximum(np.minimum(p1, g1) - np.maximum(p0, g0), 0)
    union = np.maximum(p1 - p0, 0) + (g1 - g0) - inter
    return p0, p1, g0, g1, union, _divide(inter, union, 0.0)


def _inside(pairs: Pairs, start: Ints, end: Ints) -> Mask:
    """Which matched frames lie in their sample's [start, end)."""
    return (pairs.frame >= start[pairs.owner]) & (pairs.frame < end[pairs.owner])


def default_protocol(pairs: Pairs) -> dict[str, np.ndarray]:
    """Score every video frame, both ends of a span inclusive, so a perfect tube scores exactly 1.

    |S_i| and |S_u| count frames of the spans. A frame inside the gold span that carries no gold
    box (some VidSTG targets leave the picture) cannot be compared, so it counts in tIoU and is
    left out of vIoU; a frame without a predicted box counts as IoU 0.

    Gold on frames 1-3, predicted on 2-4 with the same boxes: S_i = {2, 3}, S_u = {1, 2, 3, 4}.

    >>> box = [0.1, 0.1, 0.5, 0.5]
    >>> score_tube(Tube([2, 3, 4], [box] * 3), Tube([1, 2, 3], [box] * 3))
    {'tIoU': 0.5, 'vIoU': 0.5, 'gt_vIoU': 0.6666666666666666}
    """
    p0, p1, g0, g1, union, tiou = _half_open(pairs, gold_end=1)
    gold_boxes = pairs.golds.lengths
    seen = union - ((g1 - g0) - gold_boxes)
    both = _inside(pairs, np.maximum(p0, g0), np.minimum(p1, g1))
    return {
        "tIoU": tiou,
        "vIoU": _divide(pairs.total(both), seen, 0.0),
        "gt_vIoU": _divide(pairs.total(), gold_boxes, np.nan),
    }


def hcstvg_protocol(pairs: Pairs) -> dict[str, np.ndarray]:
    """Count as HC-STVG's own `eval_hcvg.py`: common boxes over the hull of both spans.

    tIoU = (number of frames with a box in both) / hull, vIoU = (sum of their IoU) / hull, with
    hull = last frame of either - first frame of either + 1. So a predicted span without boxes
    earns no tIoU. (gt_vIoU is not part of the official script; it is as in the default protocol.)

    Gold on frames 1-3, predicted on 2-4 without a box on 3: one common frame, a hull of four.

    >>> box = [0.1, 0.1, 0.5, 0.5]
    >>> score_tube(Tube([2, 4], [box] * 2), Tube([1, 2, 3], [box] * 3), protocol="hcstvg")
    {'tIoU': 0.25, 'vIoU': 0.25, 'gt_vIoU': 0.3333333333333333}
    """
    start = np.minimum(pairs.pred_spans[:, 0], pairs.gold_spans[:, 0])
    end = np.maximum(pairs.pred_spans[:, 1], pairs.gold_spans[:, 1])
    hull = np.where(pairs.golds.lengths > 0, end - start + 1, 0)  # it counts boxes, even in tIoU
    total = pairs.total()
    return {
        "tIoU": _divide(pairs.count(), hull, np.nan),
        "vIoU": _divide(total, hull, np.nan),
        "gt_vIoU": _divide(total, pairs.golds.lengths, np.nan),
    }


def stcat_protocol(pairs: Pairs) -> dict[str, np.ndarray]:
    """Count as STCAT, CG-STVG and TA-STVG: every frame, the gold's last frame never counted.

    These evaluators store the gold span as [s, e] with e the last frame, then use it as if e were
    exclusive, while the prediction is [s, e + 1). A perfect tube of n frames therefore gets
    tIoU = vIoU = (n - 1) / n; published numbers carry this. A frame without a predicted box counts
    as IoU 0.

    Gold on frames 1-3, predicted the same: S_i = {1, 2}, S_u = {1, 2, 3}.

    >>> tube = Tube([1, 2, 3], [[0.1, 0.1, 0.5, 0.5]] * 3)
    >>> score_tube(tube, tube, protocol="stcat")
    {'tIoU': 0.6666666666666666, 'vIoU': 0.6666666666666666, 'gt_vIoU': 1.0}
    """
    p0, p1, g0, g1, _, tiou = _half_open(pairs, gold_end=0)
    hull = np.maximum(p1, g1) - np.minimum(p0, g0)
    both = _inside(pairs, np.maximum(p0, g0), np.minimum(p1, g1))
    return {
        "tIoU": tiou,
        "vIoU": pairs.total(both) / np.maximum(hull, 1),
        "gt_vIoU": _divide(pairs.total(), pairs.golds.lengths, np.nan),
    }


def tubedetr_protocol(pairs: Pairs) -> dict[str, np.ndarray]:
    """Count as TubeDETR (its corrected evaluator): boxes on frames sampled at 5 fps only.

    tIoU is that of the default protocol, on all frames. vIoU and gt_vIoU look at the sampled
    frames (`sampled_grid`) alone: sum of IoU over those in both spans, divided by the number of
    those in the hull of both.

    Gold on frames 1-3, predicted on 2-4, frames 0, 2, 4 sampled: S_i = {2}, S_u = {2, 4}.

    >>> box = [0.1, 0.1, 0.5, 0.5]
    >>> pred, gold = Tube([2, 3, 4], [box] * 3), Tube([1, 2, 3], [box] * 3)
    >>> score_tube(pred, gold, protocol="tubedetr", grid=[0, 2, 4])
    {'tIoU': 0.5, 'vIoU': 0.5, 'gt_vIoU': 1.0}
    """
    if pairs.grids is None:
        raise ValueError("protocol tubedetr needs the sampled frames of each video (grids)")
    p0, p1, g0, g1, _, tiou = _half_open(pairs, gold_end=1)
    start, end = np.minimum(p0, g0), np.maximum(p1, g1)
    n = len(pairs.golds)
    seen, gold_seen = np.zeros(n, np.int64), np.zeros(n, np.int64)
    sampled = np.zeros(len(pairs.gold_at), dtype=bool)
    cuts = np.searchsorted(pairs.owner, np.arange(n + 1))
    gold_cuts = np.searchsorted(pairs.golds.owner, np.arange(n + 1))
    for i, grid in enumerate(pairs.grids):
        mine = slice(cuts[i], cuts[i + 1])
        sampled[mine] = np.isin(pairs.frame[mine], grid)
        seen[i] = np.count_nonzero((grid >= start[i]) & (grid < end[i]))
        gold_frames = pairs.golds.frames[gold_cuts[i] : gold_cuts[i + 1]]
        gold_seen[i] = np.count_nonzero(np.isin(gold_frames, grid))
    both = _inside(pairs, np.maximum(p0, g0), np.minimum(p1, g1)) & sampled
    return {
        "tIoU": tiou,
        "vIoU": pairs.total(both) / np.maximum(seen, 1),
        "gt_vIoU": pairs.total(sampled) / np.maximum(gold_seen, 1),
    }


def vue_stg_protocol(pairs: Pairs) -> dict[str, np.ndarray]:
    """Count as VUE-STG's `evaluate.py`: frames are seconds, only those with a box of some area.

    With P and G the predicted and the gold seconds, I = P & G, U = P | G and s the sum of IoU
    over I: t_Precision = |I|/|P|, t_Recall = |I|/|G|, t_IoU = |I|/|U|, v_Precision = s/|P|,
    v_Recall = s/|G|, v_IoU = s/|U|, v_IoU_Int = s/|I|. Spans play no part: gaps are gaps.
    A query without a prediction scores 0 in recall and IoU. Where the bottom is 0, precision and
    v_IoU_Int are undefined and stay out of the mean, which is what the published table does.

    Gold at seconds 1-3, predicted at 2-4 with the same boxes: |I| = 2, |U| = 4.

    >>> box = [0.1, 0.1, 0.5, 0.5]
    >>> pred, gold = Tube([2, 3, 4], [box] * 3), Tube([1, 2, 3], [box] * 3)
    >>> scores = score_tube(pred, gold, protocol="vue-stg")
    >>> scores["t_IoU"], scores["v_IoU"], scores["v_IoU_Int"]
    (0.5, 0.5, 1.0)
    """
    preds, golds, n = pairs.preds, pairs.golds, len(pairs.golds)
    pred_solid, gold_solid = area(preds.boxes) > 0, area(golds.boxes) > 0
    pred = np.bincount(preds.owner[pred_solid], minlength=n)
    gold = np.bincount(golds.owner[gold_solid], minlength=n)
    common = pairs.count(pred_solid[pairs.pred_at] & gold_solid[pairs.gold_at])
    union = pred + gold - common
    total = pairs.total()  # a box without area adds nothing
    return {
        "t_Precision": _divide(common, pred, np.nan),
        "t_Recall": _divide(common, gold, np.nan),
        "t_IoU": _divide(common, union, np.nan),
        "v_Precision": _divide(total, pred, np.nan),
        "v_Recall": _divide(total, gold, np.nan),
        "v_IoU": _divide(total, union, np.nan),
        "v_IoU_Int": _divide(total, common, np.nan),
    }


PROTOCOLS = {
    "default": default_protocol,
    "hcstvg": hcstvg_protocol,
    "stcat": stcat_protocol,
    "tubedetr": tubedetr_protocol,
    "vue-stg": vue_stg_protocol,
}


def score_tubes(
    preds: Sequence[Tube | None] | TubeBatch,
    golds: Sequence[Tube | None] | TubeBatch,
    protocol: str = "default",
    *,
    pred_spans: Sequence[Span | None] | None = None,
    gold_spans: Sequence[Span | None] | None = None,
    grids: Sequence[Any] | None = None,
) -> dict[str, np.ndarray]:
    """Score n predicted tubes against n gold tubes at once; each metric is an array `(n,)`.

    A span defaults to its tube's first to last frame; give it where it says more than the boxes
    do (an answered time span with a box missing, a gold span without any box). `None` among
    `preds` is a missing or unparsable prediction and scores 0. A gold tube of `None` (times known,
    boxes not) has vIoU NaN. `grids` holds the sampled frames of each video, for `tubedetr`.
    Raises `ValueError` for an unknown protocol or lists of unequal length.

    >>> tube = Tube([1, 2], [[0, 0, 0.5, 0.5]] * 2)
    >>> score_tubes([tube, None], [tube, tube])["vIoU"]
    array([1., 0.])
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; known are {', '.join(PROTOCOLS)}")
    preds, golds = (
        tubes if isinstance(tubes, TubeBatch) else TubeBatch.of(tubes) for tubes in (preds, golds)
    )
    given = [len(extra) for extra in (pred_spans, gold_spans, grids) if extra is not None]
    if {len(preds), *given} - {len(golds)}:
        raise ValueError("predictions, gold tubes, spans and grids must be equally many")
    pred_at, gold_at = _match(preds, golds)
    pairs = Pairs(
        preds,
        golds,
        preds.spans(pred_spans),
        golds.spans(gold_spans),
        pred_at,
        gold_at,
        iou(preds.boxes[pred_at], golds.boxes[gold_at]),
        None if grids is None else [np.asarray(grid, dtype=np.int64) for grid in grids],
    )
    scores = PROTOCOLS[protocol](pairs)
    if "vIoU" in scores:
        scores["vIoU"][golds.lengths == 0] = np.nan
    return scores


def score_tube(
    pred: Tube | None,
    gold: Tube | None,
    protocol: str = "default",
    *,
    pred_span: Span | None = None,
    gold_span: Span | None = None,
    grid: Any | None = None,
) -> dict[str, float]:
    """Score one predicted tube against one gold tube; see `score_tubes`.

    One frame of three is common, with IoU 1/2:

    >>> gold = Tube([1, 2], [[0, 0, 0.5, 0.5]] * 2)
    >>> score_tube(Tube([2, 3], [[0, 0, 0.5, 1.0]] * 2), gold)["vIoU"]
    0.16666666666666666
    """
    scores = score_tubes(
        [pred],
        [gold],
        protocol,
        pred_spans=[pred_span],
        gold_spans=[gold_span],
        grids=None if grid is None else [grid],
    )
    return {name: float(values[0]) for name, values in scores.items()}


def sampled_grid(window: Span, fps: float) -> Ints:
    """The frames that TubeDETR scores: one at each crossing of a 1/5 s mark, at most 200, `(k,)`.

    As in its data loaders, the last frame of the window is never among them unless it is the
    first, and where more than 200 remain, 200 are picked evenly.

    >>> sampled_grid(Span(0, 30), fps=30.0)
    array([ 0,  6, 12, 18, 24])
    """
    rate = min(5.0 / fps, 1.0)
    frames = np.arange(window.start, max(window.end, window.start + 1), dtype=np.int64)
    marks = (frames * rate).astype(np.int64)
    grid: Ints = frames[np.concatenate([[True], np.diff(marks) > 0])]
    return grid if len(grid) <= 200 else grid[np.arange(200) * len(grid) // 200]
