"""One thread for every test: sums come out in the same order on every machine, and tests can run side by side."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
