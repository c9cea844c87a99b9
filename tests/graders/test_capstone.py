"""Right answers to the capstone, written differently."""

import itertools

import numpy as np
import torch
from graders_helpers import Grading

from lnorm.broken_runs import DIAGNOSES
from lnorm.checks.capstone.patients import patient

PADDING = 32


def first_torch(signals):
    for name, x in signals.items():
        bad = ~torch.from_numpy(x).isfinite().flatten(1).all(1)
        if bad.any():
            return name, bad.nonzero().flatten()
    return None, torch.tensor([])


def first_by_sums(signals):
    """A sum of absolute values is finite if and only if all of them are, at this size."""
    sums = {name: np.abs(x).sum(axis=tuple(range(1, x.ndim))) for name, x in signals.items()}
    name = next((name for name, each in sums.items() if not np.all(each < np.inf)), None)
    return [name, [] if name is None else [row for row, each in enumerate(sums[name]) if not each < np.inf]]


def first_by_loops(signals):
    for name in signals:
        rows = [n for n, row in enumerate(signals[name]) if any(not np.isfinite(v) for v in row.ravel())]
        if rows:
            return name, np.array(rows)
    return None, ()


def stream_with_where(stream, real):
    keep = np.broadcast_to(real[..., None], stream.shape)
    return np.sqrt(np.mean(np.square(stream), axis=(1, 2, 3), where=keep))


def stream_torch(stream, real):
    tokens = torch.from_numpy(stream)[:, torch.from_numpy(real)]
    return tokens.square().mean(dim=(1, 2)).sqrt()


def stream_einsum(stream, real):
    clean = np.where(real[..., None], stream, 0.0)
    return [np.sqrt(np.einsum("ntd,ntd->", x, x) / (real.sum() * x.shape[-1])) for x in clean]


def axes_by_combinations(y):
    for size in range(1, 4):
        for axes in itertools.combinations(range(3), size):
            means, variances = np.mean(y, axis=axes), np.var(y, axis=axes)
            if np.all(np.abs(means) < 0.02) and np.all(np.abs(variances - 1) < 0.02):
                return axes
    return ()


def axes_torch(y):
    t = torch.from_numpy(y)
    for axes in ([0], [1], [2], [1, 2], [0, 2], [0, 1], [0, 1, 2]):
        var, mean = torch.var_mean(t, axes, correction=0)
        if mean.abs().max() < 0.02 and (var - 1).abs().max() < 0.02:
            return axes
    return []


def axes_by_sorting(y):
    fits = []
    for axes in ((0, 1, 2), (1, 2), (0, 2), (0, 1), (2,), (1,), (0,)):
        moments = y.mean(axes), (y**2).mean(axes)
        if np.max(np.abs(moments[0])) < 0.02 and np.max(np.abs(moments[1] - moments[0] ** 2 - 1)) < 0.02:
            fits.append(axes)
    return tuple(np.int64(a) for a in min(fits, key=len)) if fits else ()


def sensitivity_in_turns(make, tokens):
    out = {}
    model = make()
    first = model(tokens)
    trained = model(tokens, training=True)
    out["memory"] = np.max(np.abs(model(tokens) - first))
    out["mode"] = np.max(np.abs(trained - first))
    more = np.concatenate([tokens, np.full((len(tokens), 8), PADDING)], axis=1)
    out["padding"] = np.max(np.abs(make()(more, True) - trained))
    out["company"] = max(np.max(np.abs(make()(tokens[n : n + 1])[0] - first[n])) for n in range(len(tokens)))
    return out


def sensitivity_torch(make, tokens):
    def run(batch, *, training):
        return torch.from_numpy(make()(np.asarray(batch), training=training))

    t = torch.from_numpy(tokens)
    longer = torch.nn.functional.pad(t, (0, 8), value=PADDING)
    model = make()
    before = torch.from_numpy(model(tokens))
    model(tokens, training=True)
    return {
        "memory": (torch.from_numpy(model(tokens)) - before).abs().max(),
        "padding": (run(longer, training=True) - run(t, training=True)).abs().max(),
        "mode": (run(t, training=True) - run(t, training=False)).abs().max(),
        "company": (torch.cat([run(row[None], training=False) for row in t]) - before).abs().max(),
    }


