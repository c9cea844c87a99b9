"""Exercise 11.1: the bytes that fused kernels move."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

Operation = tuple[tuple[str, ...], str]  # the arrays that it reads, the array that it makes
LAYER_NORM: tuple[Operation, ...] = (
    (("x",), "mean"),
    (("x", "mean"), "centred"),
    (("centred", "centred"), "squares"),
    (("squares",), "var"),
    (("centred", "var"), "x_hat"),
    (("x_hat", "gamma"), "scaled"),
    (("scaled", "beta"), "y"),
)


def _layer_norm_sizes(rng: np.random.Generator) -> tuple[tuple[str, int], ...]:
    n, d = int(rng.integers(20, 60)), int(rng.integers(60, 99))
    size = {"mean": 4 * n, "var": 4 * n, "gamma": 4 * d, "beta": 4 * d}
    return tuple(
        (name, size.get(name, 4 * n * d)) for name in ("x", "gamma", "beta", *(made for _, made in LAYER_NORM))
    )


def _random_program(rng: np.random.Generator) -> dict[str, Any]:
    """Return five kernels of one to four operations, on arrays of different sizes."""
    known, kernels = ["a", "b", "c"], []
    for k in range(5):
        kernel = []
        for i in range(int(rng.integers(1, 5))):
            recent = [*known[-4:], "a"]
            reads = tuple(str(each) for each in rng.choice(recent, size=int(rng.integers(1, 4))))
            kernel.append((reads, f"v{k}{i}"))
            known.append(f"v{k}{i}")
        kernels.append(tuple(kernel))
    sizes = tuple((name, int(rng.integers(100, 999))) for name in known)
    return {"kernels": tuple(kernels), "sizes": sizes, "outputs": (known[4], known[-1])}


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed)
    ops = LAYER_NORM

    def case(tests: str, *kernels: Sequence[Operation], outputs: tuple[str, ...] = ("y",)) -> Case:
        return Case(tests, {"kernels": kernels, "sizes": _layer_norm_sizes(rng), "outputs": outputs})

    alone, fused, split = "every operation by itself", "one kernel for all", "several kernels"
    shown = [
        case(alone, *((each,) for each in ops)),
        case(fused, ops),
        case(split, ops[:4], ops[4:]),
        case(split, ops[:2], ops[2:4], ops[4:]),
        case("results that stay", ops, outputs=("y", "mean", "var")),
        case("results that stay", ops[:5], ops[5:], outputs=("x_hat", "y")),
    ]
    if level == "visible":
        return shown
    programs = [_random_program(rng) for _ in range(4)]
    whole = {**programs[0], "kernels": (tuple(each for kernel in programs[0]["kernels"] for each in kernel),)}
    single = {**programs[1], "kernels": tuple((each,) for kernel in programs[1]["kernels"] for each in kernel)}
    return [*shown, Case(fused, whole), Case(alone, single), *(Case(split, program) for program in programs)]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    kernels = [list(kernel) for kernel in inputs["kernels"]]
    return {"bytes": array("bytes", answer(kernels, dict(inputs["sizes"]), set(inputs["outputs"])))}


def _count(
    *,
    inside: Any = lambda name, made: name in made,
    once: Any = set,
    reading: int = 1,
    writing: int = 1,
    written: Any = lambda name, later, outputs: name in later or name in outputs,
    size: Any = lambda sizes, name: sizes[name],
    regroup: Any = lambda kernels: kernels,
    forget: bool = True,
) -> Answer:
    """Return a count made of these parts; by default the right one."""

    def fused_traffic(kernels: Any, sizes: Any, outputs: Any) -> int:
        kernels, total, seen = regroup(kernels), 0, set()
        for k, kernel in enumerate(kernels):
            made: set[str] = set()
            reads: list[str] = []
            for names, result in kernel:
                reads += [name for name in once(names) if not inside(name, made)]
                made.add(result)
            later = {name for other in kernels[k + 1 :] for names, _ in other for name in names}
            read = [name for name in once(reads) if name not in seen]
            seen |= set() if forget else {*read, *made}
            total += reading * sum(size(sizes, name) for name in read)
            total += writing * sum(size(sizes, name) for name in made if written(name, later, outputs))
        return total

    return fused_traffic


def _large_only(sizes: Any, name: str) -> int:
    return sizes[name] if sizes[name] > 0.5 * max(sizes.values()) else 0


def _reads_of_each_operation(kernels: Any, sizes: Any, outputs: Any) -> int:
    total = _count(reading=0)(kernels, sizes, outputs)
    for kernel in kernels:
        made = {result for _, result in kernel}
        total += sum(sizes[name] for names, _ in kernel for name in set(names) - made)
    return total


FUSED_TRAFFIC = Exercise(
    name="fused_traffic",
    signature="fused_traffic(kernels, sizes, outputs)",
    properties={"every operation by itself": 2, "one kernel for all": 2, "several kernels": 2, "results that stay": 1},
    cases=_cases,
    probe=_probe,
    solution=_count(),
    mistakes={
        "fusion ignored: every operation counted by itself": _count(
            regroup=lambda kernels: [[each] for kernel in kernels for each in kernel]
        ),
        "all kernels taken for one": _count(regroup=lambda kernels: [[each for kernel in kernels for each in kernel]]),
        "arrays written that no later kernel reads": _count(written=lambda name, later, outputs: True),
        "arrays not written that a later kernel reads": _count(written=lambda name, later, outputs: name in outputs),
        "results not written because nobody reads them": _count(written=lambda name, later, outputs: name in later),
        "results written only if nobody reads them": _count(
            written=lambda name, later, outputs: (name in later) != (name in outputs)
        ),
        "an array read once more for every operation of the kernel": _reads_of_each_operation,
        "an array counted twice that an operation reads twice": _count(once=list),
        "an array read only once, although several kernels read it": _count(forget=False),
        "an array read from memory by the kernel that made it": _count(inside=lambda name, made: False),
        "writes counted twice, with a reading of what is overwritten": _count(writing=2),
        "reads alone": _count(writing=0),
        "writes alone": _count(reading=0),
        "arrays counted instead of bytes": _count(size=lambda sizes, name: 1),
        "small arrays left out": _count(size=_large_only),
    },
)
