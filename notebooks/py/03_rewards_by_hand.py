# %% [markdown]
# STVG-o1 trains a language model to draw boxes without changing its architecture. What it learns
# from is five numbers, computed from its answer and the gold tube. Here you build each from its
# equation, compare it with the library's, and then look for answers that the sum likes and you do
# not.
#
# **You will learn**
# - what each of the five rewards measures, and why one alone would not do;
# - why a spatial reward needs GIoU *and* L1;
# - three places where the paper's sum rewards the wrong thing, and how to see them in a log.
#
# Needed: [02](02_prompts_and_answers.ipynb), where the answer's format comes from. No GPU, no model.

# %% tags=["parameters"]
import os

SMOKE = bool(os.environ.get("STVGKIT_SMOKE"))
POINTS = 21 if SMOKE else 201  # places along each curve

# %%
import numpy as np
import plotly.graph_objects as go

from stvgkit import Answer, CoordinateSpace, Span, Tube, format_answer, parse_answer, score_answer
from stvgkit.boxes import giou, iou, l1
from stvgkit.exercises import check_calls, check_claims, check_value

# %% [markdown]
# ## A gold tube and an answer
#
# The gold tube has a box on each of the frames 2 to 5, counted among the frames *shown to the
# model*. The answer below is a frame late and its boxes are a little off.

# %%
space = CoordinateSpace.relative(100)
gold = Tube([2, 3, 4, 5], [[0.1 * k, 0.3, 0.1 * k + 0.2, 0.6] for k in range(1, 5)])
span = Span(3, 6)
think = Tube(span.frames(), [[0.1 * k, 0.25, 0.1 * k + 0.2, 0.6] for k in range(1, 5)])
pred = Tube(span.frames(), [[0.1 * k + 0.05, 0.3, 0.1 * k + 0.25, 0.6] for k in range(1, 5)])
text = format_answer(Answer(span, think, pred, consistent=True), space)
print(text)

# %% [markdown]
# ## 1 · Format, $R_f$ (Eq. 3)
#
# $$R_f = 1 \text{ if the whole completion matches the format, else } 0$$
#
# "Whole" matters. A model that writes the answer *and* a friendly sentence gets 0, because what
# reads the answer later must not have to guess.

# %%
def format_reward(text: str) -> float:
    return float(parse_answer(text, space) is not None)


print(format_reward(text), format_reward(text + " I hope this helps!"))
assert format_reward(text) == 1 and format_reward(text + " I hope this helps!") == 0

# %% [markdown]
# ## 2 · Consistency, $R_c$ (Eq. 4)
#
# $$R_c = 1 \text{ if both lists hold exactly the frames } t_s, \dots, t_e \text{, else } 0$$
#
# The time says which frames have a box. Lists that leave one out, or go on after the end,
# contradict it. `consistent` of a parsed answer is this test.

# %%
def consistency_reward(text: str) -> float:
    answer = parse_answer(text, space)
    return float(answer is not None and answer.consistent)


longer = text.replace("3 - 6", "3 - 7")  # the lists still end at 6
print(consistency_reward(text), consistency_reward(longer))
assert consistency_reward(text) == 1 and consistency_reward(longer) == 0

# %% [markdown]
# ## 3 · Time, $R_t$ (Eq. 5)
#
# $$R_t = \frac{|T_{pred} \cap T_{gold}|}{|T_{pred} \cup T_{gold}|}$$
#
# Both ends count: frames 3 to 6 are four frames. Of the frames 2, 3, 4, 5 and 3, 4, 5, 6 three are
# common and five are in either.

# %%
def temporal_reward(text: str, gold: Tube) -> float:
    answer = parse_answer(text, space)
    said, true = set(answer.span.frames().tolist()), set(gold.span.frames().tolist())
    return len(said & true) / len(said | true)


print(temporal_reward(text, gold))
assert temporal_reward(text, gold) == 3 / 5

# %% [markdown]
# ## 4 · Place, $R_s$ (Eq. 6 to 8)
#
# On each frame of the overlap $T_\cap$ a box $b_i$ is compared with the gold box $g_i$:
#
# $$R_{spa}(B) = \frac{1}{|T_\cap|}\sum_{i \in T_\cap}
# \left(\text{GIoU}(b_i, g_i) - \lVert b_i - g_i \rVert_1\right),
# \qquad R_s = R_{spa}(\text{think}) + R_{spa}(\text{pred})$$
#
# Why two terms? Slide a box over a gold box and watch what each says. IoU is flat at 0 as soon as
# the boxes do not touch: no hint which way is better. GIoU goes on falling. L1 has the same slope
# everywhere, near the goal too, where IoU-like terms say little about *which corner* is wrong.

