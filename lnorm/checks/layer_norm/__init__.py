"""Assignment 03-layer-norm: one file an exercise, with its cases and what people get wrong."""

from lnorm.checks.layer_norm.backward import LAYER_NORM_BACKWARD
from lnorm.checks.layer_norm.best_affine import BEST_AFFINE_R2
from lnorm.checks.layer_norm.centring import RMS_FROM_LN
from lnorm.checks.layer_norm.collide import COLLIDE
from lnorm.checks.layer_norm.forward import LAYER_NORM
from lnorm.checks.layer_norm.invariances import INVARIANCES
from lnorm.checks.layer_norm.largest import LARGEST_VALUE
from lnorm.checks.layer_norm.one_pass_test import TEST_ONE_PASS

EXERCISES = (
    LAYER_NORM,
    LAYER_NORM_BACKWARD,
    BEST_AFFINE_R2,
    COLLIDE,
    RMS_FROM_LN,
    INVARIANCES,
    LARGEST_VALUE,
    TEST_ONE_PASS,
)
