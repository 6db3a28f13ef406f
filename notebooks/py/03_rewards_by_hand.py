# %% [markdown]
# **Question of this lesson.** What is an answer worth, and can a bad answer be worth more than a better one?
#
# STVG-o1 trains a language model to write boxes without changing its architecture. It learns from five
# numbers, the *rewards*, computed from its answer and the gold tube. Here you build each reward from its
# equation and compare it with the library's. The [formula sheet](../docs/formulas.md) has all of them on
# one page.
#
# **You will learn**
# - what each of the five rewards measures;
# - why the reward for place needs GIoU *and* L1;
# - one case in which the paper's sum pays for the wrong thing, and two in which a small change to it
#   would.
#
# **You need to know** the form of an answer from [02](02_prompts_and_answers.ipynb). No GPU and no model
# are used.

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
# The gold tube has a box on each of the frames 2 to 5, counted among the frames *shown to the model*.
# The answer below claims frames 3 to 6, one frame too late. Its final boxes are a little off, and its
# think boxes are off a little more.

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
# The word "whole" matters. A completion with the answer *and* a friendly sentence gets 0. A program that
# reads the answer later should not have to guess where it begins.

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
# $t_s$ and $t_e$ are the first and the last frame of the claimed span. The span says which frames have a
# box. A list that leaves one out, or goes on after the end, contradicts the span. The field
# `consistent` of a parsed answer is this test.

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
# This is tIoU: the frames in both spans, divided by the frames in either. Both ends count. Frames 2 to 5
# and frames 3 to 6 have three frames in common, out of five in all, so $R_t = 3/5$.

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
# Three ways to compare a box $b$ with a gold box $g$:
#
# - **IoU**: the common area divided by the area that either covers, from 0 to 1.
# - **GIoU**: IoU minus the empty share of the enclosing box. The enclosing box $C$ is the smallest one
#   around both. GIoU is 1 for equal boxes and comes near -1 for small boxes far apart:
#   $\text{GIoU} = \text{IoU} - (|C| - |b \cup g|) / |C|$.
# - **L1 distance**: the sum of the four absolute differences of the relative coordinates, from 0 to 4.
#
# **The picture of this lesson** slides a box over a gold box of the same size. Look at what each curve
# says where the boxes do not touch, beyond 0.2 on both sides.

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
figure.update_layout(xaxis_title="shift to the right (frame widths)", height=340, template="none", margin_t=20)
figure.show()
far = np.abs(shift) > 0.21
assert (iou(slid, goal)[far] == 0).all() and len(set(giou(slid, goal)[far].round(6))) > 2

# %% [markdown]
# At the perfect place, in the middle, IoU and GIoU are 1 and -L1 is 0. So GIoU - L1 is 1 there.
#
# - IoU is 0 wherever the boxes do not touch. It does not say in which direction the goal lies.
# - GIoU goes on falling with the distance.
# - L1 has the same slope everywhere. Near the goal it still says which corner is off, and by how much.
#
# $T_\cap$ are the frames in both spans, the claimed and the gold one. For a list of boxes $B$ the paper
# takes the mean over these frames. The reward adds both lists:
#
# $$R_{spa}(B) = \frac{1}{|T_\cap|}\sum_{i \in T_\cap}
# \left(\text{GIoU}(b_i, g_i) - \lVert b_i - g_i \rVert_1\right),
# \qquad R_s = R_{spa}(\text{think}) + R_{spa}(\text{pred})$$
#
# If the spans do not meet, $T_\cap$ is empty and $R_{spa} = 0$ (Eq. 6). The paper does not say whether
# coordinates are in pixels. Here they are relative. In pixels the L1 distance would run into the
# hundreds, and the other rewards would not count beside it.

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
assert (round(r_think, 2), round(r_pred, 2)) == (0.0, 0.5)

# %% [markdown]
# `spatial_mean` needs a box on every common frame. The paper does not say what happens where one is
# missing. The library counts a missing box as -5, the least that GIoU - L1 can be. Trap 3 shows why.
#
# ## 5 · Better on second thought, $R_k$ (Eq. 9)
#
# $$R_k = \max\left(R_{spa}(\text{pred}) - R_{spa}(\text{think}),\ 0\right)$$
#
# The think reward pays for what the final boxes improve over the first guess. The sum (Eq. 10) weighs it
# with $\lambda_k = 0.5$:
#
# $$R = R_f + R_c + R_t + R_s + \lambda_k R_k$$

# %%
gain = max(r_pred - r_think, 0.0)
total = 1 + 1 + temporal_reward(text, gold) + r_think + r_pred + 0.5 * gain
by_library = score_answer(text, gold, space)
print(f"by hand {total:.6f}\nlibrary {by_library}")
assert abs(by_library.total - total) < 1e-9 and abs(by_library.think - gain) < 1e-9