# %%
target = [0.4, 0.4, 0.6, 0.6]
shift = np.linspace(-0.4, 0.4, POINTS)
slid = np.asarray(target) + shift[:, None] * [1, 0, 1, 0]
goal = np.tile(target, (POINTS, 1))
curves = {
    "IoU": iou(slid, goal),
    "GIoU": giou(slid, goal),
    "- L1": -l1(slid, goal),
    "GIoU - L1": giou(slid, goal) - l1(slid, goal),
}
figure = go.Figure([go.Scatter(x=shift, y=y, name=name) for name, y in curves.items()])
figure.update_layout(xaxis_title="shift to the right (frame widths)", height=340, template="none")
figure.show()
far = np.abs(shift) > 0.21
assert (iou(slid, goal)[far] == 0).all() and len(set(giou(slid, goal)[far].round(6))) > 2

# %% [markdown]
# All four meet at a perfect box: IoU = GIoU = 1 and L1 = 0. At the far ends IoU cannot tell 0.25
# from 0.4, GIoU can. GIoU − L1 lies between −5 and 1; the scale is that of *relative* coordinates.
# In pixels the L1 term alone would run into the hundreds and drown the other four rewards.

# %%
def spatial_mean(tube: Tube, gold: Tube, span: Span) -> float:
    common = span.intersect(gold.span).frames()
    if len(common) == 0:
        return 0.0
    boxes, truth = tube.at(common).boxes, gold.at(common).boxes
    return float((giou(boxes, truth) - l1(boxes, truth)).mean())


answer = parse_answer(text, space)
r_think, r_pred = (spatial_mean(t, gold, answer.span) for t in (answer.think, answer.pred))
print(f"R_spa: think {r_think:.3f}, pred {r_pred:.3f}, R_s = {r_think + r_pred:.3f}")
assert r_pred > r_think

# %% [markdown]
# `spatial_mean` trusts that the list has a box on every common frame. The paper does not say what
# happens where one is missing; the library counts it as the worst box there is, −5. Why it must is
# the third trap below.
#
# ## 5 · Better on second thought, $R_k$ (Eq. 9)
#
# $$R_k = \max\left(R_{spa}(\text{pred}) - R_{spa}(\text{think}),\ 0\right)$$
#
# The model writes a first guess, the *think boxes*, and then the final ones. $R_k$ pays for what
# the second look adds. The sum (Eq. 10) weighs it with $\lambda_k = 0.5$:
#
# $$R = R_f + R_c + R_t + R_s + \lambda_k R_k$$

# %%
gain = max(r_pred - r_think, 0.0)
total = 1 + 1 + temporal_reward(text, gold) + r_think + r_pred + 0.5 * gain
by_library = score_answer(text, gold, space)
print(f"by hand {total:.6f}\nlibrary {by_library}")
assert abs(by_library.total - total) < 1e-9 and abs(by_library.think - gain) < 1e-9

# %% [markdown]
# By hand and library agree. What a trainer calls are the same five with lists in and out, one
# entry per completion: `stvgkit.rewards.REWARDS`, with `REWARD_WEIGHTS` for the sum.

# %%
from stvgkit.rewards import REWARD_WEIGHTS, REWARDS

columns = {
    "target_frames": [gold.frames.tolist()],
    "target_boxes": [gold.boxes.tolist()],
    "space": [space.name],
}
values = [reward([text], **columns)[0] for reward in REWARDS]
for reward, weight, value in zip(REWARDS, REWARD_WEIGHTS, values, strict=True):
    print(f"{weight} x {reward.__name__:<20} {value:7.3f}")
assert abs(np.dot(REWARD_WEIGHTS, values) - total) < 1e-9

# %% [markdown]
# ## The reward lab
#
# A clip, its gold boxes, and an answer to bend. Choose *presets* one after another and look at
# which bar moves; then slide the time out of the gold span and watch $R_s$. (Needs a running
# kernel; on a static page the sliders rest.)

# %%
from pathlib import Path

from stvgkit.datasets import read_prepared
from stvgkit.datasets.shapes import write_shapes
from stvgkit.rows import ClipFormat
from stvgkit.viewing.widgets import RewardLab

sample = next(read_prepared(write_shapes(Path("work/shapes"), "test", 1)))
tiny_format = ClipFormat(space="0-100", template="short", max_side=64, factor=16)
lab = RewardLab(sample, tiny_format)
lab

