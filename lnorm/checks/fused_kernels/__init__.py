"""Assignment 11-fused-kernels: one file an exercise, with its cases and what people get wrong."""

from lnorm.checks.fused_kernels.add_norm import FUSED_ADD_LAYER_NORM
from lnorm.checks.fused_kernels.kernel import FUSED_LAYER_NORM
from lnorm.checks.fused_kernels.lost_rows_test import TEST_LOST_ROWS
from lnorm.checks.fused_kernels.moments import ONE_PASS_MOMENTS
from lnorm.checks.fused_kernels.pieces import GAIN_GRADIENTS
from lnorm.checks.fused_kernels.recompute import LEAN_LAYER_NORM
from lnorm.checks.fused_kernels.traffic import FUSED_TRAFFIC

EXERCISES = (
    FUSED_TRAFFIC,
    ONE_PASS_MOMENTS,
    FUSED_LAYER_NORM,
    FUSED_ADD_LAYER_NORM,
    GAIN_GRADIENTS,
    TEST_LOST_ROWS,
    LEAN_LAYER_NORM,
)
