"""What the tests of lnorm.reference share: derivatives to compare with, odd memory layouts, and refusals."""

import re

import numpy as np
import pytest
import torch


def numbers(*shape, seed=0, offset=0.0, scale=1.0):
    return np.asarray(offset + scale * np.random.default_rng([seed, *shape]).normal(size=shape))


def torch_values(function, arrays, dy):
    """Output and gradients of a torch function, as NumPy arrays in the precision of ``arrays``."""
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    y = function(*tensors)
    gradients = torch.autograd.grad(y, tensors, torch.tensor(dy))
    return [y.detach().numpy(), *(gradient.numpy() for gradient in gradients)]


def reference_values(forward, backward, arrays, dy):
    """The same of a forward and backward of lnorm.reference."""
    y, cache = forward(*arrays)
    gradients = backward(dy, cache)
    return [y, *(gradients if isinstance(gradients, tuple) else (gradients,))]


def assert_matches_torch(forward, backward, function, arrays, tolerance=1e-12):
    dy = numbers(*forward(*arrays)[0].shape, seed=99)
    ours, theirs = reference_values(forward, backward, arrays, dy), torch_values(function, arrays, dy)
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our, their, rtol=tolerance, atol=tolerance)


def assert_at_least_as_exact_as_torch(forward, backward, function, arrays):
    """In float32, output and every gradient are no further from torch's float64 result than torch's float32 one."""
    arrays = [array.astype(np.float32) for array in arrays]
    dy = numbers(*forward(*arrays)[0].shape, seed=99).astype(np.float32)
    exact = torch_values(function, [array.astype(float) for array in arrays], dy.astype(float))
    ours, theirs = reference_values(forward, backward, arrays, dy), torch_values(function, arrays, dy)
    for our, their, right in zip(ours, theirs, exact, strict=True):
        assert np.abs(our - right).max() <= np.abs(their - right).max()


def numeric_gradients(function, arrays, dy, step=1e-5):
    """Central differences of sum(dy * function(*arrays)) with respect to every element of every array."""
    gradients = []
    for i, array in enumerate(arrays):
        gradient = np.zeros(array.shape)
        for index in np.ndindex(array.shape):
            values = []
            for sign in (1, -1):
                moved = array.copy()
                moved[index] += sign * step
                values.append(np.sum(dy * function(*arrays[:i], moved, *arrays[i + 1 :])))
            gradient[index] = (values[0] - values[1]) / (2 * step)
        gradients.append(gradient)
    return gradients


LAYOUTS = {
    "fortran": np.asfortranarray,
    "every second": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "reversed": lambda array: np.flip(np.flip(array).copy()),
    "swapped axes": lambda array: np.swapaxes(np.swapaxes(array, 0, -1).copy(), 0, -1),
}


def refuses(error, name):
    """Expect ``error`` with a message that begins with the argument at fault and says what came."""
    return pytest.raises(error, match=rf"^{re.escape(name)}: expected .*got ")
