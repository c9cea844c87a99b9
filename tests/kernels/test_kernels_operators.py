"""The kernels are well-behaved torch operators: derivatives, layouts, refusals, threads, compilers, other processes."""

import multiprocessing
import subprocess
import sys

import pytest
import torch
from kernels_helpers import OPERATORS, every_operator, every_size, numbers  # noqa: F401
from torch.nn import functional as F

from lnorm import kernels
from lnorm.kernels import operators


def float64_inputs(operator):
    inputs = [each.requires_grad_() for each in operator.inputs(3, 5, dtype=torch.float64)]
    return (*inputs, 1e-5)


@every_operator
def test_the_gradient_is_the_derivative(every_size, operator):  # noqa: F811
    *inputs, eps = float64_inputs(operator)
    assert torch.autograd.gradcheck(lambda *each: operator.call(*each, eps=eps), inputs)


@every_operator
def test_torch_finds_no_fault_with_the_operator(operator):
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(getattr(operators, operator.name), float64_inputs(operator), test_utils=checks)


@every_operator
def test_a_second_derivative_is_refused_not_wrong(every_size, operator):  # noqa: F811
    *inputs, eps = float64_inputs(operator)
    outputs = operator.call(*inputs, eps=eps)
    y = outputs[0] if operator.adds else outputs
    (dx,) = torch.autograd.grad(y.square().sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError):
        dx.sum().backward()


@every_operator
def test_the_same_to_the_last_bit_again_and_on_any_number_of_threads(operator):
    shape = (1100, 512)
    inputs, cotangents = operator.inputs(*shape), operator.cotangents(*shape)
    runs = []
    for threads in (1, 1, 2):
        torch.set_num_threads(threads)
        try:
            runs.append(operator.values(inputs, cotangents))
        finally:
            torch.set_num_threads(1)
    for other in runs[1:]:
        for ours, theirs in zip(runs[0], other, strict=True):
            assert all(map(torch.equal, ours, theirs))


@every_operator
def test_memory_layout_does_not_matter_and_nothing_is_written_to(every_size, operator):  # noqa: F811
    inputs, cotangents = operator.inputs(30, 40), operator.cotangents(30, 40)
    right = operator.values(inputs, cotangents)
    for layout in (lambda a: a.repeat_interleave(2, -1)[..., ::2], lambda a: a.t().contiguous().t()):
        odd = [layout(each) for each in inputs]
        before = [each.clone() for each in odd]
        for ours, expected in zip(operator.values(odd, list(map(layout, cotangents))), right, strict=True):
            torch.testing.assert_close(ours, expected, rtol=0, atol=0)
        assert all(map(torch.equal, odd, before))


@every_operator
@pytest.mark.parametrize("size", ["small", "kernel"])
def test_an_empty_batch_is_no_error(request, operator, size):
    if size == "kernel":
        request.getfixturevalue("every_size")
    outputs, gradients = operator.values(operator.inputs(0, 6), operator.cotangents(0, 6))
    assert all(each.shape == (0, 6) for each in outputs)
    assert all(torch.equal(each, torch.zeros_like(each)) for each in gradients)


@every_operator
def test_expanded_gradients_are_taken(every_size, operator):  # noqa: F811
    inputs = [each.requires_grad_() for each in operator.inputs(40, 8)]
    outputs = operator.call(*inputs)
    y = outputs[0] if operator.adds else outputs
    y.sum().backward()  # hands over a gradient of one number, expanded; and none for the sum
    assert all(each.grad is not None and each.grad.isfinite().all() for each in inputs)


