"""How much of LayerNorm's time is arithmetic, and how much is memory that need not have been read or written?

4096 rows of 1024 float32 numbers, 16 MiB, on one thread. LayerNorm and RMSNorm written in torch's elementary
operations, torch's own, and the course's kernels, beside a copy of the same bytes and a matrix product of the same
rows. Bytes are counted exactly, operation by operation. Times are medians of interleaved calls, compared as ratios.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lnorm import kernels
from lnorm.experiments.claim import Claim, Measurements, over_seeds
from lnorm.kernels import operators

ROWS, FEATURES = 4096, 1024
# An element's part in the moments takes 4 operations (subtract, add, multiply, add), its output another 4.
FLOPS_AN_ELEMENT = 8


def elementary_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """LayerNorm as one would write it: eight operations, five of them with an output as large as x."""
    centred = x - x.mean(-1, keepdim=True)
    var = centred.square().mean(-1, keepdim=True)
    return centred * torch.rsqrt(var + eps) * weight + bias


def elementary_rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    """RMSNorm as one would write it."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


class Traffic(TorchDispatchMode):
    """Counts the bytes that operations read and write while it is active: all of their inputs and outputs, once each.

    Views move nothing and count nothing. What an operation does inside is not seen: a fused one counts as it should.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not function.is_view and not function.__name__.startswith(("empty", "new_empty", "detach")):
            moved = [each for each in tree_leaves((args, kwargs, result)) if isinstance(each, Tensor)]
            self.bytes += sum(each.untyped_storage().nbytes() for each in moved)
        return result


def traffic(function: Callable[..., Tensor], *inputs: Tensor, backward: bool = False) -> float:
    """Return the bytes that ``function`` moves, in units of the bytes of its first input."""
    leaves = [each.detach().requires_grad_(backward) for each in inputs]
    dy = torch.randn_like(leaves[0]) if backward else None
    with Traffic() as counter:
        y = function(*leaves)
        if dy is not None:
            torch.autograd.grad(y, leaves, dy)
    return counter.bytes / leaves[0].nbytes


def saved(function: Callable[..., Tensor], *inputs: Tensor) -> float:
    """Return the bytes that autograd keeps for the backward pass, parameters aside, in units of the first input's."""
    leaves = [each.detach().requires_grad_() for each in inputs]
    parameters = {each.data_ptr() for each in leaves[1:]}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in parameters:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = function(*leaves)
    del y
    return sum(kept.values()) / leaves[0].nbytes


def page_faults(call: Callable[[], Any]) -> int:
    """Return how many pages the operating system had to hand out during one call."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    call()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def interleaved(functions: Mapping[str, Callable[[], Any]], repeats: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Call every function once unmeasured and then ``repeats`` times, each round in a new order; return seconds."""
    rng = np.random.default_rng(seed)
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(repeats):
        for name in rng.permutation(list(functions)):
            start = time.perf_counter()
            functions[name]()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(each) for name, each in seconds.items()}


