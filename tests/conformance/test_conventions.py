"""The two tables of book/conventions.md, row by row: what each library says there is measured by running it.

Every library is asked the same questions through an adapter: normalize this, train on that, with your defaults.
"""

import inspect
import os
import re
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lnorm import reference

pytestmark = [
    pytest.mark.slow,  # importing Keras and Flax takes seconds
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras, of torch's arrays
]
PAGE = Path(__file__).resolve().parents[2] / "book" / "conventions.md"
BATCH, EPS = "of BatchNorm", "of eps"


def tables():
    """The page's tables, by the last words of their headings: {library: {column: cell}}."""
    found = {}
    for heading, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        lines = [line for line in body.splitlines() if line.startswith("|")]
        if lines:
            header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
            found[heading] = {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}
    return found


def table(words):
    (only,) = (each for heading, each in tables().items() if heading.endswith(words))
    return only


def number(cell):
    return float(re.search(r"\d[\d.]*(e-\d+)?", cell)[0])


# --- the libraries, each behind the same four names ---------------------------------------------------------------


def pytorch():
    layer = torch.nn.BatchNorm1d(1, dtype=torch.float64)

    def train(x):
        y = layer(torch.from_numpy(x)).detach().numpy()
        return y, layer.running_mean.numpy().copy(), layer.running_var.numpy().copy()

    def plain(norm):
        return lambda x: norm(torch.from_numpy(x.astype(np.float32))).detach().numpy()

    return SimpleNamespace(
        start=layer.running_var.numpy().copy(),
        momentum=layer.momentum,
        train=train,
        layer_norm=plain(torch.nn.LayerNorm(4)),
        rms_norm=plain(torch.nn.RMSNorm(4)),
    )


def keras():
    os.environ["KERAS_BACKEND"] = "torch"
    from keras import layers

    layer = layers.BatchNormalization(dtype="float64")
    layer.build((None, 1))

    def train(x):
        y = layer(x, training=True).detach().numpy()
        return y, layer.moving_mean.numpy(), layer.moving_variance.numpy()

    def plain(norm):
        return lambda x: norm(x).detach().numpy()

    return SimpleNamespace(
        start=layer.moving_variance.numpy(),
        momentum=layer.momentum,
        train=train,
        layer_norm=plain(layers.LayerNormalization(dtype="float64")),
        rms_norm=plain(layers.RMSNormalization(dtype="float64")),
    )


def flax():
    import jax
    from flax import linen

    layer = linen.BatchNorm(use_running_average=False)
    state = layer.init(jax.random.key(0), np.zeros((2, 1), np.float32))
    start = np.array(state["batch_stats"]["var"])

    def train(x):
        nonlocal state
        y, changed = layer.apply(state, x.astype(np.float32), mutable=["batch_stats"])
        state = {**state, **changed}
        return np.array(y), *(np.array(changed["batch_stats"][key]) for key in ("mean", "var"))

    def plain(norm):
        return lambda x: np.array(norm.init_with_output(jax.random.key(0), x.astype(np.float32))[0])

    return SimpleNamespace(
        start=start,
        momentum=layer.momentum,
        train=train,
        layer_norm=plain(linen.LayerNorm()),
        rms_norm=plain(linen.RMSNorm()),
    )


def onnx():
    from onnx import TensorProto, defs, helper
    from onnx.reference import ReferenceEvaluator

    def evaluate(operator, inputs, outputs, **attributes):
        names = [f"input{i}" for i in range(len(inputs))]
        graph = helper.make_graph(
            [helper.make_node(operator, names, outputs, **attributes)],
            operator,
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])
        feeds = {name: np.asarray(value, np.float32) for name, value in zip(names, inputs, strict=True)}
        return ReferenceEvaluator(model).run(None, feeds)

    schema = defs.get_schema("BatchNormalization")
    statistics = [np.zeros(1), np.ones(1)]  # what the caller starts with: a required input

    def train(x):
        y, *statistics[:] = evaluate(
            "BatchNormalization", [x, np.ones(1), np.zeros(1), *statistics], ["y", "mean", "var"], training_mode=1
        )
        return y, *(each.copy() for each in statistics)

    return SimpleNamespace(
        start="an input" if schema.inputs[4].option == defs.OpSchema.FormalParameterOption.Single else None,
        momentum=helper.get_attribute_value(schema.attributes["momentum"].default_value),
        train=train,
        layer_norm=lambda x: evaluate("LayerNormalization", [x, np.ones(4), np.zeros(4)], ["y"])[0],
        rms_norm=lambda x: evaluate("RMSNormalization", [x, np.ones(4)], ["y"])[0],
    )


def lnorm():
    mean, var = np.zeros(1), np.ones(1)
    parameters = inspect.signature(reference.batch_norm).parameters

    def train(x):
        return reference.batch_norm(x, running_mean=mean, running_var=var)[0], mean.copy(), var.copy()

    return SimpleNamespace(
        start="an input" if parameters["running_var"].default is None else None,
        momentum=parameters["momentum"].default,
        train=train,
        layer_norm=lambda x: reference.layer_norm(x, 4)[0],
        rms_norm=lambda x: reference.rms_norm(x, 4)[0],
    )


LIBRARIES = {"PyTorch": pytorch, "Keras": keras, "Flax": flax, "ONNX": onnx, "lnorm.reference": lnorm}
QUOTED = {"CS231n", "CMU 10-714"}
libraries = pytest.mark.parametrize("name", LIBRARIES)

# --- the measurements ---------------------------------------------------------------------------------------------

