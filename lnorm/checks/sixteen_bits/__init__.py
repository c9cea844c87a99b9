"""Assignment 10-sixteen-bits: one file an exercise, with its cases and what people get wrong."""

from lnorm.checks.sixteen_bits.classifier import ONE_OR_TWO_PASSES
from lnorm.checks.sixteen_bits.gain import EFFECTIVE_GAIN
from lnorm.checks.sixteen_bits.lost_eps_test import TEST_LOST_EPS
from lnorm.checks.sixteen_bits.overflow import OVERFLOW_THRESHOLD
from lnorm.checks.sixteen_bits.safe_layer_norm import SAFE_LAYER_NORM_FP16
from lnorm.checks.sixteen_bits.scale import LOSS_SCALE_NEEDED
from lnorm.checks.sixteen_bits.smallest_eps import MIN_SAFE_EPS

EXERCISES = (
    EFFECTIVE_GAIN,
    MIN_SAFE_EPS,
    OVERFLOW_THRESHOLD,
    SAFE_LAYER_NORM_FP16,
    LOSS_SCALE_NEEDED,
    ONE_OR_TWO_PASSES,
    TEST_LOST_EPS,
)
