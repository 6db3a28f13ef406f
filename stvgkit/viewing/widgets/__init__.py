"""Widgets around the player, for notebooks: group inspector and sample browser.

Core ipywidgets only, and of these what 7.7 (Colab) and 8 (JupyterLab, VS Code) have in common.
Pictures are SVG inside `HTML` widgets, so nothing but text travels; all text from outside is
escaped.
"""

from stvgkit.viewing.widgets.group_inspector import GroupInspector, read_groups
from stvgkit.viewing.widgets.sample_browser import SampleBrowser

__all__ = [
    "GroupInspector",
    "SampleBrowser",
    "read_groups",
]
