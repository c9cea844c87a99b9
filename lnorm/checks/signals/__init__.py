"""Assignment 01-signals: one file an exercise, with its cases and what people get wrong."""

from lnorm.checks.signals.critical_gain import CRITICAL_GAIN
from lnorm.checks.signals.factor_per_layer import FACTOR_PER_LAYER
from lnorm.checks.signals.gradient_squares import GRADIENT_SQUARES
from lnorm.checks.signals.he_init import HE_INIT
from lnorm.checks.signals.overflow import OVERFLOW_LAYER
from lnorm.checks.signals.propagate import PROPAGATE
from lnorm.checks.signals.variance_factor import VARIANCE_FACTOR

EXERCISES = (
    VARIANCE_FACTOR,
    HE_INIT,
    PROPAGATE,
    FACTOR_PER_LAYER,
    OVERFLOW_LAYER,
    CRITICAL_GAIN,
    GRADIENT_SQUARES,
)
