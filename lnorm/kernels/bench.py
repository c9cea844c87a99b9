"""The kernels against torch, other compilers, and the speed of memory, measured so that the comparison is fair.

Calls of all competitors are interleaved in a new random order every round, and medians are compared. Every result is
checked before anything is timed. Page faults are counted, and calls that differ in them are not compared: to have none,
the measurements run in a process of their own whose allocator keeps freed memory. The limit of the machine is a copy
between the same two buffers, in the same rounds, scaled by the bytes that must move.
"""

import datetime
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SHAPES = ((4096, 1024), (8192, 768), (65_536, 64), (1024, 4096), (16_384, 768))
SMALL_SHAPES = ((64, 64), (256, 1024))
QUICK_SHAPES = ((4096, 512), (32_768, 64))
LARGE = 1_000_000  # elements, from which a shape counts in the means
KEEP_MEMORY = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184"
Call = Callable[[], Any]


@dataclass(frozen=True)
class Operator:
    """What is measured: units of traffic in the bytes of x, and how much faster than torch it has to be."""

    name: str
    units: float
    must: dict[str, float]
    backward: bool = False
    cold: bool = False


OPERATORS = (
    Operator("layer_norm", 2, {"float32": 1.15, "bfloat16": 1.7}),
    Operator("layer_norm", 2, {"float32": 1.5}, cold=True),
    Operator("layer_norm", 5, {"float32": 1.3, "bfloat16": 1.8}, backward=True),
    Operator("rms_norm", 2, {"float32": 4, "bfloat16": 8}),
    Operator("rms_norm", 5, {"float32": 6, "bfloat16": 10}, backward=True),
    Operator("add_layer_norm", 4, {"float32": 1.5, "bfloat16": 1.6}),
    Operator("rms_norm_int8", 1.25, {"float32": 8}),
    Operator("layer_norm_gelu", 2, {"float32": 3}),
)


@dataclass
class Row:
    """One operator on one shape: what every competitor took."""

    operator: str
    direction: str
    dtype: str
    shape: tuple[int, int]
    regime: str
    threads: int
    must: float
    limit_ms: float
    milliseconds: dict[str, tuple[float, float, float]]  # lower quartile, median, upper quartile
    fastest: dict[str, float]  # milliseconds of the fastest call: on a busy machine the fairest figure there is
    page_faults: dict[str, int]
    failed: dict[str, str] = field(default_factory=dict)

    def ratio(self, other: str, *, fastest: bool = False) -> float | None:
        """How many times as long ``other`` takes, by medians; None where it cannot be compared."""
        ours = "ours"
        if ours not in self.milliseconds or other not in self.milliseconds:
            return None
        element = 4 if self.dtype == "float32" else 2
        allowed = max(8, 0.01 * self.shape[0] * self.shape[1] * element / 4096)  # of the pages of x
        if abs(self.page_faults[other] - self.page_faults[ours]) > allowed:
            return None
        if fastest:
            return self.fastest[other] / self.fastest[ours]
        return self.milliseconds[other][1] / self.milliseconds[ours][1]


# The competitors


