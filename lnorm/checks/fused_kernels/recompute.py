"""Exercise 11.7: LayerNorm in PyTorch that keeps nothing but its input, and computes the rest again."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs
from lnorm.checks.outputs import difference
from lnorm.checks.tensors import tensor, with_gradients

SIZES = {"visible": (3, 2, 5), "graded": (4, 3, 7)}
NAMES = ("x", "weight", "bias")


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed)
    n, t, d = SIZES[level]

    def inputs(*shape: int, eps: float = 1e-12, dead: bool = False) -> dict[str, Any]:
        d = shape[-1]
        weight = rng.uniform(0.5, 2.0, size=d) * rng.choice([-1.0, 1.0], size=d)
        weight[0] = 0.0 if dead else weight[0]
        scale = rng.uniform(0.3, 3.0, size=(*shape[:-1], 1))
        x = scale * rng.normal(size=shape) + rng.normal(scale=2.0, size=(*shape[:-1], 1))
        return {"x": x, "weight": weight, "bias": rng.normal(size=d), "eps": eps, "dy": rng.normal(size=shape)}

    plain, large = inputs(n, d), inputs(n, 64)
    return [
        *(Case(each, {**plain, "asks": each}) for each in ("y", "dx", "dweight", "dbias")),
        Case("eps, here and there", {**inputs(n, d, eps=0.5), "asks": "all"}),
        Case("any number of axes", {**inputs(n, t, d), "asks": "all"}),
        Case("a gain of 0", {**inputs(n, d, dead=True), "asks": "dx"}),
        Case("keeps at most 1.1 times the bytes of x", {**large, "asks": "kept"}),
        Case("keeps no new array", {**large, "asks": "new"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    if inputs["asks"] in ("kept", "new"):
        y, kept, new = _kept(answer, inputs)
        return {"y": y, "kept": np.array(kept if inputs["asks"] == "kept" else new)}
    out = with_gradients(
        lambda *each: answer(*each, inputs["eps"]), {name: inputs[name] for name in NAMES}, inputs["dy"]
    )
    return out if inputs["asks"] == "all" else {inputs["asks"]: out[inputs["asks"]]}


def _kept(answer: Answer, inputs: Inputs) -> tuple[np.ndarray, float, float]:
    """Return y, and what is kept for the backward pass in units of x: all but weight and bias, and all but x too."""
    import torch

    x, weight, bias = (tensor(inputs[name], requires_grad=True) for name in NAMES)
    kept: dict[int, int] = {}

    def keep(each: Any) -> Any:
        kept[each.data_ptr()] = each.untyped_storage().nbytes()
        return each

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda each: each):
        y = answer(x, weight, bias, inputs["eps"])
    nodes = [y.grad_fn] if isinstance(y, torch.Tensor) and y.grad_fn is not None else []
    if not nodes:
        raise TypeError("y carries no gradient")
    for node in nodes:  # what a function keeps as an attribute of ctx counts, too
        for value in getattr(node, "__dict__", {}).values():
            for each in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(each, torch.Tensor):
                    keep(each)
        nodes += [following for following, _ in node.next_functions if following is not None]
    for each in (weight, bias):
        kept.pop(each.data_ptr(), None)
    total = sum(kept.values())
    return y.detach().numpy(), total / x.nbytes, (total - kept.get(x.data_ptr(), 0)) / x.nbytes


def _verify(case: Case, outputs: Outputs) -> str:
    right = {name: value for name, value in _probe(_function(), case.inputs).items() if name != "kept"}
    if reason := difference(right, outputs, case.tolerance):
        return reason
    kept = float(outputs.get("kept", 0))
    if case.inputs["asks"] == "kept" and kept > 1.1:
        return f"{kept:.1f} times the bytes of x are kept for the backward pass, expected at most 1.1"
    if case.inputs["asks"] == "new" and kept > 0.1:
        return f"beside x, {kept:.1f} times its bytes are kept for the backward pass, expected at most 0.1"
    return ""


def _function(kind: str = "") -> Answer:
    """Return the function, right but for one thing."""

    def lean_layer_norm(x: Any, weight: Any, bias: Any, eps: float) -> Any:
        import torch

        def parts(x: Any, eps: float) -> tuple[Any, Any]:
            centred = x - x.mean(-1, keepdim=True)
            var = centred.square().mean(-1, keepdim=True)
            return centred, torch.rsqrt(var + eps)

        class LayerNormFn(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Any, weight: Any, bias: Any, eps: float) -> Any:
                centred, rstd = parts(x, eps)
                x_hat = centred * rstd
                y = x_hat * weight + bias
                ctx.eps = eps
                saved = {
                    "x_hat": (x_hat, rstd),
                    "both": (x, x_hat, rstd),
                    "expanded": (x, *(each.expand_as(x).clone() for each in (x.mean(-1, keepdim=True), rstd))),
                    "y": (y, rstd, bias),
                    "float32": (x.float(),),
                }.get(kind, (x,))
                ctx.save_for_backward(weight, *saved)
                if kind == "attribute":
                    ctx.x_hat = x_hat
                return y

            @staticmethod
            def backward(ctx: Any, dy: Any) -> Any:
                weight, *saved = ctx.saved_tensors
                if kind == "x_hat":
                    x_hat, rstd = saved
                elif kind == "y":
                    y, rstd, bias = saved
                    x_hat = (y - bias) / weight
                else:
                    x = saved[0].to(dy.dtype)
                    centred, rstd = parts(x, {"no eps": 0.0, "fixed eps": 1e-5}.get(kind, ctx.eps))
                    if kind == "unbiased":
                        rstd = torch.rsqrt(x.var(-1, keepdim=True) + ctx.eps)
                    x_hat = (x if kind == "not centred" else centred) * rstd
                g = dy if kind == "no gamma" else dy * weight
                mean_g, mean_gx = g.mean(-1, keepdim=True), (g * x_hat).mean(-1, keepdim=True)
                if kind == "no mean term":
                    mean_g = 0
                if kind == "no x_hat term":
                    mean_gx = 0
                dx = (g - mean_g - x_hat * mean_gx) * rstd
                batch = tuple(range(dy.ndim - 1))
                dweight, dbias = (dy * x_hat).sum(batch), dy.sum(batch)
                if kind == "means":
                    dweight, dbias = (dy * x_hat).mean(batch), dy.mean(batch)
                if kind == "swapped":
                    dweight, dbias = dbias, dweight
                return dx, dweight, dbias, None

        return LayerNormFn.apply(x, weight, bias, eps)

    return lean_layer_norm


def _elementary(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    centred = x - x.mean(-1, keepdim=True)
    return centred * (centred.square().mean(-1, keepdim=True) + eps).rsqrt() * weight + bias


def _affine_outside(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    import torch

    return _function()(x, torch.ones_like(weight), torch.zeros_like(bias), eps) * weight + bias


LEAN_LAYER_NORM = Exercise(
    name="lean_layer_norm",
    signature="lean_layer_norm(x, weight, bias, eps)",
    properties={
        "y": 1,
        "dx": 2,
        "dweight": 1,
        "dbias": 1,
        "eps, here and there": 1,
        "any number of axes": 1,
        "a gain of 0": 1,
        "keeps at most 1.1 times the bytes of x": 2,
        "keeps no new array": 2,
    },
    cases=_cases,
    probe=_probe,
    solution=_function(),
    verify=_verify,
    forbids=(
        "torch.nn.functional.layer_norm",
        "torch.nn.LayerNorm",
        "torch.layer_norm",
        "torch.native_layer_norm",
        "lnorm.kernels.layer_norm",
    ),
    mistakes={
        "elementary operations, each of which keeps what it needs": _elementary,
        "x̂ kept instead of x: an array that would otherwise be gone": _function("x_hat"),
        "both x and x̂ kept": _function("both"),
        "x̂ kept as an attribute of ctx, where nobody counts it": _function("attribute"),
        "mean and rstd kept for every number instead of every row": _function("expanded"),
        "y kept, and x̂ computed from it by dividing by a gain that may be 0": _function("y"),
        "a copy of x kept in another dtype": _function("float32"),
        "gain and bias applied outside, where autograd keeps x̂ for them": _affine_outside,
        "dx lacks the mean term: the mean of g is not subtracted": _function("no mean term"),
        "dx lacks the x̂ term: its component along x̂ is not taken out": _function("no x_hat term"),
        "gamma left out of dx": _function("no gamma"),
        "x̂ computed again without its mean subtracted": _function("not centred"),
        "x̂ computed again without eps": _function("no eps"),
        "x̂ computed again with an eps of 1e-5, whatever the argument says": _function("fixed eps"),
        "x̂ computed again with a variance divided by D − 1": _function("unbiased"),
        "dweight and dbias averaged over the rows": _function("means"),
        "dweight and dbias swapped": _function("swapped"),
    },
)
