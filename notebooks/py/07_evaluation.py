# %% [markdown]
# At the end of every paper stands one number. Here you compute it by hand, see how five evaluators
# make five numbers of the same boxes, and then ask what is more useful to know: *what went wrong?*
#
# **You will learn**
# - to compute tIoU and vIoU from frames and boxes;
# - why published numbers differ: a frame here, a `>` there, a bug;
# - to score predictions of real models on VUE-STG, if you have its files;
# - to tell a difference from noise, and to sort errors into *wrong time*, *wrong object*, *loose
#   box* and *unparsed*.
#
# Needed: [01](01_task_and_data.ipynb) for tubes. No GPU, no model: the predictions are made up, or
# your own from notebook 04 or 06.

# %% tags=["parameters"]
import os

SMOKE = bool(os.environ.get("STVGKIT_SMOKE"))
CLIPS = 24 if SMOKE else 64
PREDICTIONS = ""  # your own model's, such as "work/sft-tiny/after.jsonl"; empty: made-up ones
VUE_STG = os.environ.get("VUE_STG", "")  # the folder of VUE-STG's CSV files, if you have it

# %%
from collections import Counter
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from stvgkit import Span, Tube
from stvgkit.boxes import iou
from stvgkit.datasets import read_prepared
from stvgkit.datasets.shapes import write_shapes
from stvgkit.diagnosis import ERROR_KINDS, error_kinds
from stvgkit.exercises import check_calls, check_value
from stvgkit.metrics import PROTOCOLS, score_tube, score_tubes
from stvgkit.predictions import Prediction, read_completions
from stvgkit.scoring import score_files, score_samples

work = Path("work")

# %% [markdown]
# ## 1 · The metrics, by hand
#
# With $S_i$ the frames in both spans and $S_u$ the frames in either:
#
# $$\text{tIoU} = \frac{|S_i|}{|S_u|}, \qquad
# \text{vIoU} = \frac{1}{|S_u|} \sum_{f \in S_i} \text{IoU}(b_f, g_f)$$
#
# Mind the denominator of vIoU: a frame that only one of the two claims counts as 0. Below, the
# prediction is two frames late and its boxes are twice as high as the gold ones.


# %%
gold = Tube(range(10, 20), [[0.25, 0.25, 0.5, 0.5]] * 10)
pred = Tube(range(12, 22), [[0.25, 0.25, 0.5, 0.75]] * 10)


def by_hand(pred: Tube, gold: Tube) -> tuple[float, float]:
    said, true = set(pred.frames.tolist()), set(gold.frames.tolist())
    both, either = sorted(said & true), said | true
    overlap = iou(pred.at(both).boxes, gold.at(both).boxes).sum()
    return len(both) / len(either), overlap / len(either)


tiou, viou = by_hand(pred, gold)
print(f"by hand {tiou:.4f} and {viou:.4f}; library {score_tube(pred, gold)}")
assert np.isclose(tiou, 8 / 12) and np.isclose(viou, 8 * 0.5 / 12)
assert np.allclose([tiou, viou], [score_tube(pred, gold)[key] for key in ("tIoU", "vIoU")])

# %% [markdown]
# Eight frames of twelve, each with IoU 1/2. So **vIoU = tIoU × the mean IoU on the common frames**,
# and it can never be above tIoU. `gt_vIoU` asks something else: the mean IoU over the *gold* frames,
# whatever time was claimed.
#
# Over many samples, `m_tIoU` and `m_vIoU` are means and `vIoU@0.5` is the share with vIoU **greater
# than** 0.5. A prediction that is missing or does not parse counts 0 and stays in the mean:

# %%
scores = score_tubes([gold, pred, None], [gold] * 3)["vIoU"]
print("vIoU:", scores.round(2), "m_vIoU:", scores.mean().round(3), "vIoU@0.5:", (scores > 0.5).mean().round(3))
assert scores[2] == 0 and len(scores) == 3

# %% [markdown]
# Leaving out what does not parse is the easiest way to a good number: a model that answers only the
# easy questions would win.
#
# ## 2 · Five evaluators
#
# Score a *perfect* prediction, the gold tube itself, under each protocol: five frames of gold, then
# 150. What would you expect?

# %%
for length in (5, 150):
    tube = Tube(range(length), [[0.1, 0.1, 0.5, 0.5]] * length)
    print(f"{length} frames:", end=" ")
    for name in PROTOCOLS:
        row = score_tube(tube, tube, protocol=name, grid=range(0, length, 2))
        print(f"{name} {row.get('vIoU', row.get('v_IoU')):.3f}", end="   ")
        expected = (length - 1) / length if name == "stcat" else 1.0
        assert np.isclose(row.get("vIoU", row.get("v_IoU")), expected)
    print()

