"""The Triton kernels: interpreted on the CPU, compiled for an H100 or H200, and run where there is a GPU."""

import mmap
import os
import re
import subprocess
import sys
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from kernels_helpers import numbers

from lnorm import reference

triton = pytest.importorskip("triton", reason="Triton is not installed, so its kernels cannot be tested")
from lnorm.kernels.gpu import operators  # noqa: E402

INTERPRETED = triton.knobs.runtime.interpret
DEVICE = "cpu" if INTERPRETED else "cuda"
on_gpu = pytest.mark.skipif(INTERPRETED or not torch.cuda.is_available(), reason="no CUDA device")
every_norm = pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
both = pytest.mark.parametrize("adds", [False, True], ids=["alone", "added"])
EPS = 1e-5


@pytest.fixture
def widest(monkeypatch, request):
    """Keep so many columns in registers, or fewer: any row can be a long one."""
    for name, value in {"FORWARD": request.param, "LONG": request.param // 2}.items():
        monkeypatch.setattr(operators, name, value)
    monkeypatch.setattr(operators, "BACKWARD", dict.fromkeys(operators.BACKWARD, request.param))


def blocks(*widths):
    return pytest.mark.parametrize("widest", widths, indirect=True)


def inputs(norm, adds, N, D, dtype=torch.float32, device=None, parameters=torch.float32, **data):
    """What the operator takes, and the gradients of what it returns."""
    device = device or DEVICE
    make = numbers if device != "meta" else lambda *shape, dtype, **_: torch.empty(*shape, dtype=dtype, device="meta")
    rows = [make(N, D, dtype=dtype, **data), *([make(N, D, seed=1, dtype=dtype)] if adds else [])]
    affine = [make(D, seed=2 + i, offset=1.0, dtype=parameters) for i in range(1 + (norm == "layer_norm"))]
    gradients = [make(N, D, seed=8 + i, dtype=dtype) for i in range(1 + adds)]
    return [[each.to(device) for each in group] for group in (rows, affine, gradients)]


def forward(norm, rows, affine, in_place=False, statistics=True):
    """Return y, the sum or x, and the statistics."""
    N, adds = len(rows[0]), len(rows) == 2
    stats = rows[0].new_empty((N if statistics else 0, *((3,) if norm == "layer_norm" else ())), dtype=torch.float32)
    outputs = [None if in_place else torch.empty_like(each) for each in rows]
    call = getattr(operators, f"add_{norm}_into" if adds else f"{norm}_into")
    call(*outputs, stats, *rows, *affine, EPS)
    y, *total = rows if in_place else outputs
    return y, (total[0] if adds else rows[0]), stats


def backward(norm, gradients, x, affine, stats):
    call = getattr(operators, f"add_{norm}_backward" if len(gradients) == 2 else f"{norm}_backward")
    return call(*gradients, x, affine[0], stats)


def truth(norm, gradients, x, affine):
    """Return y and the gradients, in float64, of the rows as they were rounded."""
    wide = [each.detach().double().cpu().numpy() for each in (x, *affine, *gradients)]
    x, affine, (dy, *dtotal) = wide[0], wide[1 : 1 + len(affine)], wide[1 + len(affine) :]
    y, cache = getattr(reference, norm)(x, x.shape[-1], *affine, eps=EPS)
    dx, *rest = getattr(reference, f"{norm}_backward")(dy, cache)
    return y, dx + sum(dtotal), *rest


def error(ours, right):
    """Length of the difference over the length of the truth, or over 1 where that is less: inputs are as large."""
    ours = ours.cpu().double().numpy()
    return np.linalg.norm(ours - right) / max(1, np.linalg.norm(right))


def compare(norm, adds, N, D, dtype, tolerance, **data):
    rows, affine, gradients = inputs(norm, adds, N, D, dtype, **data)
    y, x, stats = forward(norm, rows, affine)
    if adds:
        exact = (rows[0].double() + rows[1].double()).cpu().numpy()
        assert error(x, exact) <= max(tolerance, torch.finfo(dtype).eps)
    ours = y, *backward(norm, gradients, x, affine, stats)
    for i, (each, right) in enumerate(zip(ours, truth(norm, gradients, x, affine), strict=True)):
        assert each.dtype == (dtype if i < 2 else torch.float32)
        assert error(each, right) <= (tolerance if i < 2 else 1e-6)


@pytest.mark.skipif(
    not INTERPRETED and not torch.cuda.is_available(),
    reason="no CUDA device: these run in test_the_interpreter_agrees",
)
class TestValues:
    # The interpreter truncates to bfloat16 where a GPU rounds to nearest: twice the error.
    @pytest.mark.parametrize(
        ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 1.6e-2)], ids=str
    )
    @pytest.mark.parametrize(("N", "D"), [(5, 1), (7, 3), (64, 64), (9, 100), (64, 1000)])
    @every_norm
    @both
    def test_they_agree_with_the_reference(self, norm, adds, N, D, dtype, tolerance):
        compare(norm, adds, N, D, dtype, tolerance)

    @blocks(32)
    @pytest.mark.parametrize("D", [33, 64, 100])
    @every_norm
    @both
    def test_rows_longer_than_a_block(self, widest, norm, adds, D):
        compare(norm, adds, 21, D, torch.float32, 1e-6)
        compare(norm, adds, 21, D, torch.float16, 1e-3)

    @blocks(32, 128)
    @every_norm
    @both
    def test_they_write_over_their_inputs(self, widest, norm, adds):
        rows, affine, _ = inputs(norm, adds, 5, 100)
        right = forward(norm, rows, affine)
        y, total, _ = forward(norm, rows, affine, in_place=True, statistics=False)
        assert torch.equal(y, right[0])
        assert y is rows[0]
        if adds:
            assert torch.equal(total, right[1])
            assert total is rows[1]

    @blocks(256, 1024)
    @pytest.mark.parametrize(("offset", "scale"), [(1e2, 1), (1e4, 1), (1e4, 0.01), (1e6, 1)])
    def test_digits_are_kept_wherever_the_mean_lies(self, widest, offset, scale):
        (x,), _, (dy,) = inputs("layer_norm", False, 8, 1000, offset=offset, scale=scale)
        affine = [torch.ones_like(x[0]), torch.zeros_like(x[0])]
        x = x.sort()[0]  # so that the first block is unlike the others
        y, _, stats = forward("layer_norm", [x], affine)
        right, *gradients = truth("layer_norm", [dy], x, affine)
        assert np.abs(y.cpu().double().numpy() - right).max() <= 1.5e-6
        for ours, exact in zip(backward("layer_norm", [dy], x, affine, stats), gradients, strict=True):
            assert error(ours, exact) <= 1e-6

    @every_norm
    def test_no_rows(self, norm):
        rows, affine, gradients = inputs(norm, True, 0, 10)
        y, x, stats = forward(norm, rows, affine)
        dx, *rest = backward(norm, gradients, x, affine, stats)
        assert y.shape == dx.shape == (0, 10)
        assert all(torch.equal(each, torch.zeros_like(each)) for each in rest)

    @every_norm
    def test_results_repeat_bit_by_bit(self, norm):
        rows, affine, gradients = inputs(norm, True, 64, 1000, torch.float16)
        first, second = (
            [y, *backward(norm, gradients, x, affine, stats)]
            for y, x, stats in (forward(norm, rows, affine), forward(norm, rows, affine))
        )
        assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))

    @pytest.mark.skipif(not INTERPRETED, reason="the interpreter's: see test_more_than_2_31_elements_on_a_gpu")
    @every_norm
    def test_the_last_row_of_more_than_2_31_elements(self, norm, monkeypatch):
        """One program is run, the last, on memory that is reserved and touched in that row alone."""
        from triton.runtime import interpreter

        N, D = (1 << 17) + 1, 1 << 14
        last = interpreter.TensorHandle(np.array([N - 1], np.int32), triton.language.int32)
        monkeypatch.setattr(interpreter.InterpreterBuilder, "create_get_program_id", lambda *_: last)
        start = operators.start
        monkeypatch.setattr(operators, "start", lambda kernel, grid, *rest, **more: start(kernel, (1,), *rest, **more))
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        monkeypatch.setattr(
            torch, "empty_like", lambda x: torch.frombuffer(mmap.mmap(-1, x.nbytes, flags), dtype=x.dtype).view(x.shape)
        )
        (row,), affine, _ = inputs(norm, False, 1, D, torch.float16)
        x = torch.empty_like(torch.empty(N, D, dtype=torch.float16, device="meta"))
        x[-1] = row[0]
        y, _, _ = forward(norm, [x], affine, statistics=False)
        assert error(y[-1:], truth(norm, [row], row, affine)[0]) <= 1e-3