# %% [markdown]
# Both give 3.35: 1 for the format, 1 for consistency, 0.6 for time, 0.50 for place, and half of 0.50 for
# the improvement. A trainer calls the same five functions with lists, one entry for each completion.
# They are `stvgkit.rewards.REWARDS`, with `REWARD_WEIGHTS` for the sum.

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
# ## When an answer is broken
#
# The paper does not say what a broken answer earns. The next cell shows what this library settles, case by
# case. Each answer is the gold tube with one fault.

# %%
right = format_answer(Answer(gold.span, gold, gold, consistent=True), space)
cases = {
    "no fault": right,
    "words around it": f"Here it is: {right}",
    "cut off at the end": right[:-12],
    "ends before it starts": right.replace("2 - 5", "5 - 2"),
    "a frame left out of both lists": right.replace(" 3. [20, 30, 40, 60],", ""),
    "a frame twice in both lists": right.replace(" 3. [", " 2. [0, 0, 9, 9], 3. ["),
    "one box with swapped corners": right.replace("[20, 30, 40, 60]", "[40, 60, 20, 30]"),
}
print(f"{'':31} {'R_f':>5} {'R_c':>5} {'R_t':>5} {'R_s':>6} {'R_k':>5} {'R':>6}")
for name, completion in cases.items():
    r = score_answer(completion, gold, space)
    print(f"{name:31} {r.format:5.2f} {r.consistency:5.2f} {r.temporal:5.2f} "
          f"{r.spatial:6.2f} {r.think:5.2f} {r.total:6.2f}")

# %%
totals = [round(score_answer(completion, gold, space).total, 2) for completion in cases.values()]
assert totals == [5.0, 0.0, 0.0, 1.0, 1.0, 4.0, 4.0]

# %% [markdown]
# - A completion that does not match the format earns 0 in **all five** rewards.
# - A time that ends before it starts earns 1 for its format, and 0 in the other four.
# - A frame left out of both lists costs the consistency reward, and counts -5. The mean of each list is
#   then (1 + 1 + 1 - 5) / 4 = -0.5, and the sum of all rewards is 1.
# - Where a frame comes twice, its first box counts, and the consistency reward is lost.
# - A box with swapped corners has no area, so its IoU with any box is 0.
#
# ## The reward lab
#
# A clip, its gold boxes, and an answer to bend. *Start from* one answer after another and look at
# which bar moves. Then drag a box, or an end of the answer's time, and watch $R_s$ and $R_t$. The
# lab is one HTML page with the rewards in JavaScript. It needs no kernel.

# %%
from stvgkit.datasets import data_samples, read_benchmark
from stvgkit.viewing.lab import reward_lab

folder = data_samples() / "opencv"
sample = next(read_benchmark("hcstvg", folder / "annotations.json", folder))
lab = reward_lab(sample)
lab

# %% [markdown]
# The page gives what `score_answer` gives: a test compares the two on 20,000 answers. The cell
# below scores the lab's own answers. Look for two things: how little a wrong *time* costs as long
# as the boxes follow, and how much one harmless sentence around a perfect answer does.

# %%
for name, completion in lab.presets.items():
    bent = score_answer(completion, lab.target, lab.space)
    print(f"{bent.total:6.2f}  {name}")
    if name == "perfect":
        assert bent.total > 4.9  # its numbers are rounded

# %% [markdown]
# ## Trap 1 · For $\lambda_k > 1$ it pays to spoil the think boxes
#
# The next sections show three ways in which a sum of rewards can pay for the wrong thing. The first
# needs a weight $\lambda_k$ above 1. The paper tried 0.2, 0.5 and 1.0, so it never met this trap.
#
# Where the final boxes are better than the think boxes, the spatial part of the sum is
#
# $$R_{spa}^{think} + R_{spa}^{pred} + \lambda_k (R_{spa}^{pred} - R_{spa}^{think})
# = (1 - \lambda_k)\, R_{spa}^{think} + (1 + \lambda_k)\, R_{spa}^{pred}$$
#
# At $\lambda_k = 0.5$ the think boxes keep half their weight. At 1 their weight is 0. Above 1 it is
# negative: the worse the first guess, the higher the sum.

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
figure.update_layout(xaxis_title="quality of the think boxes", yaxis_title="R", height=340, template="none", margin_t=20)
figure.show()

# %% [markdown]
# With 0.5 the curve rises to the perfect answer on the right. With 1.5 it falls towards it.
#
# **Change and watch.** Put `0.9` and `1.1` in place of `0.5` and `1.5`. At which value does the curve turn?

