"""What does LayerNorm do to gradients through time, and to learning, in a tanh RNN and in an LSTM?

Digits as sequences of 32 steps, 2 pixels each, 48 hidden units, orthogonal recurrent weights times a gain; LayerNorm as
in Ba, Kiros & Hinton's gated cells: ``W_h h`` and ``W_x x`` on their own, in the LSTM the cell before its output too.
Adam, batches of 64; test accuracy is looked every 20 steps. Copies differ in learning rate and gain only.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lnorm.data import digits
from lnorm.experiments.claim import Claim, Measurements
from lnorm.training import batches, losses

Cell = Literal["rnn", "lstm"]
PIXELS, HIDDEN = 2, 48
RATES = (0.003, 0.01)
GAINS = (0.5, 1.0, 1.5, 2.0)
EVERY = 20
FIRST, LAST = 8, 24  # the steps between which the gradient's factor is taken


class StackedRNN(nn.Module):
    """Recurrent classifiers side by side, copy i with its recurrent weights multiplied by ``gains[i]``.

    ``forward(x)`` takes sequences ``(N, T, PIXELS)``, the same for all copies, and returns ``(copies, N, 10)``.
    """

    def __init__(self, cell: Cell, normalized: bool, gains: Sequence[float], generator: torch.Generator) -> None:
        super().__init__()
        self.cell, self.normalized = cell, normalized
        copies, gates = len(gains), 4 if cell == "lstm" else 1
        width = gates * HIDDEN
        recurrent = torch.cat([_orthogonal(generator) for _ in range(gates)], dim=1)
        self.w_h = nn.Parameter(torch.tensor(gains).view(-1, 1, 1) * recurrent)
        self.w_x = nn.Parameter(torch.randn(PIXELS, width, generator=generator).repeat(copies, 1, 1) / PIXELS**0.5)
        self.w_y = nn.Parameter(torch.randn(HIDDEN, 10, generator=generator).repeat(copies, 1, 1) / HIDDEN**0.5)
        self.b_y = nn.Parameter(torch.zeros(copies, 1, 10))
        bias = torch.zeros(copies, 1, width)
        if cell == "lstm":
            bias[..., HIDDEN : 2 * HIDDEN] = 1.0  # gates i, f, g, o: an LSTM that starts by remembering
        self.b = nn.Parameter(bias)
        if normalized:
            self.gamma_h = nn.Parameter(torch.ones(copies, 1, width))
            self.gamma_x = nn.Parameter(torch.ones(copies, 1, width))
            self.gamma_c = nn.Parameter(torch.ones(copies, 1, HIDDEN))
            self.beta_c = nn.Parameter(torch.zeros(copies, 1, HIDDEN))

    def states(self, x: Tensor) -> list[Tensor]:
        """Return the hidden states h_1 … h_T, each ``(copies, N, HIDDEN)``."""
        n, steps, _ = x.shape
        from_x = x.transpose(0, 1).reshape(1, steps * n, PIXELS) @ self.w_x  # (copies, T·N, width)
        if self.normalized:
            from_x = _layer_norm(from_x) * self.gamma_x
        from_x = (from_x + self.b).unflatten(1, (steps, n))
        h = c = x.new_zeros(len(self.w_h), n, HIDDEN)
        history = []
        for from_input in from_x.unbind(1):
            from_h = h @ self.w_h
            z = from_input + (_layer_norm(from_h) * self.gamma_h if self.normalized else from_h)
            if self.cell == "rnn":
                h = z.tanh()
            else:
                i, f, g, o = z.chunk(4, dim=-1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * (_layer_norm(c) * self.gamma_c + self.beta_c if self.normalized else c).tanh()
            history.append(h)
        return history

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.b_y, self.states(x)[-1], self.w_y)


def _layer_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


def _orthogonal(generator: torch.Generator) -> Tensor:
    q, r = torch.linalg.qr(torch.randn(HIDDEN, HIDDEN, generator=generator))
    return q * r.diagonal().sign()


def sequences() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the digits as ``(N, 32, 2)`` sequences with their labels: training, then test."""
    train_x, train_y, test_x, test_y = map(torch.from_numpy, digits())
    return train_x.view(-1, 64 // PIXELS, PIXELS), train_y, test_x.view(-1, 64 // PIXELS, PIXELS), test_y


def gradient_through_time(seed: int, normalized: bool) -> tuple[np.ndarray, np.ndarray]:
    """Send a random gradient into h_T of untrained RNNs, one a gain.

    Return the root mean square of the gradient at h_1 … h_T, ``(gains, T)``, and by what the chapter's formula
    multiplies it from h_24 back to h_8, as a factor a step, ``(gains,)``.
    """
    generator = torch.Generator().manual_seed(seed)
    model = StackedRNN("rnn", normalized, GAINS, generator).double()
    x = sequences()[0][:256].double()
    history = model.states(x)
    for h in history:
        h.retain_grad()
    at_end = torch.randn(history[-1].shape[1:], generator=generator, dtype=x.dtype)
    history[-1].backward(at_end.expand_as(history[-1]))
    rms = torch.stack([h.grad.square().mean(dim=(1, 2)).sqrt() for h in history if h.grad is not None], dim=1)
    factors = []
    for before, after in pairwise(history[FIRST - 1 : LAST]):
        slope = (1 - after.detach().square()).square().mean(dim=(1, 2)).sqrt()
        size = before.detach().square().mean(dim=(1, 2)).sqrt()
        factors.append(slope / size if normalized else torch.tensor(GAINS) * slope)
    return rms.numpy(), torch.stack(factors).log().mean(dim=0).exp().numpy()


def train(
    seed: int, cell: Cell, normalized: bool, rates: Sequence[float], gains: Sequence[float], steps: int
) -> np.ndarray:
    """Train a copy for each pair of rate and gain; return the test accuracies, ``(looks, copies)``."""
    train_x, train_y, test_x, test_y = sequences()
    generator = torch.Generator().manual_seed(seed)
    model = StackedRNN(cell, normalized, gains, generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
    rate = torch.tensor(rates).view(-1, 1, 1)
    seen = []
    for step, index in enumerate(batches(len(train_x), 64, steps, generator), start=1):
        optimizer.zero_grad()
        losses(model(train_x[index]), train_y[index]).sum().backward()
        before = [parameter.detach().clone() for parameter in model.parameters()]
        optimizer.step()
        with torch.no_grad():  # Adam at rate 1, shortened: Adam at each copy's own rate
            for parameter, old in zip(model.parameters(), before, strict=True):
                parameter.copy_(torch.lerp(old, parameter, rate))
            if step % EVERY == 0:
                right = model(test_x).argmax(dim=-1) == test_y
                seen.append(right.float().mean(dim=1).numpy())
    return np.array(seen)


def steps_to(accuracy: np.ndarray, target: float = 0.8) -> np.ndarray:
    """Return the first step, of those looked at, with the ``target`` accuracy; infinite if there is none."""
    reached = accuracy >= target
    return np.where(reached.any(axis=0), EVERY * (1 + reached.argmax(axis=0)), math.inf)


def run(seed: int, steps: int = 220, lstm_steps: int = 120) -> Measurements:
    """Measure gradients, train 16 RNNs and 4 LSTMs. About 15 s on one core."""
    m: Measurements = {"gains": np.array(GAINS), "rates": np.array(RATES)}
    for name, normalized in (("none", False), ("layer", True)):
        m[f"gradient_{name}"], m[f"factor_theory_{name}"] = gradient_through_time(seed, normalized)
        first, last = m[f"gradient_{name}"][:, FIRST - 1], m[f"gradient_{name}"][:, LAST - 1]
        m[f"factor_{name}"] = (first / last) ** (1 / (LAST - FIRST))
        rates = [rate for rate in RATES for _ in GAINS]
        accuracy = train(seed, "rnn", normalized, rates, GAINS * len(RATES), steps)
        m[f"final_{name}"] = accuracy[-3:].mean(axis=0).reshape(len(RATES), len(GAINS))
        m[f"steps_{name}"] = steps_to(accuracy).reshape(len(RATES), len(GAINS))
        lstm = train(seed, "lstm", normalized, RATES, [1.0] * len(RATES), lstm_steps)
        m[f"lstm_{name}"], m[f"lstm_steps_{name}"] = lstm, steps_to(lstm)
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """LayerNorm cancels the recurrent gain and gives a tanh RNN room; an LSTM gains nothing from it."""

    def difference(rate: float, gain: float) -> tuple[float, ...]:
        at = RATES.index(rate), GAINS.index(gain)
        return tuple(float(run["final_layer"][at] - run["final_none"][at]) for run in runs)

    def formula_error(norm: str) -> tuple[float, ...]:
        return tuple(float(np.abs(run[f"factor_{norm}"] / run[f"factor_theory_{norm}"] - 1).max()) for run in runs)

    def gradient_range(gradient: np.ndarray) -> float:
        return float(np.ptp(gradient / gradient[GAINS.index(1.0)], axis=0).max())

    faster = "“can substantially reduce the training time”"
    return [
        Claim("No norm: relative error of the formula for the gradient's factor", formula_error("none"), high=0.06),
        Claim("LayerNorm: relative error of the formula for the gradient's factor", formula_error("layer"), high=0.06),
        Claim(
            "LayerNorm: largest relative difference of a gradient between gains 0.5 and 2",
            tuple(gradient_range(run["gradient_layer"]) for run in runs),
            high=0.01,
            published="0 (law)",
            where="derived in chapter 6",
        ),
        Claim(
            "No norm: gradient's factor a step at gain 2 ÷ at gain 0.5",
            tuple(float(run["factor_none"][-1] / run["factor_none"][0]) for run in runs),
            low=2.0,
        ),
        Claim(
            "RNN: accuracy with LayerNorm minus without, mean over gains and rates",
            tuple(float((run["final_layer"] - run["final_none"]).mean()) for run in runs),
            low=0.03,
        ),
        Claim(
            "RNN with LayerNorm: accuracy at the worst gain and rate",
            tuple(float(run["final_layer"].min()) for run in runs),
            low=0.7,
        ),
        Claim("RNN, gain 0.5, rate 0.003: accuracy with LayerNorm minus without", difference(0.003, 0.5), low=0.0),
        Claim("RNN, gain 2, rate 0.003: accuracy with LayerNorm minus without", difference(0.003, 2.0), low=0.0),
        Claim("RNN, gain 2, rate 0.01: accuracy with LayerNorm minus without", difference(0.01, 2.0), low=0.08),
        Claim(
            "RNN, gain 1, rate 0.003: steps to 80 % without norm ÷ with LayerNorm",
            tuple(float(run["steps_none"][0, 1] / run["steps_layer"][0, 1]) for run in runs),
            low=1.2,
            published=faster,
            source="ba2016layer",
            where="abstract",
        ),
        Claim(
            "LSTM: accuracy at the end with LayerNorm minus without, mean over rates",
            tuple(float((run["lstm_layer"] - run["lstm_none"])[-1].mean()) for run in runs),
            high=0.03,
            published=faster,
            source="ba2016layer",
            where="abstract",
        ),
    ]