def run(seed: int, repeats: int = 9) -> Measurements:
    """Count bytes, and time on one thread. About 3 s on one core, once the kernels are compiled."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _run(seed, repeats)
    finally:
        torch.set_num_threads(threads)


def _run(seed: int, repeats: int) -> Measurements:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(ROWS, FEATURES, generator=generator)
    weight, bias = torch.randn(2, FEATURES, generator=generator)
    layer: dict[str, Callable[..., Tensor]] = {
        "elementary": elementary_layer_norm,
        "torch": lambda x, weight, bias: F.layer_norm(x, (FEATURES,), weight, bias),
        "ours": kernels.layer_norm,
    }
    rms: dict[str, Callable[..., Tensor]] = {
        "elementary": elementary_rms_norm,
        "torch": lambda x, weight: F.rms_norm(x, (FEATURES,), weight, 1e-6),
        "ours": kernels.rms_norm,
    }
    m: Measurements = {"flop_share": FLOPS_AN_ELEMENT / (2 * FEATURES)}
    for name in layer:
        for norm, function, inputs in (("layer", layer[name], (x, weight, bias)), ("rms", rms[name], (x, weight))):
            m[f"traffic_{norm}_{name}"] = traffic(function, *inputs)
            m[f"traffic_with_backward_{norm}_{name}"] = traffic(function, *inputs, backward=True)
            m[f"saved_{norm}_{name}"] = saved(function, *inputs)

    y, stats, rrms = torch.empty_like(x), x.new_empty(ROWS, 3), x.new_empty(ROWS)
    matrix = torch.randn(FEATURES, FEATURES, generator=generator)
    timed = {
        "copy": lambda: y.copy_(x),
        "matmul": lambda: torch.mm(x, matrix, out=y),
        "layer_elementary": lambda: layer["elementary"](x, weight, bias),
        "layer_torch": lambda: layer["torch"](x, weight, bias),
        "layer_ours": lambda: operators.layer_norm_into(y, stats, x, weight, bias, 1e-5),
        "rms_elementary": lambda: rms["elementary"](x, weight),
        "rms_torch": lambda: rms["torch"](x, weight),
        "rms_ours": lambda: operators.rms_norm_into(y, rrms, x, weight, 1e-6),
    }
    for name, seconds in interleaved(timed, repeats, seed).items():
        m[f"seconds_{name}"] = float(np.median(seconds))
    m["page_faults_elementary"] = page_faults(timed["layer_elementary"])
    m["page_faults_ours"] = page_faults(timed["layer_ours"])

    far = x[:64] + 1e4  # rows whose mean is ten thousand standard deviations
    truth = F.layer_norm(far.double(), (FEATURES,))
    operators.layer_norm_into(y[:64], stats[:64], far, torch.ones_like(weight), torch.zeros_like(bias), 1e-5)
    m["error_torch"] = float((F.layer_norm(far, (FEATURES,)) - truth).abs().max())
    m["error_ours"] = float((y[:64] - truth).abs().max())
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """Bytes are laws; of times, only what is several-fold is claimed."""

    def ratio(first: str, second: str) -> tuple[float, ...]:
        return tuple(float(run[f"seconds_{first}"] / run[f"seconds_{second}"]) for run in runs)

    def measured(name: str) -> tuple[float, ...]:
        return over_seeds(runs, name)

    law: dict[str, Any] = {"published": "(law)", "where": "one unit: the bytes of x"}
    return [
        Claim("LayerNorm in elementary operations: bytes moved", measured("traffic_layer_elementary"), 12, 12.1, **law),
        Claim("torch's LayerNorm: bytes moved", measured("traffic_layer_torch"), 2, 2.1, **law),
        Claim("Our LayerNorm: bytes moved", measured("traffic_layer_ours"), 2, 2.1, **law),
        Claim(
            "Our LayerNorm, forwards and backwards: bytes moved",
            measured("traffic_with_backward_layer_ours"),
            5,
            5.1,
            **law,
        ),
        Claim("RMSNorm in elementary operations: bytes moved", measured("traffic_rms_elementary"), 7, 7.1, **law),
        Claim("Our RMSNorm: bytes moved", measured("traffic_rms_ours"), 2, 2.1, **law),
        Claim("Elementary LayerNorm: bytes saved for the backward pass", measured("saved_layer_elementary"), 2, 2.01),
        Claim("torch's LayerNorm: bytes saved", measured("saved_layer_torch"), 1, 1.01),
        Claim("Our LayerNorm: bytes saved", measured("saved_layer_ours"), 1, 1.01),
        Claim("torch's RMSNorm: bytes saved", measured("saved_rms_torch"), 2, 2.01),
        Claim("Our RMSNorm: bytes saved", measured("saved_rms_ours"), 1, 1.01),
        Claim("Time: torch's LayerNorm over the elementary one", ratio("layer_torch", "layer_elementary"), high=0.67),
        Claim("Time: our LayerNorm over the elementary one", ratio("layer_ours", "layer_elementary"), high=0.67),
        Claim("Time: our RMSNorm over torch's", ratio("rms_ours", "rms_torch"), high=0.67),
        Claim("Time: our LayerNorm over a copy", ratio("layer_ours", "copy"), high=4),
        Claim(
            "Elementary LayerNorm beside a matrix product: share of the operations, over share of the time",
            tuple(
                float(run["flop_share"]) * t for t, run in zip(ratio("matmul", "layer_elementary"), runs, strict=True)
            ),
            high=0.2,
        ),
        Claim(
            "Our LayerNorm's largest error, 10,000 standard deviations from zero", measured("error_ours"), high=1.5e-6
        ),
        Claim("torch's largest error there, its power of ten", tuple(np.log10(measured("error_torch"))), low=-4),
    ]
