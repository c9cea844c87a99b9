"""Exercise 14.2: the size of the stream at real tokens."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

VALUES, PADDED, GARBAGE, INPUTS = (
    "sentences of one length",
    "padding left out",
    "whatever padding holds",
    "leaves alone",
)


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 1)
    places, n, t, d = (3, 4, 5, 6) if level == "visible" else (5, 3, 7, 4)

    def case(tests: str, padding: float, full: bool = False, **more: Any) -> Case:
        real = np.arange(t) < (t if full else rng.integers(1, t, size=(n, 1)))
        real = np.broadcast_to(real, (n, t)).copy()
        x = rng.uniform(0.5, 4, size=(places, 1, t, 1)) * rng.normal(0.7, 1.0, size=(places, n, t, d))
        return Case(tests, {"stream": np.where(real[..., None], x, padding), "real": real, **more})

    return [
        case(VALUES, 0.0, full=True),
        case(PADDED, 0.0),
        case(PADDED, 0.0),
        case(GARBAGE, 50.0),
        case(GARBAGE, np.nan),
        case(INPUTS, 3.0, asks="inputs"),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    stream, real = inputs["stream"].copy(), inputs["real"].copy()
    size = array("the RMS", answer(stream, real))
    return {"the RMS": size} | (
        {"stream after the call": stream, "real after the call": real} if "asks" in inputs else {}
    )


def _rms(stream: np.ndarray, real: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(stream[:, real] ** 2, axis=(1, 2)))


def _in_place(stream: np.ndarray, real: np.ndarray) -> np.ndarray:
    stream[:, ~real] = 0
    return _rms(stream, real)


def _times_mask(stream: np.ndarray, real: np.ndarray) -> np.ndarray:
    return np.sqrt(np.sum((stream * real[..., None]) ** 2, axis=(1, 2, 3)) / (real.sum() * stream.shape[3]))


def _by_sentence(stream: np.ndarray, real: np.ndarray) -> np.ndarray:
    each = [
        np.sqrt(np.mean(x[:, keep] ** 2, axis=(1, 2))) for x, keep in zip(np.moveaxis(stream, 1, 0), real, strict=True)
    ]
    return np.mean(each, axis=0)


STREAM_RMS = Exercise(
    name="stream_rms",
    signature="stream_rms(stream, real)",
    properties={VALUES: 1, PADDED: 1, GARBAGE: 1, INPUTS: 1},
    cases=_cases,
    probe=_probe,
    solution=_rms,
    mistakes={
        "padding counted as tokens": lambda stream, real: np.sqrt(np.mean(np.nan_to_num(stream) ** 2, axis=(1, 2, 3))),
        "the standard deviation: a mean was subtracted": lambda stream, real: stream[:, real].std(axis=(1, 2)),
        "the mean square, without the root": lambda stream, real: _rms(stream, real) ** 2,
        "the mean of the absolute values": lambda stream, real: np.abs(stream[:, real]).mean(axis=(1, 2)),
        "the mean of the tokens' RMS, instead of the root of the mean of all squares": lambda stream, real: np.sqrt(
            np.mean(stream[:, real] ** 2, axis=2)
        ).mean(axis=1),
        "the mean of the sentences' RMS": _by_sentence,
        "the norm: a sum of squares instead of their mean": lambda stream, real: np.sqrt(
            np.sum(stream[:, real] ** 2, axis=(1, 2))
        ),
        "one number for all places": lambda stream, real: np.sqrt(np.mean(stream[:, real] ** 2)),
        "one number for every token": lambda stream, real: np.sqrt(np.mean(stream[:, real] ** 2, axis=2)),
        "divided by the number of tokens, not by that of tokens and features": lambda stream, real: (
            _rms(stream, real) * np.sqrt(stream.shape[3])
        ),
        "padding removed by multiplication with the mask, which leaves NaN": _times_mask,
        "the mask upside down": lambda stream, real: _rms(stream, ~real),
        "only the last token of each sentence": lambda stream, real: _rms(
            stream[:, np.arange(len(real)), real.sum(1) - 1][:, :, None], np.ones((len(real), 1), bool)
        ),
        "stream overwritten in place": _in_place,
    },
)
