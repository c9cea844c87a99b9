"""What if the answer is the length of the input? LayerNorm and RMSNorm throw it away before the network can look.

Two classes of vectors in all directions, of length 1 and of length 3; a small MLP behind each norm; accuracy on new
vectors.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lnorm.experiments.claim import Claim, Measurements, over_seeds

FEATURES = 16


def sphere(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return ``n`` vectors of length 1 or 3 in uniformly random directions, and which: 0 or 1."""
    label = torch.randint(2, (n,), generator=generator)
    direction = F.normalize(torch.randn(n, FEATURES, generator=generator), dim=1)
    return direction * (1 + 2 * label[:, None]), label


def accuracy(seed: int, norm: nn.Module, steps: int = 300) -> float:
    """Train an MLP of 64 hidden units behind ``norm``; return its accuracy on 2000 new vectors."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(norm, nn.Linear(FEATURES, 64), nn.ReLU(), nn.Linear(64, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        x, label = sphere(128, generator)
        optimizer.zero_grad()
        F.cross_entropy(model(x), label).backward()
        optimizer.step()
    model.eval()
    x, label = sphere(2000, generator)
    with torch.no_grad():
        return float((model(x).argmax(dim=1) == label).float().mean())


def run(seed: int, steps: int = 300) -> Measurements:
    """Measure four networks. About a second."""
    norms = {
        "none": nn.Identity(),
        "batch": nn.BatchNorm1d(FEATURES),
        "layer": nn.LayerNorm(FEATURES),
        "rms": nn.RMSNorm(FEATURES, eps=1e-5),
    }
    return {name: accuracy(seed, norm, steps) for name, norm in norms.items()}


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """Norms that look at one row at a time cannot tell a long vector from a short one."""
    return [
        Claim("No norm: accuracy at telling length 1 from length 3", over_seeds(runs, "none"), low=0.97),
        Claim("BatchNorm: accuracy", over_seeds(runs, "batch"), low=0.97),
        Claim(
            "LayerNorm: accuracy (chance is 0.5)",
            over_seeds(runs, "layer"),
            high=0.6,
            published="0.5 (law)",
            where="derived in chapter 3",
        ),
        Claim(
            "RMSNorm: accuracy (chance is 0.5)",
            over_seeds(runs, "rms"),
            high=0.6,
            published="0.5 (law)",
            where="derived in chapter 3",
        ),
    ]