# %% [markdown]
# Everything the lab shows is plain Python underneath: `lab.text.value` is the completion,
# `lab.breakdown` its rewards. The cell below goes through the presets without the mouse. Look for
# two things: how little a wrong *time* costs as long as the boxes follow, and how much one
# harmless sentence around a perfect answer does.

# %%
for name, completion in lab.presets.items():
    lab.text.value = completion
    print(f"{lab.breakdown.total:6.2f}  {name}")
    if name == "perfect":
        assert lab.breakdown.total > 4.8  # its numbers are rounded

# %% [markdown]
# ## Trap 1 · For $\lambda_k > 1$ it pays to spoil the think boxes
#
# Where pred is better than think, the spatial part of the sum is
#
# $$R_{spa}^{think} + R_{spa}^{pred} + \lambda_k (R_{spa}^{pred} - R_{spa}^{think})
# = (1 - \lambda_k)\, R_{spa}^{think} + (1 + \lambda_k)\, R_{spa}^{pred}$$
#
# At $\lambda_k = 0.5$ the think boxes keep half their weight. At 1 nobody cares about them. Above
# 1 the factor is negative: the worse the first guess, the higher the sum.

# %%
def thinking(quality: float) -> str:
    """A perfect answer but for its think boxes, which are off: 0 a lot, 1 not at all."""
    boxes = gold.boxes + (1 - quality) * np.array([0, 0.3, 0, 0.3])
    return format_answer(Answer(gold.span, Tube(gold.frames, boxes), gold, True), space)


quality = np.linspace(0, 1, POINTS)
figure = go.Figure()
for lambda_k in (0.5, 1.0, 1.5):
    sums = [score_answer(thinking(q), gold, space, lambda_k=lambda_k).total for q in quality]
    figure.add_scatter(x=quality, y=sums, name=f"λ_k = {lambda_k}")
figure.update_layout(xaxis_title="quality of the think boxes", yaxis_title="R", height=340, template="none")
figure.show()

# %% [markdown]
# With 0.5 the curve rises to the perfect answer, with 1.5 it falls towards it. The paper tried
# 0.2, 0.5 and 1.0 and never met the trap.

# %%
spoiled, perfect = thinking(0.0), thinking(1.0)
for lambda_k, honest_wins in ((0.5, True), (1.5, False)):
    a, b = (score_answer(t, gold, space, lambda_k=lambda_k).total for t in (perfect, spoiled))
    print(f"λ_k = {lambda_k}: perfect {a:.2f}, spoiled first guess {b:.2f}")
    assert (a > b) == honest_wins

# %% [markdown]
# ## Trap 2 · While the boxes are bad, missing in time pays
#
# $R_s$ is charged on the overlap in time only, and it can be negative. A policy whose boxes are
# still poor is *punished* for every frame on which it is right about the time.

# %%
bad_box = [0.7, 0.7, 0.9, 0.95]


def claiming(start: int, end: int) -> str:
    tube = Tube(range(start, end + 1), [bad_box] * (end + 1 - start))
    return format_answer(Answer(Span(start, end), tube, tube, True), space)


rewards = {span: score_answer(claiming(*span), gold, space) for span in ((2, 5), (5, 7), (6, 7))}
for (start, end), r in rewards.items():
    print(f"frames {start}-{end}: R_t {r.temporal:.2f}, R_s {r.spatial:5.2f}, R {r.total:5.2f}")
assert rewards[6, 7].total > rewards[2, 5].total
assert rewards[6, 7].temporal == 0

# %% [markdown]
# The answer that misses the event altogether (6 to 7, no overlap) earns more than the one with the
# right time: 2.0, the wages of form alone. In a log this shows as a sum that rises while the
# *temporal* reward falls. Plot the rewards one by one, always; and let the model learn to point
# before GRPO starts, which is what SFT is for.
#
# ## Trap 3 · Averaging over the boxes that are there
#
# Suppose a missing box inside the overlap were simply left out of the mean. Then a model could
# answer the easy frames, skip the hard ones, and score better for it.

