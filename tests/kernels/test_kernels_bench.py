"""The benchmark compares what can be compared, and checks results before it times them."""

import json
import sys
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from lnorm.kernels import bench

OPTIONS = {"threads": 1, "device": "cpu", "compiler": False, "seconds": 0.0}


@pytest.mark.parametrize(
    ("operator", "dtype"),
    [(each, dtype) for each in bench.OPERATORS for dtype in each.must],
    ids=lambda each: each if isinstance(each, str) else f"{each.name}-{each.backward}-{each.cold}",
)
def test_every_operator_can_be_measured(operator, dtype, monkeypatch):
    monkeypatch.setattr(bench, "_jax", lambda *_: {})
    row = bench.measure(operator, (1200, 32), dtype, **OPTIONS)
    assert not row.failed
    assert {"copy", "torch", "ours"} <= set(row.milliseconds)
    for low, middle, high in row.milliseconds.values():
        assert 0 < low <= middle <= high
    assert all(fastest <= row.milliseconds[name][0] for name, fastest in row.fastest.items())


def row(**changes):
    given = {
        "operator": "layer_norm", "direction": "forward", "dtype": "float32", "shape": (1024, 1024), "regime": "steady",
        "threads": 1, "must": 1.15, "limit_ms": 1.0,
        "milliseconds": {"copy": (1, 1, 1), "torch": (3, 4, 5), "ours": (1, 2, 3)},
        "fastest": {"copy": 1, "torch": 3, "ours": 1}, "page_faults": {"copy": 0, "torch": 0, "ours": 0},
    }  # fmt: skip
    return bench.Row(**(given | changes))


def test_other_page_faults_are_not_compared():
    assert row().ratio("torch") == 2
    assert row().ratio("torch", fastest=True) == 3
    assert row().ratio("JAX") is None
    assert row(page_faults={"copy": 0, "torch": 1024, "ours": 0}).ratio("torch") is None


def test_the_summary_is_a_geometric_mean_of_the_large_shapes():
    twice, eight = row(), row(milliseconds={"copy": (1, 1, 1), "torch": (16, 16, 16), "ours": (1, 2, 3)})
    small = row(shape=(4, 4), milliseconds={"copy": (1, 1, 1), "torch": (1, 1, 1), "ours": (9, 9, 9)})
    faults = row(page_faults={"copy": 0, "torch": 1024, "ours": 0})
    (line,) = bench.summary([twice, eight, small, faults])
    assert line["ratios"]["torch"] == pytest.approx(4)
    assert line["lowest"] == 2
    assert line["not_compared"] == 1
    assert line["share_of_limit"] == pytest.approx(0.5)
    said = StringIO()
    machine = {"processor": "P", "cores": 2, "versions": {}, "load_before": 3.0}
    result = {"machine": machine, "load_after": 0.0, "summary": [line], "rows": [asdict(twice), asdict(small)]}
    bench.show(result, Console(file=said, width=200))
    assert "4.00" in said.getvalue()
    assert "Others were using the machine" in said.getvalue()


def test_wrong_results_and_errors_are_not_timed():
    x = torch.ones(3)
    failed = bench.checked(
        {
            "copy": lambda: None,
            "torch": lambda: x,
            "ours": lambda: x * 1.01,
            "broken": lambda: 1 / 0,
            "right": lambda: x,
        },
        "float32",
    )
    assert failed == {"ours": "gives another result than torch", "broken": "ZeroDivisionError: division by zero"}


def test_page_faults_are_counted():
    _, faults, _ = bench.sample(lambda: torch.ones(2**23), "cpu")
    assert faults > 2**22 * 4 // 4096
    assert bench.sample(lambda: None, "cpu")[1] == 0


def test_it_writes_what_it_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    commands = []

    def pretend(command, env, check):
        commands.append((command, env))
        with Path(command[-1]).open("w") as file:
            json.dump([asdict(row())], file)

    monkeypatch.setattr(bench, "subprocess", SimpleNamespace(run=pretend))
    result = bench.bench(tmp_path / "deep" / "bench.json", quick=True, threads=(1, 2))
    assert json.loads((tmp_path / "deep" / "bench.json").read_text()) == json.loads(json.dumps(result))
    ((command, environment),) = commands
    assert command[:3] == [sys.executable, "-m", "lnorm.kernels.bench"]
    assert "mmap_max=0" in environment["GLIBC_TUNABLES"]
    assert {"processor", "cores", "versions", "date", "load_before"} <= set(result["machine"])
    assert result["summary"][0]["ratios"]["torch"] == 2
