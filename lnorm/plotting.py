"""One style for every figure: vector graphics that read well on a phone, on paper, on a light and on a dark page."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#767676"  # a grey with contrast above 4:1 on white and on the dark theme's background
# Okabe and Ito's palette, which colour-blind readers can tell apart; one meaning each, throughout the book.
COLOURS = {
    "none": "#D55E00",
    "batch": "#0072B2",
    "layer": "#009E73",
    "rms": "#CC79A7",
    "weight": "#E69F00",
    "other": "#56B4E9",
}
MARKERS = {"none": "s", "batch": "o", "layer": "^", "rms": "D", "weight": "v", "other": "P"}
LABELS = {"none": "no norm", "batch": "BatchNorm", "layer": "LayerNorm", "rms": "RMSNorm", "weight": "WeightNorm"}

_STYLE = {
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": "medium",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "lines.markersize": 5.0,
    "font.size": 11.0,
    "svg.fonttype": "none",
    "svg.hashsalt": "lnorm",
    "figure.constrained_layout.use": True,
}


def use_style() -> None:
    """Set the style, and SVG output in notebooks. A chapter calls it once, in its first cell."""
    plt.rcParams.update(_STYLE)
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:
        return
    set_matplotlib_formats("svg", metadata={"Date": None})


def figure(columns: int = 1, height: float = 3.3, **settings: Any) -> tuple[Figure, Any]:
    """Return a figure with one row of axes, narrow enough (inches) that its text stays readable on a phone."""
    return plt.subplots(1, columns, figsize=(5.4 if columns == 1 else 7.4, height), **settings)


def line(
    ax: Axes, x: Sequence[float] | np.ndarray, runs: np.ndarray, kind: str, label: str | None = None, **style: Any
) -> None:
    """Draw the mean over seeds of ``runs``, shape ``(seeds, len(x))``, and the range over seeds as a band."""
    label = LABELS.get(kind, kind) if label is None else label
    style = {"color": COLOURS[kind], "marker": MARKERS[kind], "label": label} | style
    ax.plot(x, np.mean(runs, axis=0), **style)
    ax.fill_between(x, np.min(runs, axis=0), np.max(runs, axis=0), color=style["color"], alpha=0.2, linewidth=0)


def theory(
    ax: Axes, x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, label: str | None = None
) -> None:
    """Draw what theory predicts: a dashed line in the colour of the axes, over the measurements."""
    ax.plot(x, y, color=INK, linestyle=(0, (4, 3)), linewidth=1.4, label=label, zorder=5)
