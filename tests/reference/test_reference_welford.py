import numpy as np
import pytest
from reference_helpers import LAYOUTS, numbers, refuses

from lnorm.reference import welford


@pytest.mark.parametrize(
    ("shape", "axis"), [((7,), 0), ((4, 9), 0), ((4, 9), 1), ((4, 9), -2), ((2, 3, 4), 1), ((5, 1), 1)]
)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_matches_two_passes(shape, axis, layout):
    x = layout(numbers(*shape, offset=2))
    mean, var = welford(x, axis)
    np.testing.assert_allclose(mean, x.mean(axis=axis), atol=1e-14)
    np.testing.assert_allclose(var, x.var(axis=axis), atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_results_have_the_inputs_dtype_and_only_its_rounding_error(dtype):
    x = numbers(5, 300).astype(dtype)
    before = x.copy()
    for ours, right in zip(welford(x, 1), (x.astype(float).mean(axis=1), x.astype(float).var(axis=1)), strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, right, rtol=np.finfo(dtype).eps, atol=1e-7)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("offset", [1e4, -1e8])
def test_a_large_offset_does_not_spoil_the_variance(offset):
    x = numbers(2000, offset=offset)
    _, var = welford(x, 0)
    naive = np.mean(x**2) - np.mean(x) ** 2
    assert abs(var - x.var()) < 1e-8
    assert abs(naive - x.var()) > 10 * abs(var - x.var())


def test_float32_at_offset_1e4():
    x = numbers(8, 500, offset=1e4).astype(np.float32)
    np.testing.assert_allclose(welford(x, 1)[1], x.astype(float).var(axis=1), rtol=1e-7)


def test_constants_have_variance_zero_and_an_empty_batch_is_no_error():
    assert welford(np.full(9, 0.1), 0)[1] < 1e-30
    assert [result.shape for result in welford(np.ones((0, 4)), 1)] == [(0,), (0,)]


@pytest.mark.parametrize(("axis", "error"), [(2, ValueError), (-3, ValueError), (0.0, TypeError), (None, TypeError)])
def test_bad_axes_are_refused(axis, error):
    with refuses(error, "axis"):
        welford(numbers(3, 4), axis)


@pytest.mark.parametrize(("x", "error"), [(np.ones((3, 0)), ValueError), (np.ones((3, 2), int), TypeError)])
def test_bad_inputs_are_refused(x, error):
    with refuses(error, "x"):
        welford(x, 1)
