"""The graders of assignment 3 are graded: right answers of every style pass, known wrong ones lose points by name."""

import numpy as np
import pytest
import torch

from lnorm.checks import assignment, exercise, mark
from lnorm.checks.exercise import Failure, run

EXERCISES = assignment("03-layer-norm")
LEVELS = ("visible", "graded")


def marked(name, answer, level="graded", seed=5):
    found = exercise(name)
    return mark(found, lambda inputs: run(found.probe, answer, inputs), seed, level)


# --- right answers, written differently --------------------------------------------


def forward_einsum(x, normalized_shape, gamma, beta, eps):
    rows = x.reshape(-1, int(np.prod(normalized_shape)))
    d = rows.shape[1]
    centred = rows - np.einsum("nd->n", rows)[:, None] / d
    rstd = (np.einsum("nd,nd->n", centred, centred) / d + eps) ** -0.5
    return np.einsum("nd,n->nd", centred, rstd).reshape(x.shape) * gamma + beta


def forward_torch(x, normalized_shape, gamma, beta, eps):
    t = torch.from_numpy(x)
    dims = tuple(range(-len(normalized_shape), 0))
    var, mean = torch.var_mean(t, dims, correction=0, keepdim=True)
    return torch.addcmul(torch.from_numpy(beta), torch.from_numpy(gamma), (t - mean) * torch.rsqrt(var + eps))


def forward_welford(x, normalized_shape, gamma, beta, eps):
    y = np.empty_like(x)
    for index in np.ndindex(x.shape[: x.ndim - len(normalized_shape)]):
        mean = m2 = 0.0
        for n, value in enumerate(x[index].ravel().astype(float), start=1):
            delta = value - mean
            mean += delta / n
            m2 += delta * (value - mean)
        y[index] = (x[index] - mean) / np.sqrt(m2 / x[index].size + eps) * gamma + beta
    return y


def backward_torch(dy, x, normalized_shape, gamma, eps):
    t, g = torch.tensor(x, requires_grad=True), torch.tensor(gamma, requires_grad=True)
    b = torch.zeros(normalized_shape, dtype=t.dtype, requires_grad=True)
    torch.nn.functional.layer_norm(t, normalized_shape, g, b, eps).backward(torch.tensor(dy))
    return t.grad, g.grad, b.grad


def backward_jacobian(dy, x, normalized_shape, gamma, eps):
    d = int(np.prod(normalized_shape))
    rows, g = x.reshape(-1, d), (dy * gamma).reshape(-1, d)
    dx = np.empty_like(rows)
    x_hat = np.empty_like(rows)
    for i, row in enumerate(rows):
        s = np.sqrt(row.var() + eps)
        x_hat[i] = (row - row.mean()) / s
        jacobian = (np.eye(d) - 1 / d - np.outer(x_hat[i], x_hat[i]) / d) / s
        dx[i] = jacobian @ g[i]
    flat = dy.reshape(-1, d)
    return dx.reshape(x.shape), (flat * x_hat).sum(0).reshape(normalized_shape), flat.sum(0).reshape(normalized_shape)


def backward_through_moments(dy, x, normalized_shape, gamma, eps):
    axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    d = np.prod(normalized_shape)
    mu = x.mean(axes, keepdims=True)
    var = x.var(axes, keepdims=True)
    dxhat = dy * gamma
    dvar = np.sum(dxhat * (x - mu) * -0.5 * (var + eps) ** -1.5, axes, keepdims=True)
    dmu = -np.sum(dxhat / np.sqrt(var + eps), axes, keepdims=True)
    dx = dxhat / np.sqrt(var + eps) + dvar * 2 * (x - mu) / d + dmu / d
    batch = tuple(range(axes[0]))
    return dx, np.sum(dy * (x - mu) / np.sqrt(var + eps), batch), np.sum(dy, batch)


def r2_lstsq(z, x):
    residual = 0.0
    for j in range(x.shape[1]):
        design = np.column_stack([z[:, j], np.ones(len(z))])
        residual += np.sum((x[:, j] - design @ np.linalg.lstsq(design, x[:, j], rcond=None)[0]) ** 2)
    return 1 - residual / np.sum((x - x.mean(0)) ** 2)


def r2_correlation(z, x):
    share = np.zeros(x.shape[1])
    for j in range(x.shape[1]):
        if z[:, j].std() > 0:
            share[j] = np.corrcoef(z[:, j], x[:, j])[0, 1] ** 2
    return np.array(np.sum(share * x.var(0)) / np.sum(x.var(0)))


def r2_torch(z, x):
    z, x = torch.from_numpy(z - z.mean(0)), torch.from_numpy(x - x.mean(0))
    slope = torch.nan_to_num((z * x).sum(0) / (z * z).sum(0))
    return 1 - ((x - slope * z) ** 2).sum() / (x**2).sum()


