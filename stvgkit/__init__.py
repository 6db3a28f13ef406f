"""Learn, teach and do spatio-temporal video grounding with multimodal language models.

>>> from stvgkit import CoordinateSpace, Tube, parse_answer, score_answer
>>> text = '''<time> 5 - 6 </time>
... <think_bbox> 5. [0, 0, 50, 100], 6. [10, 0, 60, 100] </think_bbox>
... <pred_bbox> 5. [0, 0, 50, 50], 6. [10, 0, 60, 50] </pred_bbox>'''
>>> space = CoordinateSpace.relative(100)  # the numbers the model writes run from 0 to 100
>>> parse_answer(text, space).span
Span(start=5, end=6)
>>> gold = Tube([5, 6], [[0, 0, 0.5, 0.5], [0.1, 0, 0.6, 0.5]])
>>> score_answer(text, gold, space).total
4.5

Only numpy is imported here; torch, transformers, trl and av load in the modules that use them.
"""

from stvgkit.answers import Answer, CoordinateSpace, format_answer, parse_answer
from stvgkit.faults import explain_answer
from stvgkit.rewards import RewardBreakdown, score_answer
from stvgkit.tubes import Span, Tube

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "CoordinateSpace",
    "RewardBreakdown",
    "Span",
    "Tube",
    "explain_answer",
    "format_answer",
    "parse_answer",
    "score_answer",
]
