# %% [markdown]
# One number stands at the end of every paper. Here you compute it by hand, see how five evaluators
# give five numbers for the same boxes, and ask the more useful question: *what went wrong?*
#
# **You will**
# - compute tIoU and vIoU from frames, and compare with the library;
# - see why published numbers differ: a frame here, a `>` there, a bug;
# - score two real models on VUE-STG, where you have its files;
# - sort errors into wrong time, wrong object, loose box and unparsed.

# %% tags=["parameters"]
import os
import tempfile
from pathlib import Path

SMOKE = bool(os.environ.get("STVGKIT_SMOKE"))
CLIPS = 16 if SMOKE else 64
OUT = Path(tempfile.mkdtemp())

# %%
from collections import Counter

import numpy as np
import plotly.graph_objects as go

from stvgkit import Span, Tube
from stvgkit.boxes import iou
from stvgkit.datasets import data_samples, read_prepared
from stvgkit.datasets.shapes import write_shapes
from stvgkit.diagnosis import ERROR_KINDS, error_kinds
from stvgkit.exercises import check_calls, check_value
from stvgkit.metrics import PROTOCOLS, score_samples, score_tube
from stvgkit.pictures import draw_tube
from stvgkit.predictions import Prediction, score_files

# %% [markdown]
# ## 1 · The metrics, by hand
#
# $$tIoU = \frac{|S_i|}{|S_u|} \qquad vIoU = \frac{1}{|S_u|} \sum_{f \in S_i} IoU(b_f, g_f)$$
#
# $S_i$ are the frames in both spans, $S_u$ those in either. Note the denominator of vIoU: a frame
# that only one of the two holds counts as 0.

# %%
gold = Tube(range(10, 20), [[0.25, 0.25, 0.5, 0.5]] * 10)
pred = Tube(range(12, 22), [[0.25, 0.25, 0.5, 0.75]] * 10)


def by_hand(pred, gold):
    said, true = set(pred.frames.tolist()), set(gold.frames.tolist())
    common = sorted(said & true)
    overlap = iou(pred.at(common).boxes, gold.at(common).boxes).sum()
    return len(common) / len(said | true), overlap / len(said | true)


tiou, viou = by_hand(pred, gold)
library = score_tube(pred, gold)
print(f"by hand: tIoU {tiou:.3f}, vIoU {viou:.3f}; the library: {library}")
assert np.allclose([tiou, viou], [library["tIoU"], library["vIoU"]])

# %% [markdown]
# vIoU can never exceed tIoU: boxes are judged inside the common time only. Over many samples,
# `m_tIoU` and `m_vIoU` are means, and `vIoU@0.5` is the share with vIoU **greater than** 0.5. An
# answer that does not parse counts 0 and stays in the mean.
#
# ## 2 · Five evaluators, one perfect prediction
#
# Each protocol below scores the gold tube against itself.

# %%
for length in (5, 150):
    tube = Tube(range(length), [[0.1, 0.1, 0.5, 0.5]] * length)
    rows = {
        name: score_tube(tube, tube, protocol=name, grid=range(0, length, 5))
        for name in PROTOCOLS
    }
    for name, row in rows.items():
        print(f"{length:4} frames  {name:9} {row.get('vIoU', row.get('v_IoU')):.3f}")
    assert np.isclose(rows["stcat"]["vIoU"], (length - 1) / length)
    assert rows["default"]["vIoU"] == 1

# %% [markdown]
# STCAT, CG-STVG and TA-STVG never score the last gold frame: 0.8 is the best for five frames, 0.993
# for 150. `vue-stg` sees a grid of seconds only, `tubedetr` frames sampled at 5 fps.
#
# ### A bug that inflated
#
# TubeDETR's first evaluator took the *smaller* of the two ends for the union (its issues 2 and 3),
# so a prediction that runs on and on paid nothing for it. The published numbers were corrected.


# %%
def viou_with_bug(pred, gold):
    overlap = by_hand(pred, gold)[1] * len(set(pred.frames) | set(gold.frames))
    start = min(pred.span.start, gold.span.start)
    return overlap / (min(pred.span.end, gold.span.end) + 1 - start)


lasting = Tube(range(10, 60), [[0.25, 0.25, 0.5, 0.5]] * 50)
print(f"correct {by_hand(lasting, gold)[1]:.2f}, with the bug {viou_with_bug(lasting, gold):.2f}")
assert viou_with_bug(lasting, gold) == 1.0 and by_hand(lasting, gold)[1] == 0.2

# %% [markdown]
# ### `>` or `>=`
#
# LLaVA-ST counts vIoU $\geq$ 0.5, most others $>$ 0.5. Boxes twice as high as the gold give exactly
# 0.5 here: wrong for one evaluator, right for the other.