@every_operator
def test_mixed_types_transforms_and_forks_go_to_torch(every_size, operator, monkeypatch):  # noqa: F811
    inputs = operator.inputs(40, 8)
    mixed = [*inputs[:-1], inputs[-1].double()]
    first = operator.call(*inputs)
    torch.testing.assert_close(operator.call(*mixed)[0], first[0], check_dtype=False, rtol=1e-5, atol=1e-5)
    rest = inputs[1:] if not operator.adds else inputs[2:]
    data = inputs[: 1 + operator.adds]
    batched = torch.func.vmap(lambda *rows: operator.call(*rows, *rest))(*data)
    torch.testing.assert_close(batched, first, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(operators, "_process", -1)
    torch.testing.assert_close(operator.call(*inputs), first, rtol=1e-5, atol=1e-5)


def _norm_in_child(queue):
    queue.put(kernels.layer_norm(numbers(1100, 512)).sum().item())


def test_a_forked_process_gets_its_answer():
    x = numbers(1100, 512)
    expected = kernels.layer_norm(x).sum().item()  # the kernel's threads exist
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_norm_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == pytest.approx(expected, abs=1e-2)
    child.join()
    assert child.exitcode == 0


@every_operator
def test_wrong_arguments_are_refused_by_name(operator):
    x, *others = operator.inputs(4, 6)
    with pytest.raises(TypeError, match=r"^x: expected .*got a tensor of torch.int64"):
        operator.call(x.long(), *others)
    with pytest.raises(TypeError, match=r"^x: expected .*got ndarray"):
        operator.call(x.numpy(), *others)
    with pytest.raises(ValueError, match=r"^x: expected .*got \(4, 0\)"):
        operator.call(x[:, :0], *others)
    for name, i in zip(("weight", "bias"), range(operator.adds, len(others)), strict=False):
        wrong = list(others)
        wrong[i] = torch.ones(5)
        with pytest.raises(ValueError, match=rf"^{name}: expected shape \(6,\), got \(5,\)"):
            operator.call(x, *wrong)
        wrong[i] = torch.ones(6).long()
        with pytest.raises(TypeError, match=rf"^{name}: expected .*got a tensor of torch.int64"):
            operator.call(x, *wrong)
    if operator.adds:
        with pytest.raises(ValueError, match=r"^residual: expected the shape of x, \(4, 6\), got \(6,\)"):
            operator.call(x, others[0][0], *others[1:])
        with pytest.raises(TypeError, match=r"^residual: expected a tensor of torch.float32"):
            operator.call(x, others[0].double(), *others[1:])
    for eps in (-1e-5, float("nan"), float("inf"), "1e-5", None):
        with pytest.raises(ValueError, match=r"^eps: expected .*got "):
            operator.call(x, *others, eps=eps)


def test_forward_mode_derivatives_go_to_torch(every_size):  # noqa: F811
    x, dx = numbers(40, 8, dtype=torch.float64), numbers(40, 8, seed=1, dtype=torch.float64)
    with torch.autograd.forward_ad.dual_level():
        y = kernels.layer_norm(torch.autograd.forward_ad.make_dual(x, dx))
        tangent = torch.autograd.forward_ad.unpack_dual(y).tangent
    right = (kernels.layer_norm(x + 1e-6 * dx) - kernels.layer_norm(x - 1e-6 * dx)) / 2e-6
    torch.testing.assert_close(tangent, right, rtol=1e-6, atol=1e-6)


def test_the_compiler_sees_torchs_own_operations():
    """Traced without compiling: no opaque operator that it could not fuse."""
    seen = []

    def backend(graph, _):
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    x, weight, bias = OPERATORS[0].inputs(1100, 512)
    compiled = torch.compile(lambda *each: kernels.layer_norm(*each), backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(x, weight, bias), F.layer_norm(x, (512,), weight, bias), rtol=1e-5, atol=1e-5)
    assert seen
    assert not any("lnorm" in name for name in seen)


def test_importing_the_kernels_compiles_nothing():
    code = "import sys, lnorm.kernels; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_kernels_work_where_nothing_can_be_written(monkeypatch):
    """numba finds no place for its cache: the decorator does without."""
    from lnorm.kernels.cpu import compiled

    def no_place(*, cache=False, **options):
        def decorate(function):
            if cache:
                raise RuntimeError("cannot cache function: no locator available")
            return "compiled without a cache"

        return decorate

    monkeypatch.setattr(compiled, "njit", no_place)
    assert compiled.compiled()(len) == "compiled without a cache"


def test_a_cached_kernel_is_stale_when_any_of_its_files_changed(tmp_path, monkeypatch):
    """numba looks at the kernel's own file alone; a kernel is also made of the functions that it calls."""
    from lnorm.kernels.cpu import compiled, layer_norm

    stamp = compiled.sources()
    assert {"rows.py", "layer_norm.py"} <= {name for name, *_ in stamp}
    assert layer_norm.forward._cache._cache_file._source_stamp == stamp
    (tmp_path / "rows.py").write_text("changed")
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
    assert compiled.sources() != stamp
