"""Patched models compute the same, faster, and are otherwise what they were."""

import copy
import io
import pickle

import pytest
import torch
from kernels_helpers import every_size, numbers  # noqa: F401
from torch import nn

from lnorm import kernels
from lnorm.kernels import dispatch


class LlamaRMSNorm(nn.Module):
    """As transformers has it."""

    def __init__(self, hidden_size, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.variance_epsilon = eps

    def forward(self, hidden_states):
        input_dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32)
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
        return self.weight * hidden_states.to(input_dtype)


class GemmaRMSNorm(nn.Module):
    """As transformers has it: the gain is one plus the weight."""

    def __init__(self, dim, eps=1e-6):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        output = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.eps)
        return (output * (1.0 + self.weight.float())).type_as(x)


class T5LayerNorm(LlamaRMSNorm):
    pass


class RMSNorm(nn.Module):
    """Has a name that is known, and is another thing: the gain is one plus the weight."""

    def __init__(self, dim):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.zeros(dim)), 1e-6

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * (1 + self.weight)


class Named(nn.LayerNorm):
    """A subclass may compute what it likes."""


def model(D=24):
    torch.manual_seed(0)
    norms = [nn.LayerNorm(D), nn.RMSNorm(D), LlamaRMSNorm(D), GemmaRMSNorm(D), T5LayerNorm(D), nn.LayerNorm((5, D)),
             nn.LayerNorm(D, elementwise_affine=False), nn.LayerNorm(D, bias=False)]  # fmt: skip
    for each in norms:
        for parameter in each.parameters():
            nn.init.normal_(parameter, 0.5)
    others = [RMSNorm(D), Named(D), nn.BatchNorm1d(5)]
    return nn.Sequential(*norms, nn.Linear(D, D), *others)


def test_patching_reports_and_changes_no_more_than_the_class(every_size):  # noqa: F811
    ours, x = model(), numbers(40, 5, 24)
    expected = ours(x)
    before = {name: id(each) for name, each in [*ours.named_modules(), *ours.named_parameters()]}
    state = {name: each.clone() for name, each in ours.state_dict().items()}
    names = [type(each).__name__ for each in ours][:8]
    assert kernels.patch(ours) == {str(i): name for i, name in enumerate(names)}
    assert before == {name: id(each) for name, each in [*ours.named_modules(), *ours.named_parameters()]}
    assert list(state) == list(ours.state_dict())
    assert all(isinstance(each, nn.LayerNorm) for each in (ours[0], ours[5]))
    torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)
    ours.load_state_dict(state)
    assert kernels.patch(ours) == {}
    assert kernels.unpatch(ours) == {str(i): name for i, name in enumerate(names)}
    assert [type(each).__name__ for each in ours][:8] == names
    assert kernels.unpatch(ours) == {}
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-6)


def test_the_kernels_do_run_and_gradients_agree(every_size, monkeypatch):  # noqa: F811
    ours, x = model(), numbers(40, 5, 24)
    parameters = list(ours.parameters())
    expected = torch.autograd.grad(ours(x).square().sum(), parameters)
    kernels.patch(ours)
    called = []
    for name in ("layer_norm", "rms_norm"):
        whole = getattr(dispatch, name)
        monkeypatch.setattr(dispatch, name, lambda *a, n=name, f=whole, **k: (called.append(n), f(*a, **k))[1])
    gradients = torch.autograd.grad(ours(x).square().sum(), parameters)
    assert called == ["layer_norm", *["rms_norm"] * 4, *["layer_norm"] * 3]
    torch.testing.assert_close(gradients, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("norm", [nn.LayerNorm(24), nn.RMSNorm(24), LlamaRMSNorm(24), GemmaRMSNorm(24)], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_type(every_size, norm, dtype):  # noqa: F811
    norm, x = copy.deepcopy(norm).to(dtype), numbers(40, 24, dtype=dtype)
    expected = norm(x)
    assert kernels.patch(norm) == {"": type(norm).__mro__[2].__name__}
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(norm(x), expected, rtol=2 * eps, atol=eps)


def test_other_inputs_are_left_to_the_module(every_size):  # noqa: F811
    norm, llama = nn.LayerNorm(24), LlamaRMSNorm(24)
    kernels.patch(nn.ModuleList([norm, llama]))
    x = numbers(40, 24)
    for wrong, error in ((x[:, :5], RuntimeError), (x.long(), RuntimeError)):
        with pytest.raises(error):
            norm(wrong)
    with pytest.raises(TypeError):
        norm()
    assert llama(x.bfloat16()).dtype == torch.float32  # its own code promotes to the weight's type
    torch.testing.assert_close(norm(input=x), norm(x))
    torch.testing.assert_close(torch.compile(norm, backend="eager", fullgraph=True)(x), norm(x))


def test_hooks_copies_and_files_survive(every_size, tmp_path):  # noqa: F811
    ours, seen = nn.Sequential(nn.LayerNorm(24), nn.RMSNorm(24)), []
    ours[0].register_forward_hook(lambda *_: seen.append("hook"))
    kernels.patch(ours)
    x = numbers(40, 24)
    y = ours(x)
    assert seen == ["hook"]
    ours[0]._forward_hooks.clear()
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(other(x), y)
        assert other[0].weight is not ours[0].weight
        assert len(kernels.unpatch(other)) == 2
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), y)
    assert len(kernels.unpatch(ours)) == 2


def test_the_report_says_what_runs(monkeypatch):
    told = kernels.info()
    assert told["cpu"].startswith("kernels compiled by numba")
    assert {"cuda", "threads", "compiled kernels"} <= set(told)
    monkeypatch.setattr("lnorm.kernels.operators._process", -1)
    assert "forked" in kernels.info()["cpu"]


def test_a_long_compilation_is_announced(capsys):
    from types import SimpleNamespace

    from lnorm.kernels.cpu.compiled import Announcer
    from lnorm.kernels.cpu.layer_norm import forward

    for patience, said in ((0.0, True), (60.0, False)):
        announcer, happening = Announcer(patience), SimpleNamespace(data={"dispatcher": forward})
        announcer.on_start(happening)
        if announcer._running and said:
            announcer._running[-1][1].join()
        announcer.on_end(happening)
        error = capsys.readouterr().err
        assert ("layer_norm.forward" in error) == said
