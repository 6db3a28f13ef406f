"""Pictures of tubes: a filmstrip for papers and READMEs, as pixels or as SVG.

The colours stay apart for people with any of the three kinds of colour blindness (simulated after
Machado et al. 2009), and each comes with a line style of its own, so that colour is never all.
"""

from __future__ import annotations

GOLD, THINK = "#FFC61A", "#EF6D81"
PREDICTIONS = ("#73C1FB", "#9367EE", "#D8FC95", "#F92723")
DASHES = ("9 4", "14 4 3 4", "4 3", "20 4")


def layer_style(kind: str, number: int = 0, alone: bool = True) -> tuple[str, str]:
    """Colour and SVG dash pattern of a layer: `gold`, `think` or `pred`, and which prediction.

    A think layer takes the colour of its prediction unless it is the only one.

    >>> layer_style("gold"), layer_style("pred", 1)
    (('#FFC61A', ''), ('#9367EE', '14 4 3 4'))
    """
    if kind == "gold":
        return GOLD, ""
    color = PREDICTIONS[number % len(PREDICTIONS)]
    if kind == "pred":
        return color, DASHES[number % len(DASHES)]
    return (THINK if alone else color), "2 3"
