"""Assignment 09-rms-norm: one file an exercise, with its cases and what people get wrong."""

from lnorm.checks.rms_norm.backward import RMS_NORM_BACKWARD
from lnorm.checks.rms_norm.detached_scale_test import TEST_DETACHED_SCALE
from lnorm.checks.rms_norm.folding import FOLD_CENTRING
from lnorm.checks.rms_norm.forward import RMS_NORM
from lnorm.checks.rms_norm.one_pass import WELFORD
from lnorm.checks.rms_norm.partial import PRMS_NORM
from lnorm.checks.rms_norm.traffic import BYTES_MOVED

EXERCISES = (
    RMS_NORM,
    RMS_NORM_BACKWARD,
    PRMS_NORM,
    FOLD_CENTRING,
    BYTES_MOVED,
    WELFORD,
    TEST_DETACHED_SCALE,
)
