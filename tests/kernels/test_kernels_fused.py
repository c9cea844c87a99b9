"""A norm with what follows it: GELU, and the rounding to 8 bits."""

import numpy as np
import pytest
import torch
from kernels_helpers import every_size, numbers, relative_error  # noqa: F401
from torch.nn import functional as F

from lnorm import kernels
from lnorm.kernels import composition, operators

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
GELUS = pytest.mark.parametrize("approximate", ["none", "tanh"])


def gelu_inputs(dtype, *shape):
    D = shape[-1]
    return numbers(*shape, scale=3, dtype=dtype), numbers(D, seed=1, dtype=dtype), numbers(D, seed=2, dtype=dtype)


def gelu_values(function, inputs, dy):
    leaves = [each.detach().requires_grad_() for each in inputs]
    y = function(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, dy)]


@DTYPES
@GELUS
@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 7), (300, 96)], ids=str)
def test_gelu_agrees_with_float64_and_is_not_worse_than_torch(every_size, dtype, approximate, shape):  # noqa: F811
    inputs, dy = gelu_inputs(dtype, *shape), numbers(*shape, seed=9, dtype=dtype)
    ours = gelu_values(lambda *each: kernels.layer_norm_gelu(*each, approximate=approximate), inputs, dy)

    def torchs(x, weight, bias):
        return F.gelu(F.layer_norm(x, x.shape[-1:], weight, bias), approximate=approximate)

    truth = gelu_values(torchs, [each.double() for each in inputs], dy.double())
    theirs = gelu_values(torchs, inputs, dy)
    for our, their, right in zip(ours, theirs, truth, strict=True):
        assert our.dtype == dtype
        least = 3e-7 if dtype == torch.float32 else torch.finfo(dtype).eps / 2
        assert relative_error(our, right.numpy()) <= max(least, 1.05 * relative_error(their, right.numpy()))


@GELUS
def test_gelu_is_right_far_out_and_for_what_is_no_number(every_size, approximate):  # noqa: F811
    z = torch.linspace(-30, 30, 100_001)
    z = torch.cat([z, torch.tensor([1e4, -1e4, 1e30, -1e30])])
    z = torch.cat([z, z.new_zeros(1)])
    y = kernels.layer_norm_gelu(torch.zeros(1, len(z)), torch.ones_like(z), z, approximate=approximate)[0]
    assert (y.double() - F.gelu(z.double(), approximate=approximate)).abs().div(z.abs().clamp(min=1)).max() <= 3e-7
    x = torch.zeros(3, 40)
    x[1, 0] = torch.nan
    y = kernels.layer_norm_gelu(x, approximate=approximate)
    assert y[1].isnan().all()
    assert torch.equal(y[[0, 2]], torch.zeros(2, 40))


@GELUS
def test_the_derivative_of_gelu_passes_torchs_checks(every_size, approximate):  # noqa: F811
    inputs = [each.requires_grad_() for each in gelu_inputs(torch.float64, 3, 5)]
    assert torch.autograd.gradcheck(lambda *each: kernels.layer_norm_gelu(*each, approximate=approximate), inputs)
    single = [each.detach().float().requires_grad_() for each in inputs]
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(operators.layer_norm_gelu, (*single, 1e-5, approximate == "tanh"), test_utils=checks)


@DTYPES
@pytest.mark.parametrize("shape", [(5, 1), (2, 3, 7), (300, 96), (0, 4)], ids=str)
def test_int8_agrees_with_the_composition(every_size, dtype, shape):  # noqa: F811
    x, weight = numbers(*shape, dtype=dtype), numbers(shape[-1], seed=1, dtype=dtype)
    q, scale = kernels.rms_norm_int8(x, weight)
    assert q.dtype == torch.int8
    assert scale.dtype == torch.float32
    assert (q.shape, scale.shape) == (x.shape, x.shape[:-1])
    right, right_scale = composition.rms_norm_int8(x.double(), weight.double(), 1e-6)
    torch.testing.assert_close(scale.double(), right_scale, rtol=1e-6, atol=0)
    assert (q != right).sum() <= 1e-3 * q.numel()  # numbers that lie halfway, to within float32
    assert (q.int() - right.int()).abs().max() <= 1 if q.numel() else True
    y = kernels.rms_norm(x.double(), weight.double())
    assert ((q * scale[..., None] - y).abs() <= 0.501 * scale[..., None]).all()


@pytest.mark.parametrize("kernel", [False, True])
def test_int8_of_rows_that_have_no_scale(request, kernel):
    if kernel:
        request.getfixturevalue("every_size")
    x = numbers(6, 40)
    x[0], x[1, 3], x[2, 3], x[3], x[4] = 0, torch.nan, torch.inf, 1e-30, 1e25
    q, scale = kernels.rms_norm_int8(x)
    assert (q[0] == 0).all()
    assert scale[0] == 0
    for i in (1, 2):
        assert not scale[i].isfinite()
        assert (q[i] == 0).all()
    assert (q[3:5] == (127 if kernel else q[3:5])).all()
    assert scale[3:].isfinite().all()
    right, _ = composition.rms_norm_int8(x[5:].double(), None, 1e-6)
    assert torch.equal(q[5:], right)


def test_int8_has_no_derivative_and_passes_torchs_checks():
    x, weight = numbers(40, 16).requires_grad_(), torch.ones(16, requires_grad=True)
    q, scale = kernels.rms_norm_int8(x, weight)
    assert not q.requires_grad
    assert not scale.requires_grad
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(operators.rms_norm_int8, (x.detach(), weight.detach(), 1e-6), test_utils=checks)


def test_fused_operators_refuse_wrong_arguments_by_name():
    with pytest.raises(ValueError, match=r"^approximate: expected 'none' or 'tanh', got 'sigmoid'"):
        kernels.layer_norm_gelu(numbers(3, 4), approximate="sigmoid")
    for operator in (kernels.layer_norm_gelu, kernels.rms_norm_int8):
        with pytest.raises(ValueError, match=r"^weight: expected shape \(4,\), got \(5,\)"):
            operator(numbers(3, 4), torch.ones(5))


def test_large_tensors_take_the_kernels(monkeypatch):
    x = numbers(2048, 256)
    expected = kernels.layer_norm_gelu(x), kernels.rms_norm_int8(x)
    monkeypatch.setattr(composition, "layer_norm_gelu", None)
    monkeypatch.setattr(composition, "rms_norm_int8", None)
    torch.testing.assert_close((kernels.layer_norm_gelu(x), kernels.rms_norm_int8(x)), expected, rtol=0, atol=0)
    assert np.isfinite(expected[0]).all()
