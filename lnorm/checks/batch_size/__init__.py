"""Assignment 05-batch-size: one file an exercise, with its cases and what people get wrong."""

from lnorm.checks.batch_size.accumulation import ACCUMULATE_GRADIENTS
from lnorm.checks.batch_size.ghost import GHOST_BATCH_NORM
from lnorm.checks.batch_size.merging import MERGE_STATS
from lnorm.checks.batch_size.switch import SWITCH_NORM
from lnorm.checks.batch_size.sync_backward import SYNC_BATCH_NORM_BACKWARD
from lnorm.checks.batch_size.sync_forward import SYNC_BATCH_NORM

EXERCISES = (
    MERGE_STATS,
    GHOST_BATCH_NORM,
    SYNC_BATCH_NORM,
    SYNC_BATCH_NORM_BACKWARD,
    ACCUMULATE_GRADIENTS,
    SWITCH_NORM,
)
