"""What marking does with answers of every kind, on small exercises made for it."""

import io
import time
from contextlib import redirect_stdout, suppress

import numpy as np
import pytest
import torch

from lnorm.checks import Case, Exercise, check, exercise, mark
from lnorm.checks.exercise import Failure, run
from lnorm.checks.outputs import array, difference
from lnorm.checks.tensors import module_with_gradients, set_state, state, tensor, with_gradients

CENTRE = Exercise(
    name="centre",
    signature="centre(x)",
    properties={"values": 2, "two axes": 1},
    cases=lambda seed, level: [
        Case("values", {"x": np.random.default_rng(seed).normal(size=(3, 4))}),
        Case("two axes", {"x": np.random.default_rng(seed).normal(size=(2, 3, 4))}),
    ],
    probe=lambda answer, inputs: {"y": array("y", answer(inputs["x"].copy()))},
    solution=lambda x: x - x.mean(-1, keepdims=True),
    mistakes={"one mean for all": lambda x: x - x.mean(), "the mean of everything": lambda x: x - np.mean(x)},
    seconds=0.2,
)


def marked(answer, level="visible", each=CENTRE):
    return mark(each, lambda inputs: each.run(answer, inputs), 0, level)


def test_an_endless_loop_is_stopped_once():
    calls = []

    def endless(x):
        calls.append(x)
        while True:
            with suppress(Exception):
                x = x + 1

    start = time.monotonic()
    verdict = marked(endless)
    assert time.monotonic() - start < 2
    assert len(calls) == 1
    assert verdict.points == 0
    assert "did not finish within 0.2 s; is there an endless loop?" in str(verdict)
    assert marked(CENTRE.solution).points == 3, "the time limit ends with the answer"


def test_leaving_the_interpreter_is_an_error_like_any_other():
    assert "SystemExit" in str(marked(lambda x: exit(3)))


def test_a_visible_difference_shows_the_two_values_a_graded_one_does_not():
    wrong = lambda x: np.zeros_like(x)  # noqa: E731
    assert "first at y[0, 0]: got 0, expected " in str(marked(wrong))
    assert "first at y[0, 0]" in str(marked(wrong, "graded"))
    assert "expected" not in str(marked(wrong, "graded"))


def test_the_text_of_an_error_shows_no_number_of_a_graded_case():
    def quotes(x):
        raise ValueError(f"x is {x.ravel()[0]} of shape {x.shape}")

    assert "of shape (3, 4)" in str(marked(quotes))
    assert "ValueError: x is # of shape (#, #)" in str(marked(quotes, "graded"))


def test_another_signature_is_shown_beside_the_expected_one():
    notebook = {"__name__": "__main__"}
    exec(compile("def centre(x, axis): return x", "<cell 1>", "exec"), notebook)
    assert "expected centre(x), yours is centre(x, axis)" in str(marked(notebook["centre"]))


def test_a_renamed_argument_costs_nothing():
    assert marked(lambda values: values - values.mean(-1, keepdims=True)).points == 3


def test_mistakes_that_cannot_be_told_apart_are_all_named():
    verdict = marked(CENTRE.mistakes["one mean for all"])
    assert verdict.mistake == "one mean for all, or: the mean of everything"


def test_prints_are_kept_out_of_the_verdict_and_shown_shortened(monkeypatch):
    def noisy(x, *args):
        print("noise\n" * 10_000)
        return x

    monkeypatch.delenv("LNORM_GRADING_SEED", raising=False)
    out = io.StringIO()
    with redirect_stdout(out):
        points = check("collide", noisy)
    assert points < exercise("collide").points
    assert out.getvalue().count("noise") == 3
    assert "Your code printed" in out.getvalue()
    monkeypatch.setenv("LNORM_GRADING_SEED", "secret")
    with redirect_stdout(out := io.StringIO()):
        check("collide", noisy)
    assert "noise" not in out.getvalue()


def test_an_error_names_the_students_own_line():
    def inverts(x):
        return np.linalg.inv(x @ np.ones((1000, 1000)))

    assert "in your line `return np.linalg.inv(x @ np.ones((1000, 1000)))`" in str(marked(inverts))


def test_torch_tensors_are_arrays():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        came = array("y", torch.ones(2, dtype=dtype, requires_grad=True) * 3)
        assert type(came) is np.ndarray
        assert came.tolist() == [3, 3]


def test_outputs_are_plain_copies():
    class Sneaky(np.ndarray):
        def __eq__(self, other):
            return np.ones(self.shape, bool)

    outputs = run(CENTRE.probe, lambda x: (x * 0).view(Sneaky), {"x": np.ones((2, 2))})
    assert not isinstance(outputs, Failure)
    assert type(outputs["y"]) is np.ndarray


def test_infinities_agree_with_themselves_only():
    y = {"y": np.array([np.inf, 1.0])}
    assert not difference(y, {"y": np.array([np.inf, 1.0])}, 1e-9)
    assert difference(y, {"y": np.array([-np.inf, 1.0])}, 1e-9)
    assert difference(y, {"y": np.array([3.0, 1.0])}, 1e-9)
    assert "not finite" in difference({"y": np.ones(2)}, y, 1e-9)


def test_an_error_of_torch_is_not_mistaken_for_an_empty_answer():
    def unsupported(x):
        raise NotImplementedError("not for this dtype")

    assert "nothing here yet" not in str(marked(unsupported))
    assert marked(unsupported).started
    assert not marked(lambda x: (_ for _ in ()).throw(NotImplementedError)).started


# --- helpers for torch ---


def test_with_gradients_gives_those_of_every_input():
    x, w, dy = np.arange(3.0), np.full(3, 2.0), np.array([1.0, 0.0, -1.0])
    out = with_gradients(lambda x, w: x * w, {"x": x, "w": w}, dy)
    assert {name: each.tolist() for name, each in out.items()} == {
        "y": (x * w).tolist(),
        "dx": (dy * w).tolist(),
        "dw": (dy * x).tolist(),
    }


def test_a_module_gets_its_weights_and_gives_its_gradients():
    x, dy, gamma = np.ones((2, 3)), np.ones((2, 3)), np.array([1.0, 2.0, 3.0])
    module = set_state(torch.nn.LayerNorm(3, dtype=torch.float64), weight=gamma)
    assert state(module)["weight"].tolist() == gamma.tolist()
    assert set(module_with_gradients(module, x, dy)) == {"y", "dx", "dweight", "dbias"}
    with pytest.raises(TypeError, match="no parameter or buffer `gain`; it has: weight, bias"):
        set_state(module, gain=gamma)
    with pytest.raises(TypeError, match="expected \\(4,\\)"):
        set_state(module, weight=np.ones(4))


def test_a_lost_gradient_is_said():
    with pytest.raises(TypeError, match="carries no gradient"):
        with_gradients(lambda x: x.detach(), {"x": np.ones(2)}, np.ones(2))
    assert tensor(np.ones(2), dtype="bfloat16").dtype == torch.bfloat16
