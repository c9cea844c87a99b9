"""Exercise 9.4: a Pre-LN network turned into one with RMSNorm."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError, array, arrays
from lnorm.checks.layer_norm.inputs import affine

BEFORE = ("gamma", "beta", "W_in", "b_in", "W_out", "b_out")
AFTER = ("gamma", "W_in", "b_in", "W_out", "b_out")
SIZES = {"visible": (2, 5, 6, 4), "graded": (3, 7, 9, 6)}  # blocks, tokens, features, hidden units
EPS = 1e-3


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 3)
    depth, tokens, d, hidden = SIZES[level]

    def block() -> tuple[np.ndarray, ...]:
        W_in, W_out = rng.normal(loc=0.3, size=(hidden, d)), rng.normal(loc=0.3, size=(d, hidden))
        return (*affine(rng, d), W_in, rng.normal(size=hidden), W_out, rng.normal(loc=1.0, size=d))

    embedding = rng.normal(size=(tokens, d)) + rng.normal(scale=2.0, size=(tokens, 1))
    whole = {"embedding": embedding, "blocks": tuple(block() for _ in range(depth))}
    return [
        Case("the embedding", {**whole, "asks": "embedding"}),
        Case("what the blocks read", {**whole, "asks": "reads"}),
        Case("what the blocks write", {**whole, "asks": "writes"}),
        Case("the network computes the same, but for the mean", {**whole, "asks": "network"}),
        Case("the network computes the same, but for the mean", {**whole, "blocks": (block(),), "asks": "network"}),
        Case("leaves its inputs alone", {**whole, "asks": "inputs"}),
    ]


def _rms_norm(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + EPS)


def _returned(result: Any, depth: int) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
    """Return the answer as arrays; UnusableError that says what came."""
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        came = f"{len(result)} values" if isinstance(result, (tuple, list)) else type(result).__name__
        raise UnusableError(f"expected 2 return values (embedding, blocks), got {came}")
    embedding, blocks = result
    if not isinstance(blocks, (tuple, list)) or len(blocks) != depth:
        came = f"{len(blocks)} of them" if isinstance(blocks, (tuple, list)) else type(blocks).__name__
        raise UnusableError(f"blocks: expected a list with one tuple a block, {depth} here, got {came}")
    return array("embedding", embedding), [arrays(AFTER, block) for block in blocks]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    """Look at what the new arrays do, not at themselves: a gain may also have been folded into W_in."""
    given, blocks = inputs["embedding"].copy(), [tuple(each.copy() for each in block) for block in inputs["blocks"]]
    embedding, new = _returned(answer(given, blocks), len(blocks))
    asks = inputs["asks"]
    if asks == "inputs":
        after = {f"{n} of block {i}": a for i, b in enumerate(blocks) for n, a in zip(BEFORE, b, strict=True)}
        return {"embedding after the call": given} | {f"{name}, after the call": each for name, each in after.items()}
    if asks == "embedding":
        return {"embedding": embedding}
    d = given.shape[1]
    stream, hidden = np.random.default_rng(1).normal(size=(8, d)), np.random.default_rng(2).normal(size=(8, 20))
    stream -= stream.mean(axis=1, keepdims=True)
    out: dict[str, np.ndarray] = {}
    x = embedding
    for i, block in enumerate(new):
        gamma, W_in, b_in, W_out, b_out = block.values()
        if asks == "reads":
            out[f"W_in · RMSNorm(x) + b_in of block {i}"] = (_rms_norm(stream) * gamma) @ W_in.T + b_in
        elif asks == "writes":
            out[f"W_out · h + b_out of block {i}"] = hidden[:, : W_out.shape[1]] @ W_out.T + b_out
        else:
            x = x + np.maximum((_rms_norm(x) * gamma) @ W_in.T + b_in, 0) @ W_out.T + b_out
            out[f"the stream after block {i}"] = x
    return out


def _fold(kind: str = "") -> Answer:
    """Return the folding that is right but for one thing; ``kind`` empty for the right one."""

    def centred(values: np.ndarray, axis: int) -> np.ndarray:
        mean = values.mean(axis, keepdims=True)
        if kind == "standardized":
            return (values - mean) / values.std(axis, keepdims=True)
        return values + mean if kind == "added" else values - mean

    def fold(embedding: Any, blocks: Any) -> Any:
        new = []
        for i, (gamma, beta, W_in, b_in, W_out, b_out) in enumerate(blocks):
            late = kind == "first block only" and i > 0
            reads = {
                "no beta": b_in,
                "beta without W_in": b_in + beta.sum(),
                "beta times gamma": b_in + W_in @ (gamma * beta),
                "beta subtracted": b_in - W_in @ beta,
            }.get(kind, b_in + W_in @ beta)
            W_r = {"readers' outputs": W_in - W_in.mean(0), "gamma twice": W_in * gamma}.get(kind, W_in)
            W_w = {"rows": centred(W_out, 1), "one mean": W_out - W_out.mean(), "no W_out": W_out.copy()}
            b_w = {"no b_out": b_out.copy(), "b_out gone": np.zeros_like(b_out)}
            gain = np.ones_like(gamma) if kind == "no gamma" else gamma
            new.append(
                (
                    gain,
                    W_r.copy(),
                    b_in.copy() if late else reads,
                    W_out.copy() if late else W_w.get(kind, centred(W_out, 0)),
                    b_out.copy() if late else b_w.get(kind, centred(b_out, 0)),
                )
            )
            if kind == "in place":
                W_out -= W_out.mean(0)
        table = {"no embedding": embedding.copy(), "by feature": centred(embedding, 0)}
        return table.get(kind, centred(embedding, 1)), new

    return fold


FOLD_CENTRING = Exercise(
    name="fold_centring",
    signature="fold_centring(embedding, blocks)",
    properties={
        "the embedding": 1,
        "what the blocks read": 2,
        "what the blocks write": 2,
        "the network computes the same, but for the mean": 2,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_fold(),
    forbids=("lnorm.nn.fold_centring", "lnorm.nn.fold_gain"),
    mistakes={
        "the embedding left as it was": _fold("no embedding"),
        "each feature of the embedding centred, instead of each token": _fold("by feature"),
        "each row of W_out centred, instead of each column": _fold("rows"),
        "one mean for the whole of W_out": _fold("one mean"),
        "W_out left as it was": _fold("no W_out"),
        "b_out left as it was": _fold("no b_out"),
        "b_out set to zero": _fold("b_out gone"),
        "the columns of W_in centred: a change of what the block reads": _fold("readers' outputs"),
        "beta forgotten: RMSNorm has none, so it has to go somewhere": _fold("no beta"),
        "the sum of beta added to b_in, without W_in": _fold("beta without W_in"),
        "beta multiplied by gamma on its way into b_in": _fold("beta times gamma"),
        "beta subtracted from b_in": _fold("beta subtracted"),
        "gamma set to one and folded nowhere": _fold("no gamma"),
        "gamma kept and folded into W_in as well": _fold("gamma twice"),
        "only the first block changed": _fold("first block only"),
        "divided by standard deviations as well": _fold("standardized"),
        "the mean added instead of subtracted": _fold("added"),
        "W_out overwritten in place": _fold("in place"),
    },
)
