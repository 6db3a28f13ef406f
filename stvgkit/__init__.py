"""Learn, teach and do spatio-temporal video grounding with multimodal language models.

    >>> from stvgkit import Span, Tube, parse_answer, score_answer  # doctest: +SKIP

Only numpy is imported here; torch, transformers, trl and av load in the modules that use them.
"""

__version__ = "0.1.0"
