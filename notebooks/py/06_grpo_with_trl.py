# %% [markdown]
# The loss that you wrote by hand in [05](05_grpo_by_hand.ipynb), now in TRL's `GRPOTrainer`, on a
# model that sees. On a GPU this trains Qwen; on a CPU it trains the tiny model, for real, and then
# reads the log of another run, which comes with the course.
#
# **You will learn**
# - what a preset for 16, 24 or 80 GB holds, and why;
# - to start a run, with the GPU's memory before and after;
# - to read its five reward curves and look into its groups;
# - to recognise four ways in which a run goes wrong.
#
# Needed: [04](04_sft.ipynb) and [05](05_grpo_by_hand.ipynb).

# %% tags=["parameters"]
import os
import tempfile
from pathlib import Path

MODEL = "tiny"  # on a GPU: "Qwen/Qwen3-VL-2B-Instruct" or "Qwen/Qwen2.5-VL-3B-Instruct"
SMOKE = bool(os.environ.get("STVGKIT_SMOKE"))
TRAIN, TEST, SFT_STEPS, STEPS = (1024, 64, 64, 72) if MODEL == "tiny" else (256, 32, 100, 100)
SHOWN = 128 if MODEL == "tiny" else TRAIN  # clips whose answers SFT is shown
LONGEST = 200 if MODEL == "tiny" else 400  # tokens of an answer
if SMOKE:
    TRAIN, SHOWN, TEST, SFT_STEPS, STEPS, LONGEST = 16, 8, 8, 4, 2, 60
WORK = Path(tempfile.mkdtemp()) if SMOKE else Path("work")

# %%
import json
import warnings

import numpy as np
import plotly.graph_objects as go
import torch

from stvgkit import CoordinateSpace, Tube, score_answer
from stvgkit.datasets import data_samples, read_prepared
from stvgkit.datasets.shapes import write_shapes
from stvgkit.training.evaluation import predict, score
from stvgkit.exercises import check_calls, check_value
from stvgkit.training.models import load
from stvgkit.viewing.plots import reward_curves
from stvgkit.rows import plan_row
from stvgkit.training.trainers import GRPO_DEFAULTS, grpo, lora, sft

warnings.filterwarnings("ignore", category=FutureWarning)  # settings about to be renamed in TRL

# %% [markdown]
# ## 1 · Presets
#
# A run has some hundred settings; about ten of them decide whether it fits and whether it learns. The
# *recipes* of this package fix them for GPUs of several sizes. On the command line one is
# `stvgkit grpo t4-grpo`; here we read them.

# %%
from stvgkit.training.recipes import parse

print(f"{'recipe':16} {'model':20} {'bits':>4} {'trains':>6} {'group':>5} {'tokens':>6} {'rate':>7}")
for name in ("tiny-grpo", "t4-grpo", "l4-grpo", "80gb-grpo", "paper-hcstvg-v1"):
    task, model, config = parse("grpo", [name])
    print(
        f"{name:16} {model.model_name_or_path.split('/')[-1][:20]:20} {4 if model.load_in_4bit else 16:4d} "
        f"{'LoRA' if model.use_peft else 'all':>6} {config.num_generations:5d} "
        f"{config.max_completion_length:6d} {config.learning_rate:7.0e}"
    )
    assert config.num_generations >= 4, "two generations teach little: notebook 05, section 3"

# %% [markdown]
# Read it from the right. The *learning rate* is far below that of SFT, since rewards are noisy. The
# *tokens* must hold the longest answer, or it is cut off and earns nothing. The *group* is what the
# advantages are computed from. *LoRA* trains a small adapter, so that gradients and Adam's two
# moments exist for a hundredth of the weights. **None of these presets has been measured on its GPU
# yet**; each recipe says so itself.
#
# ## 2 · The model, after its first lesson
#
# The base model would earn nothing, so GRPO starts after SFT. A large model takes the checkpoint of
# notebook 04 from `work/`, or makes it here. The tiny model gets the shorter lesson of `stvgkit demo`:
# 64 steps on 128 answers, a minute or two. GRPO then asks about clips whose answers it never saw.
#
# Why shorter? After notebook 04 most answers parse, so little is left that GRPO is quick to mend, and
# the noise of the rewards costs accuracy. Try it: after notebook 04, delete `work/grpo-tiny` and set
# `START = WORK / "sft-tiny"`.