def competitors(operator: Operator, shape: tuple[int, int], dtype: str, device: str, compiler: bool) -> dict[str, Call]:
    """Return the calls to compare, each of which returns its results. "copy" is the measure of the machine."""
    import torch
    from torch.nn import functional as F

    from lnorm import kernels

    rows, D = shape
    generator = torch.Generator().manual_seed(0)
    type_ = getattr(torch, dtype)

    def random(*size: int) -> Any:
        return torch.randn(*size, generator=generator).to(device, type_)

    x, residual, dy, weight, bias = random(rows, D), random(rows, D), random(rows, D), random(D), random(D)
    y = torch.empty_like(x)

    def theirs(x: Any, residual: Any, weight: Any, bias: Any) -> Any:
        if operator.name == "layer_norm":
            return F.layer_norm(x, (D,), weight, bias)
        if operator.name == "rms_norm":
            return F.rms_norm(x, (D,), weight, 1e-6)
        if operator.name == "add_layer_norm":
            total = x + residual
            return F.layer_norm(total, (D,), weight, bias), total
        if operator.name == "layer_norm_gelu":
            return F.gelu(F.layer_norm(x, (D,), weight, bias))
        normed = F.rms_norm(x, (D,), weight, 1e-6)
        scale = normed.abs().amax(-1, keepdim=True) / 127
        return (normed / scale).round().to(torch.int8), scale.squeeze(-1)

    affine = (weight,) if operator.name.startswith("rms") else (weight, bias)
    data = (x, residual) if operator.name.startswith("add") else (x,)
    ours = getattr(kernels, operator.name)
    calls: dict[str, Call] = {"copy": lambda: y.copy_(x)}
    if not operator.backward:
        calls["torch"] = lambda: theirs(x, residual, weight, bias)
        if operator.name in ("layer_norm", "rms_norm"):
            calls["ours"] = lambda: ours(*data, *affine, out=y)
        elif operator.name == "add_layer_norm":
            spare = residual.clone()  # grows from call to call; the first is the one that is checked
            calls["ours"] = lambda: ours(x, spare, *affine, out=y, in_place=True)
        else:
            calls["ours"] = lambda: ours(*data, *affine)
        calls["ours, new output"] = lambda: ours(*data, *affine)
    else:
        leaves = [each.clone().requires_grad_() for each in (*data, *affine)]
        given = [leaves[0], residual, *leaves[1:], *([bias] if len(affine) == 1 else [])]
        calls["torch"] = lambda: torch.autograd.grad(theirs(*given), leaves, dy)
        calls["ours"] = lambda: torch.autograd.grad(ours(*leaves), leaves, dy)
    if compiler:
        torch._dynamo.reset()
        compiled = torch.compile(theirs, dynamic=False)
        if operator.backward:
            calls["torch.compile"] = lambda: torch.autograd.grad(compiled(*given), leaves, dy)
        else:
            calls["torch.compile"] = lambda: compiled(x, residual, weight, bias)
    if device == "cpu" and not operator.backward and operator.name in ("layer_norm", "rms_norm"):
        for peer in (_jax, _onnxruntime):
            calls |= peer(operator.name, x, weight, bias)
    return calls


def _jax(name: str, x: Any, weight: Any, bias: Any) -> dict[str, Call]:
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        return {}
    dtype = jnp.bfloat16 if x.element_size() == 2 else jnp.float32
    arrays = [jnp.asarray(each.float().numpy()).astype(dtype) for each in (x, weight, bias)]

    def norm(x: Any, weight: Any, bias: Any) -> Any:
        wide = x.astype(jnp.float32)
        if name == "layer_norm":
            wide = wide - wide.mean(-1, keepdims=True)
        normed = wide * jax.lax.rsqrt((wide * wide).mean(-1, keepdims=True) + (1e-5 if name == "layer_norm" else 1e-6))
        return (normed * weight + (bias if name == "layer_norm" else 0)).astype(x.dtype)

    compiled = jax.jit(norm)
    return {"JAX": lambda: compiled(*arrays).block_until_ready()}


def _onnxruntime(name: str, x: Any, weight: Any, bias: Any) -> dict[str, Call]:
    try:
        import onnxruntime
        from onnx import TensorProto, helper
    except ImportError:
        return {}
    if name != "layer_norm" or x.element_size() == 2:  # no bfloat16 on its CPU
        return {}
    import torch

    names = {"x": x, "weight": weight, "bias": bias}
    node = helper.make_node("LayerNormalization", list(names), ["y"], axis=-1, epsilon=1e-5)
    inputs = [helper.make_tensor_value_info(key, TensorProto.FLOAT, each.shape) for key, each in names.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)
    graph = helper.make_graph([node], "norm", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {key: each.numpy() for key, each in names.items()}
    return {"onnxruntime": lambda: session.run(None, feed)}


# Measuring


def checked(calls: dict[str, Call], dtype: str) -> dict[str, str]:
    """Return the competitors that fail, or that give something else than torch does, and why."""
    import numpy as np
    import torch

    def arrays(result: Any) -> list[Any]:
        parts = result if isinstance(result, (tuple, list)) else (result,)
        numbers = (each.detach().cpu().double().numpy() if isinstance(each, torch.Tensor) else each for each in parts)
        return [np.asarray(each).astype(np.float64) for each in numbers]

    failed = {}
    right = arrays(calls["torch"]())
    tolerance = 1e-4 if dtype == "float32" else 4e-2  # torch's own sums of weight gradients in bfloat16 are that bad
    for name, call in calls.items():
        try:
            result = arrays(call())
        except Exception as error:  # a competitor that cannot do it is no reason to stop
            failed[name] = f"{type(error).__name__}: {error}"[:200]
            continue
        if name == "copy":
            continue
        for ours, theirs in zip(result, right, strict=True):
            size = 5 if theirs.ndim == 1 and dtype == "bfloat16" else 1
            if np.linalg.norm(ours - theirs) > size * tolerance * np.linalg.norm(theirs):
                failed[name] = "gives another result than torch"
    return failed


def sample(call: Call, device: str) -> tuple[float, int, int]:
    """Return the milliseconds of one call, its page faults, and how often the processor was taken away."""
    if device == "cuda":  # on a GPU nothing faults, and events tell the time
        import torch

        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end), 0, 0
    import resource

    before, start_ = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    call()
    seconds, after = time.perf_counter() - start_, resource.getrusage(resource.RUSAGE_SELF)
    return 1e3 * seconds, after.ru_minflt - before.ru_minflt, after.ru_nivcsw - before.ru_nivcsw


