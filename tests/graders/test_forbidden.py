"""Calls that an exercise forbids are refused however they are made; nothing else is, and nothing stays behind."""

import functools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.functional import layer_norm as imported_before

from lnorm import reference
from lnorm.checks import Case, Exercise, mark
from lnorm.checks.outputs import array
from lnorm.reference import layer_norm

NORM = Exercise(
    name="norm",
    signature="norm(x)",
    properties={"values": 1},
    cases=lambda seed, level: [Case("values", {"x": np.random.default_rng(seed).normal(size=(3, 4))})],
    probe=lambda answer, inputs: {"y": array("y", answer(inputs["x"].copy()))},
    solution=lambda x: reference.layer_norm(x, 4)[0],
    forbids=(
        "lnorm.reference.layer_norm",
        "torch.nn.functional.layer_norm",
        "torch.nn.LayerNorm",
        "torch.layer_norm",
        "torch.Tensor.var",
        "numpy.var",
        "nosuch.package",
    ),
)


def verdict(answer, each=NORM):
    return mark(each, lambda inputs: each.run(answer, inputs), 0)


def helper(x):
    return layer_norm(x, 4)[0]


def nested(x):
    return next(helper(each) for each in (x,))


def swallowed(x):
    try:
        return imported_before(torch.tensor(x), (4,))
    except Exception:
        return imported_before(torch.tensor(x), (4,))


def imported_inside(x):
    from torch.nn import functional

    return functional.layer_norm(torch.tensor(x), (4,))


def in_a_closure():
    hidden = [F.layer_norm]
    return lambda x: hidden[0](torch.tensor(x), (4,))


class Subclass(torch.nn.LayerNorm):
    pass


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (lambda x: reference.layer_norm(x, 4)[0], "lnorm.reference.layer_norm"),
        (helper, "lnorm.reference.layer_norm"),
        (nested, "lnorm.reference.layer_norm"),
        (swallowed, "torch.nn.functional.layer_norm"),
        (imported_inside, "torch.nn.functional.layer_norm"),
        (in_a_closure(), "torch.nn.functional.layer_norm"),
        (lambda x: torch.nn.LayerNorm(4, dtype=torch.float64)(torch.tensor(x)), "torch.nn.LayerNorm"),
        (lambda x: Subclass(4, dtype=torch.float64)(torch.tensor(x)), "torch.nn.LayerNorm"),
        (lambda x: torch.layer_norm(torch.tensor(x), (4,)), "torch.layer_norm"),
        (lambda x: torch.tensor(x).var(), "torch.Tensor.var"),
        (lambda x: np.var(x), "numpy.var"),
        (F.layer_norm, "torch.nn.functional.layer_norm"),
        (functools.partial(layer_norm, normalized_shape=4), "lnorm.reference.layer_norm"),
    ],
)
def test_a_forbidden_call_is_an_error_that_says_so(answer, name):
    before = sys.getprofile()
    found = verdict(answer)
    assert found.points == 0
    assert f"calls {name}, which this exercise asks you to write" in str(found)
    assert sys.getprofile() is before


def test_the_students_line_is_shown():
    assert "in your line `return layer_norm(x, 4)[0]`" in str(verdict(nested))


def test_what_is_not_forbidden_is_allowed():
    def by_hand(x):
        t = torch.tensor(x)
        group = torch.nn.functional.softmax(t, -1) * 0
        return (t - t.mean(-1, keepdim=True)) / torch.sqrt(torch.var(t, -1, keepdim=True, correction=0) + 1e-5) + group

    assert verdict(by_hand).points == 1


def test_a_check_may_call_what_it_forbids_and_hand_it_over():
    """Only calls from the student's own code count."""

    def probe(answer, inputs):
        return {"y": array("y", answer(layer_norm(inputs["x"], 4)[0]))}

    code = compile("def answer(y): return y", "<student>", "exec")
    space = {"__name__": "__main__"}
    exec(code, space)
    assert verdict(space["answer"], replace(NORM, probe=probe, solution=lambda y: y)).points == 1


def test_a_class_is_watched_too():
    class Norm(torch.nn.Module):
        def forward(self, x):
            return F.layer_norm(x, (4,))

    def probe(answer, inputs):
        return {"y": array("y", answer()(torch.tensor(inputs["x"])))}

    assert "calls torch.nn.functional.layer_norm" in str(verdict(Norm, replace(NORM, probe=probe)))


def test_nothing_is_loaded_for_it():
    code = (
        "import sys; from lnorm.checks import exercise, mark; e = exercise('layer_norm');"
        "mark(e, lambda inputs: e.run(lambda x, *args: x, inputs), 0); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
