"""Exercise 2.2: BatchNorm as a layer with two modes and running statistics."""

from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.batch_norm.inputs import SIZES, affine, uneven_features
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError, array

STATE = ("gamma", "beta", "running_mean", "running_var")
METHODS = ("forward", "train", "eval")


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 202)
    n, _, d = SIZES[level]
    gamma, beta = affine(rng, d)

    def case(tests: str, modes: str, *asks: str, tolerance: float = 1e-9, **changed: Any) -> Case:
        """Return a case with one batch for every letter of ``modes``: T in training, E in evaluation, N as it comes."""
        batches = tuple(0.5 * uneven_features(rng, n - i % 3, d) for i in range(len(modes)))  # of unequal size
        inputs = {"batches": batches, "modes": modes, "gamma": gamma, "beta": beta, "eps": 0.05, "momentum": 0.3}
        return Case(tests, inputs | changed | {"asks": asks}, tolerance)

    running = ("running_mean", "running_var")
    sizes = tuple(uneven_features(rng, rows, d) for rows in (5, 4, 1, 3))
    # One rounding of x is 1e-3 here, and of the mean too: up to 2e-3 in x_hat.
    far_away = {"batches": ((1e4 + rng.normal(size=(40, d))).astype(np.float32),), "eps": 1e-5}
    return [
        case("a new layer", "N", "start", "y", gamma=None, beta=None),
        case("training: the output", "TTT", "y"),
        case("running mean", "TTT", "running_mean"),
        case("running variance", "TTT", "running_var"),
        case("running variance", "T", "running_var", batches=(uneven_features(rng, 2, d),)),
        case("momentum=None: the plain average", "TTTT", *running, momentum=None),
        case("momentum=None: the plain average", "TTETET", *running, momentum=None),
        case("evaluation: the output", "TTE", "y"),
        case("evaluation: the output", "TTEE", "y", batches=sizes),
        case("evaluation changes nothing", "TTEE", *running),
        case("back to training after evaluation", "TETET", "y", *running),
        case("far from zero in float32", "T", "y", tolerance=5e-3, gamma=None, beta=None, **far_away),
        case("leaves its input alone", "TTE", "batches"),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    layer = _with_all(answer(inputs["batches"][0].shape[1], inputs["eps"], inputs["momentum"]))
    start = {f"{name} of a new layer": array(name, getattr(layer, name)) for name in STATE}
    for name in ("gamma", "beta"):
        if inputs[name] is not None:
            setattr(layer, name, inputs[name].copy())
    batches, modes, asks = [batch.copy() for batch in inputs["batches"]], inputs["modes"], inputs["asks"]
    ys = {}
    for i, (mode, x) in enumerate(zip(modes, batches, strict=True)):
        if mode != "N":
            layer.train() if mode == "T" else layer.eval()
        y = array(f"y of batch {i + 1}", layer.forward(x))
        if mode == modes[-1]:  # what training gives does not count where evaluation is asked about
            ys[f"y of batch {i + 1}"] = y
    return {
        **(start if "start" in asks else {}),
        **(ys if "y" in asks else {}),
        **{name: array(name, getattr(layer, name)) for name in STATE if name in asks},
        **({f"batch {i + 1} after the call": x for i, x in enumerate(batches)} if "batches" in asks else {}),
    }


def _with_all(layer: Any) -> Any:
    """Return the layer if it has what the text asks for."""
    for name in (*STATE, *METHODS):
        if not hasattr(layer, name):
            what = "method" if name in METHODS else "attribute"
            raise UnusableError(f"the layer, a {type(layer).__name__}, has no {what} `{name}`")
    return layer


class _BatchNorm1d:
    """The right layer. Wrong ones change a step."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1) -> None:
        self.gamma, self.beta = np.ones(num_features), np.zeros(num_features)
        self.running_mean, self.running_var = np.zeros(num_features), np.ones(num_features)
        self.num_batches_tracked, self.training = np.array(0), True
        self.eps, self.momentum = eps, momentum

    def train(self) -> None:
        self.training = True

    def eval(self) -> None:
        self.training = False

    def forward(self, x: Any) -> Any:
        settings: dict[str, Any] = {"momentum": self.momentum, "eps": self.eps}
        settings["num_batches_tracked"] = self.num_batches_tracked
        running = self.running_mean, self.running_var
        return reference.batch_norm(x, self.gamma, self.beta, *running, self.training, **settings)[0]


class _ByHand(_BatchNorm1d):
    """The same in steps that can go wrong one at a time."""

    normalizes_with_ddof = 0
    tracks_with_ddof = 1

    def forward(self, x: Any) -> Any:
        mean, var = x.mean(axis=0), self.variance(x)
        if self.training:
            self.update(x, mean, x.var(axis=0, ddof=self.tracks_with_ddof))
        return self.output(x, *self.statistics(mean, var))

    def variance(self, x: Any) -> Any:
        return x.var(axis=0, ddof=self.normalizes_with_ddof)

    def statistics(self, mean: Any, var: Any) -> Any:
        return (mean, var) if self.training else (self.running_mean, self.running_var)

    def share(self) -> Any:
        return 1 / self.num_batches_tracked if self.momentum is None else self.momentum

    def update(self, x: Any, mean: Any, var: Any) -> None:
        self.num_batches_tracked = self.num_batches_tracked + 1
        m = self.share()
        self.running_mean = (1 - m) * self.running_mean + m * mean
        self.running_var = (1 - m) * self.running_var + m * var

    def output(self, x: Any, mean: Any, var: Any) -> Any:
        return self.gamma * (x - mean) / np.sqrt(var + self.eps) + self.beta


class _TestsWithBatch(_ByHand):
    def statistics(self, mean: Any, var: Any) -> Any:
        return mean, var


class _TestsWithBatchMean(_ByHand):
    def statistics(self, mean: Any, var: Any) -> Any:
        return mean, var if self.training else self.running_var


class _UpdatesInTests(_ByHand):
    def forward(self, x: Any) -> Any:
        y = super().forward(x)
        if not self.training and len(x) > 1:
            self.update(x, x.mean(axis=0), x.var(axis=0, ddof=1))
        return y


class _CountsInTests(_ByHand):
    def forward(self, x: Any) -> Any:
        self.num_batches_tracked = self.num_batches_tracked + (not self.training)
        return super().forward(x)


class _TestsWithoutEps(_ByHand):
    def output(self, x: Any, mean: Any, var: Any) -> Any:
        return self.gamma * (x - mean) / np.sqrt(var + self.eps * self.training) + self.beta


class _TestsWithEpsOutside(_ByHand):
    def output(self, x: Any, mean: Any, var: Any) -> Any:
        std = np.sqrt(var + self.eps) if self.training else np.sqrt(var) + self.eps
        return self.gamma * (x - mean) / std + self.beta


class _TestsWithoutAffine(_ByHand):
    def output(self, x: Any, mean: Any, var: Any) -> Any:
        return super().output(x, mean, var) if self.training else (x - mean) / np.sqrt(var + self.eps)


class _TestsWithUnrooted(_ByHand):
    def output(self, x: Any, mean: Any, var: Any) -> Any:
        s = np.sqrt(var + self.eps) if self.training else var + self.eps
        return self.gamma * (x - mean) / s + self.beta


class _OnePass(_ByHand):
    def variance(self, x: Any) -> Any:
        return np.mean(x**2, axis=0) - np.mean(x, axis=0) ** 2  # counter-example: this cancels


class _MomentumSwapped(_ByHand):
    def share(self) -> Any:
        return 1 / self.num_batches_tracked if self.momentum is None else 1 - self.momentum


class _MomentumFixed(_ByHand):
    def share(self) -> Any:
        return 1 / self.num_batches_tracked if self.momentum is None else 0.1


class _NoPlainAverage(_ByHand):
    def share(self) -> Any:
        return 0.1 if self.momentum is None else self.momentum


class _AverageWithStart(_ByHand):
    def share(self) -> Any:
        return 1 / (self.num_batches_tracked + 1) if self.momentum is None else self.momentum


class _BiasedRunning(_ByHand):
    tracks_with_ddof = 0


class _UnbiasedEverywhere(_ByHand):
    normalizes_with_ddof = 1


class _TracksStd(_ByHand):
    def update(self, x: Any, mean: Any, var: Any) -> None:
        super().update(x, mean, np.sqrt(var))


class _TracksEps(_ByHand):
    def update(self, x: Any, mean: Any, var: Any) -> None:
        super().update(x, mean, var + self.eps)


class _StartsWithFirstBatch(_ByHand):
    def update(self, x: Any, mean: Any, var: Any) -> None:
        if self.num_batches_tracked == 0:
            self.running_mean, self.running_var = mean, var
        super().update(x, mean, var)


class _VarianceStartsAtZero(_ByHand):
    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1) -> None:
        super().__init__(num_features, eps, momentum)
        self.running_var = np.zeros(num_features)


class _StartsInTests(_ByHand):
    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1) -> None:
        super().__init__(num_features, eps, momentum)
        self.training = False


class _TrainsWithRunning(_ByHand):
    def statistics(self, mean: Any, var: Any) -> Any:
        return self.running_mean, self.running_var


class _NeverBack(_ByHand):
    def train(self) -> None:
        pass


class _LastBatchOnly(_ByHand):
    def update(self, x: Any, mean: Any, var: Any) -> None:
        self.num_batches_tracked = self.num_batches_tracked + 1
        self.running_mean, self.running_var = mean, var


class _InPlace(_ByHand):
    def forward(self, x: Any) -> Any:
        y = super().forward(x)
        x -= x.mean(axis=0)
        return y


BATCH_NORM_1D = Exercise(
    name="BatchNorm1d",
    signature="BatchNorm1d(num_features, eps, momentum)",
    properties={
        "a new layer": 1,
        "training: the output": 1,
        "running mean": 1,
        "running variance": 2,
        "momentum=None: the plain average": 1,
        "evaluation: the output": 2,
        "evaluation changes nothing": 1,
        "back to training after evaluation": 1,
        "far from zero in float32": 1,
        "leaves its input alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_BatchNorm1d,
    forbids=(
        "lnorm.reference.batch_norm",
        "torch.nn.functional.batch_norm",
        "torch.nn.BatchNorm1d",
        "torch.batch_norm",
    ),
    mistakes={
        "evaluation uses the batch's own statistics": _TestsWithBatch,
        "evaluation uses the batch's mean and the running variance": _TestsWithBatchMean,
        "evaluation updates the running statistics": _UpdatesInTests,
        "evaluation forgets eps": _TestsWithoutEps,
        "evaluation adds eps outside the square root": _TestsWithEpsOutside,
        "evaluation forgets gamma and beta": _TestsWithoutAffine,
        "evaluation divides by the running variance, not its square root": _TestsWithUnrooted,
        "variance as E[x²] − E[x]², which cancels far from zero": _OnePass,
        "momentum swapped: the share of the old value, as in Keras": _MomentumSwapped,
        "momentum fixed at 0.1, whatever the argument says": _MomentumFixed,
        "momentum=None taken for 0.1: the batches are not counted": _NoPlainAverage,
        "momentum=None averages the initial 0 and 1 too": _AverageWithStart,
        "batches in evaluation are counted": _CountsInTests,
        "the running variance is biased: divided by N": _BiasedRunning,
        "training normalizes with the unbiased variance": _UnbiasedEverywhere,
        "the standard deviation is averaged in place of the variance": _TracksStd,
        "eps is contained in the running variance": _TracksEps,
        "the first batch replaces the initial running statistics": _StartsWithFirstBatch,
        "the running statistics are those of the last batch": _LastBatchOnly,
        "the running variance starts at 0": _VarianceStartsAtZero,
        "training uses the running statistics": _TrainsWithRunning,
        "a new layer is in evaluation": _StartsInTests,
        "train() does not end evaluation": _NeverBack,
        "x overwritten in place": _InPlace,
    },
)
