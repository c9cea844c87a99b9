"""Assignment 08-going-deep: one file an exercise, with its cases and what people get wrong."""

from lnorm.checks.going_deep.admin_omega import ADMIN_OMEGA
from lnorm.checks.going_deep.deepnorm_constants import DEEPNORM_CONSTANTS
from lnorm.checks.going_deep.deepnorm_init import APPLY_DEEPNORM_INIT
from lnorm.checks.going_deep.drop_layer import DROP_LAYER_EFFECT
from lnorm.checks.going_deep.layer_cosines import LAYER_COSINES
from lnorm.checks.going_deep.layernorm_scaling import LAYERNORM_SCALING
from lnorm.checks.going_deep.prenorm_variance import PREDICT_PRENORM_VARIANCE

EXERCISES = (
    DEEPNORM_CONSTANTS,
    APPLY_DEEPNORM_INIT,
    PREDICT_PRENORM_VARIANCE,
    LAYERNORM_SCALING,
    LAYER_COSINES,
    DROP_LAYER_EFFECT,
    ADMIN_OMEGA,
)
