"""The rewards for ms-swift: `--external_plugins PATH/swift.py --reward_funcs stvg_format ...`.

Importing this module registers five rewards where ms-swift is installed: `stvg_format`,
`stvg_consistency`, `stvg_temporal`, `stvg_spatial`, `stvg_think`. Their weights are ms-swift's
`--reward_weights 1 1 1 1 0.5`, of which the last is lambda_k. For the ablations, write a plug-in
of two lines: `from stvgkit.plugins.swift import Reward`, `Reward.options = {"spatial": "giou"}`.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from stvgkit.errors import InputError
from stvgkit.plugins import score_row

# ms-swift puts a plug-in's folder first on the search path, where this file would be found by
# whoever imports `swift`.
sys.path[:] = [place for place in sys.path if Path(place) != Path(__file__).parent]

if find_spec("swift"):
    from swift.rewards import ORM, orms
else:
    ORM, orms = object, {}


class Reward(ORM):
    """One of the five rewards; the data set's column `ground_truth` holds the packed truth."""

    part: str  # of RewardBreakdown
    options: dict = {}  # `spatial` and `think`, as in `score_answer`

    def __init__(self, args=None, **_framework) -> None:
        self.args = args

    def __call__(self, completions: list[str], ground_truth=None, **_columns) -> list[float]:
        if ground_truth is None:
            raise InputError(
                "the data set has no column 'ground_truth': write it with "
                "stvgkit prepare --for swift"
            )
        rows = enumerate(zip(completions, ground_truth, strict=True))
        scored = [
            score_row(f"answer {number} of the batch", text, truth, **self.options)
            for number, (text, truth) in rows
        ]
        return [getattr(row, self.part) for row in scored]


class StvgFormat(Reward):
    """R_f: the whole answer has the format."""

    part = "format"


class StvgConsistency(Reward):
    """R_c: both lists hold exactly the frames of the span."""

    part = "consistency"


class StvgTemporal(Reward):
    """R_t: the overlap in time."""

    part = "temporal"


class StvgSpatial(Reward):
    """R_s: the boxes, of the first guess and of the answer."""

    part = "spatial"


class StvgThink(Reward):
    """R_k: how much better the final boxes are than the first guess."""

    part = "think"


for reward in (StvgFormat, StvgConsistency, StvgTemporal, StvgSpatial, StvgThink):
    orms[f"stvg_{reward.part}"] = reward
