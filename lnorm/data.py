"""The two data sets of the course: real digits that ship with scikit-learn, and a language with known entropies."""

from typing import NamedTuple

import numpy as np


class Digits(NamedTuple):
    """8×8 handwritten digits, flattened: pixels of mean 0 and variance 1 over the training set, labels 0 to 9."""

    train_x: np.ndarray  # (1347, 64) float32
    train_y: np.ndarray  # (1347,) int64
    test_x: np.ndarray  # (450, 64)
    test_y: np.ndarray  # (450,)


def digits() -> Digits:
    """Return scikit-learn's digits, split once and for all, with one global mean and standard deviation removed."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order].astype(np.float32), y[order].astype(np.int64)
    train_x, test_x = x[:1347], x[1347:]
    mean, std = train_x.mean(), train_x.std()
    return Digits((train_x - mean) / std, y[:1347], (test_x - mean) / std, y[1347:])


class MarkovCorpus(NamedTuple):
    """Tokens of a first-order Markov chain, and the two losses (in nats) that say what a model has learned of it."""

    tokens: np.ndarray  # (length,) int64
    transition: np.ndarray  # (vocabulary, vocabulary), rows sum to 1
    unigram_entropy: float  # the best loss for a model that ignores the context
    conditional_entropy: float  # the best loss for any model


def markov_corpus(length: int = 400_000, vocabulary: int = 48, seed: int = 0) -> MarkovCorpus:
    """Draw a corpus whose entropies are known exactly.

    Each row of the transition matrix is nine parts its own sparse Dirichlet(0.08) draw and one part a Dirichlet(1) draw
    shared by all rows, so that every token has a few likely successors and every token can follow any other.
    """
    rng = np.random.default_rng(seed)
    own = rng.dirichlet(np.full(vocabulary, 0.08), size=vocabulary)
    transition = 0.9 * own + 0.1 * rng.dirichlet(np.ones(vocabulary))  # (V, V)

    values, vectors = np.linalg.eig(transition.T)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    stationary /= stationary.sum()
    unigram = -np.sum(stationary * np.log(stationary))
    conditional = -np.sum(stationary[:, None] * transition * np.log(transition))

    cumulative = np.cumsum(transition, axis=1)
    cumulative[:, -1] = 1.0
    tokens = np.empty(length, np.int64)
    token = int(rng.choice(vocabulary, p=stationary))
    for i, u in enumerate(rng.random(length)):
        tokens[i] = token
        token = int(np.searchsorted(cumulative[token], u, side="right"))
    return MarkovCorpus(tokens, transition, float(unigram), float(conditional))