# %%
hard = pred.boxes.copy()
hard[0] = bad_box  # on frame 3 the model is lost
full, skipping = Tube(span.frames(), hard), Tube(span.frames()[1:], hard[1:])
common = span.intersect(gold.span).frames()
for name, tube in (("all boxes", full), ("hard one left out", skipping)):
    here = tube.at(common)
    mean_of_present = (giou(here.boxes, gold.at(here.frames).boxes)
                       - l1(here.boxes, gold.at(here.frames).boxes)).mean()
    completion = format_answer(Answer(span, tube, tube, True), space)
    paper_like, ours = 2 * mean_of_present, score_answer(completion, gold, space).spatial
    print(f"{name:18s} mean over present {paper_like:6.2f}   library {ours:6.2f}")

# %% [markdown]
# Averaged over what is present, leaving the hard box out *raises* the reward; counted as the worst
# box (−5), it never does. The consistency reward alone would not save us: it is one point, paid
# once, however many boxes are missing.

# %%
left_out = format_answer(Answer(span, skipping, skipping, True), space)
with_bad = format_answer(Answer(span, full, full, True), space)
assert score_answer(left_out, gold, space).total < score_answer(with_bad, gold, space).total

# %% [markdown]
# ## Exercises
#
# Write your code in place of the three dots, run the cell, then the check below it. A check answers
# with a sentence.
#
# ### Exercise 1 · Overlap in time without sets
#
# Compute $R_t$ from two spans by arithmetic alone. Ends are inclusive; spans that do not meet give
# 0, and so does a reversed one (its end before its start).

# %%
def time_overlap(pred: Span, gold: Span) -> float:
    # solution
    length = max(pred.end - pred.start + 1, 0)
    common = max(min(pred.end, gold.end) - max(pred.start, gold.start) + 1, 0)
    return common / (length + gold.end - gold.start + 1 - common)


# %%
check_calls(
    time_overlap,
    [
        ((Span(3, 6), Span(2, 5)), 0.6),
        ((Span(2, 5), Span(2, 5)), 1.0),
        ((Span(0, 1), Span(2, 5)), 0.0),
        ((Span(5, 3), Span(2, 5)), 0.0),
    ],
    hint="A span from 3 to 6 has four frames: end - start + 1.",
)

# %% [markdown]
# ### Exercise 2 · The most there is
#
# What is the highest sum $R$ that any answer can earn, with $\lambda_k = 0.5$? And what is $R_k$
# of that answer?

# %%
# solution
highest = 5.0
think_reward_there = 0.0

# %%
check_value(highest, score_answer(perfect, gold, space).total, hint="Add up the terms of Eq. 10.")
check_value(think_reward_there, score_answer(perfect, gold, space).think, hint="Better than what?")

# %% [markdown]
# ### Exercise 3 · Earn it the honest way
#
# Write a completion for `gold` whose think reward is above 0.3 while the whole sum stays above 4:
# a rough first guess, then better boxes. Build it with `format_answer`, or type it.

# %%
# solution
rough = Tube(gold.frames, gold.boxes + [0.03, 0.03, 0.03, 0.03])
completion = format_answer(Answer(gold.span, rough, gold, consistent=True), space)

# %%
check_claims(
    completion,
    {
        "the format is right": lambda t: parse_answer(t, space) is not None,
        "the think reward is above 0.3": lambda t: score_answer(t, gold, space).think > 0.3,
        "the sum is above 4": lambda t: score_answer(t, gold, space).total > 4,
    },
    hint="Shift the gold boxes a little for the think list and keep them for the final one.",
)

# %% [markdown]
# ### Exercise 4 · Repair trap 2
#
# Propose a spatial reward that never punishes an answer for being right about the time: given the
# mean $r$ = GIoU − L1 over the overlap (between −5 and 1), return a number that still grows with
# $r$ and is never negative.

# %%
def friendly_spatial(r: float) -> float:
    # solution
    return (r + 5) / 6


# %%
check_claims(
    friendly_spatial,
    {
        "it is 0 or more": lambda f: all(f(r) >= 0 for r in np.linspace(-5, 1, 25)),
        "a better box earns more": lambda f: all(
            f(r + 0.25) > f(r) for r in np.linspace(-5, 0.75, 24)
        ),
    },
    hint="Shift and scale the range from -5 to 1.",
)

# %% [markdown]
# Such a term changes what is optimal elsewhere too (a loose box now earns nearly as much as a good
# one). Rewards are designed, tried, and read in logs; [05](05_grpo_by_hand.ipynb) shows what a
# trainer makes of them.
#
# ## What you have seen
# - Form (format, consistency), time, place, and *better on second thought*: five numbers, one sum,
#   5 at most.
# - Relative coordinates keep the terms comparable; GIoU gives a direction where IoU is blind.
# - A sum can rise while what you want falls. Log every reward by itself.
