"""Widgets around the player, for notebooks: reward lab, group inspector, sample browser.

Core ipywidgets only, and of these what 7.7 (Colab) and 8 (JupyterLab, VS Code) have in common.
Pictures are SVG inside `HTML` widgets, so nothing but text travels; all text from outside is
escaped.
"""

from stvgkit.viewing.widgets.group_inspector import GroupInspector, read_groups
from stvgkit.viewing.widgets.reward_lab import RewardLab, make_presets
from stvgkit.viewing.widgets.sample_browser import SampleBrowser

__all__ = [
    "GroupInspector",
    "RewardLab",
    "SampleBrowser",
    "make_presets",
    "read_groups",
]