def sensitivity_with_a_table(make, tokens):
    wide = np.full((len(tokens), tokens.shape[1] + 8), PADDING)
    wide[:, : tokens.shape[1]] = tokens
    calls = {"eval": (tokens, False), "train": (tokens, True), "wide": (wide, True)}
    table = {name: make()(*call) for name, call in calls.items()}
    alone = np.array([make()(tokens[[n]], False)[0] for n in range(len(tokens))])
    model = make()
    model(tokens, training=True)
    pairs = {"padding": ("wide", "train"), "mode": ("eval", "train")}
    out = {key: float(np.linalg.norm((table[a] - table[b]).ravel(), np.inf)) for key, (a, b) in pairs.items()}
    out["company"] = float(np.linalg.norm((alone - table["eval"]).ravel(), np.inf))
    return out | {"memory": float(np.linalg.norm((model(tokens) - table["eval"]).ravel(), np.inf))}


def gain_by_one_value(norm, features):
    """One spike; its normalized height is known."""
    spike = np.eye(features)[:1]
    unit = (spike - spike.mean()) / spike.std()
    gain = norm(1e15 * unit)[0, 0] / unit[0, 0]
    slope = norm(1e-12 * unit)[0, 0] / (1e-12 * unit[0, 0])
    return gain, (gain / slope) ** 2


