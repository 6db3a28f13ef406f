"""Models and their training: SFT and GRPO on TRL, recipes, plans, evaluation (`stvgkit[train]`)."""

from stvgkit.errors import need

need("stvgkit.training", "train", "torch", "transformers", "trl", "peft", "accelerate", "datasets")
