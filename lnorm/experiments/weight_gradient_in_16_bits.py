"""Does PyTorch sum LayerNorm's weight gradients in 16 bits, and what does that cost?

The gradients of gain and bias are sums over all rows. PyTorch's CPU kernel keeps them in the type of the input while
it sums. Rows and output gradients are in bfloat16 here; the right answer is computed from them in float64. One thread:
each thread has a sum of its own.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lnorm.data import digits
from lnorm.experiments.claim import Claim, Measurements, over_seeds
from lnorm.nn import LayerNorm

ROWS = 4 ** np.arange(3, 9)
FEATURES = 64
GROUP_SIZES = (2, 4, 8, 64)
# Root mean square of the relative error of rounding to 8 significant bits: the error is uniform between ±2⁻⁸, and the
# leading digits of the numbers are spread evenly over a logarithmic scale, on which 1/m² has the mean 3/(8 ln 2).
ROUNDING = 2.0**-8 / math.sqrt(3) * math.sqrt(3 / (8 * math.log(2)))

Forward = Callable[[Tensor, Tensor, Tensor], Tensor]


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch use one thread, and then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def torch_layer_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], gamma, beta)


def widened_layer_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """The kernel of torch, given the same rows in float32."""
    return F.layer_norm(x.float(), x.shape[-1:], gamma, beta).to(x.dtype)


def package_layer_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """The module of this package, which widens to float32 by itself."""
    layer = LayerNorm(x.shape[-1])
    return torch.func.functional_call(layer, {"weight": gamma, "bias": beta}, x)


def gradients(forward: Forward, x: Tensor, dy: Tensor, weights: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return dx, dgamma and dbeta in float64, at gamma = 1 and beta = 0 of type ``weights``."""
    x = x.detach().requires_grad_()
    gamma = torch.ones(x.shape[1], dtype=weights, requires_grad=True)
    beta = torch.zeros(x.shape[1], dtype=weights, requires_grad=True)
    dx, dgamma, dbeta = torch.autograd.grad(forward(x, gamma, beta), (x, gamma, beta), dy)
    return dx.double(), dgamma.double(), dbeta.double()


def relative_error(value: Tensor, right: Tensor) -> float:
    return (torch.linalg.vector_norm(value.double() - right) / torch.linalg.vector_norm(right)).item()


def errors_of_weight_gradients(x: Tensor, dy: Tensor) -> dict[str, float]:
    """Relative errors of (dgamma, dbeta) together, for bfloat16 rows ``x`` and ``dy``."""
    right = torch.cat(gradients(torch_layer_norm, x.double(), dy.double(), torch.float64)[1:])
    of: dict[str, tuple[Forward, torch.dtype]] = {
        "torch": (torch_layer_norm, torch.float32),
        "torch_bfloat16": (torch_layer_norm, torch.bfloat16),
        "widened": (widened_layer_norm, torch.float32),
        "package": (package_layer_norm, torch.float32),
    }
    errors = {
        name: relative_error(torch.cat(gradients(forward, x, dy, weights)[1:]), right)
        for name, (forward, weights) in of.items()
    }
    return errors | {"rounded": relative_error(right.bfloat16(), right)}


