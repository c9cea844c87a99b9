"""PyTorch's own samples for its norms: OpInfo's for the functions, ModuleInfo's for the modules, and its error inputs.

They come from torch.testing._internal, which torch installs. A case passes if ours agrees with torch within
torch.testing.assert_close's tolerances for the dtype: in the output, in the running statistics, and in that no other
argument was changed. In float64 and float32 torch is run in the same dtype. In bfloat16 and float16 it is run in
float64 on the same numbers and its results are rounded, because torch's own BatchNorm and InstanceNorm round on the
way there: their results miss these tolerances in many cases, and ours have to keep them in all.
"""

import inspect
import types

import numpy as np
import pytest
import torch
from conformance_helpers import NN, REFERENCE, TORCH, statistics_eps

from lnorm import nn

pytestmark = pytest.mark.slow  # torch.testing._internal alone takes seconds to import
OPERATORS, MODULES = "PyTorch operator samples", "PyTorch module samples"
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
names = pytest.mark.parametrize("name", NN)


@pytest.fixture(scope="module")
def internal():
    """OpInfos and ModuleInfos by name."""
    from torch.testing._internal.common_methods_invocations import op_db
    from torch.testing._internal.common_modules import module_db

    operators = {op.name: op for op in op_db if not op.variant_test_name}
    return types.SimpleNamespace(
        operators={name: operators[f"nn.functional.{name}"] for name in NN},
        modules={info.module_cls: info for info in module_db},
    )


# --- functions -------------------------------------------------------------------------------------------------------


def positional(name, sample):
    """All arguments of a sample, defaults included, in the order in which torch's function and ours take them."""
    bound = inspect.signature(NN[name]).bind(sample.input, *sample.args, **sample.kwargs)
    bound.apply_defaults()
    return bound.args


def copies(args):
    """The same arguments with their own running statistics, which a call may update."""
    return [each.clone() if torch.is_tensor(each) else each for each in args]


def samples(internal, name, dtype, requires_grad=False):
    torch.manual_seed(0)
    op = internal.operators[name]
    for i, sample in enumerate(op.sample_inputs("cpu", dtype, requires_grad=requires_grad)):
        yield f"{name}[{i}] {str(dtype).removeprefix('torch.')}", positional(name, sample)


def by_name(name, args):
    return dict(zip(inspect.signature(NN[name]).parameters, args, strict=True))


def left_out(name, args):
    """Why a sample is not run, or None."""
    eps = by_name(name, args)["eps"]
    if eps is not None and eps < 0:
        return "a negative eps, which we refuse: the root may not be real"
    if name == "batch_norm" and args[0].ndim < 2:
        return "an input of rank 1, which we refuse: it has no axis of channels (torch takes it only when it is empty)"
    return None


def left_out_by_reference(name, args):
    if name == "batch_norm" and not 0 <= by_name(name, args)["momentum"] <= 1:
        return "by lnorm.reference only: a momentum outside 0 to 1, which it refuses"
    return None


def widened(each):
    return each.double() if torch.is_tensor(each) and each.is_floating_point() else each


def narrowed(each, dtype):
    return each.to(dtype) if torch.is_tensor(each) and each.is_floating_point() else each


def expected(name, args, dtype):
    """torch's output, and its arguments afterwards."""
    args = copies(args)
    if dtype.itemsize >= 4:
        return TORCH[name](*args), args
    if name == "rms_norm":  # the default depends on the dtype
        args[-1] = statistics_eps(args[0], args[-1])
    wide = [widened(each) for each in args]
    y = TORCH[name](*wide)
    return y.to(dtype), [narrowed(each, dtype) for each in wide]


def assert_refused(function, args):
    with pytest.raises(ValueError, match=r"^(x|eps|momentum): expected"):
        function(*copies(args))


def assert_same(name, y, ours, args, dtype):
    y_torch, theirs = expected(name, args, dtype)
    torch.testing.assert_close(y, y_torch)
    for our, their in zip(ours, theirs, strict=True):
        if torch.is_tensor(our):  # running statistics, and inputs that stay what they were
            torch.testing.assert_close(our, their)


@dtypes
@names
def test_every_operator_sample(internal, name, dtype, case, tally):
    for label, args in samples(internal, name, dtype):
        if reason := left_out(name, args):
            tally.exclude(label, reason)
            assert_refused(NN[name], args)
            continue
        with case(OPERATORS, label):
            ours = copies(args)
            y = NN[name](*ours)
            assert_same(name, y, ours, args, dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16], ids=str)
@names
def test_every_operator_sample_with_numpy(internal, name, dtype, case, tally):
    forward, _ = REFERENCE[name]
    for label, args in samples(internal, name, dtype):
        if left_out(name, args):
            assert_refused(forward, args)
        elif reason := left_out_by_reference(name, args):
            tally.exclude(label, reason)
            assert_refused(forward, args)
        else:
            with case("PyTorch operator samples by lnorm.reference (NumPy has no bfloat16)", label):
                ours = copies(args)
                y = torch.from_numpy(forward(*ours)[0])
                if name == "instance_norm":  # the reference keeps no running statistics of instances
                    _, ours = expected(name, args, dtype)
                assert_same(name, y, ours, args, dtype)


