"""Small Transformers that should be the same: one is well, the others have one fault in a norm each.

The task is to tell which of eight languages a sentence is in. A language is a Markov chain; sentences have 4 to 32
tokens and are padded to 32. All models have the same modules under the same names: ``tokens``, ``positions``,
``norm_input`` (BatchNorm of the embeddings), ``blocks`` (Pre-LN attention and feed-forward in turns), ``norm_final``
and ``head``. So names and shapes say nothing; what tells them apart is what they do. Which model has which fault is at
the end of this file. If you mean to diagnose the runs, do not read that far.
"""

import copy
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from lnorm.data import markov_corpus
from lnorm.nn import CausalSelfAttention, FeedForward
from lnorm.training import batches

Run = Literal["healthy", "A", "B", "C", "D", "E", "F", "example"]
RUNS: tuple[Run, ...] = get_args(Run)
LANGUAGES, VOCABULARY, CONTEXT = 8, 32, 32
FEATURES, LAYERS, BATCH, STEPS = 32, 4, 32, 150
PADDING = VOCABULARY  # the token that stands where no token is


class Sentences(NamedTuple):
    """Padded sentences and the language of each; the first half of them is for training."""

    tokens: Tensor  # (N, CONTEXT) int64, padding at the end
    language: Tensor  # (N,) int64

    def part(self, index: Tensor | slice) -> "Sentences":
        """Return some of the sentences."""
        return Sentences(self.tokens[index], self.language[index])


@cache
def sentences(each: int = 256) -> tuple[Sentences, Sentences]:
    """Return ``each`` sentences of every language for training, and as many for testing. Always the same."""
    generator = torch.Generator().manual_seed(0)
    rows, labels = [], []
    for language in range(LANGUAGES):
        corpus = torch.from_numpy(markov_corpus(2 * each * CONTEXT, VOCABULARY, seed=language).tokens)
        lengths = torch.randint(4, CONTEXT + 1, (2 * each, 1), generator=generator)
        rows.append(corpus.view(-1, CONTEXT).masked_fill(torch.arange(CONTEXT) >= lengths, PADDING))
        labels.append(torch.full((2 * each,), language))
    order = torch.randperm(2 * each * LANGUAGES, generator=generator)
    tokens, language = torch.cat(rows)[order], torch.cat(labels)[order]
    half = each * LANGUAGES
    return Sentences(tokens[:half], language[:half]), Sentences(tokens[half:], language[half:])