def trained_rows(generator: torch.Generator, steps: int = 100) -> tuple[Tensor, Tensor]:
    """Rows that enter a LayerNorm, and the gradients that come back: all 1,347 digits, after some training."""
    x, y = map(torch.from_numpy, digits()[:2])
    first, norm, last = nn.Linear(64, FEATURES), nn.LayerNorm(FEATURES), nn.Linear(FEATURES, 10)
    for layer in (first, last):
        with torch.no_grad():
            layer.weight.normal_(0, layer.in_features**-0.5, generator=generator)
            layer.bias.zero_()
    optimizer = torch.optim.Adam([*first.parameters(), *norm.parameters(), *last.parameters()], lr=3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        rows = first(x)
        normed = norm(rows)
        normed.retain_grad()
        F.cross_entropy(last(normed.relu()), y).backward()
        optimizer.step()
    assert normed.grad is not None
    return rows.detach().bfloat16(), normed.grad.bfloat16()


def group_norm_errors(generator: torch.Generator, rows: int = 256) -> Measurements:
    """Relative errors of dx behind GroupNorm of 64 channels at one position, near zero and 16 away from it."""
    noise = torch.randn(rows, FEATURES, generator=generator)
    dy = torch.randn(rows, FEATURES, generator=generator).bfloat16()
    m: Measurements = {}
    for offset in (0, 16):
        x = (offset + noise).bfloat16()
        for name, weights in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
            errors = []
            for size in GROUP_SIZES:

                def forward(x: Tensor, gamma: Tensor, beta: Tensor, size: int = size) -> Tensor:
                    return F.group_norm(x, FEATURES // size, gamma, beta)

                right = gradients(forward, x.double(), dy.double(), torch.float64)[0]
                errors.append(relative_error(gradients(forward, x, dy, weights)[0], right))
            m[f"group_{name}_{offset}"] = np.array(errors)
    return m


def run(seed: int) -> Measurements:
    """Measure six numbers of rows, a trained layer and four sizes of groups. About 1 s."""
    generator = torch.Generator().manual_seed(seed)
    m: Measurements = {"rows": ROWS, "group_sizes": np.array(GROUP_SIZES)}
    with one_thread():
        table = []
        for rows in ROWS.tolist():
            x, dy = (torch.randn(rows, FEATURES, generator=generator).bfloat16() for _ in range(2))
            table.append(errors_of_weight_gradients(x, dy))
            if rows == 1024:
                right = gradients(torch_layer_norm, x.double(), dy.double(), torch.float64)[0]
                m["error_dx"] = relative_error(gradients(torch_layer_norm, x, dy, torch.float32)[0], right)
        for name in table[0]:
            m[f"error_{name}"] = np.array([each[name] for each in table])
        for dtype in (torch.float16, torch.bfloat16):
            ones = torch.ones(65536, FEATURES, dtype=dtype)
            beta = gradients(torch_layer_norm, x.to(dtype), ones, dtype)[2]
            m[f"ones_{str(dtype).removeprefix('torch.')}"] = beta.max().item()
        m |= {f"digits_{name}": error for name, error in errors_of_weight_gradients(*trained_rows(generator)).items()}
        m |= group_norm_errors(generator)
    return m


def expected_error(rows: np.ndarray) -> np.ndarray:
    """The error of a sum of random numbers that is rounded to bfloat16 after each: a random walk of roundings.

    After k rows the sum has the size √k, and rounding it moves it by ROUNDING · √k. The squares add up to
    ROUNDING² · n²/2, on a sum of size √n.
    """
    return ROUNDING * np.sqrt(np.asarray(rows) / 2)


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """The error grows with the root of the rows, as the law says; float32 sums have none of it."""

    def at(name: str, rows: int) -> tuple[float, ...]:
        return tuple(float(run[name][ROWS.tolist().index(rows)]) for run in runs)

    def group(name: str, size: int) -> tuple[float, ...]:
        return tuple(float(run[name][GROUP_SIZES.index(size)]) for run in runs)

    power = [np.polyfit(np.log(ROWS[:-1]), np.log(run["error_torch"][:-1]), 1)[0] for run in runs]
    factor = [np.exp(np.mean(np.log(run["error_torch"][:-1] / expected_error(ROWS[:-1])))) for run in runs]
    return [
        Claim(
            "Gradient of β over 65,536 rows of ones, bfloat16, one thread",
            over_seeds(runs, "ones_bfloat16"),
            low=256,
            high=256,
            published="256: the next number is 258 (law)",
            where="spacing of bfloat16",
        ),
        Claim(
            "Gradient of β over 65,536 rows of ones, float16, one thread",
            over_seeds(runs, "ones_float16"),
            low=2048,
            high=2048,
            published="2048: the next number is 2050 (law)",
            where="spacing of float16",
        ),
        Claim(
            "Error of the weight gradients over 16,384 random rows, bfloat16, weights in float32",
            at("error_torch", 16384),
            low=0.08,
            published="“large”, in a GPU kernel, before its fix",
            where="llm.c, pull request 476",
        ),
        Claim(
            "Power of the number of rows in that error, 64 to 16,384 rows",
            tuple(map(float, power)),
            low=0.4,
            high=0.6,
            published="½ (law)",
            where="derived in chapter 10",
        ),
        Claim(
            "That error over the law's, 64 to 16,384 rows",
            tuple(map(float, factor)),
            low=0.85,
            high=1.15,
            published="1 (law)",
            where="derived in chapter 10",
        ),
        Claim("The same rows given to the kernel in float32: largest error", worst(runs, "error_widened"), high=1e-5),
        Claim("The module of this book, bfloat16 rows: largest error", worst(runs, "error_package"), high=1e-6),
        Claim("The right gradient, rounded once to bfloat16: largest error", worst(runs, "error_rounded"), high=0.0025),
        Claim("The gradient for the rows, bfloat16, 1,024 rows: error", over_seeds(runs, "error_dx"), high=0.003),
        Claim(
            "A layer trained on 1,347 digits: error of the weight gradients", over_seeds(runs, "digits_torch"), low=0.02
        ),
        Claim("GroupNorm, groups of 2, bfloat16 weights: error of dx", group("group_bfloat16_0", 2), low=0.3),
        Claim(
            "GroupNorm, groups of 8 at offset 16, bfloat16 weights: error of dx",
            group("group_bfloat16_16", 8),
            low=0.02,
        ),
        Claim(
            "GroupNorm, all of these groups, float32 weights: largest error of dx",
            tuple(max(run["group_float32_0"].max(), run["group_float32_16"].max()) for run in runs),
            high=0.003,
        ),
    ]


def worst(runs: Sequence[Measurements], name: str) -> tuple[float, ...]:
    return tuple(float(run[name].max()) for run in runs)