# %% [markdown]
# The evaluator that STCAT, CG-STVG and TA-STVG share never scores the last gold frame: it stores the
# gold span with its last frame and later reads that as an *exclusive* end. A perfect tube of $n$
# frames gets $(n-1)/n$. That hardly matters for five seconds of video, and it does for five frames.
#
# The others differ on predictions that are *not* perfect: `hcstvg` counts only frames that have a
# box and divides by the hull of the two spans, `tubedetr` looks at 5 frames a second, `vue-stg` at
# one. The docstrings say exactly what each counts:

# %%
print(PROTOCOLS["hcstvg"].__doc__.split("\n\n")[1])

# %% [markdown]
# ### A bug that inflated
#
# TubeDETR's first evaluator took the *smaller* of the two ends for the union (its issues 2 and 3), so
# that a prediction that runs on and on paid nothing. The published numbers were corrected.


# %%
def viou_with_bug(pred: Tube, gold: Tube) -> float:
    overlap = by_hand(pred, gold)[1] * len(set(pred.frames) | set(gold.frames))
    start = min(pred.span.start, gold.span.start)
    return overlap / (min(pred.span.end, gold.span.end) + 1 - start)


lasting = Tube(range(10, 60), [[0.25, 0.25, 0.5, 0.5]] * 50)
print(f"correct {by_hand(lasting, gold)[1]:.2f}, with the bug {viou_with_bug(lasting, gold):.2f}")
assert viou_with_bug(lasting, gold) == 1.0 and by_hand(lasting, gold)[1] == 0.2

# %% [markdown]
# ### `>` or `≥`
#
# Most evaluators count vIoU > 0.5; those of LLaVA-ST and STVG-R1 count ≥. Boxes exactly twice too
# high, at the right time, are wrong for the first kind and right for the second:

# %%
value = score_tube(Tube(gold.frames, pred.boxes), gold)["vIoU"]
print(f"vIoU {value}: counted by '>' {value > 0.5}, by '>=' {value >= 0.5}")
assert value == 0.5

# %% [markdown]
# ### And then the prompt
#
# Zero-shot Qwen2.5-VL-7B on HC-STVG v1, from two papers (in per cent):
#
# | printed in | m_tIoU | m_vIoU | vIoU@0.3 | vIoU@0.5 |
# | --- | --- | --- | --- | --- |
# | STVG-o1, Table 1 | 25.6 | 19.1 | 20.2 | 12.6 |
# | STVG-R1 | 40.3 | 19.7 | 28.2 | 7.9 |
#
# The same model on the same videos. One asks for everything at once, the other in two stages. A
# baseline is a model, a prompt **and** an evaluator; a number without all three cannot be compared.
#
# ## 3 · Real models on VUE-STG
#
# ByteDance's VUE-STG (`bytedance/vidi` on GitHub) publishes gold tubes *and* predictions, so that an
# evaluator can be checked without one video. Its licence is CC BY-NC 4.0, so it does not come with
# this course. Without it, the next cell writes three made-up queries in the same form.