def measure(
    operator: Operator, shape: tuple[int, int], dtype: str, *, threads: int, device: str, compiler: bool, seconds: float
) -> Row:
    """Measure for about ``seconds``, and at least seven rounds."""
    import numpy as np
    import torch

    calls = competitors(operator, shape, dtype, device, compiler)
    failed = checked(calls, dtype)
    calls = {name: call for name, call in calls.items() if name not in failed}
    flush = torch.ones(24 * 2**20) if operator.cold else None  # 96 MiB, read between calls: nothing is in the cache
    rng = np.random.default_rng(0)
    taken: dict[str, list[tuple[float, int, int]]] = {name: [] for name in calls}
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < 7 or (time.perf_counter() < end and rounds < 500):
        for name in rng.permutation(list(calls)):
            if flush is not None:
                flush.sum()
            taken[name].append(sample(calls[name], device))
        rounds += 1

    milliseconds, fastest, faults = {}, {}, {}
    for name, samples in taken.items():
        undisturbed = [each for each in samples if not each[2]]
        samples = undisturbed if len(undisturbed) >= 5 else samples
        low, middle, high = np.percentile([each[0] for each in samples], [25, 50, 75])
        fastest[name] = min(each[0] for each in samples)
        milliseconds[name] = (float(low), float(middle), float(high))
        faults[name] = int(statistics.median(each[1] for each in samples))
    return Row(
        operator=operator.name,
        direction="forward + backward" if operator.backward else "forward",
        dtype=dtype,
        shape=shape,
        regime="cold" if operator.cold else "steady",
        threads=threads,
        must=operator.must[dtype],
        limit_ms=milliseconds["copy"][1] * operator.units / 2,
        milliseconds=milliseconds,
        fastest=fastest,
        page_faults=faults,
        failed=failed,
    )


def plan(quick: bool) -> Iterator[tuple[Operator, tuple[int, int], str]]:
    for operator in OPERATORS:
        shapes = QUICK_SHAPES if quick else SHAPES if operator.cold else SHAPES + SMALL_SHAPES
        for dtype in operator.must:
            for shape in shapes:
                yield operator, shape, dtype


def measure_all(quick: bool, threads: int, device: str, compiler: bool) -> list[Row]:
    """Measure every operator in this process, with this many threads."""
    import torch

    torch.set_num_threads(threads)
    options: dict[str, Any] = {"threads": threads, "device": device, "compiler": compiler}
    rows = []
    for operator, shape, dtype in plan(quick):
        rows.append(measure(operator, shape, dtype, seconds=0.8 if quick else 2.0, **options))
        told = f"{operator.name} {dtype} {shape[0]} × {shape[1]}"
        print(f"{device}, {threads} threads: {told}", file=sys.stderr, flush=True)
    return rows


# The report


