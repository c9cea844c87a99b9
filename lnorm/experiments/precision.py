"""Where does LayerNorm break when its arithmetic has 16 bits, and what does eps do?

Rows go through LayerNorm as one writes it, every step in the type of the input, through torch's kernel, and through
this package's, and are compared with float64 on the same input. Thresholds come from trying all float16 numbers.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lnorm.experiments.claim import Claim, Measurements, over_seeds
from lnorm.nn import LayerNorm

EPS = (1e-3, 1e-5, 1e-6, 1e-12)
SIZES = 10.0 ** np.arange(-7, 4.25, 0.25)
OFFSETS = 4.0 ** np.arange(8)
FEATURES = 256


def naive_layer_norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    """LayerNorm as one writes it: every intermediate result is stored in the type of ``x``."""
    centred = x - x.mean(dim=-1, keepdim=True)
    var = centred.square().mean(dim=-1, keepdim=True)
    return centred * torch.rsqrt(var + eps)


def one_pass_layer_norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    """LayerNorm with the variance E[x²] - E[x]², which needs to read the row only once."""
    mean = x.mean(dim=-1, keepdim=True)
    var = x.square().mean(dim=-1, keepdim=True) - mean.square()  # counter-example: this cancels
    return (x - mean) * torch.rsqrt(var + eps)


def fused_layer_norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    """The kernel of torch: half-precision rows are summed in float32."""
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def steps_of_its_own(x: Tensor) -> Tensor:
    """Sum the last axis in halves, with every partial sum stored in the type of ``x``."""
    while x.shape[-1] > 1:
        left, right = x.chunk(2, dim=-1)
        x = left + right
    return x


def all_float16() -> Tensor:
    """Every positive finite float16 number, in order: its bit patterns count upwards."""
    return torch.arange(1, 0x7C00, dtype=torch.int16).view(torch.float16)


def thresholds() -> Measurements:
    """Which rows (a, -a) come out as (1, -1), for all float16 numbers a; and what happens just beyond."""
    a = all_float16()
    rows = torch.stack([a, -a], dim=1)
    y = naive_layer_norm(rows, eps=1e-12)
    right = (y[:, 0] - 1).abs() < 0.01
    too_large = a >= a[right].max()
    too_large[a == a[right].max()] = False
    squares = a.square()[:, None].expand(-1, 1024)
    fits = torch.isfinite(steps_of_its_own(squares)).squeeze(1)
    return {
        "largest_deviation": a[right].max().item(),
        "largest_deviation_lost": a[~y[:, 0].isfinite()].max().item(),
        "zero_beyond": (y[too_large] == 0).float().mean().item(),
        "fused_right": ((fused_layer_norm(rows, eps=1e-12)[:, 0] - 1).abs() < 0.01)[a > 1e-4].float().mean().item(),
        "largest_deviation_summed_in_float16": a[fits].max().item(),
    }


def constant_rows() -> Measurements:
    """The share of NaN when all features are equal."""
    x = torch.full((8, FEATURES), 3.0)
    m: Measurements = {}
    for name, dtype, layer_norm, eps in (
        ("naive_1e-12", torch.float16, naive_layer_norm, 1e-12),
        ("naive_1e-8", torch.float16, naive_layer_norm, 1e-8),
        ("naive_1e-7", torch.float16, naive_layer_norm, 1e-7),
        ("bfloat16_1e-12", torch.bfloat16, naive_layer_norm, 1e-12),
        ("fused_1e-12", torch.float16, fused_layer_norm, 1e-12),
    ):
        m[f"nan_{name}"] = layer_norm(x.to(dtype), eps).isnan().float().mean().item()
    return m


def standardized(generator: torch.Generator, rows: int = 256) -> Tensor:
    """Normal rows whose mean is exactly 0 and whose standard deviation is exactly 1, in float64."""
    x = torch.randn(rows, FEATURES, generator=generator, dtype=torch.float64)
    x = x - x.mean(dim=1, keepdim=True)
    return x / x.square().mean(dim=1, keepdim=True).sqrt()


def effect_of_eps(z: Tensor) -> Measurements:
    """Standard deviation of the output over that of the input, with float32 and with all-float16 arithmetic."""

    def out(layer_norm: Callable[[Tensor, float], Tensor], dtype: torch.dtype, eps: float) -> np.ndarray:
        ys = (layer_norm((size * z).to(dtype), eps).double() for size in SIZES)
        return np.array([y.square().mean().sqrt().item() for y in ys])

    m: Measurements = {"sizes": SIZES}
    worst = 0.0
    for eps in EPS:
        m[f"std_{eps:g}"] = out(fused_layer_norm, torch.float32, eps)
        m[f"std_float16_{eps:g}"] = out(naive_layer_norm, torch.float16, eps)
        worst = max(worst, np.abs(m[f"std_{eps:g}"] - SIZES / np.sqrt(SIZES**2 + eps)).max())
    m["std_off_law"] = worst
    for eps in (1e-3, 1e-5):
        m[f"std_at_0.02_{eps:g}"] = fused_layer_norm(0.02 * z.float(), eps).std(unbiased=False).item()
    return m


def steepest_slope(row: Tensor, eps: float) -> float:
    """The largest factor by which LayerNorm stretches a small change of ``row``."""
    jacobian = torch.autograd.functional.jacobian(lambda x: fused_layer_norm(x, eps), row)
    return torch.linalg.matrix_norm(jacobian, ord=2).item()


def gradients_of_gain_and_bias(x: Tensor, dy: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return dgamma and dbeta at gamma = 1, beta = 0."""
    gamma = torch.ones_like(x[0]).requires_grad_()
    beta = torch.zeros_like(x[0]).requires_grad_()
    F.layer_norm(x, x.shape[-1:], gamma, beta, eps).backward(dy)
    assert gamma.grad is not None
    assert beta.grad is not None
    return gamma.grad, beta.grad