# %%
def write_tubes(path: Path, tubes: dict[str, Tube]) -> None:
    """Tubes on whole seconds as VUE-STG writes them."""
    lines = ["query_id,time_ms,x0,y0,x1,y1"]
    for name, tube in tubes.items():
        for second, box in zip(tube.frames, tube.boxes, strict=True):
            lines.append(f"{name},{1000 * second},{','.join(str(x) for x in box)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


# %%
folder = Path(VUE_STG or work / "made_up_vue_stg")
if not VUE_STG:
    second = {name: Tube(range(4, 4 + n), [[0.2, 0.2, 0.6, 0.8]] * n) for name, n in
              (("q1", 2), ("q2", 8), ("q3", 30))}
    write_tubes(folder / "tubes.csv", second)
    said = {"q1": second["q1"], "q2": second["q2"].shift(4)}  # nothing for q3
    write_tubes(folder / "results" / "made-up" / "tubes.csv", said)
    queries = "".join(f"{name},somebody waves,v\n" for name in second)
    (folder / "query.csv").write_text("query_id,query_text,video_id\n" + queries)
    (folder / "video.csv").write_text("video_id,video_duration\nv,59.9\n")

# %%
# v_IoU and others as the benchmark's README prints them (21 November 2025)
PUBLISHED = {
    "vidi2": {"t_IoU": 0.532, "v_IoU": 0.326, "v_IoU_Int": 0.603},
    "qwen3-vl-32b-instruct": {"t_IoU": 0.259, "v_IoU": 0.051, "v_IoU_Int": 0.185},
}
print("VUE-STG" if VUE_STG else "MADE UP: VUE-STG's files are not here (set VUE_STG to their folder)")
vue = {path.parent.name: score_files("vue-stg", folder, path)[0]
       for path in sorted(folder.glob("results/*/tubes.csv"))}
for model, report in vue.items():
    for name, value in report.metrics.items():
        published = PUBLISHED.get(model, {}).get(name)
        print(f"{model:22} {name:12} {value:.4f}", f"(published {published})" if published else "")
        assert published is None or abs(value - published) < 0.001

# %% [markdown]
# Read the metrics in two families. `t_...` is about seconds alone, `v_...` about boxes. `v_IoU_Int`
# is the mean IoU on the seconds that both claim: *given the right time*, how good are the boxes? On
# VUE-STG Vidi2 reaches 0.603 there and 0.326 in `v_IoU`: most of the loss is time, as so often in
# this field.
#
# Scores by group show where it is lost. Bars stand over the group's name and its number of queries:

# %%
from stvgkit.viewing.plots import group_bars

group_bars(vue, "gold length", metric="v_IoU")

# %% [markdown]
# ## 4 · One report
#
# For the rest we need predictions of all kinds. Unless you gave a file of your own above, **they are
# made up** from the gold tubes by a rule that you can read: clips in which something *appears* mostly
# come out right, *moves* go wrong in several ways, *sizes* get loose boxes.

# %%
def make_up(sample, kind: str) -> Prediction:
    tube = sample.tube
    sides = np.hstack([tube.boxes[:, :2] - tube.boxes[:, 2:], tube.boxes[:, 2:] - tube.boxes[:, :2]])
    left = 0.0 if tube.boxes[:, 0].mean() > 0.5 else 0.8
    return {
        "right": Prediction(tube),
        "loose box": Prediction(Tube(tube.frames, np.clip(tube.boxes + sides / 2, 0, 1))),
        "wrong object": Prediction(Tube(tube.frames, [[left, 0.4, left + 0.15, 0.6]] * len(tube))),
        "wrong time": Prediction(tube.at(tube.frames[: len(tube) // 3])),
        "unparsed": Prediction(None),
    }[kind]


# %%
RULE = {
    "appears": ("right", "right", "loose box", "right"),
    "moves": ("wrong time", "wrong object", "unparsed", "right", "wrong time"),
    "sizes": ("loose box", "right", "wrong time"),
}
samples = list(read_prepared(write_shapes(work / "shapes", "test", CLIPS)))
predictions, seen = {}, Counter()
for sample in samples:
    event = sample.groups["event"]
    predictions[sample.id] = make_up(sample, RULE[event][seen[event] % len(RULE[event])])
    seen[event] += 1
if PREDICTIONS:
    predictions = read_completions(PREDICTIONS)
    samples = [sample for sample in samples if sample.id in predictions]
print(f"{len(samples)} predictions,", f"from {PREDICTIONS}" if PREDICTIONS else "made up")

# %%
report = score_samples(samples, predictions)
print(report.table())
assert report.samples == len(samples) and report.missing == 0
assert report.metrics["m_vIoU"] <= report.metrics["m_tIoU"]

# %% [markdown]
# The first line names the protocol and counts what did not parse; then come one row for all samples
# and a row for each group. Of the made-up predictions, look at *event*: the mean over all hides that
# one kind of event is nearly solved and another is not.

# %%
group_bars({"these predictions": report}, "event")

# %% [markdown]
# The same predictions under the other protocols (`vue-stg` needs a grid of seconds):

# %%
for name in ("default", "hcstvg", "stcat", "tubedetr"):
    metrics = score_samples(samples, predictions, protocol=name).metrics
    print(f"{name:9} m_tIoU {metrics['m_tIoU']:.3f}   m_vIoU {metrics['m_vIoU']:.3f}   "
          f"vIoU@0.5 {metrics['vIoU@0.5']:.3f}")

# %% [markdown]
# One set of boxes, and not one number. Name the protocol.
#
# ## 5 · A difference, or noise?
#
# With few clips a mean is uncertain. The *bootstrap* says how much: draw as many clips again, with
# replacement, and look how far the mean moves.


# %%
def interval(values, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """The middle 95 % of the means of resampled values."""
    values, rng = np.asarray(values), np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(axis=1)
    return np.quantile(means, [0.025, 0.975])


found = [predictions[sample.id].tube for sample in samples]
scores = score_tubes(found, [sample.tube for sample in samples])
low, high = interval(scores["vIoU"])
print(f"m_vIoU {scores['vIoU'].mean():.3f}, between {low:.3f} and {high:.3f} ({len(samples)} clips)")
assert low <= scores["vIoU"].mean() <= high

# %% [markdown]
# That is how much the *choice of clips* matters. It is not all: another seed of the training gives
# another model. To compare two models on the same clips, take the interval of the *differences*, clip
# by clip (exercise 4).
#
# ## 6 · What went wrong?
#
# vIoU is tIoU times the fit of the boxes, so a poor score can be blamed on the smaller of the two.
# `error_kinds` does that, after two questions: did it parse, and is it right (vIoU > 0.5)? Boxes
# that fit by 0.1 or less are on something else, the others are loose.

# %%
kinds = error_kinds(samples, predictions)
count = Counter(kinds)
figure = go.Figure(layout={"template": "plotly_white", "height": 320, "margin": {"t": 20}})
figure.add_bar(x=list(ERROR_KINDS), y=[count[kind] for kind in ERROR_KINDS])
figure.update_yaxes(title="clips")
assert sum(count.values()) == len(samples)
if not PREDICTIONS:
    assert all(count[kind] for kind in ERROR_KINDS if kind != "missing")
figure

# %% [markdown]
# One picture for each kind of error. Gold is the solid line, the prediction the dashed one. First
# guess from the picture which kind it is, then read the line above it.

# %%
from IPython.display import display

from stvgkit.viewing.pictures import draw_tube

for kind in ("wrong time", "wrong object", "loose box"):
    if kind in kinds:
        sample = samples[kinds.index(kind)]
        print(f"{kind}: {sample.query}")
        display(draw_tube(sample, pred=predictions[sample.id].tube, count=7, width=900))

# %% [markdown]
# Each kind asks for another cure. *Wrong time*: more frames, or a stronger temporal reward. *Wrong
# object*: harder distractors in training. *Loose box*: more pixels, or the L1 term. *Unparsed*: SFT,
# or a higher limit on the length.
#
# All samples as points. Right and low: the time is right and the boxes are not. On the diagonal: the
# boxes are right, and the time decides.

# %%
from stvgkit.viewing.plots import tiou_viou

assert (scores["vIoU"] <= scores["tIoU"] + 1e-9).all()
tiou_viou(scores["tIoU"], scores["vIoU"], [f"{s.query} ({kind})" for s, kind in zip(samples, kinds)])

# %% [markdown]
# ## Exercises
#
# ### Exercise 1 · A short table
#
# Four clips have vIoU 0.6, 0.5 and 0.2, and the fourth answer did not parse. What is vIoU@0.5?

# %%
# solution
at_half = 1 / 4

# %%
check_value(at_half, 0.25, hint="Strictly greater, and the unparsed one stays in the mean.")

# %% [markdown]
# ### Exercise 2 · The missing last frame
#
# What does a perfect tube of `n` frames score under the protocol `stcat`?


# %%
def perfect_under_stcat(n: int) -> float:
    # solution
    return (n - 1) / n


# %%
check_calls(
    perfect_under_stcat,
    [((5,), 0.8), ((2,), 0.5), ((100,), 0.99)],
    hint="All frames but one, of all frames.",
)

# %% [markdown]
# ### Exercise 3 · Union or hull?
#
# Write tIoU for two spans (both ends included) that need not meet.


# %%
def span_tiou(a: Span, b: Span) -> float:
    # solution
    common = len(a.intersect(b))
    return common / (len(a) + len(b) - common)


# %%
check_calls(
    span_tiou,
    [((Span(0, 3), Span(2, 5)), 1 / 3), ((Span(0, 3), Span(8, 9)), 0.0), ((Span(1, 4), Span(1, 4)), 1.0)],
    hint="The hull of two spans that do not meet is larger than their union.",
)

# %% [markdown]
# ### Exercise 4 · Is B better than A?
#
# Given the vIoU of two models on the same clips, return whether the 95 % `interval` of the
# differences B − A lies above 0.


# %%
def clearly_better(a: list, b: list) -> bool:
    # solution
    return bool(interval(np.asarray(b) - np.asarray(a))[0] > 0)


# %%
base_scores = [0.1, 0.9, 0.4, 0.6, 0.2, 0.8, 0.3, 0.7]
check_calls(
    clearly_better,
    [
        ((base_scores, [x + 0.05 for x in base_scores]), True),
        ((base_scores, base_scores[::-1]), False),
        ((base_scores, [x - 0.1 for x in base_scores]), False),
    ],
    hint="interval(...) gives the lower and the upper end; subtract clip by clip first.",
)

# %% [markdown]
# The first pair differs by 0.05 on every clip, far less than clips differ among themselves, and is
# still clear: that is what pairing buys.
#
# ## What you have seen
# - vIoU = tIoU × fit of the boxes; what is missing counts 0.
# - A number is a model, a prompt and an evaluator. Name all three, and how many clips.
# - Count kinds of errors, look at one of each, and only then at the mean.
