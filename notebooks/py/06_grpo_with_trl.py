# %% [markdown]
# The loss you wrote by hand, now in TRL's trainer on a model that sees. On a GPU this runs Qwen; on
# a CPU it makes two steps with the tiny model, to prove the wiring, and reads a **shipped log**.
#
# **You will**
# - start a GRPO run, with memory before and after;
# - read its curves and its groups;
# - recognise three runs that go wrong.

# %% tags=["parameters"]
import os
import tempfile
from pathlib import Path

MODEL = "tiny"  # on a GPU: "Qwen/Qwen3-VL-2B-Instruct", or better your checkpoint of notebook 04
SMOKE = bool(os.environ.get("STVGKIT_SMOKE"))
OUT = Path(tempfile.mkdtemp())

# %%
import json

import torch

from stvgkit import CoordinateSpace, Tube, score_answer
from stvgkit.datasets import data_samples, read_prepared
from stvgkit.datasets.shapes import write_shapes
from stvgkit.exercises import check_calls, check_value
from stvgkit.models import load
from stvgkit.plots import reward_curves
from stvgkit.rows import plan_row
from stvgkit.training import grpo, lora
from stvgkit.widgets import GroupInspector

GPU = torch.cuda.is_available()
print(torch.cuda.get_device_name() if GPU else "no GPU: two steps of the tiny model, then a log")

# %% [markdown]
# ## 1 · The model
#
# On a 16 GB T4 the base model is kept in 4 bits (nf4) and computed in fp16, since a T4 has no
# bf16; only a LoRA adapter is trained. **Not measured on a T4.** `stvgkit/recipes/` holds the same
# settings for other sizes.

# %%
settings = {}
if GPU and MODEL != "tiny":
    from transformers import BitsAndBytesConfig

    settings["quantization_config"] = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float16
    )
policy = load(MODEL, device=None if settings else ("cuda" if GPU else "cpu"), model_settings=settings)
samples = list(read_prepared(write_shapes(OUT / "data", "train", 16 if not GPU else 256)))
rows = [plan_row(sample, policy.clip_format) for sample in samples]


def memory():
    return f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB" if GPU else "no GPU memory"


print("before:", memory())

# %% [markdown]
# ## 2 · Train

# %%
size = {"num_generations": 4, "per_device_train_batch_size": 4, "max_completion_length": 640}
if MODEL == "tiny":
    size = {"num_generations": 8, "per_device_train_batch_size": 8, "max_completion_length": 60}
run = grpo(
    policy, rows, OUT / "grpo", max_steps=100 if GPU else 2, learning_rate=1e-5,
    gradient_checkpointing=MODEL != "tiny", save_strategy="no", report_to="none",
    disable_tqdm=not GPU, peft_config=None if MODEL == "tiny" else lora(policy), **size,
)
own = json.loads((run / "log.json").read_text())
print("after:", memory())
print("rewards of your steps:", [round(e["reward"], 2) for e in own if "reward" in e])
assert sum("reward" in entry for entry in own) == (100 if GPU else 2)

# %% [markdown]
# The tiny model comes without the cold start of notebook 04, so its rewards are 0: no group has
# spread and nothing is learned. That is the first of the three failures below.
#
# ## 3 · The curves of a run
#
# **Without a GPU, what follows is not your run**: it is the log of the tiny model after SFT,
# shipped with the course.

# %%
folder = run if GPU else data_samples() / "logs"
log = json.loads((folder / "log.json").read_text())
steps = [entry for entry in log if "reward" in entry]
print("your own run" if GPU else f"a SHIPPED log of {len(steps)} steps, not yours")
reward_curves(log)

# %% [markdown]
# Look at each reward for itself: a rising sum may be one reward eating another. The lowest panel is
# the run's pulse: groups without spread, and completions that were cut off. The loss is not drawn:
# it says nothing (notebook 05). Over a few dozen steps much of what you see is noise.
#
# ## 4 · Inside a group

# %%
lines = [json.loads(line) for line in (folder / "groups.jsonl").read_text().splitlines()]
group = lines[0]
for total, advantage, text in zip(group["total"], group["advantages"], group["completions"]):
    print(f"{total:6.2f} {advantage:+6.2f}  {' '.join(text.split())[:70]}")
assert abs(sum(group["advantages"])) < 1e-2

# %%
count = 1 + int(group["id"][-5:])
shown = list(read_prepared(write_shapes(OUT / "data", "train", count)))
GroupInspector(lines, shown, policy.clip_format)

# %% [markdown]
# ## 5 · Three runs that go wrong
#
# **Cut off.** A limit on the length that is too short, or a prompt without its chat template: no
# completion ends, none parses. Read `completions/clipped_ratio`.

# %%
short = grpo(
    load(MODEL, device="cuda" if GPU else "cpu"), rows, OUT / "short", max_steps=1,
    num_generations=4, per_device_train_batch_size=4, max_completion_length=2,
    gradient_checkpointing=False, save_strategy="no", report_to="none", disable_tqdm=True,
)
entry = next(e for e in json.loads((short / "log.json").read_text()) if "reward" in e)
print({k: entry[k] for k in ("completions/clipped_ratio", "frac_reward_zero_std", "reward")})
assert entry["completions/clipped_ratio"] == 1 and entry["frac_reward_zero_std"] == 1

# %% [markdown]
# **Constant reward.** The same line shows it: `frac_reward_zero_std` is 1. Every group is silent, no
# error is raised, and the GPU bill comes all the same.
#
# **Away from the event.** Boxes are charged only where the times overlap. While boxes are bad,
# missing the event pays:

# %%
gold, space = Tube([2, 3, 4], [[0.7, 0.7, 0.9, 0.9]] * 3), CoordinateSpace.relative(100)


def answer(start, end):
    boxes = ", ".join(f"{i}. [0, 0, 20, 20]" for i in range(start, end + 1))
    return (f"<time> {start} - {end} </time> <think_bbox> {boxes} </think_bbox> "
            f"<pred_bbox> {boxes} </pred_bbox>")


meets, misses = (score_answer(answer(*span), gold, space) for span in ((2, 4), (6, 7)))
print(f"meets {meets.total:.2f}, misses {misses.total:.2f}")
assert meets.temporal == 1 and meets.total < misses.total == 2.0

# %% [markdown]
# In a log: the temporal reward falls while the spatial one rises towards 0. Only the separate
# curves show it; the sum looks healthy.
#
# ## Exercises
#
# **1.** Write the check that stops a bill: is this entry of a log a sign of trouble?


# %%
def trouble(entry):
    """True if every completion is cut off, or every group is silent."""
    # solution
    return entry["completions/clipped_ratio"] == 1 or entry["frac_reward_zero_std"] == 1


# %%
check_calls(
    trouble,
    [
        (({"completions/clipped_ratio": 0.1, "frac_reward_zero_std": 0.2},), False),
        (({"completions/clipped_ratio": 1.0, "frac_reward_zero_std": 0.2},), True),
        (({"completions/clipped_ratio": 0.0, "frac_reward_zero_std": 1.0},), True),
    ],
)

# %% [markdown]
# **2.** How many completions does a step with 8 prompts and the paper's group size generate?

# %%
# solution
completions = 8 * 8

# %%
check_value(completions, 64)
