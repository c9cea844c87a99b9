"""Assignment 12-life-without: one file an exercise, with its cases and what people get wrong."""

from lnorm.checks.life_without.dyt import DYT
from lnorm.checks.life_without.dyt_backward import DYT_BACKWARD
from lnorm.checks.life_without.fixup import FIXUP_INIT
from lnorm.checks.life_without.freeze import FREEZE_LAYER_NORM
from lnorm.checks.life_without.huge_eps import HUGE_EPS_TRICK
from lnorm.checks.life_without.standardize import STANDARDIZE_WEIGHT
from lnorm.checks.life_without.weight_norm import WEIGHT_NORM

EXERCISES = (
    DYT,
    DYT_BACKWARD,
    STANDARDIZE_WEIGHT,
    WEIGHT_NORM,
    FIXUP_INIT,
    FREEZE_LAYER_NORM,
    HUGE_EPS_TRICK,
)
