import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reference_helpers import assert_matches_torch, numbers, refuses

from lnorm.reference import (
    batch_norm,
    batch_norm_backward,
    ghost_batch_norm,
    ghost_batch_norm_backward,
    merge_statistics,
    sync_batch_norm,
    sync_batch_norm_backward,
)


def assert_all_close(ours, theirs, atol=1e-12):
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our, their, atol=atol, rtol=0)


@pytest.mark.parametrize(("shape", "group"), [((6, 3), 2), ((6, 3), 3), ((6, 3, 2), 1), ((4, 3, 2, 2), 4)])
def test_ghost_matches_torch_group_by_group(shape, group):
    def in_torch(x, gamma, beta):
        return torch.cat([F.batch_norm(part, None, None, gamma, beta, training=True) for part in x.split(group)])

    assert_matches_torch(
        lambda x, gamma, beta: ghost_batch_norm(x, group, gamma, beta),
        ghost_batch_norm_backward,
        in_torch,
        [numbers(*shape), numbers(shape[1], seed=1), numbers(shape[1], seed=2)],
    )


def test_ghost_groups_are_consecutive_rows():
    x = np.repeat([1.0, 100.0], 3)[:, None] + numbers(6, 1)
    y, _ = ghost_batch_norm(x, 3)
    np.testing.assert_allclose(y.reshape(2, 3).mean(axis=1), 0, atol=1e-12)


def test_ghost_with_one_group_is_batch_norm():
    x = numbers(6, 3)
    np.testing.assert_allclose(ghost_batch_norm(x, 6)[0], batch_norm(x)[0], atol=1e-15)


@pytest.mark.parametrize("group", [4, 12, 0, -2, 1])
def test_ghost_refuses_groups_that_do_not_fit(group):
    with refuses(ValueError, "group"):
        ghost_batch_norm(numbers(6, 3), group)


def test_ghost_refuses_a_group_that_is_no_int():
    with refuses(TypeError, "group"):
        ghost_batch_norm(numbers(6, 3), 2.0)


@pytest.mark.parametrize(("n1", "n2"), [(3, 5), (1, 1), (1, 9), (0, 4), (4, 0), (1, 1000)])
@pytest.mark.parametrize("offset", [0, 1e4])
def test_merged_statistics_are_those_of_the_union(n1, n2, offset):
    a, b = numbers(n1, 3, offset=offset), numbers(n2, 3, seed=1, offset=offset + 2, scale=3)
    statistics = [
        (len(s), s.mean(0), s.var(0)) if len(s) else (0, np.full(3, np.nan), np.full(3, np.nan)) for s in (a, b)
    ]
    n, mean, var = merge_statistics(*statistics[0], *statistics[1])
    both = np.concatenate([a, b])
    assert n == n1 + n2
    np.testing.assert_allclose(mean, both.mean(0), rtol=1e-14)
    np.testing.assert_allclose(var, both.var(0), rtol=1e-11)


def test_merging_counts_the_gap_between_the_means():
    assert merge_statistics(2, 0.0, 1.0, 2, 10.0, 1.0) == (4, 5.0, 26.0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_merging_rounds_once(dtype):
    parts = [(7 * i, numbers(20, seed=i).astype(dtype), (numbers(20, seed=i + 5) ** 2).astype(dtype)) for i in (1, 2)]
    _, *merged = merge_statistics(*parts[0], *parts[1])
    _, *exact = merge_statistics(
        *[value for n, mean, var in parts for value in (n, mean.astype(float), var.astype(float))]
    )
    for ours, right in zip(merged, exact, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(
            ours, right, rtol=0.51 * np.finfo(dtype).eps, atol=1e-7 if dtype == np.float16 else 0
        )


def test_merging_is_associative_and_commutative():
    parts = [(n, numbers(3, seed=n), numbers(3, seed=n + 50) ** 2) for n in (2, 7, 30)]
    left = merge_statistics(*merge_statistics(*parts[0], *parts[1]), *parts[2])
    right = merge_statistics(*parts[0], *merge_statistics(*parts[2], *parts[1]))
    assert_all_close(left, right)


@pytest.mark.parametrize(
    ("error", "name", "change"),
    [
        (ValueError, "n1", {0: -1}),
        (TypeError, "n2", {3: 2.0}),
        (TypeError, "mean1", {1: np.ones(3, int)}),
        (ValueError, "var1", {2: np.ones(2)}),
        (ValueError, "mean2", {4: np.ones((1, 3))}),
        (ValueError, "var2", {5: 1.0}),
    ],
)
def test_merging_refuses_bad_arguments(error, name, change):
    arguments = [2, np.zeros(3), np.ones(3), 2, np.zeros(3), np.ones(3)]
    for i, value in change.items():
        arguments[i] = value
    with refuses(error, name):
        merge_statistics(*arguments)


@pytest.mark.parametrize("sizes", [(6,), (1, 5), (2, 2, 2), (0, 4, 1), (3, 0, 0)])
@pytest.mark.parametrize("space", [(), (4,), (2, 3)])
@pytest.mark.parametrize("affine", [True, False])
def test_sync_is_batch_norm_of_the_whole(sizes, space, affine):
    shards = [numbers(size, 3, *space, seed=i, offset=i, scale=i + 1) for i, size in enumerate(sizes)]
    dys = [numbers(*shard.shape, seed=i + 10) for i, shard in enumerate(shards)]
    parameters = (numbers(3, seed=1), numbers(3, seed=2)) if affine else ()
    ys, cache = sync_batch_norm(shards, *parameters)
    dxs, *others = sync_batch_norm_backward(dys, cache)
    y, whole = batch_norm(np.concatenate(shards), *parameters)
    expected = batch_norm_backward(np.concatenate(dys), whole)
    assert [y.shape for y in ys] == [dx.shape for dx in dxs] == [shard.shape for shard in shards]
    assert_all_close([np.concatenate(ys), np.concatenate(dxs), *others], [y, *expected])


def test_separate_statistics_are_something_else():
    shards = [numbers(4, 3), numbers(4, 3, offset=1)]
    synced = np.concatenate(sync_batch_norm(shards)[0])
    assert np.abs(synced - ghost_batch_norm(np.concatenate(shards), 4)[0]).max() > 0.1


@pytest.mark.parametrize(
    ("error", "name", "shards"),
    [
        (ValueError, "shards", []),
        (ValueError, "shards", [np.ones((1, 3)), np.ones((0, 3))]),
        (ValueError, "shards[1]", [np.ones((2, 3)), np.ones(3)]),
        (ValueError, "shards[1]", [np.ones((2, 3)), np.ones((2, 4))]),
        (ValueError, "shards[2]", [np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 3, 1))]),
        (TypeError, "shards[1]", [np.ones((2, 3)), np.ones((2, 3), np.float32)]),
        (TypeError, "shards[0]", [np.ones((2, 3), int)]),
    ],
)
def test_sync_refuses_shards_that_do_not_fit(error, name, shards):
    with refuses(error, name):
        sync_batch_norm(shards)


def test_sync_refuses_the_wrong_number_of_cotangents():
    _, cache = sync_batch_norm([numbers(2, 3), numbers(3, 3)])
    with refuses(ValueError, "dys"):
        sync_batch_norm_backward([numbers(2, 3)], cache)
