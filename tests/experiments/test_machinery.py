"""The protocol: verdicts, margins, tables, files; what happens on a name that does not exist."""

import json
import math
import types

import numpy as np
import pytest

from lnorm import experiments
from lnorm.experiments import results as results_module
from lnorm.experiments.claim import Claim, number
from lnorm.experiments.results import Results


@pytest.mark.parametrize(
    ("values", "low", "high", "verdict"),
    [
        ((1.0, 1.01, 0.99), 0.9, 1.1, "holds"),
        ((1.0, 1.05, 0.95), 0.9, 1.1, "not robust"),  # inside, two standard deviations from the end
        ((1.2, 1.21, 1.19), 0.9, 1.1, "does not hold"),
        ((18, 18, 18), 18, 18, "holds"),
        ((17, 18, 18), 18, 18, "does not hold"),
        ((0.0, 0.0, 0.0), -math.inf, 0.0, "holds"),
        ((5.0,), 4.0, math.inf, "holds"),
        ((math.nan, 1.0, 1.0), 0.0, 2.0, "does not hold"),
        ((math.inf, 1.0, 1.0), 0.0, math.inf, "does not hold"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_verdicts(values, low, high, verdict):
    assert Claim("x", values, low, high).verdict == verdict


def test_a_claim_prints_spread_range_and_condition():
    claim = Claim("x", (1.0, 2.0, 3.0), low=0.5)
    assert claim.ours == "2 ± 1 [1, 3]"
    assert claim.condition == "at least 0.5"
    assert Claim("x", (4.0, 4.0), 4, 4).ours == "4"


@pytest.mark.parametrize(("value", "text"), [(0.12345, "0.1235"), (-2.0, "−2"), (1234.5, "1234"), (75321.0, "75321")])
def test_numbers(value, text):
    assert number(value) == text


def test_an_unknown_experiment_is_named_with_those_that_exist():
    with pytest.raises(LookupError, match=r"nosuch.*signal_propagation"):
        experiments.load("nosuch")


def test_an_unknown_measurement_is_named_with_those_that_exist():
    with pytest.raises(KeyError, match=r"nosuch.*layer"):
        experiments.run("undo", seeds=1)["nosuch"]


def test_no_seeds_is_refused():
    with pytest.raises(ValueError, match="seeds: expected at least 1, got 0"):
        experiments.run("undo", seeds=0)


def test_the_same_seed_gives_the_same_numbers_in_one_process_and_in_several():
    alone, together = experiments.run("undo", seeds=2), experiments.run("undo", seeds=2, workers=2)
    for name in alone.runs[0]:
        np.testing.assert_array_equal(alone[name], together[name])


def test_progress_is_reported():
    seen = []
    experiments.run("undo", seeds=3, on_done=seen.append)
    assert seen == [1, 2, 3]


def test_a_broken_claim_stops_the_build_and_is_named():
    results = Results("x", {}, [{}], [Claim("good", (1.0,), 0, 2), Claim("bad", (3.0,), 0, 2)])
    with pytest.raises(AssertionError, match=r"1 claim.*\n- bad: expected 0 to 2, measured 3"):
        results.check()


def test_results_are_stored_with_where_they_come_from(tmp_path):
    results = experiments.run("undo", seeds=2)
    results.save(tmp_path / "new" / "undo.json")
    record = json.loads((tmp_path / "new" / "undo.json").read_text())
    assert record["seeds"] == 2
    assert {"date", "lnorm", "python", "numpy", "machine"} <= record["made"].keys()
    assert record["claims"][0]["verdict"] == "holds"
    assert record["runs"][0]["layer_by_width"] == results.runs[0]["layer_by_width"].tolist()
    assert not list(tmp_path.rglob("*.tmp"))
    assert "Infinity" not in (tmp_path / "new" / "undo.json").read_text(), "JSON has no infinity"


def test_the_table_of_a_chapter_cites_its_sources():
    table = experiments.run("undo", seeds=1)._repr_markdown_()
    assert "({cite:t}`ioffe2015batch`, section 3)" in table
    assert "| holds (" in table


def test_a_stored_result_comes_back_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(results_module, "STORED", tmp_path)
    assert experiments.stored("undo") is None
    assert experiments.made("undo") == {}
    results = experiments.run("undo", seeds=2)
    results.runs[0]["overflow"], results.runs[1]["overflow"] = np.array([math.inf, 1.0]), np.array([math.nan, -2.0])
    results.save(tmp_path / "undo.json")
    back = experiments.stored("undo")
    for name in results.runs[0]:
        np.testing.assert_array_equal(back[name], results[name])
    assert [c.ours for c in back.claims] == [c.ours for c in results.claims]
    assert len(experiments.made("undo")["code"]) == 12


def test_a_chapter_prints_the_stored_seeds_beside_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(results_module, "STORED", tmp_path)
    experiments.run("undo", seeds=2).save(tmp_path / "undo.json")
    table = experiments.run("undo", seeds=1)._repr_markdown_()
    assert "| Ours, 2 seeds | This build, 1 seeds |" in table
    rows = [line.count("|") for line in table.splitlines()]
    assert len(set(rows)) == 1


def test_the_fingerprint_sees_what_measures_and_not_what_is_claimed(tmp_path, monkeypatch):
    module = tmp_path / "undo.py"
    code = '"""A question?"""\n\ndef run(seed):\n    return {"x": 1.0}\n\ndef claims(runs):\n    return []\n'
    prints = []
    for text in (code, code.replace("return []", "return [1]").replace("A", "Another"), code.replace("1.0", "2.0")):
        module.write_text(text)
        monkeypatch.setattr(results_module, "load", lambda name: types.SimpleNamespace(__file__=str(module)))
        prints.append(results_module.fingerprint("undo"))
    assert prints[0] == prints[1] != prints[2]


def test_the_fingerprint_sees_the_parts_of_the_package_that_measure(tmp_path, monkeypatch):
    package = tmp_path / "lnorm"
    for part in ("nn", "experiments"):
        (package / part).mkdir(parents=True)
        (package / part / "__init__.py").write_text("")
    monkeypatch.setattr(results_module.lnorm, "__file__", str(package / "__init__.py"))
    module, norm, other = package / "experiments" / "x.py", package / "nn" / "norm.py", package / "nn" / "other.py"
    module.write_text("from lnorm.nn import norm\n\ndef run(seed):\n    return norm.f(seed)\n")
    monkeypatch.setattr(results_module, "load", lambda name: types.SimpleNamespace(__file__=str(module)))

    def after(file, text):
        file.write_text(text)
        results_module._imports.cache_clear()
        return results_module.fingerprint("x")

    first = after(norm, "f = float\n")
    assert after(norm, "# a comment\nf = float\n") == first
    assert after(other, "g = int\n") == first, "nothing imports it"
    assert after(norm, "f = int\n") != first
    monkeypatch.undo()
    results_module._imports.cache_clear()
