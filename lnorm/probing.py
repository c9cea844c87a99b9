"""See what happens inside of a network while it trains: signals, gradients and updates, layer by layer.

Put ``probe`` around one training step, or a few, of any torch model; nothing in the model or the loop changes::

    with probe(model) as trace:
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
    print(trace.table())
    trace.plot()

A layer is a module without submodules, or with parameters of its own; :class:`torch.nn.Identity` is none. The probe
reads and never writes: losses, gradients and random numbers are those of a run without it. What it cannot see is what
no layer puts out, such as the result of ``torch.relu`` in the middle of a ``forward``: write ``nn.ReLU()`` there.
"""

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook, register_optimizer_step_pre_hook


class Record(NamedTuple):
    """What one layer did in one step. A quantity is None if there was nothing to measure."""

    step: int  # 0, 1, …
    layer: str  # its name in the model
    kind: str  # its class
    calls: int  # how many times it ran in this step
    mean: float | None  # of all numbers that it put out
    variance: float | None  # their mean square deviation from the mean: divided by n
    rms: float | None  # root of their mean square
    dead: float | None  # share of units that were zero for every example
    output_gradient: float | None  # norm of ∂loss/∂output over the batch
    parameter_gradient: float | None  # norm of ∂loss/∂parameters, as backward left it: before any clipping
    update_ratio: float | None  # norm of what the optimizer added to the parameters, divided by theirs


