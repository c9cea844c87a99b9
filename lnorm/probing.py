"""See what happens inside of a network while it trains: signals, gradients and updates, layer by layer.

Put ``probe`` around one training step, or a few, of any torch model; neither the model nor the loop changes::

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
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook, register_optimizer_step_pre_hook


class Record(NamedTuple):
    """What one layer did in one step. A quantity is None if there was nothing to measure."""

    step: int  # 0, 1, …
    layer: str  # its name in the model
    kind: str  # its class
    calls: int  # how many times it ran in this step
    mean: float | None  # of all numbers that it put out
    variance: float | None  # their mean squared deviation from the mean: divided by n
    rms: float | None  # the root of their mean square
    dead: float | None  # share of its units that were zero for every example; layers without parameters only
    output_gradient: float | None  # norm of ∂loss/∂output, the whole batch as one vector
    parameter_gradient: float | None  # norm of ∂loss/∂parameters as the optimizer receives it, so after any clipping
    update_ratio: float | None  # norm of what the optimizer added to the parameters, divided by theirs before


class Table:
    """Records as text in a terminal, as Markdown in a notebook."""

    TITLES = ("layer", "kind", "mean", "variance", "RMS", "dead", "‖∂L/∂out‖", "‖∂L/∂w‖", "‖Δw‖/‖w‖")

    def __init__(self, records: list[Record]) -> None:
        self.records = records

    def _rows(self) -> Iterator[list[str]]:
        for _, layer, kind, _, *numbers in self.records:
            yield [layer, kind, *("–" if number is None else f"{number:.2g}" for number in numbers)]

    def __str__(self) -> str:
        columns = []
        for i, column in enumerate(zip(self.TITLES, *self._rows(), strict=True)):
            width = max(map(len, column))
            columns.append([cell.ljust(width) if i < 2 else cell.rjust(width) for cell in column])
        return "\n".join("  ".join(row) for row in zip(*columns, strict=True))

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        rows = [self.TITLES, ["---"] * 2 + ["--:"] * 7, *([f"`{layer}`", *rest] for layer, *rest in self._rows())]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


class Trace:
    """What a probe saw, to be read after the ``with`` block. Made by :func:`probe`."""

    def __init__(self, model: nn.Module, channels_first: bool | None) -> None:
        self._channels_first = channels_first
        self._layers: dict[str, nn.Module] = {}
        self._parameters: dict[str, list[nn.Parameter]] = {}
        for name, layer, own in _layers(model):
            self._layers[name], self._parameters[name] = layer, own
        self._all_parameters = dict.fromkeys(p for own in self._parameters.values() for p in own)  # an ordered set
        self._steps = [_Step()]
        self._stepped = False  # whether an optimizer has, since the last forward pass
        self._before: dict[Optimizer, list[tuple[list[nn.Parameter], Tensor]]] = {}  # groups and their values, stacked
        self._hooks: list[Any] = []
        self._tensor_hooks: list[Any] = []  # of the present step
        self._open = True

    @cached_property
    def records(self) -> list[Record]:
        """All records, by step, and within a step in the order in which the layers first ran."""
        if self._open:
            raise RuntimeError("the probe is still recording: read the trace after the `with` block")
        steps = [step for step in self._steps if step.layers or step.updates]
        return [record for number, step in enumerate(steps) for record in self._summary(number, step)]

    def table(self, step: int = -1) -> Table:
        """Return the records of a step as a table, by default the last; ``step`` counts as a list index does.

        Raises RuntimeError if nothing was recorded, IndexError if there is no such step.
        """
        if not self.records:
            raise RuntimeError(
                "nothing was recorded: run the forward pass of the very model that you gave to probe "
                "inside of `with probe(model) as trace:`"
            )
        steps = self.records[-1].step + 1
        if not -steps <= step < steps:
            raise IndexError(f"step: expected one of the {steps} recorded, got {step}")
        return Table([record for record in self.records if record.step == step % steps])

    def plot(self, step: int = -1) -> Any:
        """Draw a step, the first layer on top, and return the matplotlib figure. Raises what :meth:`table` raises.

        Left the RMS of the outputs, in the middle the norms of the gradients, right the update ratio, and the usual
        10⁻³ as a dashed line. Scales are logarithmic. A cross at the left edge is zero, which in float32 includes what
        is too small to be squared, 10⁻²³; a cross at the right edge is infinite or not a number.
        """
        from lnorm.plotting import COLOURS, INK, figure

        records = self.table(step).records
        rows = range(len(records))
        fig, axes = figure(3, height=max(3.3, 1.2 + 0.15 * min(len(rows), 80)), sharey=True, layout="constrained")
        panels: tuple[tuple[str, dict[str, str], list[float]], ...] = (
            ("RMS", {"rms": "output"}, []),
            ("gradient norm", {"output_gradient": "output", "parameter_gradient": "parameters"}, []),
            ("update / parameters", {"update_ratio": "parameters"}, [1e-3]),
        )
        for ax, (title, quantities, shown) in zip(axes, panels, strict=True):
            ax.set(title=title, xscale="log")
            for quantity, label in quantities.items():
                kind, marker = ("layer", "o") if label == "output" else ("weight", "v")
                points = [(value, row) for row, r in enumerate(records) if (value := getattr(r, quantity)) is not None]
                drawn = [(value, row) for value, row in points if 0 < value < math.inf]
                style = {"color": COLOURS[kind], "linestyle": "none", "markersize": 4.0}
                ax.plot([v for v, _ in drawn], [row for _, row in drawn], marker=marker, label=label, **style)
                shown += [value for value, _ in drawn]
                off = [(0.03 if value == 0 else 0.97, row) for value, row in points if not 0 < value < math.inf]
                edge = {"transform": ax.get_yaxis_transform(), "in_layout": False}  # x is a share of the width
                ax.plot([x for x, _ in off], [row for _, row in off], marker="x", **edge, **style)
            if shown:  # whole powers of ten, at least one apart, so that small differences look small
                low = math.floor(math.log10(min(shown)))
                high = max(math.ceil(math.log10(max(shown))), low + 1)
                ax.set_xlim(10**low / 1.5, 10**high * 1.5)
            ax.xaxis.minorticks_off()
        fig.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        axes[2].axvline(1e-3, color=INK, linestyle=(0, (4, 3)), linewidth=1.4, zorder=0)
        named = rows[:: math.ceil(len(rows) / 80)]  # more names would run into each other
        axes[0].set_yticks(named, [records[row].layer for row in named], fontsize=7)
        axes[0].set_ylim(len(rows) - 0.5, -0.5)
        return fig

    def _attach(self) -> None:
        for name, layer in self._layers.items():
            self._hooks.append(layer.register_forward_hook(partial(self._after_forward, name)))
        self._hooks.append(register_optimizer_step_pre_hook(self._before_update))
        self._hooks.append(register_optimizer_step_post_hook(self._after_update))

    def _after_forward(self, name: str, layer: nn.Module, inputs: Any, output: Any) -> None:
        x = _first_tensor(output)
        if x is None:
            return
        if self._stepped:
            self._end_step()
            self._steps.append(_Step())
        step = self._steps[-1]
        seen = step.layers[name]
        if x.requires_grad:  # a hook on the tensor: torch's backward hooks on modules forbid in-place operations
            self._tensor_hooks.append(x.register_hook(partial(_after_backward, step, seen)))
        x = _plain(x.detach())
        seen.outputs.append(_moments(x))
        if x.numel() and not self._parameters[name]:
            seen.dead.append(_dead(x, self._channels_first))

    @torch.no_grad()
    def _before_update(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        groups = _groups(p for group in optimizer.param_groups for p in group["params"] if p in self._all_parameters)
        if groups:
            self._measure_gradients(groups)
            self._before[optimizer] = [(group, _plain(torch.stack(group))) for group in groups]

    @torch.no_grad()
    def _after_update(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if optimizer not in self._before:
            return
        updates = self._steps[-1].updates
        for group, before in self._before.pop(optimizer):
            weights = _norms(before)
            updates.update(zip(group, zip(_norms(before.sub_(_stack(group))), weights, strict=True), strict=True))
            if any(each is not None for each in (*args[1:], *kwargs.values())):
                self._measure_gradients([group])  # step(closure): the closure has only now computed them
        self._stepped = True

    @torch.no_grad()
    def _measure_gradients(self, groups: list[list[nn.Parameter]]) -> None:
        for group in groups:
            gradients = {p: gradient for p in group if (gradient := p.grad) is not None}
            if gradients:
                norms = _norms(_plain(_stack(list(gradients.values()))))
                self._steps[-1].gradients.update(zip(gradients, norms, strict=True))

    def _end_step(self) -> None:
        for hook in self._tensor_hooks:
            hook.remove()
        self._tensor_hooks.clear()
        self._stepped = False
        step = self._steps[-1]
        if step.backward:  # otherwise what lies in .grad is of an earlier step
            self._measure_gradients(_groups(p for p in self._all_parameters if p not in step.gradients))

    def _close(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._before.clear()
        self._open = False
        self._end_step()

    def _summary(self, number: int, step: "_Step") -> Iterator[Record]:
        for name in dict.fromkeys((*step.layers, *self._layers)):
            gradients = [step.gradients[p] for p in self._parameters[name] if p in step.gradients]
            updates = [step.updates[p] for p in self._parameters[name] if p in step.updates]
            if name in step.layers or gradients or updates:
                seen = step.layers.get(name, _Seen())
                kind = type(self._layers[name]).__name__
                yield Record(
                    step=number,
                    layer=name.replace("_orig_mod.", "") or kind,
                    kind=kind,
                    calls=len(seen.outputs),
                    **_pooled(seen.outputs),
                    dead=sum(map(float, seen.dead)) / len(seen.dead) if seen.dead else None,
                    output_gradient=_hypot(seen.gradients),
                    parameter_gradient=_hypot(gradients),
                    update_ratio=_ratio(updates),
                )


@contextmanager
def probe(model: nn.Module, channels_first: bool | None = None) -> Iterator[Trace]:
    """Record what every layer of ``model`` does while the ``with`` block runs.

    Forward hooks measure outputs (of several, the first floating-point tensor), tensor hooks measure gradients, and
    hooks on every optimizer measure updates. All are removed when the block ends, also by an exception. Measurements
    stay on a GPU until the trace is read, so that no step waits for it. Statistics of float16 and bfloat16 are taken in
    float32. While an optimizer steps, a second copy of its parameters is held in memory.

    A step ends with the first forward pass after an optimizer has stepped. Within a step (gradient accumulation,
    recurrence, shared layers, evaluation) all outputs of a layer are taken together, and the share of dead units is
    averaged over calls. Code compiled by torch.compile runs uncompiled inside of the block. Scripted models take no
    hooks and torch.func.vmap lets nothing be measured: there, torch raises RuntimeError.

    A unit is dead if it is zero for every example of the batch, at every token or pixel: a diagnosis for ReLU and its
    kin, and so measured for layers without parameters alone. Units lie along axis 1 (``channels_first=True``) or along
    the last axis (False); None means axis 1 for outputs with four axes or more, such as images ``(N, C, H, W)``, and
    otherwise the last. Models with 1-d convolutions, ``(N, C, L)``, need True.

    Raises TypeError if ``model`` is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    trace = Trace(model, channels_first)
    with torch.compiler.set_stance("force_eager"):
        try:
            trace._attach()
            yield trace
        finally:
            trace._close()


