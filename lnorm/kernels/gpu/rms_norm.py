"""RMSNorm, alone or of a sum: as LayerNorm's kernels, without the mean."""

import triton
import triton.language as tl

from lnorm.kernels.gpu.rows import parameter, read, read_sum, tile, write, write_partial


@triton.jit(do_not_specialize=["N"])
def forward(
    x: tl.tensor,
    residual: tl.tensor,
    gamma: tl.tensor,
    y: tl.tensor,
    total: tl.tensor,
    rrms: tl.tensor,
    eps: tl.tensor,
    N: tl.tensor,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Fill ``y`` (N, D); ``rrms`` (N,), one over the root mean square, if given; ``total`` if there is a residual."""
    index = tl.program_id(0)
    begin, offsets, inside = tile(index, 0, N, D, ROWS, BLOCK)
    value = read_sum(x, residual, total, begin, offsets, inside)
    second = tl.sum(value * value, 1, keep_dims=True)  # (ROWS, 1)
    for start in range(BLOCK, D, BLOCK):
        begin, more, there = tile(index, start, N, D, ROWS, BLOCK)
        block = read_sum(x, residual, total, begin, more, there)
        second += tl.sum(block * block, 1, keep_dims=True)
    r = tl.div_rn(1.0, tl.sqrt_rn(second / D + eps))

    write(y, begin, offsets, inside, value * r * parameter(gamma, 0, D, BLOCK))
    if D > BLOCK:
        source = x if residual is None else total
        tl.debug_barrier()  # the sums that other threads of this program have written
        for start in range(BLOCK, D, BLOCK):
            begin, more, there = tile(index, start, N, D, ROWS, BLOCK)
            block = read(source, begin, more, there)
            write(y, begin, more, there, block * r * parameter(gamma, start, D, BLOCK))
    if rrms is not None:
        begin, offsets, inside = tile(index, 0, N, 1, ROWS, 1)
        write(rrms, begin, offsets, inside, r)


@triton.jit
def read_x_hat(
    x: tl.tensor,
    rrms: tl.tensor,
    index: tl.tensor,
    start: tl.tensor,
    N: tl.tensor,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """Return a tile of x normalized again from ``rrms``, and its rows of that."""
    begin, offsets, inside = tile(index, 0, N, 1, ROWS, 1)
    r = read(rrms, begin, offsets, inside)  # (ROWS, 1)
    begin, offsets, inside = tile(index, start, N, D, ROWS, BLOCK)
    return read(x, begin, offsets, inside) * r, r


@triton.jit(do_not_specialize=["N"])
def backward(
    dy: tl.tensor,
    dr: tl.tensor,
    x: tl.tensor,
    gamma: tl.tensor,
    rrms: tl.tensor,
    dx: tl.tensor,
    partial: tl.tensor,
    N: tl.tensor,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
) -> None:
    """Fill ``dx`` (N, D), with ``dr`` added where given; and ``partial`` (1, programs, D). See layer_norm.backward."""
    w = parameter(gamma, 0, D, BLOCK)
    dgamma = tl.zeros((ROWS, BLOCK), tl.float32)
    for index in tl.range(tl.program_id(0), tl.cdiv(N, ROWS), tl.num_programs(0), num_stages=STAGES):
        begin, offsets, inside = tile(index, 0, N, D, ROWS, BLOCK)
        x_hat, r = read_x_hat(x, rrms, index, 0, N, D, ROWS, BLOCK)
        d = read(dy, begin, offsets, inside)
        if partial is not None:
            dgamma += d * x_hat
        g = d * w
        sum_gx = tl.sum(g * x_hat, 1, keep_dims=True)
        for start in range(BLOCK, D, BLOCK):
            begin, more, there = tile(index, start, N, D, ROWS, BLOCK)
            xs, _ = read_x_hat(x, rrms, index, start, N, D, ROWS, BLOCK)
            gs = read(dy, begin, more, there) * parameter(gamma, start, D, BLOCK)
            sum_gx += tl.sum(gs * xs, 1, keep_dims=True)
        mean_gx = sum_gx / D

        value = (g - x_hat * mean_gx) * r
        if dr is not None:
            value += read(dr, begin, offsets, inside)
        write(dx, begin, offsets, inside, value)
        for start in range(BLOCK, D, BLOCK):
            begin, more, there = tile(index, start, N, D, ROWS, BLOCK)
            xs, _ = read_x_hat(x, rrms, index, start, N, D, ROWS, BLOCK)
            gs = read(dy, begin, more, there) * parameter(gamma, start, D, BLOCK)
            value = (gs - xs * mean_gx) * r
            if dr is not None:
                value += read(dr, begin, more, there)
            write(dx, begin, more, there, value)
    if partial is not None:
        write_partial(partial, 0, dgamma, 0, D, BLOCK)


@triton.jit(do_not_specialize=["N"])
def weight_gradients(
    dy: tl.tensor,
    x: tl.tensor,
    rrms: tl.tensor,
    partial: tl.tensor,
    N: tl.tensor,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
) -> None:
    """Fill ``partial`` (1, programs, D) where rows are too long for ``backward``: BLOCK columns a program."""
    start = tl.program_id(1) * BLOCK
    dgamma = tl.zeros((ROWS, BLOCK), tl.float32)
    for index in tl.range(tl.program_id(0), tl.cdiv(N, ROWS), tl.num_programs(0), num_stages=STAGES):
        begin, offsets, inside = tile(index, start, N, D, ROWS, BLOCK)
        x_hat, _ = read_x_hat(x, rrms, index, start, N, D, ROWS, BLOCK)
        dgamma += read(dy, begin, offsets, inside) * x_hat
    write_partial(partial, 0, dgamma, start, D, BLOCK)