def test_the_interpreter_agrees():
    """All of TestValues, on the CPU: Triton reads on import whether it is to interpret."""
    if INTERPRETED:
        pytest.skip("this is the interpreter")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{__file__}::TestValues"]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


# What they are compiled to


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Compile for sm_90 what an operator would start, and collect it."""
    if INTERPRETED:
        pytest.skip("the interpreter compiles nothing")
    tool = pytest.importorskip("triton.backends.nvidia.compiler", reason="no compiler for NVIDIA's GPUs in this Triton")
    try:
        tool.get_ptxas(90)
    except RuntimeError:
        pytest.skip("ptxas is not there, NVIDIA's assembler, which Triton brings along on Linux")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernels = []

    def compile_instead(kernel, grid, cut, x, *arguments, **constants):
        given = dict(zip(kernel.arg_names, [*arguments, *x.shape, cut.rows, cut.block], strict=False)) | constants
        signature = {name: _kind(name, value) for name, value in given.items()}
        constexprs = {name: given[name] for name, kind in signature.items() if kind == "constexpr"}
        aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(signature.values()) if kind[0] == "*"}
        done = triton.compile(
            triton.compiler.ASTSource(kernel, signature, constexprs, aligned),
            target=triton.backends.compiler.GPUTarget("cuda", 90, 32),
            options={"num_warps": cut.warps, "enable_fp_fusion": True},
        )
        kernels.append(SimpleNamespace(threads=32 * cut.warps, grid=grid, **done.asm, shared=done.metadata.shared))

    monkeypatch.setattr(operators, "start", compile_instead)
    return kernels


def _kind(name, value):
    if isinstance(value, torch.Tensor):
        return "*" + {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}[value.dtype]
    if isinstance(value, float):
        return "fp32"  # as Triton passes a Python float
    return ("i32" if value < 1 << 31 else "i64") if name == "N" else "constexpr"


def spilled(cubin):
    """Bytes of memory that each thread needs for what has no register."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(re.search(r"STACK:(\d+)", said)[1])