# What a measurement yields. On the CPU the number itself, at once, since small tensors that are kept between large ones
# fragment the memory; elsewhere a tensor, since to ask for its number would be to wait for the device.
Number: TypeAlias = float | Tensor
Moments: TypeAlias = tuple[int, Number, Number]  # size, mean, norm of the deviations from the mean


class _Seen:
    """What was seen of one layer in one step, an entry a call."""

    def __init__(self) -> None:
        self.outputs: list[Moments] = []
        self.dead: list[Number] = []
        self.gradients: list[Number] = []


class _Step:
    """What was seen in one step, by layer and by parameter."""

    def __init__(self) -> None:
        self.layers: dict[str, _Seen] = defaultdict(_Seen)
        self.backward = False  # whether there was a backward pass
        self.gradients: dict[nn.Parameter, Number] = {}  # norms
        self.updates: dict[nn.Parameter, tuple[Number, Number]] = {}  # norms of the change and of what was there before


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module, list[nn.Parameter]]]:
    """Yield name, module and own parameters of every layer."""
    for name, module in model.named_modules():
        own = [p for p in module._parameters.values() if p is not None]
        if "parametrizations" in module._modules:
            own += module.parametrizations.parameters()
        inside = "parametrizations" in name.split(".")  # computes a weight: no signal passes through it
        if (own or not module._modules) and not inside and not isinstance(module, nn.Identity):
            yield name, module, own


