"""Exercise 5.4: BatchNorm of a batch that lies on several devices, backwards."""

from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.batch_size.inputs import uneven_shards
from lnorm.checks.batch_size.sync_forward import SIZES, Shards
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError, array, arrays
from lnorm.checks.layer_norm.inputs import affine


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 3)
    equal, unequal, features = SIZES[level]

    def inputs(sizes: tuple[int, ...], asks: str, scale: float = 1.0, eps: float = 1e-12) -> dict[str, Any]:
        gamma, _ = affine(rng, features)
        shards = tuple(scale * shard for shard in uneven_shards(rng, sizes, features))
        dys = tuple(rng.normal(loc=rng.normal(size=features), size=shard.shape) for shard in shards)
        return {"dys": dys, "shards": shards, "gamma": gamma, "eps": eps, "asks": asks}

    plain = inputs(equal, "dx")
    return [
        Case("dx, devices with equally many rows", plain),
        Case("dx, devices with different numbers of rows", inputs(unequal, "dx")),
        Case("dgamma and dbeta", {**plain, "asks": "parameters"}),
        Case("dgamma and dbeta", inputs(unequal, "parameters")),
        Case("eps in every place", inputs(unequal, "all", scale=0.2, eps=0.1)),
        Case("leaves its inputs alone", inputs(unequal, "inputs")),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    dys, shards = ([each.copy() for each in inputs[name]] for name in ("dys", "shards"))
    gamma = inputs["gamma"].copy()
    came = answer(list(dys), list(shards), gamma, inputs["eps"])
    if not isinstance(came, (tuple, list)) or len(came) != 3:
        raise UnusableError("expected 3 return values: a list with a dx for each device, dgamma and dbeta")
    dxs = arrays(tuple(f"dx of device {i}" for i in range(len(shards))), came[0])
    parameters = {"dgamma": array("dgamma", came[1]), "dbeta": array("dbeta", came[2])}
    after = {f"dy of device {i} after the call": dy for i, dy in enumerate(dys)} | {
        f"x of device {i} after the call": shard for i, shard in enumerate(shards)
    }
    asked = {"dx": dxs, "parameters": parameters, "all": dxs | parameters, "inputs": dxs | parameters | after}
    return asked[inputs["asks"]]


def _solution(dys: Shards, shards: Shards, gamma: Any, eps: float) -> Any:
    return reference.sync_batch_norm_backward(dys, reference.sync_batch_norm(shards, gamma, eps=eps)[1])


def _batch_sum(case: Case, outputs: Outputs) -> str:
    """Point at the mean term: with it, the gradients of the whole batch sum to zero in every feature."""
    dxs = [each for name, each in outputs.items() if name.startswith("dx")]
    if not dxs or any(dx.shape != x.shape for dx, x in zip(dxs, case.inputs["shards"], strict=True)):
        return ""
    largest = float(np.abs(np.concatenate(dxs).sum(axis=0)).max())
    return f"Σdx over all devices is {largest:.2g}, should be 0" if largest > 1e-6 else ""


def _backward(kind: str) -> Answer:
    """Return a backward pass that is right but for one thing."""

    def sync_batch_norm_backward(dys: Shards, shards: Shards, gamma: Any, eps: float) -> Any:
        x, dy, n = np.concatenate(shards), np.concatenate(dys), sum(map(len, shards))
        ends = np.cumsum([len(shard) for shard in shards])[:-1]
        s = np.sqrt(x.var(axis=0) + eps)
        x_hats = np.split((x - x.mean(axis=0)) / s, ends)
        rstds = [1 / s] * len(shards)
        if kind == "local statistics":
            rstds = [1 / np.sqrt(shard.var(axis=0) + eps) for shard in shards]
            x_hats = [(shard - shard.mean(axis=0)) * rstd for shard, rstd in zip(shards, rstds, strict=True)]
        gs = [each * gamma for each in dys]
        if kind == "no gamma":
            gs = dys
        gxs = [g * x_hat for g, x_hat in zip(gs, x_hats, strict=True)]
        own_g, own_gx = ([each.mean(axis=0) for each in values] for values in (gs, gxs))
        mean_g, mean_gx = ([np.concatenate(each).mean(axis=0)] * len(shards) for each in (gs, gxs))
        if kind in ("local", "mean local", "local statistics"):
            mean_g = own_g
        if kind in ("local", "x_hat local", "local statistics"):
            mean_gx = own_gx
        if kind == "divided by local n":
            mean_g, mean_gx = ([m * n / len(g) for m, g in zip(each, gs, strict=True)] for each in (mean_g, mean_gx))
        elif kind == "equal weights":
            mean_g, mean_gx = ([np.mean(each, axis=0)] * len(shards) for each in (own_g, own_gx))
        elif kind == "sums":
            mean_g, mean_gx = ([m * n for m in each] for each in (mean_g, mean_gx))
        elif kind == "by devices":
            mean_g, mean_gx = ([m * n / len(shards) for m in each] for each in (mean_g, mean_gx))
        if kind in ("no mean term", "constants"):
            mean_g = [0 * each for each in mean_g]
        if kind in ("no x_hat term", "constants"):
            mean_gx = [0 * each for each in mean_gx]
        if kind == "no eps":
            rstds = [1 / x.std(axis=0)] * len(shards)
        dxs = [
            (g - m - x_hat * mx) * rstd
            for g, m, x_hat, mx, rstd in zip(gs, mean_g, x_hats, mean_gx, rstds, strict=True)
        ]
        if kind == "over devices":
            dxs = [dx / len(shards) for dx in dxs]
        dgamma = sum(np.sum(dy * x_hat, axis=0) for dy, x_hat in zip(dys, x_hats, strict=True))
        dbeta = dy.sum(axis=0)
        if kind == "first device":
            dgamma, dbeta = np.sum(dys[0] * x_hats[0], axis=0), dys[0].sum(axis=0)
        elif kind == "parameters averaged":
            dgamma, dbeta = dgamma / len(shards), dbeta / len(shards)
        elif kind == "parameters over rows":
            dgamma, dbeta = dgamma / n, dbeta / n
        elif kind == "dgamma with gamma":
            dgamma, dbeta = dgamma * gamma, dbeta * gamma
        elif kind == "in place":
            for each in dys:
                each *= gamma
        return dxs, dgamma, dbeta

    return sync_batch_norm_backward


SYNC_BATCH_NORM_BACKWARD = Exercise(
    name="sync_batch_norm_backward",
    signature="sync_batch_norm_backward(dys, shards, gamma, eps)",
    properties={
        "dx, devices with equally many rows": 3,
        "dx, devices with different numbers of rows": 2,
        "dgamma and dbeta": 1,
        "eps in every place": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_solution,
    explain=_batch_sum,
    forbids=(
        "lnorm.reference.sync_batch_norm",
        "lnorm.reference.sync_batch_norm_backward",
        "lnorm.reference.batch_norm_backward",
        "torch.nn.functional.batch_norm",
        "torch.nn.BatchNorm1d",
        "torch.nn.SyncBatchNorm",
        "torch.batch_norm",
    ),
    mistakes={
        "the gradient's two means taken on each device: synchronized forwards only": _backward("local"),
        "the mean of g taken on each device, that of g·x̂ over all": _backward("mean local"),
        "the mean of g·x̂ taken on each device, that of g over all": _backward("x_hat local"),
        "each device on its own, forwards and backwards": _backward("local statistics"),
        "sums over all devices divided by the rows of one": _backward("divided by local n"),
        "sums over all devices divided by the number of devices": _backward("by devices"),
        "the devices' means averaged with equal weights, whatever their rows": _backward("equal weights"),
        "sums where means belong": _backward("sums"),
        "dx lacks the mean term": _backward("no mean term"),
        "dx lacks the x̂ term": _backward("no x_hat term"),
        "mean and variance treated as constants: dx = g / s": _backward("constants"),
        "gamma left out of dx": _backward("no gamma"),
        "eps left out of the final division": _backward("no eps"),
        "dx divided by the number of devices": _backward("over devices"),
        "dgamma and dbeta of the first device only": _backward("first device"),
        "dgamma and dbeta averaged over the devices instead of summed": _backward("parameters averaged"),
        "dgamma and dbeta averaged over the rows instead of summed": _backward("parameters over rows"),
        "dgamma and dbeta multiplied by gamma": _backward("dgamma with gamma"),
        "dy overwritten in place": _backward("in place"),
    },
)
