"""The models of the page "Capstone", as functions that can be run and changed, and not looked into."""

import copy
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

Change = Callable[[np.ndarray], np.ndarray]
Signals = dict[str, np.ndarray]
Patient = Callable[..., Signals]


def patient(which: str, seed: int, worn: bool = False) -> Patient:
    """Return one of the models of ``lnorm.broken_runs`` as a function ``run(tokens, training=False, change=None)``.

    ``tokens`` has shape ``(N, T)``, T up to 64, with 32 for padding. The result maps the names of modules to what they
    put out, as arrays: ``"norm_input"``, ``"blocks.0.norm"``, ``"blocks.0"`` … ``"blocks.7"``, ``"norm_final"`` and
    ``"head"``, the logits. ``change`` maps such names to functions of an array; what they return goes on in its place,
    and stands in the result. ``worn`` models have gains, biases and running statistics as after some training.
    """
    import torch

    model = copy.deepcopy(_model(which, seed, worn))
    places = [name for name, _ in model.named_modules() if name.startswith(("norm_", "blocks.", "head"))]
    places = [name for name in places if "sublayer" not in name]
    changes: Mapping[str, Change] = {}
    signals: Signals = {}

    def watch(name: str) -> Callable[[Any, Any, Any], Any]:
        def hook(module: Any, inputs: Any, output: Any) -> Any:
            if name in changes:
                changed = np.asarray(changes[name](output.numpy().copy()), dtype=np.float32)
                if changed.shape != tuple(output.shape):
                    raise ValueError(f"change: {name} has shape {tuple(output.shape)}, and became {changed.shape}")
                output = torch.from_numpy(changed.copy())
            signals[name] = output.numpy().copy()
            return output

        return hook

    for name in places:
        model.get_submodule(name).register_forward_hook(watch(name))

    def run(tokens: np.ndarray, training: bool = False, change: Mapping[str, Change] | None = None) -> Signals:
        nonlocal changes
        changes = change or {}
        if unknown := set(changes) - set(places):
            raise ValueError(f"change: expected names among {', '.join(places)}; got {', '.join(sorted(unknown))}")
        signals.clear()
        with torch.no_grad():
            model.train(training)(torch.from_numpy(np.array(tokens, dtype=np.int64)))
        return dict(signals)

    return run


@lru_cache(maxsize=64)
def _model(which: Any, seed: int, worn: bool) -> Any:
    import torch

    from lnorm.broken_runs import VOCABULARY, broken_model

    model = broken_model(which, seed)
    if worn:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" in name:
                    z = torch.randn(parameter.shape, generator=generator)
                    parameter.copy_(torch.exp(0.1 * z) if name.endswith("weight") else 0.03 * z)
            for _ in range(5):
                model(torch.randint(VOCABULARY, (16, 24), generator=generator))
    return model