def _first_tensor(output: Any) -> Tensor | None:
    """Return the first tensor of real floating-point numbers in tuples, lists and dicts, or None."""
    if isinstance(output, Tensor):
        usable = output.is_floating_point() and output.layout == torch.strided and not output.is_nested
        return output if usable else None
    if isinstance(output, dict):
        output = output.values()
    elif not isinstance(output, (tuple, list)):
        return None
    return next((found for each in output if (found := _first_tensor(each)) is not None), None)


def _plain(x: Tensor) -> Tensor:
    """Return sparse gradients as dense tensors and half precision in float32, others as they are."""
    x = x.to_dense() if x.is_sparse else x
    return x.float() if x.element_size() < 4 else x


def _after_backward(step: _Step, seen: _Seen, gradient: Tensor | None) -> None:
    step.backward = True
    if gradient is not None:  # which it is where the loss used another output of the layer
        seen.gradients.append(_norm(gradient))


def _at_hand(x: Tensor) -> bool:
    return x.is_cpu


def _number(x: Tensor) -> Number:
    return x.item() if _at_hand(x) else x.detach()


def _norm(x: Tensor) -> Number:
    return _number(torch.linalg.vector_norm(_plain(x)))


def _groups(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Put small parameters of one shape together, since on small tensors a call costs more than its work."""
    groups = defaultdict(list)
    for p in parameters:
        groups[p if p.numel() > 5000 else (p.shape, p.dtype, p.device)].append(p)
    return list(groups.values())


def _stack(tensors: list[Tensor]) -> Tensor:
    """Return tensors of one shape as one, without a copy where there is only one."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)


def _norms(x: Tensor) -> list[Number]:
    """Return the norm of every ``x[i]``."""
    norms = torch.linalg.vector_norm(x.unsqueeze(-1).flatten(1), dim=1)
    return norms.tolist() if _at_hand(x) else list(norms)


def _moments(x: Tensor) -> Moments:
    n = x.numel()
    if n == 0:
        return 0, 0.0, 0.0
    if not _at_hand(x):
        mean = x.mean()
        return n, mean, torch.linalg.vector_norm(x - mean)
    # torch.var_mean would do, but takes many times as long on a CPU.
    m, norm = x.sum().item() / n, torch.linalg.vector_norm(x).item()
    if norm * norm > 2 * n * m * m:  # hardly a digit cancels: save the pass that subtracts the mean
        return n, m, math.sqrt(norm * norm - n * m * m)
    return n, m, torch.linalg.vector_norm(x - m).item()


def _dead(x: Tensor, channels_first: bool | None) -> Number:
    x = x if x.ndim > 1 else x.reshape(1, -1)
    axis = 1 if channels_first or (channels_first is None and x.ndim >= 4) else x.ndim - 1
    peaks = x.abs().amax([i for i in range(x.ndim) if i != axis])
    return _number((peaks == 0).float().mean())


def _pooled(outputs: list[Moments]) -> dict[str, float | None]:
    """Return the statistics of several outputs taken together."""
    n = sum(size for size, _, _ in outputs)
    if n == 0:
        return dict.fromkeys(("mean", "variance", "rms"))
    sizes, means, norms = ([float(number) for number in column] for column in zip(*outputs, strict=True))
    mean = sum(size * m for size, m in zip(sizes, means, strict=True)) / n
    between = sum(size * (m - mean) * (m - mean) for size, m in zip(sizes, means, strict=True))
    variance = (sum(norm * norm for norm in norms) + between) / n
    return {"mean": mean, "variance": variance, "rms": math.sqrt(mean * mean + variance)}


def _hypot(norms: Iterable[Number]) -> float | None:
    return math.hypot(*map(float, norms)) if norms else None


def _ratio(updates: list[tuple[Number, Number]]) -> float | None:
    if not updates:
        return None
    change, weight = (math.hypot(*map(float, norms)) for norms in zip(*updates, strict=True))
    return change / weight if weight else math.inf if change else 0.0
