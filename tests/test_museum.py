"""The exhibits do what their labels say: right on the harmless input, wrong where and by as much as told."""

import copy
import inspect
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest

from lnorm.museum import EXHIBITS

SEEDS = range(5)
PAGE = (Path(__file__).resolve().parents[1] / "book" / "bug-museum.md").read_text()
pytestmark = pytest.mark.parametrize("exhibit", EXHIBITS.values(), ids=EXHIBITS)


@pytest.mark.parametrize("seed", SEEDS)
def test_bug_and_right_answer_agree_on_the_harmless_input(exhibit, seed):
    for name, error in exhibit.errors(exhibit.harmless(seed)).items():
        assert error <= exhibit.tolerance, name


@pytest.mark.parametrize("seed", SEEDS)
def test_they_differ_on_the_exposing_one_by_the_factor_told_and_only_where_told(exhibit, seed):
    errors = exhibit.errors(exhibit.exposing(seed))
    assert set(exhibit.wrong) <= set(errors)
    for name, error in errors.items():
        if name in exhibit.wrong:
            assert np.isnan(error) or error >= exhibit.factor, name
        else:
            assert error <= exhibit.tolerance, name
    assert exhibit.factor >= 100 * exhibit.tolerance


@pytest.mark.parametrize("seed", SEEDS)
def test_two_right_answers_agree_on_both_inputs(exhibit, seed):
    for inputs in (exhibit.harmless(seed), exhibit.exposing(seed)):
        for name, error in exhibit.errors(inputs, exhibit.also_correct).items():
            assert error <= max(exhibit.tolerance, 1e-6), name


def test_inputs_are_left_alone_and_do_not_change_from_call_to_call(exhibit):
    for make in (exhibit.harmless, exhibit.exposing):
        inputs = make(3)
        before = copy.deepcopy(inputs)
        for function in (exhibit.buggy, exhibit.correct, exhibit.also_correct):
            function(**inputs)
        for name, value in make(3).items():
            for other in (before[name], inputs[name]):
                np.testing.assert_array_equal(value, other)


def test_the_label_says_where_it_was_found(exhibit):
    assert exhibit.title
    assert exhibit.source
    url = urlparse(exhibit.url)
    assert (url.scheme, url.netloc) == ("https", "github.com")
    assert EXHIBITS[exhibit.name] is exhibit


def test_the_page_shows_its_code_and_links_to_the_original(exhibit):
    assert f":pyobject: {exhibit.buggy.__name__}\n" in PAGE
    assert exhibit.url in PAGE


def test_all_functions_of_an_exhibit_take_the_same_inputs(exhibit):
    right = list(inspect.signature(exhibit.correct).parameters)
    for function in (exhibit.buggy, exhibit.also_correct):
        assert list(inspect.signature(function).parameters) == right
