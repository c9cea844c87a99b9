"""Assignment 02-batch-norm: one file an exercise, with its cases and what people get wrong."""

from lnorm.checks.batch_norm.backward import BATCH_NORM_BACKWARD
from lnorm.checks.batch_norm.constant_statistics_test import TEST_CONSTANT_STATISTICS
from lnorm.checks.batch_norm.fold import FOLD_BN_INTO_LINEAR
from lnorm.checks.batch_norm.images import BATCH_NORM_2D
from lnorm.checks.batch_norm.layer import BATCH_NORM_1D
from lnorm.checks.batch_norm.masked import MASKED_BATCH_NORM
from lnorm.checks.batch_norm.train import BATCH_NORM_TRAIN

EXERCISES = (
    BATCH_NORM_TRAIN,
    BATCH_NORM_1D,
    BATCH_NORM_BACKWARD,
    FOLD_BN_INTO_LINEAR,
    BATCH_NORM_2D,
    MASKED_BATCH_NORM,
    TEST_CONSTANT_STATISTICS,
)