def read_by_a_thread(ptx):
    """Bytes that the instructions for reading global memory fetch, where none is in a loop."""
    found = re.findall(r"ld\.global\S*?(?:\.v(\d))?\.b(\d+)", ptx)
    return sum(int(many or 1) * int(bits) // 8 for many, bits in found)


def compile_both(norm, adds, D, dtype, N=1 << 14):
    rows, affine, gradients = inputs(norm, adds, N, D, dtype, device="meta")
    _, x, stats = forward(norm, rows, affine)
    backward(norm, gradients, x, affine, stats)


@pytest.mark.parametrize(("adds", "dtype"), [(False, torch.float32), (True, torch.bfloat16)], ids=str)
@pytest.mark.parametrize("D", [1, 100, 1024, 4096, 8192, 16384, 65536])
@every_norm
def test_they_compile_for_sm_90(compiled, norm, adds, dtype, D):
    compile_both(norm, adds, D, dtype)
    assert len(compiled) == (2 if operators.BACKWARD[getattr(operators, norm)] >= D else 3)
    for kernel in compiled:
        assert ".f64" not in kernel.ptx
        assert kernel.shared <= 227 * 1024
        assert spilled(kernel.cubin) <= (0 if D < 16384 else 128)  # 32 warps have 64 registers a thread


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@every_norm
def test_the_forward_pass_reads_every_number_once(compiled, norm, dtype):
    rows, affine, _ = inputs(norm, False, 1 << 14, 8192, dtype, device="meta")
    forward(norm, rows, affine)
    (kernel,) = compiled
    assert read_by_a_thread(kernel.ptx) * kernel.threads == 8192 * (dtype.itemsize + 4 * len(affine))


@every_norm
def test_they_compile_for_more_than_2_31_rows(compiled, norm):
    compile_both(norm, True, 1, torch.float16, N=(1 << 31) + 5)
    assert all(kernel.grid[0] < 1 << 31 for kernel in compiled)


@every_norm
def test_the_backward_pass_loads_ahead(compiled, norm):
    compile_both(norm, False, 4096, torch.bfloat16)
    assert "cp.async" in compiled[-1].ptx
    assert compiled[-1].grid[0] < 1 << 14


# On a GPU


@on_gpu
@pytest.mark.parametrize("D", [1, 1000, 8192, 16384, 20000, 65536])
@every_norm
@both
def test_every_length_of_row_on_a_gpu(norm, adds, D):
    compare(norm, adds, 1200, D, torch.float32, 1e-6)
    compare(norm, adds, 1200, D, torch.bfloat16, 4e-3)


@on_gpu
@every_norm
def test_more_than_2_31_elements_on_a_gpu(norm):
    if torch.cuda.mem_get_info()[0] < 24 << 30:
        pytest.skip("not enough memory on this GPU")
    N, D = (1 << 17) + 1, 1 << 14
    (row,), affine, (dy,) = inputs(norm, False, 1, D, torch.float16)
    rows, gradient = row.expand(N, D).contiguous(), torch.zeros(N, D, dtype=torch.float16, device=DEVICE)
    gradient[-1] = dy[0]
    y, x, stats = forward(norm, [rows], affine)
    dx, *rest = backward(norm, [gradient], x, affine, stats)
    right = truth(norm, [dy], row, affine)
    assert error(y[-1:], right[0]) <= 1e-3
    assert error(dx[-1:], right[1]) <= 1e-3
    for ours, exact in zip(rest, right[2:], strict=True):
        assert error(ours, exact) <= 1e-6
