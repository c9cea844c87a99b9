"""Assignment 07-placement: one file an exercise, with its cases and what people get wrong."""

from lnorm.checks.placement.block import BLOCK
from lnorm.checks.placement.diagnose_curve import DIAGNOSE_CURVE
from lnorm.checks.placement.grad_norms import GRAD_NORMS
from lnorm.checks.placement.head_input import HEAD_INPUT
from lnorm.checks.placement.loglog_slope import LOGLOG_SLOPE
from lnorm.checks.placement.unigram_entropy import UNIGRAM_ENTROPY
from lnorm.checks.placement.warm_up import WARM_UP

EXERCISES = (BLOCK, HEAD_INPUT, UNIGRAM_ENTROPY, LOGLOG_SLOPE, WARM_UP, DIAGNOSE_CURVE, GRAD_NORMS)
