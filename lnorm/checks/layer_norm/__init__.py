"""Assignment 03-layer-norm: one file an exercise, with its cases and what people get wrong."""

from lnorm.checks.layer_norm.backward import LAYER_NORM_BACKWARD
from lnorm.checks.layer_norm.best_affine import BEST_AFFINE_R2
from lnorm.checks.layer_norm.centring import RMS_FROM_LN
from lnorm.checks.layer_norm.collide import COLLIDE
from lnorm.checks.layer_norm.forward import LAYER_NORM

EXERCISES = (LAYER_NORM, LAYER_NORM_BACKWARD, BEST_AFFINE_R2, COLLIDE, RMS_FROM_LN)
