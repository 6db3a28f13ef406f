"""A GRPO trainer as the tests use it: quiet, in 32 bits, on a CPU."""

from trl import GRPOConfig

from stvgkit.rewards import REWARDS
from stvgkit.training.row_dataset import row_dataset

QUIET = dict(
    report_to="none",
    disable_tqdm=True,
    use_cpu=True,
    bf16=False,
    remove_unused_columns=False,
    gradient_checkpointing=False,
)


def make_trainer(kind, grounder, rows, out, settings, *, reward_funcs=REWARDS, **more):
    """A trainer of this kind on planned rows; `settings` are TRL's, `more` the kind's own."""
    return kind(
        model=grounder.model,
        args=GRPOConfig(output_dir=str(out), **QUIET | settings),
        reward_funcs=reward_funcs,
        train_dataset=row_dataset(rows),
        processing_class=grounder.processor,
        **more,
    )
