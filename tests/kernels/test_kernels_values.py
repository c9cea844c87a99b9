"""The kernels compute what lnorm.reference computes in float64, forwards and backwards, wherever the numbers lie."""

import numpy as np
import pytest
import torch
from kernels_helpers import OPERATORS, every_operator, every_size, numbers, relative_error  # noqa: F401
from torch.nn import functional as F

from lnorm import kernels, reference

LN, RMS, *_ = OPERATORS
SHAPES = [(5, 1), (5, 2), (3, 3), (2, 3, 7), (1, 64), (64,), (70, 33), (200, 96)]


@every_operator
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)], ids=str)
def test_the_kernel_agrees_with_the_reference(every_size, operator, shape, dtype, tolerance):  # noqa: F811
    inputs, cotangents = operator.inputs(*shape, dtype=dtype), operator.cotangents(*shape, dtype=dtype)
    ours, right = operator.values(inputs, cotangents), operator.truth(inputs, cotangents)
    if operator.norm == "layer_norm" and shape[-1] <= 2:
        tolerance *= 400  # one over the root of eps: the gradient is a difference of such numbers
    for outputs, exact in zip(ours, right, strict=True):
        for output, truth in zip(outputs, exact, strict=True):
            assert output.dtype == dtype
            assert output.shape == truth.shape
            difference = np.abs(output.double().numpy() - truth).max(initial=0)
            assert difference <= tolerance * max(1, np.abs(truth).max(initial=0))