# %%
spoiled, perfect = thinking(0.0), thinking(1.0)
for lambda_k, honest_wins in ((0.5, True), (1.5, False)):
    a, b = (score_answer(t, gold, space, lambda_k=lambda_k).total for t in (perfect, spoiled))
    print(f"λ_k = {lambda_k}: perfect {a:.2f}, spoiled first guess {b:.2f}")
    assert (a > b) == honest_wins and (round(b, 2) == 5.8 or honest_wins)

# %% [markdown]
# With $\lambda_k = 1.5$ a spoiled first guess earns 5.80, and the perfect answer 5.00.
#
# ## Trap 2 · While the boxes are bad, missing in time pays
#
# This trap is in the paper's own sum, and the paper does not discuss it. $R_s$ is charged only where the
# spans meet, and it can be negative. An answer with poor boxes then loses reward for every frame on
# which it is right about the time.

# %%
bad_box = [0.7, 0.7, 0.9, 0.95]


def claiming(start: int, end: int) -> str:
    tube = Tube(range(start, end + 1), [bad_box] * (end + 1 - start))
    return format_answer(Answer(Span(start, end), tube, tube, True), space)


rewards = {span: score_answer(claiming(*span), gold, space) for span in ((2, 5), (5, 7), (6, 7))}
for (start, end), r in rewards.items():
    print(f"frames {start}-{end}: R_t {r.temporal:.2f}, R_s {r.spatial:5.2f}, R {r.total:5.2f}")
assert (round(rewards[2, 5].total, 2), rewards[6, 7].total) == (-1.76, 2.0)
assert rewards[6, 7].temporal == 0

# %% [markdown]
# The answer with the right time earns -1.76. The answer that misses the event altogether (frames 6 to 7)
# earns 2.00: one for the format, one for consistency, and nothing is charged. A model that cannot point
# yet therefore learns to miss the event.
#
# In a log this shows as a sum that rises while the *temporal* reward falls. So plot the rewards one by
# one. And let the model learn to point before GRPO starts: SFT can do that.
#
# ## Trap 3 · Averaging over the boxes that are there
#
# The third trap is about a case on which the paper is silent: a box is missing on a common frame.
# Suppose that it were simply left out of the mean. A model could then answer the easy frames, skip the
# hard ones, and score better for it.

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
# On average over the boxes that are there, leaving out the hard box *raises* the place reward from -1.01
# to 1.00. Counted as -5, it lowers it to -2.67. The consistency reward alone would not prevent the
# trick. It costs one point, once, however many boxes are missing.

# %%
left_out = format_answer(Answer(span, skipping, skipping, True), space)
with_bad = format_answer(Answer(span, full, full, True), space)
assert score_answer(left_out, gold, space).total < score_answer(with_bad, gold, space).total

# %% [markdown]
# ## Exercises
#
# ### Exercise 1 · Overlap in time without sets
#
# Compute $R_t$ from two spans by arithmetic alone. Both ends count. Spans that do not meet give 0, and so
# does a reversed one (its end before its start).

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
# What is the highest sum $R$ that any answer can earn, with $\lambda_k = 0.5$? And what is $R_k$ of that
# answer?

# %%
# solution
highest = 5.0
think_reward_there = 0.0

# %%
check_value(highest, score_answer(perfect, gold, space).total, hint="Add up the terms of Eq. 10.")
check_value(think_reward_there, score_answer(perfect, gold, space).think, hint="Better than what?")

# %% [markdown]
# ### Exercise 3 · A rough guess, then better boxes
#
# Write a completion for `gold` whose think reward is above 0.3 while the whole sum stays above 4. Build
# it with `format_answer`, or type it.

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
# ### Exercise 4 · Misconception: "a higher sum is a better answer"
#
# Trap 2 shows that it need not be. Repair it: propose a reward for place that never punishes an answer
# for being right about the time. Given the mean $r$ = GIoU - L1 over the common frames (between -5 and
# 1), return a number that still grows with $r$ and is never negative.

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
# Such a repair changes other things too. A loose box now earns nearly as much as a tight one.
# [Lesson 06](06_grpo_with_trl.ipynb) looks at what a training run makes of the rewards.
#
# ## In three sentences
#
# Five rewards pay for format, consistency, time, place and improvement, and their sum is at most 5. For
# place, GIoU gives a direction where boxes do not touch, and L1 says near the goal what is off. The sum can
# rise while the answers get worse, so log every reward by itself.
#
# **What comes next.** [Lesson 04](04_sft.ipynb) trains the model on right answers, before any reward is
# used.