# %%
GPU = torch.cuda.is_available()
place = {"device": "cuda" if GPU else "cpu"}
if GPU and MODEL != "tiny":
    place["dtype"] = "bfloat16" if GRPO_DEFAULTS["bf16"] else "float16"
base = load(MODEL, **place)
train, test = (
    list(read_prepared(write_shapes(WORK / "shapes", split, count)))
    for split, count in (("train", TRAIN), ("test", TEST))
)
train_rows, test_rows = ([plan_row(s, base.clip_format) for s in part] for part in (train, test))
print(torch.cuda.get_device_name() if GPU else "no GPU: the tiny model on a CPU")

# %%
START = WORK / ("first-lesson" if MODEL == "tiny" else f"sft-{MODEL.split('/')[-1]}")
quiet = {"report_to": "none", "dataloader_pin_memory": GPU, "gradient_checkpointing": MODEL != "tiny"}
if MODEL == "tiny":
    how = {"learning_rate": 1e-3, "per_device_train_batch_size": 4 if SMOKE else 32}
else:
    how = {"learning_rate": 1e-4, "peft_config": lora(base, r=16, lora_alpha=32)}
    how |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
sft(
    base, train_rows[:SHOWN], START, think_noise=0.05, max_steps=SFT_STEPS, lr_scheduler_type="cosine",
    warmup_steps=SFT_STEPS // 10, save_steps=SFT_STEPS // 2, logging_steps=max(1, SFT_STEPS // 12),
    **quiet, **how,
)
policy = load(str(START), **place)

# %% [markdown]
# ## 3 · Train
#
# How much memory does it take? Weights are there before the first step. Gradients, Adam's moments
# and the activations of frames and completions come with it; that is the peak.
#
# The tiny model answers at temperature 0.5. At 1.0, TRL's default and right for a large model, so
# small a one writes a wrong mark somewhere in most answers, and all that a group compares is luck.
#
# Imitation trained all of its weights; here it gets a LoRA adapter as large models do, and not to
# save memory. A reward is one number for a hundred tokens, so its gradient is mostly noise. Where
# every weight is free to follow it, the form is mended and what SFT had taught is blurred. An adapter
# of low rank can only move in few directions, and noise has less room.


# %%
def memory() -> str:
    if not GPU:
        return "no GPU, so no GPU memory to show"
    now, peak = (f() / 2**30 for f in (torch.cuda.memory_allocated, torch.cuda.max_memory_allocated))
    return f"{now:.2f} GiB now, {peak:.2f} GiB at most"


print("before:", memory())

# %%
RUN = WORK / f"grpo-{MODEL.split('/')[-1]}"
if MODEL == "tiny":
    size = {"num_generations": 8, "per_device_train_batch_size": 8 if SMOKE else 32}
    size |= {"learning_rate": 1e-3, "beta": 0.0, "temperature": 0.5}
    size |= {"peft_config": lora(policy, r=8, lora_alpha=16)}  # a large policy has its own from SFT
else:  # one completion at a time through the loss; two groups of 8 a step
    size = {"num_generations": 8, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 16}
    size |= {"learning_rate": 1e-5}
