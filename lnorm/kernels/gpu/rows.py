"""What every kernel here does with rows: find them in memory, read them in float32, write them in their own type."""

import triton
import triton.language as tl


@triton.jit
def tile(
    index: tl.tensor, start: tl.tensor, N: tl.tensor, D: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
) -> tl.tensor:
    """Return where a tile of rows lies: its begin, the offsets of BLOCK columns from ``start`` on, and which exist.

    A tensor may have more than 2**31 elements, a tile has not: its begin has 64 bits, the offsets 32.
    """
    index = tl.cast(index, tl.int64)
    row = tl.arange(0, ROWS)[:, None]
    column = start + tl.arange(0, BLOCK)[None, :]
    return index * (ROWS * D), row * D + column, (row < N - index * ROWS) & (column < D)


@triton.jit
def read(x: tl.tensor, begin: tl.tensor, offsets: tl.tensor, inside: tl.tensor) -> tl.tensor:
    """Return a tile in float32, with zeros where there is nothing."""
    return tl.load(x + begin + offsets, inside, other=0).to(tl.float32)


@triton.jit
def write(y: tl.tensor, begin: tl.tensor, offsets: tl.tensor, inside: tl.tensor, value: tl.tensor) -> None:
    tl.store(y + begin + offsets, value.to(y.dtype.element_ty), inside)


@triton.jit
def read_sum(
    x: tl.tensor, residual: tl.tensor, total: tl.tensor, begin: tl.tensor, offsets: tl.tensor, inside: tl.tensor
) -> tl.tensor:
    """Return a tile of x; or, where a residual is given, of their sum as it is rounded into ``total``."""
    value = read(x, begin, offsets, inside)
    if residual is not None:
        value = (value + read(residual, begin, offsets, inside)).to(total.dtype.element_ty)
        tl.store(total + begin + offsets, value, inside)
    return value.to(tl.float32)


@triton.jit
def parameter(gamma: tl.tensor, start: tl.tensor, D: tl.constexpr, BLOCK: tl.constexpr) -> tl.tensor:
    """Return BLOCK numbers of a gain or a bias, as one row of a tile."""
    column = start + tl.arange(0, BLOCK)[None, :]
    return tl.load(gamma + column, column < D, other=0).to(tl.float32)


@triton.jit
def write_partial(
    partial: tl.tensor, which: tl.constexpr, sums: tl.tensor, start: tl.tensor, D: tl.constexpr, BLOCK: tl.constexpr
) -> None:
    """Write the sum over a tile's rows into ``partial`` (…, programs, D): each program has a row of its own."""
    column = start + tl.arange(0, BLOCK)
    row = tl.cast(which * tl.num_programs(0) + tl.program_id(0), tl.int64)
    tl.store(partial + row * D + column, tl.sum(sums, 0), column < D)
