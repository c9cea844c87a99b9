"""Assignment 13-after-training: one file an exercise, with its cases and what people get wrong."""

from lnorm.checks.after_training.adapt import ADAPT_BN
from lnorm.checks.after_training.fold import FOLD_GAMMA
from lnorm.checks.after_training.front import NOT_DOMINATED
from lnorm.checks.after_training.lora import LORA_LINEAR
from lnorm.checks.after_training.outlier import OUTLIER_SHRINK
from lnorm.checks.after_training.quantize import QUANTIZE_INT8
from lnorm.checks.after_training.trainable import TRAINABLE_PARAMETERS

EXERCISES = (
    OUTLIER_SHRINK,
    TRAINABLE_PARAMETERS,
    QUANTIZE_INT8,
    FOLD_GAMMA,
    NOT_DOMINATED,
    LORA_LINEAR,
    ADAPT_BN,
)
