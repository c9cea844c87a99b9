"""Assignment 06-sequences: one file an exercise, with its cases and what people get wrong."""

from lnorm.checks.sequences.causal import IS_CAUSAL
from lnorm.checks.sequences.decoding_test import TEST_INCREMENTAL_DECODING
from lnorm.checks.sequences.influence import INFLUENCE_MATRIX
from lnorm.checks.sequences.lstm import LN_LSTM_CELL
from lnorm.checks.sequences.over_time import MASKED_LAYER_NORM_OVER_TIME
from lnorm.checks.sequences.rnn import LN_RNN_CELL
from lnorm.checks.sequences.spread import SPREAD_BEHIND_BATCH_NORM

EXERCISES = (
    SPREAD_BEHIND_BATCH_NORM,
    MASKED_LAYER_NORM_OVER_TIME,
    INFLUENCE_MATRIX,
    IS_CAUSAL,
    LN_RNN_CELL,
    LN_LSTM_CELL,
    TEST_INCREMENTAL_DECODING,
)
