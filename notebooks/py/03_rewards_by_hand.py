# %% [markdown]
# In this notebook you build the five rewards of STVG-o1 from their equations, compare each with
# the library's, and meet three places where their sum rewards the wrong thing.

# %% tags=["parameters"]
import os

SMOKE = bool(os.environ.get("STVGKIT_SMOKE"))

# %%
from stvgkit import Span
from stvgkit.exercises import check_calls

# %% [markdown]
# ## Exercises
#
# ### Exercise 1

# %%
def temporal(pred: Span, gold: Span) -> float:
    """|A ∩ B| / |A ∪ B| on whole frames."""
    # solution
    overlap = len(pred.intersect(gold))
    return overlap / (len(pred) + len(gold) - overlap)


# %%
check_calls(temporal, [((Span(0, 3), Span(2, 5)), 1 / 3), ((Span(0, 3), Span(0, 3)), 1.0)])