def sensitivity(z: Tensor, generator: torch.Generator) -> Measurements:
    """What eps does to slopes, and to the gradients of gain and bias."""
    dy = torch.randn(z.shape, generator=generator, dtype=z.dtype)
    m: Measurements = {}
    for size in (1e-6, 1.0):
        m[f"slope_{size:g}"] = steepest_slope(size * z[0], eps=1e-5)
    for size in (0.02, 1.0):
        small_gamma, small_beta = gradients_of_gain_and_bias(size * z, dy, eps=1e-12)
        large_gamma, large_beta = gradients_of_gain_and_bias(size * z, dy, eps=1e-3)
        m[f"dgamma_ratio_{size:g}"] = (large_gamma.norm() / small_gamma.norm()).item()
        m[f"dbeta_change_{size:g}"] = (large_beta - small_beta).abs().max().item()
    return m


def root_mean_square(error: Tensor) -> float:
    return error.square().mean().sqrt().item()


def offsets(z: Tensor) -> Measurements:
    """Errors when every feature has the same large number added to it."""
    two_step = LayerNorm(FEATURES, elementwise_affine=False)
    kernels: dict[str, Callable[[Tensor], Tensor]] = {
        "one_pass": one_pass_layer_norm,
        "two_pass": naive_layer_norm,
        "torch": fused_layer_norm,
        "two_step": two_step,
    }
    m: Measurements = {"offsets": OFFSETS}
    for name, layer_norm in kernels.items():
        errors = []
        for offset in OFFSETS:
            x = (offset + z).float()
            errors.append(layer_norm(x).double() - naive_layer_norm(x.double()))
        m[f"error_{name}"] = np.array([root_mean_square(e[e.isfinite()]) for e in errors])
        m[f"nan_{name}"] = np.array([e.isnan().double().mean().item() for e in errors])

    right = naive_layer_norm(z)
    for name, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        stored = [(offset + z).to(dtype) for offset in OFFSETS]
        m[f"storage_{name}"] = np.array([(naive_layer_norm(x.double()) - right).abs().mean().item() for x in stored])
        m[f"kernel_{name}"] = np.array([(fused_layer_norm(x).double() - right).abs().mean().item() for x in stored])
    m["storage_centred_first"] = (naive_layer_norm(z.bfloat16().double()) - right).abs().mean().item()
    return m


