"""Assignment 04-why-it-works: one file an exercise, with its cases and what people get wrong."""

from lnorm.checks.why_it_works.detached_layer_norm import DETACHED_LAYER_NORM
from lnorm.checks.why_it_works.effective_rate import EFFECTIVE_LR
from lnorm.checks.why_it_works.equivalent_rate import EQUIVALENT_LR
from lnorm.checks.why_it_works.gradient_test import TEST_BN_GRADIENT
from lnorm.checks.why_it_works.growth_rate import BN_GROWTH_RATE
from lnorm.checks.why_it_works.landscape import LANDSCAPE_RANGE
from lnorm.checks.why_it_works.noisy_batch_norm import NOISY_BATCH_NORM

EXERCISES = (
    EQUIVALENT_LR,
    EFFECTIVE_LR,
    NOISY_BATCH_NORM,
    DETACHED_LAYER_NORM,
    LANDSCAPE_RANGE,
    BN_GROWTH_RATE,
    TEST_BN_GRADIENT,
)