@every_operator
@pytest.mark.parametrize("shape", [(1024, 512), (9000, 60)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_large_tensors_reach_the_kernel_and_agree(operator, shape, dtype):
    inputs, cotangents = operator.inputs(*shape, dtype=dtype), operator.cotangents(*shape, dtype=dtype)
    ours, right = operator.values(inputs, cotangents), operator.truth(inputs, cotangents)
    rounding = 1e-6 if dtype == torch.float32 else torch.finfo(dtype).eps
    for outputs, exact in zip(ours, right, strict=True):
        for output, truth in zip(outputs, exact, strict=True):
            assert output.dtype == dtype
            assert relative_error(output, truth) <= rounding


@pytest.mark.parametrize(("offset", "scale"), [(0, 1), (1e2, 1), (1e4, 1), (1e4, 0.01), (1e6, 1), (0, 1e18), (3, 1e30)])
def test_float32_outputs_keep_their_digits_wherever_the_mean_lies(every_size, offset, scale):  # noqa: F811
    """Where F.layer_norm has 1e-3 at an offset of 1e4."""
    x = numbers(64, 1024, offset=offset, scale=scale)
    right, _ = reference.layer_norm(x.double().numpy(), 1024)
    assert np.abs(kernels.layer_norm(x).numpy() - right).max() <= 1.5e-6


@pytest.mark.parametrize("offset", [1e2, 1e4])
def test_small_tensors_go_to_torch_and_keep_their_digits_too(offset):
    x = numbers(64, 256, offset=offset)
    right, _ = reference.layer_norm(x.double().numpy(), 256)
    assert np.abs(kernels.layer_norm(x).numpy() - right).max() <= 1.5e-6


@pytest.mark.parametrize("operator", [LN, OPERATORS[2]], ids=lambda operator: operator.name)
@pytest.mark.parametrize("offset", [0, 1e4])
def test_float32_gradients_keep_their_digits_wherever_the_mean_lies(every_size, operator, offset):  # noqa: F811
    inputs, cotangents = operator.inputs(256, 512, offset=offset), operator.cotangents(256, 512)
    _, ours = operator.values(inputs, cotangents)
    _, right = operator.truth(inputs, cotangents)
    for gradient, truth in zip(ours, right, strict=True):
        assert relative_error(gradient, truth) <= 1e-6


@every_operator
def test_bfloat16_weight_gradients_are_summed_in_float32(operator):
    """Where PyTorch's are 16 % off at this many rows."""
    shape = (65_536, 64)
    inputs, cotangents = (f(*shape, dtype=torch.bfloat16) for f in (operator.inputs, operator.cotangents))
    _, ours = operator.values(inputs, cotangents)
    _, right = operator.truth(inputs, cotangents)
    for gradient, truth in zip(ours[-operator.affine :], right[-operator.affine :], strict=True):
        assert relative_error(gradient, truth) <= 2e-3


@pytest.mark.parametrize("value", [0.0, 0.1, -3e4])
def test_constant_rows_become_the_bias(every_size, value):  # noqa: F811
    x = torch.full((40, 300), value)
    torch.testing.assert_close(kernels.layer_norm(x), torch.zeros_like(x), rtol=0, atol=1e-6)


def test_a_row_that_is_not_finite_spoils_itself_only(every_size):  # noqa: F811
    x = numbers(40, 64)
    x[3, 5], x[7, 0] = torch.inf, torch.nan
    for norm in (kernels.layer_norm, kernels.rms_norm):
        y = norm(x)
        assert y[3].isnan().any()
        assert y[7].isnan().all()
        kept = [i for i in range(40) if i not in (3, 7)]
        torch.testing.assert_close(y[kept], norm(x[kept]), rtol=0, atol=0)


@every_operator
@pytest.mark.parametrize("affine", ["none", "weight"])
def test_no_gain_means_one_and_no_bias_means_zero(every_size, operator, affine):  # noqa: F811
    *data, first = operator.inputs(50, 20)[: 2 + operator.adds]
    weight = torch.ones(20) if affine == "none" else first
    given = [weight, torch.zeros(20)][: operator.affine]
    outputs = operator.call(*data) if affine == "none" else operator.call(*data, weight)
    torch.testing.assert_close(outputs, operator.call(*data, *given), rtol=0, atol=0)


@pytest.mark.parametrize("eps", [0.0, 1e-12, 0.1])
def test_eps_is_inside_the_root(every_size, eps):  # noqa: F811
    x = numbers(40, 24, dtype=torch.float64)
    torch.testing.assert_close(kernels.layer_norm(x, eps=eps), F.layer_norm(x, (24,), eps=eps))
    torch.testing.assert_close(kernels.rms_norm(x, eps=eps), F.rms_norm(x, (24,), eps=eps))


HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)


@HALVES
@every_operator
@pytest.mark.parametrize("shape", [(70, 33), (200, 96), (5, 1)], ids=str)
@pytest.mark.parametrize("parameters", [None, torch.float32], ids=["same", "float32"])
def test_half_precision_is_rounded_once(every_size, operator, shape, dtype, parameters):  # noqa: F811
    """Every output is the float64 result to within little more than its own rounding; gains may be float32."""
    inputs, cotangents = operator.inputs(*shape, dtype=dtype), operator.cotangents(*shape, dtype=dtype)
    data = 1 + operator.adds
    inputs = [*inputs[:data], *(each.to(parameters or dtype) for each in inputs[data:])]
    ours, right = operator.values(inputs, cotangents), operator.truth(inputs, cotangents)
    eps = torch.finfo(dtype).eps
    for i, (output, truth) in enumerate(zip([*ours[0], *ours[1]], [*right[0], *right[1]], strict=True)):
        is_gain = i >= len(ours[0]) + data
        assert output.dtype == (inputs[i - len(ours[0])].dtype if is_gain else dtype)
        scale = max(1, np.abs(truth).max(initial=0)) if is_gain or shape[-1] == 1 else np.maximum(np.abs(truth), 0.1)
        assert (np.abs(output.double().numpy() - truth) <= 0.52 * eps * scale + 1e-4 * (shape[-1] == 1)).all()


@HALVES
@every_operator
@pytest.mark.parametrize("offset", [0, 100])
def test_half_precision_is_never_worse_than_torch(operator, dtype, offset):
    inputs, cotangents = (
        operator.inputs(4096, 96, dtype=dtype, offset=offset),
        operator.cotangents(4096, 96, dtype=dtype),
    )
    leaves = [each.clone().requires_grad_() for each in inputs]
    total = leaves[0] + leaves[1] if operator.adds else leaves[0]
    parameters = leaves[1 + operator.adds :]
    eps = {"layer_norm": 1e-5, "rms_norm": 1e-6}[operator.norm]
    y = getattr(F, operator.norm)(total, (96,), *parameters, eps=eps)
    outputs = [y, total] if operator.adds else [y]
    theirs = [*outputs, *torch.autograd.grad(outputs, leaves, cotangents)]
    ours, right = operator.values(inputs, cotangents), operator.truth(inputs, cotangents)
    for our, their, truth in zip([*ours[0], *ours[1]], theirs, [*right[0], *right[1]], strict=True):
        assert relative_error(our, truth) <= 1.01 * relative_error(their.detach(), truth)


@HALVES
def test_half_precision_rounds_as_torch_does(every_size, dtype):  # noqa: F811
    """Sums of two numbers, of all sizes there are: subnormal ones, infinities and NaN, ties and overflow."""
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    x = bits.view(dtype).view(64, 1024)
    for shifted in (torch.zeros_like(x), x.flip(0), x.roll(1, 0), x.roll(123)):
        _, total = kernels.add_rms_norm(x, shifted)
        torch.testing.assert_close(total, x + shifted, rtol=0, atol=0, equal_nan=True)


@HALVES
def test_a_gain_of_any_nan_gives_nan(every_size, dtype):  # noqa: F811
    gain = torch.full((32,), -1, dtype=torch.int32).view(torch.float32)  # NaN, with all bits set
    assert kernels.rms_norm(numbers(40, 32, dtype=dtype), gain).isnan().all()
    assert kernels.layer_norm(numbers(40, 32, dtype=dtype), None, gain).isnan().all()


@HALVES
def test_a_half_precision_row_that_is_not_finite_spoils_itself_only(every_size, dtype):  # noqa: F811
    x = numbers(40, 64, dtype=dtype)
    x[3, 5], x[7, 0] = torch.inf, torch.nan
    kept = [i for i in range(40) if i not in (3, 7)]
    for norm in (kernels.layer_norm, kernels.rms_norm):
        y = norm(x)
        assert y[3].isnan().any()
        assert y[7].isnan().all()
        assert y[kept].isfinite().all()