class Table:
    """Records as text in a terminal, as Markdown in a notebook."""

    TITLES = ("layer", "kind", "mean", "variance", "RMS", "dead", "‖∂L/∂out‖", "‖∂L/∂w‖", "‖Δw‖/‖w‖")

    def __init__(self, records: list[Record]) -> None:
        self.records = records

    def _rows(self) -> Iterator[list[str]]:
        for r in self.records:
            numbers = (r.mean, r.variance, r.rms, r.dead, r.output_gradient, r.parameter_gradient, r.update_ratio)
            yield [r.layer, r.kind, *("–" if value is None else f"{value:.2g}" for value in numbers)]

    def __str__(self) -> str:
        rows = [list(self.TITLES), *self._rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        pad = [str.ljust, str.ljust, *[str.rjust] * (len(widths) - 2)]
        return "\n".join(
            "  ".join(f(cell, width) for f, cell, width in zip(pad, row, widths, strict=True)).rstrip() for row in rows
        )

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        lines = ["| " + " | ".join(self.TITLES) + " |", "|---|---|" + "--:|" * (len(self.TITLES) - 2)]
        lines += [f"| `{layer}` | " + " | ".join(rest) + " |" for layer, *rest in self._rows()]
        return "\n".join(lines)


class Trace:
    """What a probe saw: ``records``, one a layer and step, in the order in which the layers ran.

    They are filled in when the ``with`` block ends. ``table`` and ``plot`` show one step, by default the last.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []

    def table(self, step: int = -1) -> Table:
        """Return the records of a step as a table; ``step`` counts as a list index does."""
        return Table(self._records_of(step))

    def plot(self, step: int = -1) -> Any:
        """Draw a step, one row a layer, first layer on top; return the matplotlib figure.

        Left the RMS of the outputs, in the middle the norms of the gradients, right the update ratio with the customary
        10⁻³ as a dashed line. Axes are logarithmic: a line that leaves to the left has come to exactly zero.
        """
        from lnorm.plotting import COLOURS, INK, figure

        records = self._records_of(step)
        rows = range(len(records))
        fig, axes = figure(3, height=max(3.3, 0.9 + 0.17 * min(len(rows), 60)), sharey=True, layout="constrained")
        curves = (
            (0, "rms", "layer", "o", "output"),
            (1, "output_gradient", "layer", "o", "by output"),
            (1, "parameter_gradient", "weight", "v", "by parameters"),
            (2, "update_ratio", "weight", "v", "parameters"),
        )
        for column, quantity, colour, marker, label in curves:
            points = [(getattr(r, quantity), row) for row, r in enumerate(records) if getattr(r, quantity) is not None]
            if points:
                style = {"color": COLOURS[colour], "marker": marker, "markersize": 3.5, "linewidth": 1.0}
                axes[column].plot(*zip(*points, strict=True), label=label, **style)
        for ax, title in zip(axes, ("RMS of the output", "gradient norm", "update / weight"), strict=True):
            ax.set_xscale("log", nonpositive="clip")
            ax.set_title(title)
        axes[1].legend(fontsize="x-small")
        axes[2].axvline(1e-3, color=INK, linestyle=(0, (4, 3)), linewidth=1.4)
        named = rows[:: math.ceil(len(rows) / 60)]  # more names than this would run into each other
        axes[0].set_yticks(named, [records[row].layer for row in named], fontsize=7)
        axes[0].set_ylim(len(rows) - 0.5, -0.5)
        return fig

    def _records_of(self, step: int) -> list[Record]:
        if not self.records:
            raise RuntimeError(
                "nothing was recorded: run the model's forward pass inside of `with probe(model) as trace:`, "
                "on the same model object, and read the trace after the block"
            )
        steps = self.records[-1].step + 1
        if not -steps <= step < steps:
            raise IndexError(f"step: expected one of the {steps} recorded, got {step}")
        return [record for record in self.records if record.step == step % steps]


@contextmanager
def probe(model: nn.Module, channel_axis: int | None = None) -> Iterator[Trace]:
    """Record what every layer of ``model`` does while the ``with`` block runs.

    Forward hooks measure outputs, of several outputs the first floating-point tensor; tensor hooks measure gradients;
    hooks on every optimizer measure updates. All are removed when the block ends, also by an exception. Numbers stay on
    the model's device until then, so that the probe does not wait for a GPU. Statistics of float16 and bfloat16 are
    taken in float32. For the length of an optimizer step a second copy of its parameters is held in memory.

    A step ends with the first forward pass after an optimizer has stepped. Within a step (gradient accumulation,
    recurrence, shared layers, evaluation) the outputs of all calls of a layer count as one output, except that the
    share of dead units is averaged over calls. Code compiled by torch.compile runs uncompiled inside of the block.

    A unit is dead if its output is zero for every example of the batch, and every token or pixel. That is a diagnosis
    after ReLU and its kin; elsewhere expect 0. Units lie along ``channel_axis``; None means axis 1 for outputs with four
    axes or more, images ``(N, C, H, W)``, and the last axis otherwise. Give 1 for 1-d convolutions, ``(N, C, L)``.

    Raises TypeError if ``model`` is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    trace = Trace()
    recorder = _Recorder(model, channel_axis)
    with ExitStack() as hooks:
        hooks.enter_context(torch.compiler.set_stance("force_eager"))
        recorder.attach(hooks)
        try:
            yield trace
        finally:
            trace.records = recorder.records()


def overhead(model: nn.Module, step: Callable[[], Any], pairs: int = 30) -> list[float]:
    """Return by which factor the probe lengthens ``step()``, measured ``pairs`` times.

    ``step`` should do one training step of ``model``; it is called 2 · ``pairs`` times, and twice to warm up. Steps with
    and without the probe alternate, so that whatever else the machine does hits both.
    """

    def seconds(probed: bool) -> float:
        started = time.perf_counter()
        with probe(model) if probed else ExitStack():
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
        return time.perf_counter() - started

    seconds(False), seconds(True)
    factors = []
    for pair in range(pairs):
        times = {probed: seconds(probed) for probed in (pair % 2 == 0, pair % 2 == 1)}
        factors.append(times[True] / times[False])
    return factors


class _Output(NamedTuple):
    """One output of a layer. Tensors hold one number each, on the layer's device."""

    size: int
    mean: Tensor
    deviation: Tensor  # norm of output - mean
    alive: Tensor  # number of units that are not dead
    units: int


class _Step:
    """The measurements of one step, by layer and by parameter."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = defaultdict(int)
        self.outputs: dict[str, list[_Output]] = defaultdict(list)
        self.output_gradients: dict[str, list[Tensor]] = defaultdict(list)
        self.gradients: dict[nn.Parameter, Tensor] = {}
        self.updates: dict[nn.Parameter, tuple[Tensor, Tensor]] = {}  # norms of the change and of what was there


class _Recorder:
    """The hooks, and what they have measured so far."""

    def __init__(self, model: nn.Module, channel_axis: int | None) -> None:
        self.channel_axis = channel_axis
        self.layers = {name: layer for name, layer in _layers(model)}
        self.parameters = {name: list(_own_parameters(layer)) for name, layer in self.layers.items()}
        self.steps = [_Step()]
        self.stepped = False
        self.before: dict[Optimizer, dict[nn.Parameter, Tensor]] = {}
        self.tensor_hooks: list[Any] = []

    def attach(self, hooks: ExitStack) -> None:
        """Register all hooks, and their removal with ``hooks``."""
        hooks.callback(self._forget_tensors)
        for name, layer in self.layers.items():
            hooks.callback(layer.register_forward_hook(partial(self._after_forward, name)).remove)
        for parameter in {p: None for own in self.parameters.values() for p in own if p.requires_grad}:
            hooks.callback(parameter.register_post_accumulate_grad_hook(self._after_backward).remove)
        hooks.callback(register_optimizer_step_pre_hook(self._before_update).remove)
        hooks.callback(register_optimizer_step_post_hook(self._after_update).remove)

    def _forget_tensors(self) -> None:
        for hook in self.tensor_hooks:
            hook.remove()
        self.tensor_hooks.clear()

    def _after_forward(self, name: str, layer: nn.Module, inputs: Any, output: Any) -> None:
        x = _first_tensor(output)
        if x is None:
            return
        if self.stepped:
            self._forget_tensors()
            self.steps.append(_Step())
            self.stepped = False
        step = self.steps[-1]
        step.calls[name] += 1
        if x.numel():
            step.outputs[name].append(_measure(x.detach(), self.channel_axis))
        if x.requires_grad:  # a hook on the tensor, since torch's module hooks forbid in-place operations after them
            gradients = step.output_gradients[name]
            self.tensor_hooks.append(x.register_hook(lambda g: None if g is None else gradients.append(_norm(g))))

    def _after_backward(self, parameter: nn.Parameter) -> None:
        if parameter.grad is not None:
            self.steps[-1].gradients[parameter] = _norm(parameter.grad)

    def _before_update(self, optimizer: Optimizer, *_: Any) -> None:
        mine = {p for own in self.parameters.values() for p in own}
        held = [p for group in optimizer.param_groups for p in group["params"] if p in mine]
        self.before[optimizer] = {p: p.detach().clone() for p in held}

    def _after_update(self, optimizer: Optimizer, *_: Any) -> None:
        before = self.before.pop(optimizer, {})
        for p, old in before.items():
            self.steps[-1].updates[p] = _norm(p.detach() - old), _norm(old)
        self.stepped |= bool(before)

    def records(self) -> list[Record]:
        """Return everything measured as plain numbers."""
        filled = [step for step in self.steps if step.calls or step.gradients or step.updates]
        return [record for number, step in enumerate(filled) for record in self._records_of(number, step)]

    def _records_of(self, number: int, step: _Step) -> Iterator[Record]:
        for name in [*step.calls, *(name for name in self.layers if name not in step.calls)]:
            own = self.parameters[name]
            gradient = _root_sum_of_squares([step.gradients[p] for p in own if p in step.gradients])
            change = _root_sum_of_squares([step.updates[p][0] for p in own if p in step.updates])
            weight = _root_sum_of_squares([step.updates[p][1] for p in own if p in step.updates])
            if name in step.calls or gradient is not None or change is not None:
                yield Record(
                    number,
                    name.replace("_orig_mod.", "") or type(self.layers[name]).__name__,
                    type(self.layers[name]).__name__.removeprefix("Parametrized"),
                    step.calls[name],
                    *_pooled(step.outputs[name]),
                    _root_sum_of_squares(step.output_gradients[name]),
                    gradient,
                    _ratio(change, weight),
                )


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        small = not any(True for _ in module.children())
        owner = any(True for _ in module.parameters(recurse=False)) or is_parametrized(module)
        inside = "parametrizations" in name.split(".")  # computes a weight: no signal passes through it
        if (small or owner) and not inside and not isinstance(module, nn.Identity):
            yield name, module


def _own_parameters(layer: nn.Module) -> Iterator[nn.Parameter]:
    yield from layer.parameters(recurse=False)
    if is_parametrized(layer):
        yield from layer.parametrizations.parameters()


def _first_tensor(output: Any) -> Tensor | None:
    """Return the first tensor of real floating-point numbers in tuples, lists and dicts, or None."""
    if isinstance(output, Tensor):
        plain = output.is_floating_point() and output.layout == torch.strided and not output.is_nested
        return output if plain else None
    if isinstance(output, dict):
        output = output.values()
    elif not isinstance(output, (tuple, list)):
        return None
    return next((found for each in output if (found := _first_tensor(each)) is not None), None)


def _measure(x: Tensor, channel_axis: int | None) -> _Output:
    x = x.float() if x.element_size() < 4 else x
    mean = x.mean()
    deviation = torch.linalg.vector_norm(x - mean)  # two fast passes: var_mean's single one takes twenty times as long
    table = x if x.ndim > 1 else x.view(1, -1)
    axis = (1 if x.ndim >= 4 else -1) if channel_axis is None or x.ndim < 2 else channel_axis
    units = table.shape[axis]
    others = [i for i in range(table.ndim) if i != axis % table.ndim]
    return _Output(x.numel(), mean, deviation, torch.count_nonzero(table.abs().amax(others)), units)


def _norm(x: Tensor) -> Tensor:
    x = x.detach().coalesce().values() if x.is_sparse else x.detach()
    return torch.linalg.vector_norm(x, dtype=torch.float32 if x.element_size() < 4 else None)


def _pooled(outputs: list[_Output]) -> tuple[float | None, float | None, float | None, float | None]:
    """Return mean, variance, RMS and share of dead units of several outputs taken together."""
    if not outputs:
        return None, None, None, None
    size = sum(output.size for output in outputs)
    means = [float(output.mean) for output in outputs]
    mean = sum(output.size * m for output, m in zip(outputs, means, strict=True)) / size
    squares = (float(o.deviation) ** 2 + o.size * (m - mean) ** 2 for o, m in zip(outputs, means, strict=True))
    variance = sum(squares) / size
    dead = 1 - statistics.fmean(int(output.alive) / output.units for output in outputs)
    return mean, variance, math.sqrt(mean**2 + variance), dead


def _root_sum_of_squares(norms: list[Tensor]) -> float | None:
    return math.hypot(*map(float, norms)) if norms else None


def _ratio(change: float | None, weight: float | None) -> float | None:
    if change is None or weight is None:
        return None
    return change / weight if weight else math.copysign(math.inf, change) if change else 0.0
