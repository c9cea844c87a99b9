"""LayerNorm, alone or of a sum: each program keeps the first BLOCK columns of its rows in registers.

A row that fits is read once. Of a longer one, the rest is read a second time to be normalized, from the cache.
"""

import triton
import triton.language as tl

from lnorm.kernels.gpu.rows import parameter, read, read_sum, tile, write, write_partial


@triton.jit(do_not_specialize=["N"])
def forward(
    x: tl.tensor,
    residual: tl.tensor,
    gamma: tl.tensor,
    beta: tl.tensor,
    y: tl.tensor,
    total: tl.tensor,
    stats: tl.tensor,
    eps: tl.tensor,
    N: tl.tensor,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Fill ``y`` (N, D); ``stats`` (N, 3), the mean in two parts and rstd, if given; ``total`` if there is a residual.

    The sums are of x - shift and its square, where shift is the mean of the first block. The mean is shift + rest: one
    float32 could not hold it where it is large. Nothing cancels in the variance: with K blocks, the mean of the first
    is at most sqrt(K - 1) deviations away from that of the row.
    """
    index = tl.program_id(0)
    begin, offsets, inside = tile(index, 0, N, D, ROWS, BLOCK)
    value = read_sum(x, residual, total, begin, offsets, inside)
    shift = tl.sum(value, 1, keep_dims=True) / min(D, BLOCK)  # (ROWS, 1)
    d = tl.where(inside, value - shift, 0)
    first, second = tl.sum(d, 1, keep_dims=True), tl.sum(d * d, 1, keep_dims=True)
    for start in range(BLOCK, D, BLOCK):
        begin, more, there = tile(index, start, N, D, ROWS, BLOCK)
        d = tl.where(there, read_sum(x, residual, total, begin, more, there) - shift, 0)
        first += tl.sum(d, 1, keep_dims=True)
        second += tl.sum(d * d, 1, keep_dims=True)
    rest = first / D
    rstd = tl.div_rn(1.0, tl.sqrt_rn(tl.maximum(second / D - rest * rest, 0) + eps))

    x_hat = ((value - shift) - rest) * rstd
    write(y, begin, offsets, inside, x_hat * parameter(gamma, 0, D, BLOCK) + parameter(beta, 0, D, BLOCK))
    if D > BLOCK:
        source = x if residual is None else total
        tl.debug_barrier()  # the sums that other threads of this program have written
        for start in range(BLOCK, D, BLOCK):
            begin, more, there = tile(index, start, N, D, ROWS, BLOCK)
            x_hat = ((read(source, begin, more, there) - shift) - rest) * rstd
            scaled = x_hat * parameter(gamma, start, D, BLOCK) + parameter(beta, start, D, BLOCK)
            write(y, begin, more, there, scaled)
    if stats is not None:
        begin, offsets, inside = tile(index, 0, N, 3, ROWS, 1)
        write(stats, begin, offsets, inside, shift)
        write(stats, begin, offsets + 1, inside, rest)
        write(stats, begin, offsets + 2, inside, rstd)


@triton.jit
def read_x_hat(
    x: tl.tensor,
    stats: tl.tensor,
    index: tl.tensor,
    start: tl.tensor,
    N: tl.tensor,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """Return a tile of x normalized again from ``stats``, and rstd."""
    begin, offsets, inside = tile(index, 0, N, 3, ROWS, 1)
    shift = read(stats, begin, offsets, inside)  # (ROWS, 1)
    rest = read(stats, begin, offsets + 1, inside)
    rstd = read(stats, begin, offsets + 2, inside)
    begin, offsets, inside = tile(index, start, N, D, ROWS, BLOCK)
    x_hat = ((read(x, begin, offsets, inside) - shift) - rest) * rstd
    return tl.where(inside, x_hat, 0), rstd


@triton.jit(do_not_specialize=["N"])
def backward(
    dy: tl.tensor,
    dr: tl.tensor,
    x: tl.tensor,
    gamma: tl.tensor,
    stats: tl.tensor,
    dx: tl.tensor,
    partial: tl.tensor,
    N: tl.tensor,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
) -> None:
    """Fill ``dx`` (N, D), with ``dr``, the gradient of a sum, added where given; and ``partial`` (2, programs, D).

    As many programs as the machine runs at once take every so many-th tile of rows each, and load the next while they
    compute. Each adds up dgamma and dbeta of its rows in registers: what is left to add is a few hundred rows, in
    their order. Without ``partial``, for rows that are longer than BLOCK, it computes ``dx`` alone.
    """
    w = parameter(gamma, 0, D, BLOCK)
    dgamma = tl.zeros((ROWS, BLOCK), tl.float32)
    dbeta = tl.zeros((ROWS, BLOCK), tl.float32)
    for index in tl.range(tl.program_id(0), tl.cdiv(N, ROWS), tl.num_programs(0), num_stages=STAGES):
        begin, offsets, inside = tile(index, 0, N, D, ROWS, BLOCK)
        x_hat, rstd = read_x_hat(x, stats, index, 0, N, D, ROWS, BLOCK)
        d = read(dy, begin, offsets, inside)
        if partial is not None:
            dgamma += d * x_hat
            dbeta += d
        g = d * w
        sum_g, sum_gx = tl.sum(g, 1, keep_dims=True), tl.sum(g * x_hat, 1, keep_dims=True)
        for start in range(BLOCK, D, BLOCK):
            begin, more, there = tile(index, start, N, D, ROWS, BLOCK)
            xs, _ = read_x_hat(x, stats, index, start, N, D, ROWS, BLOCK)
            gs = read(dy, begin, more, there) * parameter(gamma, start, D, BLOCK)
            sum_g += tl.sum(gs, 1, keep_dims=True)
            sum_gx += tl.sum(gs * xs, 1, keep_dims=True)
        mean_g, mean_gx = sum_g / D, sum_gx / D

        value = (g - mean_g - x_hat * mean_gx) * rstd
        if dr is not None:
            value += read(dr, begin, offsets, inside)
        write(dx, begin, offsets, inside, value)
        for start in range(BLOCK, D, BLOCK):
            begin, more, there = tile(index, start, N, D, ROWS, BLOCK)
            xs, _ = read_x_hat(x, stats, index, start, N, D, ROWS, BLOCK)
            gs = read(dy, begin, more, there) * parameter(gamma, start, D, BLOCK)
            value = (gs - mean_g - xs * mean_gx) * rstd
            if dr is not None:
                value += read(dr, begin, more, there)
            write(dx, begin, more, there, value)
    if partial is not None:
        write_partial(partial, 0, dgamma, 0, D, BLOCK)
        write_partial(partial, 1, dbeta, 0, D, BLOCK)


@triton.jit(do_not_specialize=["N"])
def weight_gradients(
    dy: tl.tensor,
    x: tl.tensor,
    stats: tl.tensor,
    partial: tl.tensor,
    N: tl.tensor,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
) -> None:
    """Fill ``partial`` (2, programs, D) where rows are too long for ``backward``: BLOCK columns a program."""
    start = tl.program_id(1) * BLOCK
    dgamma = tl.zeros((ROWS, BLOCK), tl.float32)
    dbeta = tl.zeros((ROWS, BLOCK), tl.float32)
    for index in tl.range(tl.program_id(0), tl.cdiv(N, ROWS), tl.num_programs(0), num_stages=STAGES):
        begin, offsets, inside = tile(index, start, N, D, ROWS, BLOCK)
        x_hat, _ = read_x_hat(x, stats, index, start, N, D, ROWS, BLOCK)
        d = read(dy, begin, offsets, inside)
        dgamma += d * x_hat
        dbeta += d
    write_partial(partial, 0, dgamma, start, D, BLOCK)
    write_partial(partial, 1, dbeta, start, D, BLOCK)
