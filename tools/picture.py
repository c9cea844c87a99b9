"""Draw the README's picture, book/_static/gradients.svg, from the experiment that chapter 1 shows."""

from pathlib import Path

import numpy as np

from lnorm.experiments import run
from lnorm.plotting import figure, line, theory, use_style

OUT = Path(__file__).resolve().parent.parent / "book" / "_static" / "gradients.svg"


def main() -> None:
    use_style()
    signals = run("signal_propagation", seeds=3, workers=2)
    fig, ax = figure(height=3.2)
    depth = np.arange(31)
    for name, kind, label in (
        ("bn_backward", "batch", "BatchNorm"),
        ("backward_2", "none", "no norm, He's initialization"),
        ("ln_backward_1", "layer", "LayerNorm"),
        ("backward_1", "other", "no norm, Xavier's initialization"),
    ):
        line(ax, depth, signals[name][:, -31:], kind, label=label, markevery=5)
    for factor in (np.pi / (np.pi - 1), 1.0, 0.5):
        theory(ax, depth, factor ** (30.0 - depth), label="theory: π/(π−1), 1 and ½ a layer" if factor == 0.5 else None)
    ax.set(
        yscale="log",
        xlabel="layer (the gradient enters at the top layer, on the right)",
        ylabel="mean square of the gradient",
    )
    ax.legend(fontsize="small")
    fig.savefig(OUT, metadata={"Date": None})
    print(OUT)


if __name__ == "__main__":
    main()