grpo(
    policy, train_rows[SHOWN:] or train_rows, RUN, max_steps=STEPS, save_steps=max(1, STEPS // 4),
    lr_scheduler_type="linear", max_completion_length=LONGEST, **quiet, **size,
)
print("after: ", memory())

# %% [markdown]
# Long runs are interrupted. Run the cell again and it goes on from the last checkpoint; a run that
# is finished is not run twice (delete its folder to train anew).
#
# On a T4 we keep the weights in 16 bits: 2 billion of them fit. In 4 bits more would fit (recipe
# `t4-grpo`; it needs `bitsandbytes`). Mind the traps there: a T4 has no bf16, and TRL keeps adapters
# on 4-bit weights in bf16, whose gradients the scaler of fp16 refuses (TRL issue 4901). What is
# trained must be in 32 bits then.
#
# ## 4 · Your curves

# %%
own = json.loads((RUN / "log.json").read_text())
steps = [entry for entry in own if "reward" in entry]
print(f"YOUR run: {len(steps)} steps of {MODEL}")
assert len(steps) == STEPS and all(np.isfinite(entry["reward"]) for entry in steps)
reward_curves(own)

# %% [markdown]
# Each reward by itself, with a band of one standard deviation; then their sum; then the run's pulse:
# the share of groups without spread, and of completions that were cut off. The loss is not drawn; it
# says nothing (notebook 05). Single steps say little either: compare what changes with how wide the
# bands are. And where the *spatial* curve lies below 0, every frame that meets the event costs: trap
# 2 of notebook 03, live.
#
# ### Before and after
#
# The same test clips, answered by the model before and after its GRPO steps.

# %%
reports = {}
for name, folder in (("before", START), ("after", RUN)):
    grounder = load(str(folder), **place)
    predict(grounder, test_rows, RUN / f"{name}.jsonl", batch_size=32, max_new_tokens=LONGEST)
    reports[name] = score(RUN / f"{name}.jsonl", test)
    shown = ", ".join(f"{k} {reports[name].metrics[k]:.3f}" for k in ("m_tIoU", "m_vIoU", "vIoU@0.3"))
    print(f"{name:7s} {reports[name].unparsed:3d} of {reports[name].samples} do not parse   {shown}")

# %% [markdown]
# Up or down, do not read too much into it: one seed and few clips ([07](07_evaluation.ipynb) puts
# an interval on such a difference). Watch one clip, and the two texts in the folds below it:

# %%
from stvgkit.viewing.players import show_player

lines = {}
for name in reports:
    for text in (RUN / f"{name}.jsonl").read_text().splitlines():
        lines[name, json.loads(text)["id"]] = json.loads(text)
sample = test[1]
show_player(sample, answers={name: lines[name, sample.id] for name in reports})

# %% [markdown]
# ## 5 · A log that is not yours
#
# **What follows was shipped with the course.** It is the log of the GRPO step of `stvgkit demo`, run
# by its makers; none of it was computed on your machine.

# %%
shipped = data_samples() / "logs"
log = [entry for entry in json.loads((shipped / "log.json").read_text()) if "reward" in entry]
groups = [json.loads(line) for line in (shipped / "groups.jsonl").read_text().splitlines()]
print(f"SHIPPED, not your run: {len(log)} steps, {len(groups)} groups of {len(groups[0]['total'])}")
reward_curves(log)

# %% [markdown]
# Read it from top to bottom, and ask of each curve whether it moves by more than its band is wide.
# *Format* and *consistency* are the easiest to mend. *Spatial* tends to have the widest band: it
# carries most of the sum's spread, and so most of what is learned. *Think* can only pay for what the
# second list adds to the first. In numbers, the first quarter of the steps against the last:

# %%
quarter = max(1, len(log) // 4)
for name in ("format", "consistency", "temporal", "spatial", "think"):
    values = np.array([entry[f"rewards/{name}_reward/mean"] for entry in log])
    spread = np.mean([entry[f"rewards/{name}_reward/std"] for entry in log])
    first, last = values[:quarter].mean(), values[-quarter:].mean()
    print(f"{name:12s} {first:6.2f} -> {last:6.2f}   (spread among completions {spread:.2f})")

# %% [markdown]
# Compare each change with the spread at its end. That is the signal and the noise of a short run.
#
# ### Inside a group
#
# A group is one question and several answers; the advantages add up to 0. This is the shipped log's
# first:

# %%
group = groups[0]
for total, advantage, text in zip(group["total"], group["advantages"], group["completions"], strict=True):
    print(f"R {total:5.2f}   A {advantage:+5.2f}   {' '.join(text.split())[:72]}")
assert abs(sum(group["advantages"])) < 1e-2

# %% [markdown]
# ### Across the groups
#
# The format is all or nothing: an answer with one wrong mark earns 0, at the right moment or not. So
# ask which answers break it. By the number of frames that they name, in the first and in the last
# quarter of the steps; above each bar, how many of these keep the format:

# %%
import re

TIME = re.compile(r"<time> (\d+) - (\d+) </time>")
figure = go.Figure(layout={"template": "plotly_white", "height": 330, "margin": {"t": 20}})
quarter, named = len(groups) // 4, np.arange(1, 9)
for name, part in (("first quarter", groups[:quarter]), ("last quarter", groups[-quarter:])):
    texts = [TIME.match(text) for group in part for text in group["completions"]]
    frames = np.array([int(t[2]) - int(t[1]) + 1 if t else 0 for t in texts])
    kept = np.array([value for group in part for value in group["rewards"]["format"]])
    shares = [(frames == n).mean() for n in named]
    labels = [f"{kept[frames == n].mean():.0%}" if (frames == n).any() else "" for n in named]
    figure.add_bar(x=named, y=shares, text=labels, textposition="outside", name=name)
figure.update_xaxes(title="frames that the answer names", dtick=1)
figure.update_yaxes(title="share of answers", tickformat=".0%")
figure

# %% [markdown]
# After so short a first lesson, answers about few frames and about all of them break most often. A
# group that holds both kinds pays the middle ones, whatever the video shows, and the bars move there:
# *format* and *temporal* rise, and some clips that were right before now get a span that is too long.
# No curve shows this. (The event itself lasts 3 to 6 frames about equally often, and 2 now and then.)
# What would help? A first lesson that goes on until the form holds for every length.
#
# And with pictures, from *your* run: choose a clip and read across. Which completion was pushed up,
# and is it the one you would have chosen?

# %%
from stvgkit.viewing.widgets import GroupInspector

GroupInspector(RUN / "groups.jsonl", train, base.clip_format)

# %% [markdown]
# ## 6 · Four runs that go wrong
#
# None of them raises an error, and the bill comes all the same.
#
# **Cut off.** A limit on the length that is too short, or a prompt without its chat template, so that
# no end mark is ever written. One step with room for two tokens:

# %%
short = grpo(
    load(str(START), **place), train_rows, WORK / "short", max_steps=1, num_generations=4,
    per_device_train_batch_size=4, max_completion_length=2, save_strategy="no", **quiet,
)
cut = next(e for e in json.loads((short / "log.json").read_text()) if "reward" in e)
print({key: cut[key] for key in ("completions/clipped_ratio", "frac_reward_zero_std", "reward")})
assert cut["reward"] == 0
assert SMOKE or cut["completions/clipped_ratio"] == 1

# %% [markdown]
# `completions/clipped_ratio` is 1: nothing ends, nothing parses.
#
# **Silent groups.** In the same line `frac_reward_zero_std` is 1. All rewards of every group are
# equal, so every advantage is 0. A model without its first lesson (notebook 04) does the same, and so
# does a reward function with a bug that makes it constant. The gradient tells it too:

# %%
print(f"grad_norm {cut['grad_norm']:.4f}, loss {cut['loss']:.4f}")
assert cut["frac_reward_zero_std"] == 1 and cut["grad_norm"] < 1e-3

# %% [markdown]
# **Away from the event.** Boxes are charged only where the times overlap (notebook 03, trap 2). While
# they are bad, missing the event pays:


# %%
def answer(start: int, end: int) -> str:
    boxes = ", ".join(f"{i}. [0, 0, 20, 20]" for i in range(start, end + 1))
    return (f"<time> {start} - {end} </time> <think_bbox> {boxes} </think_bbox> "
            f"<pred_bbox> {boxes} </pred_bbox>")


gold, space = Tube([2, 3, 4], [[0.7, 0.7, 0.9, 0.9]] * 3), CoordinateSpace.relative(100)
meets, misses = (score_answer(answer(*span), gold, space) for span in ((2, 4), (6, 7)))
print(f"meets the event: R = {meets.total:.2f}; misses it: R = {misses.total:.2f}")
assert meets.temporal == 1 and meets.total < misses.total

# %% [markdown]
# In a log: the *temporal* reward falls while the *spatial* one rises towards 0. The sum looks healthy;
# only the separate curves show it. Cure: a longer SFT, until the boxes are better than nothing.
#
# **Made for the reward.** Whatever the sum likes will be found: for λ_k > 1, spoiled think boxes
# (trap 1). So look at groups, not only at curves, and at a metric that is not the reward.
#
# ## Exercises
#
# ### Exercise 1 · Stop the bill
#
# Is this entry of a log a sign of trouble: every completion cut off, or every group silent?


# %%
def trouble(entry: dict) -> bool:
    # solution
    return entry["completions/clipped_ratio"] == 1 or entry["frac_reward_zero_std"] == 1


# %%
check_calls(
    trouble,
    [
        (({"completions/clipped_ratio": 0.1, "frac_reward_zero_std": 0.2},), False),
        (({"completions/clipped_ratio": 1.0, "frac_reward_zero_std": 0.2},), True),
        (({"completions/clipped_ratio": 0.0, "frac_reward_zero_std": 1.0},), True),
        ((cut,), True),
    ],
    hint="Two numbers of the entry, each against 1.",
)

# %% [markdown]
# ### Exercise 2 · How many questions a step?
#
# A GPU takes `per_device` completions at a time, gradients are gathered over `accumulation` of these,
# and each question gets `group` completions. How many questions are in one step?


# %%
def questions(per_device: int, accumulation: int, group: int) -> int:
    # solution
    return per_device * accumulation // group


# %%
check_calls(
    questions,
    [((8, 16, 8), 16), ((4, 2, 4), 2), ((1, 16, 8), 2)],
    hint="All completions of a step, divided among the questions.",
)

# %% [markdown]
# ### Exercise 3 · Running away
#
# Write the alarm for the third failure: given the logs of a run, the *temporal* reward is lower at
# the end than at the start while the *spatial* one is higher. Compare the means of the first and of
# the last `n` entries.


# %%
def running_away(log: list, n: int = 2) -> bool:
    # solution
    change = {}
    for name in ("temporal", "spatial"):
        values = [entry[f"rewards/{name}_reward/mean"] for entry in log]
        change[name] = np.mean(values[-n:]) - np.mean(values[:n])
    return bool(change["temporal"] < 0 < change["spatial"])


# %%
def made_up(temporal, spatial):
    keys = ("rewards/temporal_reward/mean", "rewards/spatial_reward/mean")
    return [dict(zip(keys, pair, strict=True)) for pair in zip(temporal, spatial, strict=True)]


check_calls(
    running_away,
    [
        ((made_up([0.6, 0.5, 0.3, 0.2], [-2, -1.5, -0.5, -0.1]),), True),
        ((made_up([0.3, 0.4, 0.5, 0.6], [-2, -1.5, -0.5, -0.1]),), False),
        ((made_up([0.6, 0.5, 0.3, 0.2], [-1, -1, -2, -2]),), False),
    ],
    hint="np.mean of the first n and of the last n values, for each of the two.",
)

# %% [markdown]
# ## What you have seen
# - A preset is a handful of numbers: bits, LoRA, group, tokens, rate.
# - Rewards one by one, groups without spread, completions cut off: these three show most failures.
# - A short run proves that it runs. What it taught is [07](07_evaluation.ipynb)'s question.