# %%
half = Tube(gold.frames, [[0.25, 0.25, 0.5, 0.75]] * 10)
value = score_tube(half, gold)["vIoU"]
print(f"vIoU {value}: > 0.5 is {value > 0.5}, >= 0.5 is {value >= 0.5}")
assert value == 0.5

# %% [markdown]
# ## 3 · Real models on VUE-STG
#
# VUE-STG (ByteDance, in `bytedance/vidi` on GitHub) publishes gold tubes and predictions, so an
# evaluator can be checked without a video. Its licence is CC BY-NC 4.0, so it does not come with
# this course; point `VUE_STG` at your copy. Without it, the cell says so and the table is missing.

# %%
VUE_STG = Path(os.environ.get("VUE_STG", data_samples().parents[1] / "shared/data/vue_stg"))
PUBLISHED = {  # v_IoU and t_IoU of the benchmark's README
    "vidi2": {"t_IoU": 0.532, "v_IoU": 0.326, "v_IoU_Int": 0.603},
    "qwen3-vl-32b-instruct": {"t_IoU": 0.259, "v_IoU": 0.051, "v_IoU_Int": 0.185},
}
if VUE_STG.is_dir():
    for model, published in PUBLISHED.items():
        report, _ = score_files("vue-stg", VUE_STG, VUE_STG / "results" / model / "tubes.csv")
        for name, value in published.items():
            print(f"{model:22} {name:10} ours {report.metrics[name]:.4f}  published {value}")
            assert abs(report.metrics[name] - value) < 0.001
else:
    print("VUE-STG is not on this machine: no table of real models here.")

# %% [markdown]
# ## 4 · Made-up predictions on generated clips
#
# For the rest we need predictions of every kind of quality. **They are made up** from the gold by
# rules you can read: no model said this.


# %%
def make_up(sample, kind):
    tube = sample.tube
    x = 0.0 if tube.boxes[:, 0].mean() > 0.5 else 0.8
    return {
        "right": Prediction(tube),
        "loose box": Prediction(Tube(tube.frames, tube.boxes + [-0.15, -0.15, 0.15, 0.15])),
        "wrong object": Prediction(Tube(tube.frames, [[x, 0.4, x + 0.15, 0.6]] * len(tube))),
        "wrong time": Prediction(tube.shift(len(tube))),
        "unparsed": Prediction(None),
    }[kind]


samples = list(read_prepared(write_shapes(OUT, "test", CLIPS)))
kinds = ["right", "loose box", "wrong object", "wrong time", "unparsed"]
predictions = {s.id: make_up(s, kinds[i % 5]) for i, s in enumerate(samples)}
report = score_samples(samples, predictions)
print(report.table())
assert report.unparsed == sum(p.tube is None for p in predictions.values()) > 0

# %% [markdown]
# One row for all, then one for each group: a mean hides whether small things, or moving ones, are
# what fails. Mind the sample counts: differences between groups of five are noise.
#
# ## 5 · What went wrong?
#
# Since vIoU = tIoU × (mean IoU inside the common time), `error_kinds` blames the smaller factor.

# %%
found = error_kinds(samples, predictions)
count = Counter(found)
figure = go.Figure(layout={"template": "plotly_white", "height": 300, "margin": {"t": 20}})
figure.add_bar(x=list(ERROR_KINDS), y=[count[kind] for kind in ERROR_KINDS])
figure.update_yaxes(title="samples")
assert count["wrong time"] and count["wrong object"] and count["right"]
figure

# %%
from IPython.display import display

for kind in ("loose box", "wrong object", "wrong time"):
    i = found.index(kind)
    print(f"{kind}: {samples[i].query}")
    display(draw_tube(samples[i], pred=predictions[samples[i].id].tube, width=900))

# %% [markdown]
# Gold is the solid line, the prediction the dashed one. Counting kinds tells you what to work on;
# a mean of 0.35 does not.
#
# ## Exercises
#
# **1.** Four queries have vIoU 0.6, 0.5, 0.2, and the fourth did not parse. What is vIoU@0.5?

# %%
# solution
at_half = 1 / 4

# %%
check_value(at_half, 0.25, hint="Strictly greater, and the unparsed one stays in the mean.")

# %% [markdown]
# **2.** What does a perfect tube of n frames get under the `stcat` protocol?


# %%
def perfect_under_stcat(n):
    # solution
    return (n - 1) / n


# %%
check_calls(perfect_under_stcat, [((5,), 0.8), ((2,), 0.5), ((100,), 0.99)])

# %% [markdown]
# **3.** Write tIoU of two inclusive spans that need not meet.


# %%
def span_tiou(a: Span, b: Span) -> float:
    # solution
    common = len(a.intersect(b))
    return common / (len(a) + len(b) - common)


# %%
check_calls(
    span_tiou,
    [((Span(0, 3), Span(2, 5)), 1 / 3), ((Span(0, 3), Span(8, 9)), 0.0)],
    hint="The hull of two spans that do not meet is larger than their union.",
)
