"""Which backend runs on this machine, and why."""

import importlib.util
from importlib import metadata

import torch

from lnorm.kernels import dispatch, operators


def info() -> dict[str, str]:
    """Return what computes on each kind of device and why, on how many threads, and where kernels are kept."""
    told = {"cuda": "torch's operations: there is no kernel for it" if torch.cuda.is_available() else "no such device"}
    if importlib.util.find_spec("numba") is None:
        return {"cpu": "torch's operations: numba is not installed", **told}
    if not operators.usable():
        return {
            "cpu": "torch's operations: this process was forked, and the threads of numba do not survive it",
            **told,
        }
    import numba

    from lnorm.kernels.cpu import layer_norm

    path = layer_norm.forward._cache.cache_path  # type: ignore[attr-defined]
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    return {
        "cpu": f"kernels compiled by numba {metadata.version('numba')}, from {dispatch.LEAST_DIRECT['layer_norm']:,} "
        f"elements on (LayerNorm; {dispatch.LEAST_DIRECT['rms_norm']:,} for RMSNorm), and "
        f"{dispatch.LEAST['layer_norm']:,} ({dispatch.LEAST['rms_norm']:,}) where gradients are required; "
        "torch's operations for smaller tensors, mixed types, torch.func and torch.compile",
        **told,
        "float16 on the cpu": "kernels"
        if operators.usable(torch.empty(0, dtype=torch.float16))
        else "torch's operations",
        "threads": f"{min(torch.get_num_threads(), most)}, as torch.set_num_threads says, and at most {most}",
        "compiled kernels": str(path) if path else "not kept: no folder can be written to",
    }
