"""How rows are cut into tiles and given to programs, and how a kernel is started."""

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

ELEMENTS = 2048  # at least so many in a tile: a program takes several rows where they are short
INTERPRETED = 2  # processors that Triton's interpreter, on the CPU, counts as


@dataclass(frozen=True)
class Tiles:
    """Tiles of ``rows`` rows and ``block`` columns, both powers of two, for programs of ``warps`` times 32 threads."""

    rows: int
    block: int
    warps: int


def tiles(D: int, widest: int) -> Tiles:
    """Return how rows of D are cut: in one block, where that is no wider than ``widest``; 16 elements a thread."""
    block = min(triton.next_power_of_2(D), widest)
    rows = max(1, ELEMENTS // block)
    return Tiles(rows, block, rows * block // 512)


def programs(x: Tensor, cut: Tiles, columns: int = 1) -> int:
    """Return for how many programs the rows of ``x`` are divided where all are to run at once: 16 warps a processor.

    ``columns`` programs share the columns.
    """
    processors = torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else INTERPRETED
    most = processors * max(1, 16 // cut.warps)
    return max(1, min(triton.cdiv(len(x), cut.rows), triton.cdiv(most, columns)))


def start(kernel: Any, grid: tuple[int, ...], cut: Tiles, x: Tensor, *arguments: Any, **constants: int) -> None:
    """Start a kernel on the device of ``x``. Multiplication and addition may be rounded as one."""
    with torch.cuda.device_of(x):
        kernel[grid](
            *arguments,
            *x.shape,
            ROWS=cut.rows,
            BLOCK=cut.block,
            num_warps=cut.warps,
            enable_fp_fusion=True,
            **constants,
        )