@names
def test_every_gradient(internal, name, case):
    forward, backward = REFERENCE[name]
    for label, args in samples(internal, name, torch.float64, requires_grad=True):
        if left_out(name, args):
            continue
        with case("gradchecks in float64", label):
            assert torch.autograd.gradcheck(lambda *args: NN[name](*copies(args)), args)

        if left_out_by_reference(name, args):
            continue
        with case("gradients of lnorm.reference in float64", label):
            y = TORCH[name](*copies(args))
            dy = torch.randn_like(y)
            tensors = {key: each for key, each in by_name(name, args).items() if torch.is_tensor(each)}
            leaves = {key: each for key, each in tensors.items() if each.requires_grad}
            theirs = dict(zip(leaves, torch.autograd.grad(y, leaves.values(), dy), strict=True))
            ours = dict(zip(("x", "weight", "bias"), backward(dy.numpy(), forward(*copies(args))[1]), strict=False))
            for key, gradient in theirs.items():
                np.testing.assert_allclose(ours[key], gradient, rtol=1e-9, atol=1e-9, err_msg=key)


@names
def test_every_error_input(internal, name, case):
    op = internal.operators[name]
    for i, error in enumerate(op.error_inputs("cpu") if op.error_inputs_func else ()):
        with case("PyTorch error inputs", f"{name}, error {i}"):
            sample = error.sample_input
            for function in (TORCH[name], NN[name], REFERENCE[name][0]):
                with pytest.raises((ValueError, TypeError, RuntimeError)):
                    function(*positional(name, sample))


# --- modules ---------------------------------------------------------------------------------------------------------

OURS = {
    torch.nn.LayerNorm: nn.LayerNorm,
    torch.nn.RMSNorm: nn.RMSNorm,
    torch.nn.GroupNorm: nn.GroupNorm,
    torch.nn.InstanceNorm1d: nn.InstanceNorm,
    torch.nn.InstanceNorm2d: nn.InstanceNorm,
    torch.nn.InstanceNorm3d: nn.InstanceNorm,
    torch.nn.BatchNorm1d: nn.BatchNorm,
    torch.nn.BatchNorm2d: nn.BatchNorm,
    torch.nn.BatchNorm3d: nn.BatchNorm,
}
modules = pytest.mark.parametrize("theirs", OURS, ids=lambda each: each.__name__)


@modules
@dtypes
def test_every_module_sample(internal, theirs, dtype, case):
    """With the same constructor's arguments, and with parameters and running statistics away from 1 and 0.

    InstanceNorm without an axis for the batch: our one class for all ranks needs one, so it is added and taken off.
    """
    torch.manual_seed(0)
    info = internal.modules[theirs]
    settings = {"device": "cpu", "dtype": dtype, "requires_grad": False}
    for training in (True, False):
        for i, sample in enumerate(info.module_inputs_func(info, training=training, **settings)):
            label = f"{theirs.__name__}[{i}] {sample.desc} {dtype}, {'training' if training else 'evaluation'}"
            with case(MODULES, label):
                args, kwargs = sample.constructor_input.args, sample.constructor_input.kwargs
                right, module = (each(*args, **kwargs, dtype=dtype).train(training) for each in (theirs, OURS[theirs]))
                for tensor in (*right.parameters(), *right.buffers()):
                    tensor.data += torch.rand(tensor.shape).to(tensor.dtype)
                module.load_state_dict(right.state_dict())

                (x,) = sample.forward_input.args
                unbatched = "no_batch_dim" in sample.desc
                y = module(x[None])[0] if unbatched else module(x)
                if dtype.itemsize < 4:
                    right, x = right.double(), x.double()
                torch.testing.assert_close(y, right(x).to(dtype))
                for key, value in right.state_dict().items():
                    counted = int(module.training and key == "num_batches_tracked" and "InstanceNorm" in str(theirs))
                    # torch leaves the counter of instances where it is, ours counts
                    torch.testing.assert_close(module.state_dict()[key] - counted, narrowed(value, dtype), msg=key)


@modules
def test_every_module_error_input(internal, theirs, case):
    info = internal.modules[theirs]
    settings = {"device": "cpu", "dtype": torch.float64, "requires_grad": False, "training": True}
    errors = info.module_error_inputs_func(info, **settings) if info.module_error_inputs_func else ()
    for i, error in enumerate(errors):
        with case("PyTorch error inputs", f"{theirs.__name__}, error {i}"):
            made, given = error.module_error_input.constructor_input, error.module_error_input.forward_input
            for module in (theirs, OURS[theirs]):
                with pytest.raises(error.error_type):
                    module(*made.args, **made.kwargs)(*given.args, **given.kwargs)


def test_the_readme_tells_the_counts(tally):
    tally.check_readme(OPERATORS, tests=len(NN) * len(DTYPES))
    tally.check_readme(MODULES, tests=len(OURS) * len(DTYPES))