def machine() -> dict[str, Any]:
    """Describe what was measured on."""
    from importlib import metadata

    import torch

    model = platform.processor()
    if (info := Path("/proc/cpuinfo")).exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    versions = {}
    for name in ("numpy", "torch", "numba", "jax", "onnxruntime"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": versions,
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def geometric_mean(ratios: list[float]) -> float | None:
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


def summary(rows: list[Row]) -> list[dict[str, Any]]:
    """Return for every operator, dtype, regime and number of threads the geometric means over the large shapes."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if math.prod(row.shape) >= LARGE:
            groups.setdefault((row.operator, row.direction, row.dtype, row.regime, row.threads), []).append(row)
    lines = []
    for key, members in groups.items():
        line = dict(zip(("operator", "direction", "dtype", "regime", "threads"), key, strict=True))
        against = sorted({name for row in members for name in row.milliseconds} - {"copy", "ours", "ours, new output"})
        ratios = {other: [r for row in members if (r := row.ratio(other)) is not None] for other in against}
        shares = [row.limit_ms / row.milliseconds["ours"][1] for row in members if "ours" in row.milliseconds]
        line["must"] = members[0].must
        line["ratios"] = {other: geometric_mean(each) for other, each in ratios.items()}
        fastest = [r for row in members if (r := row.ratio("torch", fastest=True)) is not None]
        line["ratio_of_fastest"] = geometric_mean(fastest)
        line["lowest"] = min(ratios.get("torch", []), default=None)
        line["share_of_limit"] = geometric_mean(shares)
        line["not_compared"] = sum(row.ratio("torch") is None for row in members)
        lines.append(line)
    return lines


def bench(
    out: Path, *, quick: bool = False, threads: tuple[int, ...] = (1, 2), compiler: bool = True
) -> dict[str, Any]:
    """Measure in processes of their own, write ``out``, and return what was written. Quick: less than a minute."""
    import shutil

    import torch

    compiler = compiler and not quick and any(map(shutil.which, ("c++", "g++", "clang++")))
    result: dict[str, Any] = {"machine": machine(), "quick": quick, "rows": []}
    jobs = [("cpu", each) for each in threads if each <= (os.cpu_count() or 1)][: 1 if quick else None]
    jobs += [("cuda", 1)] * torch.cuda.is_available()
    for device, number in jobs:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.json"
            settings = {"quick": quick, "threads": number, "device": device, "compiler": compiler}
            environment = os.environ | {
                "OMP_NUM_THREADS": str(number),
                "GLIBC_TUNABLES": KEEP_MEMORY,
                "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={'true' if number > 1 else 'false'}",
            }
            command = [sys.executable, "-m", __name__, json.dumps(settings), str(path)]
            subprocess.run(command, env=environment, check=True)
            result["rows"] += json.loads(path.read_text())
    result["load_after"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    result["summary"] = summary([Row(**row) for row in result["rows"]])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    return result


def show(result: dict[str, Any], console: Any) -> None:
    """Print the geometric means beside what they must be."""
    from rich.table import Table

    table = Table(
        title="How many times as fast as the others, tensors of a million elements and more", title_justify="left"
    )
    for heading in (
        "Operator",
        "Type",
        "Threads",
        "Must",
        "torch",
        "fastest calls",
        "lowest",
        "torch.compile",
        "Others",
        "Of the limit",
    ):
        table.add_column(heading, justify="left" if heading in ("Operator", "Type", "Others") else "right")

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    for line in result["summary"]:
        ratio = line["ratios"].get("torch")
        colour = "dim" if ratio is None else "green" if ratio >= line["must"] else "red"
        others = ", ".join(
            f"{name} {number(each)}" for name, each in line["ratios"].items() if name not in ("torch", "torch.compile")
        )
        table.add_row(
            " ".join((line["operator"], line["direction"], "cold" if line["regime"] == "cold" else "")).strip(),
            line["dtype"],
            str(line["threads"]),
            number(line["must"]),
            f"[{colour}]{number(ratio)}[/]",
            number(line["ratio_of_fastest"]),
            number(line["lowest"]),
            number(line["ratios"].get("torch.compile")),
            others,
            "–" if line["share_of_limit"] is None else f"{100 * line['share_of_limit']:.0f} %",
        )
    console.print(table)
    told = result["machine"]
    console.print(
        f"{told['processor']}, {told['cores']} cores; {', '.join(f'{k} {v}' for k, v in told['versions'].items())}"
    )
    busy = max(told["load_before"] or 0, (result["load_after"] or 0) - 2)
    if busy > 0.5:
        console.print(
            f"[yellow]Others were using the machine (load {busy:.1f}): measure again when it is quiet.[/yellow]"
        )
    small = [Row(**row) for row in result["rows"] if math.prod(row["shape"]) < LARGE]
    slower = [1e3 * (row.fastest["ours"] - row.fastest["torch"]) for row in small if row.ratio("torch") is not None]
    if slower:
        console.print(f"Small tensors: at most {max(slower):.0f} µs slower than torch.")
    skipped = sum(line["not_compared"] for line in result["summary"])
    if skipped:
        console.print(f"{skipped} rows were not compared with torch: their page faults differ, or a result was wrong.")


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    Path(sys.argv[2]).write_text(json.dumps([asdict(row) for row in measure_all(**given)]))
