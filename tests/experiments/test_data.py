"""The data: what is promised about sizes, scales and entropies."""

import numpy as np

from lnorm.data import digits, markov_corpus


def test_digits_are_split_standardized_and_disjoint():
    data = digits()
    assert data.train_x.shape == (1347, 64)
    assert data.test_x.shape == (450, 64)
    assert data.train_x.dtype == np.float32
    assert abs(data.train_x.mean()) < 1e-5
    assert abs(data.train_x.std() - 1) < 1e-5
    assert set(data.train_y) == set(data.test_y) == set(range(10))
    rows = {row.tobytes() for row in data.train_x}
    assert not any(row.tobytes() in rows for row in data.test_x)


def test_the_markov_corpus_has_the_entropies_that_it_claims():
    corpus = markov_corpus()
    assert corpus.tokens.shape == (400_000,)
    assert abs(corpus.unigram_entropy - 3.767) < 1e-3
    assert abs(corpus.conditional_entropy - 2.246) < 1e-3
    np.testing.assert_allclose(corpus.transition.sum(axis=1), 1)

    counts = np.zeros_like(corpus.transition)
    np.add.at(counts, (corpus.tokens[:-1], corpus.tokens[1:]), 1)
    unigram = counts.sum(axis=1) / counts.sum()
    assert abs(-np.sum(unigram * np.log(unigram)) - corpus.unigram_entropy) < 0.01
    observed = counts / counts.sum()
    empirical = -np.sum(observed[counts > 0] * np.log((counts / counts.sum(axis=1, keepdims=True))[counts > 0]))
    assert abs(empirical - corpus.conditional_entropy) < 0.02


def test_the_corpus_is_the_same_every_time_and_another_with_another_seed():
    first, again, other = (markov_corpus(length=1000, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.tokens, again.tokens)
    assert not np.array_equal(first.tokens, other.tokens)
