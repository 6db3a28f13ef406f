"""Looking at boxes: players, pictures, plots, widgets, reports (`stvgkit[view]`)."""

from stvgkit.errors import need

need("stvgkit.viewing", "view", "av", "PIL", "tqdm", "plotly", "ipywidgets")