def gain_torch(norm, features):
    x = torch.randn(100, features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = (x - x.mean(1, keepdim=True)) / x.std(1, correction=0, keepdim=True)
    loud, quiet = (torch.from_numpy(norm((size * x).numpy())).square().mean().sqrt() for size in (1e10, 1e-10))
    return loud, (1e-10 * loud / quiet) ** 2


def gain_by_bisection(norm, features):
    """Look for the size at which the output has half of its largest mean square: there the variance is eps."""
    row = np.cos(np.arange(features))[None]
    row = (row - row.mean()) / row.std()
    gain = norm(1e11 * row).std()
    low, high = -12.0, 6.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if norm(10**middle * row).var() < gain**2 / 2 else (low, middle)
    return gain, 10 ** (2 * low)


def differ(a, b, by=1e-3):
    return not np.max(np.abs(a - b)) <= by * np.max(np.abs(b))


def diagnose_interventions_first(patient):
    tokens = torch.randint(32, (3, 30), generator=torch.Generator().manual_seed(5)).numpy()
    short = tokens.copy()
    short[0, 4:] = PADDING
    if not np.isfinite(patient(short)["head"]).all():
        return "eps is lost in half precision"
    full = patient(tokens)
    if full["blocks.2.norm"].std() < 0.2:
        return "eps is much too large"
    logits = full["head"]
    if differ(patient(tokens[::2])["head"], logits[::2]):  # one sentence less
        return "statistics over the wrong axis"
    if differ(patient(tokens, change={"blocks.7": lambda x: 50 * x})["head"], logits):
        return "the final norm is missing"
    added = full["blocks.4"] - full["blocks.3"]
    louder = patient(tokens, change={"blocks.3": lambda x: 1000 * x})
    if differ(louder["blocks.4"] - louder["blocks.3"], added, by=0.1):
        return "the skip path is normalized"
    wide = np.concatenate([short, np.full((3, 34), PADDING)], axis=1)
    if differ(patient(wide, True)["head"], patient(short, True)["head"]):
        return "padding counts in the statistics"
    before = patient(tokens)["head"]
    for _ in range(10):
        patient(np.tile([[3, 4]], (4, 5)), training=True)
    return "healthy" if differ(patient(tokens)["head"], before) else "running statistics are never updated"


def diagnose_by_a_table(patient):
    """Measure everything, then read the answer off."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(32, size=(5, 20))
    for n, length in enumerate((20, 4, 9, 20, 13)):
        tokens[n, length:] = PADDING
    longer = np.hstack([tokens, np.full((5, 20), PADDING)])
    first = patient(tokens)
    finite = bool(np.isfinite(first["head"]).all())
    padding = differ(patient(longer, training=True)["head"], patient(tokens, training=True)["head"])
    first = patient(tokens)
    company = differ(patient(tokens[[2]])["head"], first["head"][[2]])
    patient(np.full((3, 7), 9), training=True)
    patient(np.full((3, 7), 30), training=True)
    second = patient(tokens)
    memory = differ(second["head"], first["head"])
    final = differ(patient(tokens, change={"blocks.7": lambda x: 300 * x})["head"], second["head"])
    quiet = np.abs(second["blocks.3.norm"]).max() < 0.3
    loud = patient(tokens, change={"norm_input": lambda x: 30 * x})
    skip = differ(loud["blocks.0"] - 30 * second["norm_input"], second["blocks.0"] - second["norm_input"])
    signs = {
        "eps is lost in half precision": not finite,
        "padding counts in the statistics": padding,
        "statistics over the wrong axis": company,
        "running statistics are never updated": not memory,
        "eps is much too large": quiet,
        "the final norm is missing": final,
        "the skip path is normalized": skip,
    }
    return next((name for name, seen in signs.items() if seen), "healthy")


def diagnose_torch(patient):
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(32, (4, 16), generator=generator)
    tokens[1, 7:] = PADDING
    tokens[3, 12:] = PADDING

    def logits(batch, **options):
        return torch.from_numpy(patient(batch.numpy(), **options)["head"])

    def close(a, b):
        return torch.allclose(a, b, atol=1e-3 * float(b.abs().max()), rtol=0)

    if logits(tokens, training=True).isnan().any():
        return DIAGNOSES[0]
    padded = torch.nn.functional.pad(tokens, (0, 40), value=PADDING)
    if not close(logits(padded, training=True), logits(tokens, training=True)):
        return "padding counts in the statistics"
    reference = logits(tokens)
    if not close(torch.cat([logits(row[None]) for row in tokens]), reference):
        return "statistics over the wrong axis"
    for word in range(4):
        logits(torch.full((2, 3), word), training=True)
    if close(logits(tokens), reference):
        return "running statistics are never updated"
    signals = patient(tokens.numpy(), change={"blocks.5": lambda x: 10 * x})
    if np.abs(signals["blocks.1.norm"]).max() < 0.3:
        return "eps is much too large"
    if not close(logits(tokens, change={"blocks.7": lambda x: 40 * x}), logits(tokens)):
        return "the final norm is missing"
    # The stream behind a block is the stream before it plus something small, if it was made very loud.
    loud = patient(tokens.numpy(), change={"blocks.2": lambda x: 1e3 * x})
    return "the skip path is normalized" if differ(loud["blocks.3"], loud["blocks.2"], by=0.1) else "healthy"


def test_a_patient_says_which_names_it_knows():
    run = patient("healthy", 0)
    signals = run(np.zeros((2, 5), dtype=int))
    assert next(iter(signals)) == "norm_input"
    assert list(signals)[-1] == "head"
    assert len(signals) == 19
    for change, says in (({"blocks.9": abs}, "expected names among norm_input"), ({"head": np.mean}, "and became")):
        try:
            run(np.zeros((2, 5), dtype=int), change=change)
        except ValueError as error:
            assert says in str(error)
        else:
            raise AssertionError("no error")


class TestCapstone(Grading):
    assignment = "14-capstone"
    correct = {  # noqa: RUF012
        "first_not_finite": (first_torch, first_by_sums, first_by_loops),
        "stream_rms": (stream_with_where, stream_torch, stream_einsum),
        "normalized_axes": (axes_by_combinations, axes_torch, axes_by_sorting),
        "sensitivity": (sensitivity_in_turns, sensitivity_torch, sensitivity_with_a_table),
        "gain_and_eps": (gain_by_one_value, gain_torch, gain_by_bisection),
        "diagnose": (diagnose_interventions_first, diagnose_by_a_table, diagnose_torch),
    }
    wrong = (
        ("first_not_finite", lambda signals: "norm_input", "expected two values"),
        ("first_not_finite", lambda signals: ("nowhere", []), "expected one of the names of the signals"),
        ("normalized_axes", lambda y: (3,), "expected a tuple of axes"),
        ("sensitivity", lambda make, tokens: {"padding": 0.0}, "expected a dict with the keys"),
        ("sensitivity", lambda make, tokens: 1.0, "got float"),
        ("diagnose", lambda patient: "it is ill", "expected one of the 8 diagnoses"),
        ("diagnose", lambda patient: "the final norm is missing", "a model that is well was called ill"),
        ("diagnose", lambda patient: "healthy", "a model that is ill was called healthy"),
    )