X = np.array([[0.0], [1.0], [2.0], [5.0]])


@libraries
def test_the_row_on_running_statistics(name):
    row, library = table(BATCH)[name], LIBRARIES[name]()
    start = 1.0 if isinstance(library.start, str) else float(library.start[0])
    _, mean, var = library.train(X)
    share = float(mean[0]) / X.mean()  # of the new batch; the running mean starts at 0

    (batch_var,) = (float(var[0]) - (1 - share) * start) / share * np.ones(1)
    biased, unbiased = X.var(), X.var(ddof=1)
    measured = {biased: "biased", unbiased: "unbiased"}[min((biased, unbiased), key=lambda v: abs(v - batch_var))]
    assert batch_var == pytest.approx({"biased": biased, "unbiased": unbiased}[measured], rel=1e-3)
    assert row["Running variance"] == measured

    means = "the new batch" if share == pytest.approx(library.momentum, rel=1e-3) else "the old average"
    assert (share if means == "the new batch" else 1 - share) == pytest.approx(library.momentum, rel=1e-3)
    assert row["Momentum is the share of"] == means
    assert number(row["Its default"]) == pytest.approx(library.momentum, rel=1e-6)
    assert row["Running variance starts at"] == (library.start if isinstance(library.start, str) else f"{start:g}")
    assert row["Known by"] == "measured"


@libraries
def test_the_row_on_eps(name):
    """Two inputs with variances below eps: inside the root, 1 / y² says the same eps for both; outside, 1 / y does."""
    row, library = table(EPS)[name], LIBRARIES[name]()
    norms = {
        "BatchNorm": lambda x: library.train(x.T.copy())[0].T,
        "LayerNorm": library.layer_norm,
        "RMSNorm": library.rms_norm,
    }
    pattern = np.array([[1.0, -1.0, 1.0, -1.0]])  # mean 0, variance 1, mean square 1
    for norm, function in norms.items():
        eps = number(row[norm])
        inside, outside = [], []
        for sigma in (0.3 * eps**0.5, 0.8 * eps**0.5):
            y = float(function(sigma * pattern)[0, 0])
            inside.append((sigma / y) ** 2 - sigma**2)
            outside.append(sigma / y - sigma)
        assert inside == pytest.approx([eps, eps], rel=0.01), norm
        assert outside[0] != pytest.approx(outside[1], rel=0.1), norm
    assert row["Stands"] == "inside the root"
    assert row["Known by"] == "measured"


def test_the_versions_that_the_page_names_are_the_installed_ones():
    text = re.sub(r"\s+", " ", PAGE.read_text())
    for library, package in {"PyTorch": "torch", "Keras": "keras", "Flax": "flax", "ONNX": "onnx"}.items():
        assert re.search(rf"{library} (\d+\.\d+)", text)[1] == ".".join(version(package).split(".")[:2])


def test_every_row_is_measured_or_marked_as_quoted():
    for words in (BATCH, EPS):
        rows = table(words)
        assert set(rows) == set(LIBRARIES) | QUOTED
        for name in QUOTED:
            assert re.fullmatch(r"quoted \{cite\}`\w+`", rows[name]["Known by"])


def test_torchs_default_eps_of_rms_norm_is_the_machine_epsilon_of_the_statistics():
    assert number(table(EPS)["PyTorch"]["RMSNorm"]) == pytest.approx(np.finfo(np.float32).eps, rel=0.01)
    x = 1e-4 * torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    for dtype, eps in ((torch.float64, 2.0**-52), (torch.float32, 2.0**-23), (torch.bfloat16, 2.0**-23)):
        y = torch.nn.RMSNorm(4, dtype=dtype)(x.to(dtype))[0, 0].item()
        assert y == pytest.approx(1e-4 / (1e-8 + eps) ** 0.5, rel=0.01)


@pytest.mark.parametrize("name", ["Keras", "Flax", "ONNX"])
def test_the_tables_are_enough_to_reproduce_a_library(name):
    """Several batches with the reference and the options that the rows name: outputs and running statistics agree."""
    row, library = table(BATCH)[name], LIBRARIES[name]()
    momentum = number(row["Its default"])
    share = momentum if row["Momentum is the share of"] == "the new batch" else 1 - momentum
    options = {"momentum": share, "eps": number(table(EPS)[name]["BatchNorm"])}
    mean, var = np.zeros(1), np.ones(1)
    for scale in (1.0, 3.0, 0.1):
        x = scale * X + scale
        biased = row["Running variance"] == "biased"
        y, _ = reference.batch_norm(x, running_mean=mean, running_var=var, **options, unbiased_running_var=not biased)
        for got, expected in zip(library.train(x), (y, mean, var), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_what_the_page_says_of_flax_at_an_offset():
    """By default Flax takes E[x²] - E[x]², and at 1e4 nothing of a row's variance is left."""
    import jax
    from flax import linen

    x = (1e4 + np.random.default_rng(0).normal(size=(64, 256))).astype(np.float32)
    exact, _ = reference.layer_norm(x.astype(float), 256)

    def error(**options):
        y, _ = linen.LayerNorm(**options).init_with_output(jax.random.key(0), x)
        return np.abs(np.array(y) - exact).max()

    assert error() > 1
    assert error(use_fast_variance=False) < 0.05
    assert np.abs(reference.layer_norm(x, 256)[0] - exact).max() < 1e-6
    layer = torch.nn.LayerNorm(256)
    assert np.abs(layer(torch.from_numpy(x)).detach().numpy() - exact).max() < 0.05