CORRECT = {
    "layer_norm": (forward_einsum, forward_torch, forward_welford),
    "layer_norm_backward": (backward_torch, backward_jacobian, backward_through_moments),
    "best_affine_r2": (r2_lstsq, r2_correlation, r2_torch),
    "collide": (
        lambda x: 3 * x + 100,
        lambda x: torch.from_numpy(x) * 0.5 + 7,
        lambda x: (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True) * 50 - 9,
    ),
    "rms_from_ln": (
        lambda W, b: ((np.eye(len(b)) - 1 / len(b)) @ W, (np.eye(len(b)) - 1 / len(b)) @ b),
        lambda W, b: [torch.from_numpy(W) - torch.from_numpy(W).mean(0, keepdim=True), b - np.average(b)],
        lambda W, b: (W - np.einsum("oi->i", W) / W.shape[0], b - b.sum() / b.size),
    ),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("name", "answer"), [(n, a) for n, answers in CORRECT.items() for a in answers])
def test_right_answers_keep_full_marks(name, answer, level):
    for seed in range(3):
        verdict = marked(name, answer, level, seed)
        assert verdict.points == verdict.possible, str(verdict)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("each", EXERCISES, ids=lambda e: e.name)
def test_the_solution_keeps_full_marks(each, level):
    verdict = marked(each.name, each.solution, level)
    assert verdict.points == each.points == verdict.possible, str(verdict)


# --- wrong answers ------------------------------------------------------------------

MISTAKES = [(e.name, mistake) for e in EXERCISES for mistake in e.mistakes]


def test_there_are_enough_known_mistakes():
    assert len(MISTAKES) >= 60


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("name", "mistake"), MISTAKES, ids=lambda each: each[:50])
def test_known_mistakes_lose_points_and_are_named(name, mistake, level):
    verdict = marked(name, exercise(name).mistakes[mistake], level)
    assert verdict.points < verdict.possible
    assert verdict.mistake == mistake
    assert mistake in str(verdict)


def test_mistakes_that_each_explain_a_part_are_named_where_they_do():
    wrong = exercise("layer_norm_backward").mistakes

    def two_mistakes(*args):
        dx, _, _ = wrong["dx lacks the mean term: the mean of g is not subtracted"](*args)
        _, dgamma, dbeta = wrong["dgamma and dbeta swapped"](*args)
        return dx, dgamma, dbeta

    verdict = marked("layer_norm_backward", two_mistakes)
    assert not verdict.mistake
    assert "dx lacks the mean term" in str(verdict)
    assert "dgamma and dbeta swapped" in str(verdict)
    assert "Σdx over a row" in str(verdict)


def test_overwriting_the_input_costs_that_property_only():
    verdict = marked("layer_norm", exercise("layer_norm").mistakes["x overwritten in place"])
    assert verdict.points == verdict.possible - 1


# --- answers that are no answers ----------------------------------------------------


def not_started(*args):
    raise NotImplementedError


def with_a_bug(x, *args):
    return x @ np.ones(1000)


def returns_nothing(*args):
    pass


def returns_text(*args):
    return "done"


def returns_objects(*args):
    return np.array([None, {}], dtype=object)


def returns_nan(x, *args):
    return x * np.nan


def wrong_number_of_arguments(x):
    return x


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (not_started, "nothing here yet"),
        (with_a_bug, "in your line `return x @ np.ones(1000)`"),
        (returns_nothing, "got None; is there a `return`?"),
        (returns_text, "expected an array of numbers, got str"),
        (returns_objects, "expected an array of numbers"),
        (returns_nan, "not finite"),
        (wrong_number_of_arguments, "TypeError"),
        (lambda x, *args: x[..., :2], "has shape"),
        ("not a function", "TypeError"),
    ],
)
def test_answers_that_are_no_answers_get_no_points_and_a_reason(answer, says):
    verdict = marked("layer_norm", answer)
    assert verdict.points == 0
    assert says in str(verdict)


def test_a_wrong_number_of_results_is_said():
    assert "expected 3 return values (dx, dgamma, dbeta), got 2 values" in str(
        marked("layer_norm_backward", lambda *args: (1.0, 2.0))
    )


def test_outputs_are_plain_copies():
    class Sneaky(np.ndarray):
        def __eq__(self, other):
            return np.ones(self.shape, bool)

    found = exercise("collide")
    outputs = run(found.probe, lambda x: (x * 0).view(Sneaky), found.cases(0, "visible")[0].inputs)
    assert not isinstance(outputs, Failure)
    assert type(outputs["x2"]) is np.ndarray


def test_feedback_on_graded_cases_shows_no_numbers_of_theirs():
    found = exercise("layer_norm")
    text = str(marked("layer_norm", lambda x, *args: x, "graded"))
    for case in found.cases(5, "graded"):
        for value in found.probe(found.solution, case.inputs)["y"].ravel()[:20]:
            assert f"{value:.4f}" not in text


def test_visible_and_graded_cases_differ_and_depend_on_the_seed():
    for each in EXERCISES:

        def first(seed, level, each=each):
            inputs = each.cases(seed, level)[0].inputs
            return next(value for value in inputs.values() if isinstance(value, np.ndarray))

        assert first(0, "visible").shape != first(0, "graded").shape
        assert not np.array_equal(first(0, "graded"), first(1, "graded"))
        assert np.array_equal(first(1, "graded"), first(1, "graded"))
