"""SyncBatchNorm over two gloo processes with uneven shards equals BatchNorm of the whole batch."""

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from lnorm.nn import BatchNorm, SyncBatchNorm

SHARDS = ((0, 3), (3, 10))  # rows of each process: uneven on purpose


def batch():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(10, 4, 3, generator=generator, dtype=torch.float64)
    x[5:] = 3 * x[5:] + 2  # the shards differ, or local statistics would nearly do
    return x, torch.randn(10, 4, 3, generator=generator, dtype=torch.float64)


def run(norm, x, dy):
    x = x.clone().requires_grad_()
    y = norm(x)
    y.backward(dy)
    gradients = {"dx": x.grad, "d_weight": norm.weight.grad, "d_bias": norm.bias.grad}
    return {"y": y.detach(), **gradients, **norm.state_dict()}


def worker(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    x, dy = batch()
    rows = slice(*SHARDS[rank])
    results = {"even": run(SyncBatchNorm(4, momentum=None).double(), x[rows], dy[rows])}

    nothing = slice(0, 0) if rank == 0 else slice(0, 10)  # one process without an example
    results["empty"] = run(SyncBatchNorm(4).double(), x[nothing], dy[nothing])

    norm = SyncBatchNorm(4).double()
    model = DistributedDataParallel(norm)
    for _ in range(2):  # twice: the collectives of forward and backward must stay in step
        model.zero_grad()
        (model(x[rows]) * dy[rows]).sum().backward()
    results["ddp"] = {"weight": norm.weight.grad, "bias": norm.bias.grad}

    norm.eval()
    results["eval"] = norm(x[rows])  # no communication: the other process need not take part
    untracked = SyncBatchNorm(4, track_running_stats=False).double().eval()
    results["untracked"] = untracked(x[rows])  # in evaluation the statistics of this process alone
    try:
        SyncBatchNorm(4)(torch.ones(1 - rank, 4))  # one value a channel in all
    except ValueError as error:
        results["error"] = str(error)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sync")
    torch.multiprocessing.spawn(worker, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def close(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["even", "empty"])
def test_two_processes_equal_the_whole_batch(shards, case):
    x, dy = batch()
    whole = run(BatchNorm(4, momentum=None if case == "even" else 0.1).double(), x, dy)
    first, second = (shard[case] for shard in shards)
    for key in ("y", "dx"):
        close(torch.cat([first[key], second[key]]), whole[key])
    for key in ("d_weight", "d_bias"):  # each process has the share of its own rows
        close(first[key] + second[key], whole[key])
    for shard in (first, second):
        for key in ("running_mean", "running_var", "num_batches_tracked"):
            close(shard[key], whole[key])


@pytest.mark.slow
def test_distributed_data_parallel_averages_the_gradients_of_gain_and_bias(shards):
    x, dy = batch()
    norm = BatchNorm(4).double()
    norm(x).backward(dy)
    for shard in shards:
        close(2 * shard["ddp"]["weight"], norm.weight.grad)
        close(2 * shard["ddp"]["bias"], norm.bias.grad)


@pytest.mark.slow
def test_evaluation_is_local_and_one_value_is_refused_everywhere(shards):
    x, _ = batch()
    norm = BatchNorm(4).double()
    for _ in range(2):
        norm(x)
    norm.eval()
    close(torch.cat([shard["eval"] for shard in shards]), norm(x))
    untracked = BatchNorm(4, track_running_stats=False).double().eval()
    for shard, rows in zip(shards, SHARDS, strict=True):
        close(shard["untracked"], untracked(x[slice(*rows)]))
        assert shard["error"].startswith("x: expected more than one value a channel")


def test_one_process_needs_no_process_group():
    x, dy = batch()
    alone, plain = run(SyncBatchNorm(4).double(), x, dy), run(BatchNorm(4).double(), x, dy)
    for key in plain:
        assert torch.equal(alone[key], plain[key])