def run(seed: int) -> Measurements:
    """Try all float16 numbers, a constant row, 45 sizes and 8 offsets. About half a second."""
    generator = torch.Generator().manual_seed(seed)
    z = standardized(generator)
    return {**thresholds(), **constant_rows(), **effect_of_eps(z), **sensitivity(z, generator), **offsets(z)}


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Slope of a straight line through log y over log x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """Overflow, underflow and NaN at exact numbers; the law of eps; what an offset costs."""

    def exactly(sentence: str, name: str, value: float, published: str = "–", where: str = "") -> Claim:
        return Claim(sentence, over_seeds(runs, name), low=value, high=value, published=published, where=where)

    def fitted(name: str, first: int, last: int) -> tuple[float, ...]:
        return tuple(slope(OFFSETS[first:last], run[name][first:last]) for run in runs)

    def at(name: str, offset: float) -> tuple[float, ...]:
        return tuple(float(run[name][list(OFFSETS).index(offset)]) for run in runs)

    range_of_float16, derived = "range of float16", "derived in chapter 10"
    law = 0.02 / math.sqrt(0.02**2 + 1e-3)
    cap = 1 / math.sqrt(1e-5)
    return [
        exactly(
            "All in float16: largest deviation from the mean that LayerNorm survives",
            "largest_deviation",
            255.875,
            "below √65520 = 255.97 (law)",
            range_of_float16,
        ),
        exactly("Share of rows beyond it whose output is exactly zero", "zero_beyond", 1.0),
        exactly(
            "Largest deviation when the sum of 1024 squares is kept in float16 as well",
            "largest_deviation_summed_in_float16",
            7.99609375,
            "below √(65520/1024) = 7.999 (law)",
            range_of_float16,
        ),
        exactly("torch's kernel on the same rows: share right to 1 %", "fused_right", 1.0),
        exactly("Constant rows, all in float16, eps = 1e-12: share of NaN", "nan_naive_1e-12", 1.0),
        exactly("Constant rows, all in float16, eps = 1e-8: share of NaN", "nan_naive_1e-8", 1.0),
        exactly("Constant rows, all in float16, eps = 1e-7: share of NaN", "nan_naive_1e-7", 0.0),
        exactly("Constant rows, torch's kernel on float16, eps = 1e-12: share of NaN", "nan_fused_1e-12", 0.0),
        Claim(
            "Standard deviation after LayerNorm of rows with σ = 0.02, eps = 1e-3",
            over_seeds(runs, "std_at_0.02_0.001"),
            low=law - 1e-4,
            high=law + 1e-4,
            published=f"σ/√(σ²+ε) = {law:.4f} (law)",
            where=derived,
        ),
        Claim(
            "Largest distance from σ/√(σ²+ε), for 45 sizes and 4 values of eps",
            over_seeds(runs, "std_off_law"),
            high=1e-6,
        ),
        Claim(
            "Steepest slope of LayerNorm, rows of size 1e-6, eps = 1e-5",
            over_seeds(runs, "slope_1e-06"),
            low=0.999 * cap,
            high=cap,
            published=f"at most 1/√ε = {cap:.1f} (law)",
            where=derived,
        ),
        exactly("eps = 1e-3 instead of 1e-12: largest change of the gradient of β", "dbeta_change_0.02", 0.0),
        Claim(
            "eps = 1e-3 instead of 1e-12: factor on the gradient of γ, rows with σ = 1",
            over_seeds(runs, "dgamma_ratio_1"),
            low=0.9994,
            high=0.9996,
            published=f"1/√(1+ε) = {1 / math.sqrt(1.001):.4f} (law)",
            where=derived,
        ),
        Claim(
            "Variance as E[x²] − E[x]², float32: power of the offset in the error",
            fitted("error_one_pass", 1, 6),
            low=1.9,
            high=2.1,
            published="2 (law)",
            where=derived,
        ),
        Claim(
            "torch's kernel, float32: power of the offset in the error",
            fitted("error_torch", 2, 8),
            low=0.9,
            high=1.1,
            published="1 (law)",
            where=derived,
        ),
        Claim("Mean in two steps, float32, offset 16384: error", at("error_two_step", 16384.0), high=1e-7),
        Claim(
            "Rows stored in bfloat16 at offset 64, then float64: error",
            at("storage_bfloat16", 64.0),
            low=0.95 * 3 * 64 / 2**11,
            high=1.05 * 3 * 64 / 2**11,
            published=f"3 · 64 / 2¹¹ = {3 * 64 / 2**11:.4f} (law)",
            where=derived,
        ),
        Claim(
            "Rows stored in bfloat16, torch's bfloat16 kernel: error over that of float64",
            tuple(a / b for a, b in zip(at("kernel_bfloat16", 64.0), at("storage_bfloat16", 64.0), strict=True)),
            low=0.99,
            high=1.01,
        ),
        Claim(
            "Mean subtracted before storing in bfloat16: error", over_seeds(runs, "storage_centred_first"), high=0.002
        ),
    ]
