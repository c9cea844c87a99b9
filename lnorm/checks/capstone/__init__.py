"""Assignment 14-capstone: one file an exercise, with its cases and what people get wrong."""

from lnorm.checks.capstone.axes import NORMALIZED_AXES
from lnorm.checks.capstone.diagnosis import DIAGNOSE
from lnorm.checks.capstone.finite import FIRST_NOT_FINITE
from lnorm.checks.capstone.gain_and_eps import GAIN_AND_EPS
from lnorm.checks.capstone.sensitivity import SENSITIVITY
from lnorm.checks.capstone.stream import STREAM_RMS

EXERCISES = (FIRST_NOT_FINITE, STREAM_RMS, NORMALIZED_AXES, SENSITIVITY, GAIN_AND_EPS, DIAGNOSE)
