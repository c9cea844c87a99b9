"""Outputs that the caller provides: filled and returned, wherever they lie, and refused where they do not fit."""

import pytest
import torch
from kernels_helpers import OPERATORS, every_operator, every_size, numbers  # noqa: F401

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


@pytest.fixture(params=["torch", "kernel"])
def who(request):
    if request.param == "kernel":
        request.getfixturevalue("every_size")
    return request.param


@DTYPES
@every_operator
def test_an_output_is_filled_and_returned(who, operator, dtype):
    inputs = operator.inputs(70, 24, dtype=dtype)
    expected = operator.call(*inputs)
    expected = expected if operator.adds else (expected,)
    out = torch.full_like(inputs[0], torch.nan)
    y = operator.call(*inputs, out=out)
    y = y if operator.adds else (y,)
    assert y[0].data_ptr() == out.data_ptr()
    torch.testing.assert_close(out, expected[0], rtol=0, atol=0)
    torch.testing.assert_close(y, expected, rtol=0, atol=0)


@DTYPES
@every_operator
def test_an_output_may_be_the_input(who, operator, dtype):
    inputs = operator.inputs(70, 24, dtype=dtype)
    expected = operator.call(*inputs)
    y = operator.call(*inputs, out=inputs[0])
    torch.testing.assert_close(inputs[0], expected[0] if operator.adds else expected, rtol=0, atol=0)
    torch.testing.assert_close(y, expected, rtol=0, atol=0)


@DTYPES
@pytest.mark.parametrize("operator", OPERATORS[2:], ids=lambda operator: operator.name)
@pytest.mark.parametrize("same", [False, True])
def test_the_residual_is_added_to_in_place(who, operator, dtype, same):
    inputs = operator.inputs(70, 24, dtype=dtype)
    expected = operator.call(*inputs)
    y, total = operator.call(*inputs, in_place=True, out=inputs[0] if same else None)
    assert total.data_ptr() == inputs[1].data_ptr()
    torch.testing.assert_close((y, total), expected, rtol=0, atol=0)
    torch.testing.assert_close(inputs[1], expected[1], rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"^out: expected memory of its own"):
        operator.call(*inputs, in_place=True, out=inputs[1])


@every_operator
def test_outputs_that_lie_across_an_input_are_right_too(every_size, operator):  # noqa: F811
    *_, first = inputs = operator.inputs(70, 24)
    memory = numbers(71, 24)
    for x, out in ((memory[:-1], memory[1:]), (memory[1:], memory[:-1]), (memory[1:].flip(1), memory[1:])):
        given = [x.clone(), *inputs[1:]]
        expected = operator.call(*given)
        before = memory.clone()
        y = operator.call(x, *inputs[1:], out=out)
        torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)
        memory.copy_(before)
    strided = torch.empty(24, 70).t()
    expected = operator.call(*inputs)
    torch.testing.assert_close(operator.call(*inputs, out=strided), expected, rtol=1e-6, atol=1e-6)
    whole = torch.cat([torch.empty(3 * 24), first])  # the gain or bias is part of the output's memory
    y = operator.call(inputs[0][:4], *(each[:4] for each in inputs[1 : 1 + operator.adds]),
                      *inputs[1 + operator.adds : -1], whole[-24:], out=whole.view(4, 24))  # fmt: skip
    shorter = operator.call(inputs[0][:4], *(each[:4] for each in inputs[1 : 1 + operator.adds]),
                            *inputs[1 + operator.adds :])  # fmt: skip
    torch.testing.assert_close(y, shorter, rtol=1e-6, atol=1e-6)


@every_operator
def test_an_output_that_does_not_fit_is_refused(operator):
    inputs = operator.inputs(6, 4)
    with pytest.raises(ValueError, match=r"^out: expected the shape of x, \(6, 4\), got \(4, 6\)"):
        operator.call(*inputs, out=torch.empty(4, 6))
    with pytest.raises(TypeError, match=r"^out: expected a tensor of torch.float32, as x is, got .*float64"):
        operator.call(*inputs, out=torch.empty(6, 4, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"^out: expected a tensor of torch.float32, as x is, got list"):
        operator.call(*inputs, out=[0.0])
    with pytest.raises(ValueError, match=r"^out: expected a tensor on cpu"):
        operator.call(*inputs, out=torch.empty(6, 4, device="meta"))
    for i in range(len(inputs)):
        wants = [each.clone().requires_grad_(j == i) for j, each in enumerate(inputs)]
        with pytest.raises(ValueError, match=r"^out: expected None where a gradient is required"):
            operator.call(*wants, out=torch.empty(6, 4))
        if operator.adds:
            with pytest.raises(ValueError, match=r"^in_place: expected None where a gradient"):
                operator.call(*wants, in_place=True)
        with torch.no_grad():
            operator.call(*wants, out=torch.empty(6, 4))
