"""Models and their training: SFT and GRPO on TRL, recipes, plans, evaluation (`stvgkit[train]`)."""

import warnings

from stvgkit.errors import need

need("stvgkit.training", "train", "torch", "transformers", "trl", "peft", "accelerate", "datasets")

# TRL and the oldest transformers that we take know this setting by its old name alone; the newest
# warns of it at every step, and a person who trains can do nothing about that.
warnings.filterwarnings(
    "ignore", r"`(is_)?gradient_checkpointing\w*` is deprecated", category=FutureWarning
)