class TokenNorm(nn.Module):
    """The norm of blocks and head: it normalizes every token by its own mean and variance."""

    def __init__(self, rule: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.rule = rule
        self.weight = nn.Parameter(torch.ones(FEATURES))
        self.bias = nn.Parameter(torch.zeros(FEATURES))

    def forward(self, x: Tensor) -> Tensor:
        return self.rule(x) * self.weight + self.bias


class InputNorm(nn.Module):
    """The norm of the embeddings: BatchNorm over all real tokens of the batch. Padding comes out as zero."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, momentum: float, masked: bool) -> None:
        super().__init__()
        self.momentum = momentum
        self.masked = masked
        self.weight = nn.Parameter(torch.ones(FEATURES))
        self.bias = nn.Parameter(torch.zeros(FEATURES))
        self.register_buffer("running_mean", torch.zeros(FEATURES))
        self.register_buffer("running_var", torch.ones(FEATURES))

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        if self.masked:
            return torch.zeros_like(x).index_put((real,), self._normalize(x[real]))
        return self._normalize(x.flatten(0, 1)).view_as(x) * real[..., None]

    def _normalize(self, rows: Tensor) -> Tensor:
        statistics = self.running_mean, self.running_var
        return F.batch_norm(rows, *statistics, self.weight, self.bias, self.training, self.momentum)


class Block(nn.Module):
    """``x + sublayer(norm(x))``."""

    def __init__(self, sublayer: nn.Module, norm: nn.Module, skip: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.norm = norm
        self.sublayer = sublayer
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        return self.skip(x, normed) + self.sublayer(normed)


class Network(nn.Module):
    """Embeddings, a norm, Pre-LN blocks, the mean over real tokens, a norm, a head.

    ``forward`` takes int64 tokens ``(N, T)``, ``PADDING`` where there is none, and returns logits ``(N, LANGUAGES)``.
    """

    def __init__(
        self,
        rule: Callable[[Tensor], Tensor],
        skip: Callable[[Tensor, Tensor], Tensor],
        final: Callable[[Tensor], Tensor],
        momentum: float,
        masked: bool,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY + 1, FEATURES, padding_idx=PADDING)
        self.positions = nn.Embedding(2 * CONTEXT, FEATURES)
        self.norm_input = InputNorm(momentum, masked)
        self.blocks = nn.Sequential()
        for _ in range(LAYERS):
            for sublayer in (CausalSelfAttention(FEATURES, 4), FeedForward(FEATURES, 2 * FEATURES)):
                self.blocks.append(Block(sublayer, TokenNorm(rule), skip))
        self.norm_final = TokenNorm(final)
        self.head = nn.Linear(FEATURES, LANGUAGES)

    def forward(self, tokens: Tensor) -> Tensor:
        real = tokens != PADDING
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1])) * real[..., None]
        x = self.blocks(self.norm_input(x, real))
        pooled = (x * real[..., None]).sum(dim=1) / real.sum(dim=1, keepdim=True)
        return self.head(self.norm_final(pooled))


@torch.no_grad()
def _initialize(model: Network, generator: Generator) -> None:
    """Draw all weights: embeddings around 1, matrices by Xavier's rule, biases at zero."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight, generator=generator)
            nn.init.zeros_(module.bias)
    nn.init.normal_(model.tokens.weight, 1.0, 0.25, generator=generator)
    nn.init.normal_(model.positions.weight, 0.0, 0.05, generator=generator)
    model.tokens.weight[PADDING] = 0


def broken_model(which: Run, seed: int) -> nn.Module:
    """Return an untrained model: "healthy", one of the faulty "A" to "F", or the faulty one of the page's "example".

    With one seed, all of them have the same initial weights. Raises ValueError for another name.
    """
    if which not in RUNS:
        raise ValueError(f"which: expected one of {', '.join(RUNS)}, got {which!r}")
    model = Network(**_HEALTHY | _FAULTS[which][1])
    _initialize(model, torch.Generator().manual_seed(seed))
    return model


def training_batches(seed: int, steps: int = STEPS) -> Iterator[Sentences]:
    """Yield training batches of sentences of similar length, as is usual in practice, in random order."""
    train, _ = sentences()
    length = (train.tokens != PADDING).sum(dim=1)
    buckets = length.argsort(stable=True).view(-1, BATCH)
    for bucket in batches(len(buckets), 1, steps, torch.Generator().manual_seed(seed)):
        yield train.part(buckets[bucket[0]])


def train(model: nn.Module, seed: int, steps: int = STEPS) -> list[float]:
    """Train with Adam and return the loss of every step, in nats.

    A step whose loss is not finite is skipped, as mixed-precision trainers do, and leaves the model as it was.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.train()
    losses = []
    for batch in training_batches(seed, steps):
        loss = F.cross_entropy(model(batch.tokens), batch.language)
        losses.append(loss.item())
        if loss.isfinite():
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return losses


@torch.no_grad()
def accuracy(model: nn.Module, data: Sentences, size: int, mode: Literal["train", "eval"] = "eval") -> float:
    """Return the share of right answers on batches of ``size``; NaN is no answer. The model stays as it was."""
    twin = copy.deepcopy(model).train(mode == "train")
    pairs = zip(data.tokens.split(size), data.language.split(size), strict=True)
    answers = [(twin(tokens), language) for tokens, language in pairs]
    right = [(logits.argmax(dim=1) == language) & logits.isfinite().all(dim=1) for logits, language in answers]
    return float(torch.cat(right).float().mean())


def watch(model: nn.Module, batch: Sentences) -> dict[str, list[float]]:
    """Return what one training step would see: signals and gradients along the depth. The model stays as it was.

    ``stream`` has the RMS of what ``norm_input`` and every block put out, over real tokens, and ``gradient`` the norm
    of the loss's gradient there. ``head`` has the RMS of the head's input, one number a sentence.
    """
    twin = copy.deepcopy(model).train()
    places = [twin.norm_input, *twin.blocks, twin.norm_final]
    outputs: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        outputs.append(output)

    for place in places:
        place.register_forward_hook(keep)
    F.cross_entropy(twin(batch.tokens), batch.language).backward()
    *stream, head = outputs
    real = batch.tokens != PADDING
    return {
        "stream": [_rms(x.detach()[real]).item() for x in stream],
        "gradient": [x.grad.norm().item() for x in stream if x.grad is not None],
        "head": _rms(head.detach(), dim=-1).tolist(),
    }


def symptoms(model: nn.Module, seed: int, steps: int = STEPS) -> dict[str, Any]:
    """Train the model and return what a careful person would have logged.

    ``loss`` of every step. Before training, what :func:`watch` sees in the shortest sentences (``short``) and in the
    longest (``long``). After it, the share of right answers on test sentences: with the model in ``train mode``, in
    ``eval mode``, both in batches of 64, and ``one at a time``, in evaluation mode too.
    """
    data, test = sentences()
    order = (data.tokens != PADDING).sum(dim=1).argsort(stable=True)
    before = {"short": watch(model, data.part(order[:BATCH])), "long": watch(model, data.part(order[-BATCH:]))}
    losses = train(model, seed, steps)
    some = test.part(slice(512))
    return {
        **before,
        "loss": losses,
        "train mode": accuracy(model, some, 64, "train"),
        "eval mode": accuracy(model, some, 64),
        "one at a time": accuracy(model, some, 1),
    }


def diagnosis(which: Run) -> str:
    """Return what is wrong with a model, in the words of ``DIAGNOSES``. This is the solution."""
    return _FAULTS[which][0]


def _rms(x: Tensor, dim: int | None = None) -> Tensor:
    return x.square().mean(dim=dim).sqrt()


# What a norm does with a row, and which model has which fault. Stop here if you want to find out yourself.


def _by_token(x: Tensor, eps: float = 1e-5) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def _over_batch(x: Tensor) -> Tensor:
    var, mean = torch.var_mean(x, dim=0, correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(var + 1e-5)


def _in_half(x: Tensor) -> Tensor:
    half = x.half()
    centred = half - half.mean(dim=-1, keepdim=True)
    var = centred.square().mean(dim=-1, keepdim=True)
    return (centred / torch.sqrt(var + torch.tensor(1e-12, dtype=torch.float16))).to(x.dtype)


_HEALTHY: dict[str, Any] = {
    "rule": _by_token,
    "skip": lambda x, normed: x,
    "final": _by_token,
    "momentum": 0.1,
    "masked": True,
}
_FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "healthy": ("healthy", {}),
    "A": ("running statistics are never updated", {"momentum": 0.0}),
    "B": ("the skip path is normalized", {"skip": lambda x, normed: normed}),
    "C": ("eps is lost in half precision", {"rule": _in_half}),
    "D": ("padding counts in the statistics", {"masked": False}),
    "E": ("the final norm is missing", {"final": lambda x: x}),
    "F": ("statistics over the wrong axis", {"rule": _over_batch}),
    "example": ("eps is much too large", {"rule": partial(_by_token, eps=1e5)}),
}
DIAGNOSES = tuple(sorted({name for name, _ in _FAULTS.values()}))  # in an order that gives nothing away
