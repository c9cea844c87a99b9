"""The probe: what it measures is what autograd and a hand computation say, and it changes nothing."""

import copy
import math

import matplotlib
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lnorm.nn import Transformer
from lnorm.probing import probe

matplotlib.use("agg")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=generator(seed))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def mlp(dtype=torch.float64):
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)


def only(trace, layer, step=0):
    (record,) = [r for r in trace.records if r.layer == layer and r.step == step]
    return record


def hook_counts(model):
    from torch.optim import optimizer

    return (
        [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()],
        len(optimizer._global_optimizer_pre_hooks),
        len(optimizer._global_optimizer_post_hooks),
    )


def close(got, expected, tolerance=1e-12):
    assert got == pytest.approx(expected, rel=tolerance, abs=tolerance)


def statistics(x):
    x = x.detach().double().flatten()
    mean = x.sum() / len(x)
    return mean.item(), ((x - mean) ** 2).mean().item(), (x**2).mean().sqrt().item()


def assert_statistics(record, x, tolerance=1e-12):
    for got, expected in zip((record.mean, record.variance, record.rms), statistics(x), strict=True):
        close(got, expected, tolerance)


# What is measured


def test_statistics_are_those_of_a_hand_computation():
    model, x = mlp(), randn(16, 5)
    with probe(model) as trace:
        model(x)
    hidden = x @ model[0].weight.T + model[0].bias
    positive = hidden.clamp(min=0)
    for layer, output in (("0", hidden), ("1", positive), ("2", positive @ model[2].weight.T + model[2].bias)):
        record = only(trace, layer)
        assert_statistics(record, output)
        assert record.calls == 1
        assert record.output_gradient is record.parameter_gradient is record.update_ratio is None
    assert [r.layer for r in trace.records] == ["0", "1", "2"]
    assert [r.kind for r in trace.records] == ["Linear", "ReLU", "Linear"]


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e4])
def test_a_large_mean_costs_no_digits_of_the_variance(offset):
    layer = nn.Tanh()
    shift = nn.Sequential(layer)
    layer.register_forward_hook(lambda module, inputs, output: output + offset)
    x = randn(64, 32, dtype=torch.float32)
    with probe(shift) as trace:
        y = shift(x)
    assert_statistics(trace.records[0], y, 1e-5)


def test_gradient_norms_are_autograds():
    model, x = mlp(), randn(16, 5)
    hidden = model[0](x)
    positive = torch.relu(hidden)
    out = model[2](positive)
    wanted = [hidden, positive, out, *model.parameters()]
    h, p, o, w0, b0, w2, b2 = torch.autograd.grad(out.square().sum(), wanted)
    with probe(model) as trace:
        model(x).square().sum().backward()
    for layer, gradient in (("0", h), ("1", p), ("2", o)):
        close(only(trace, layer).output_gradient, gradient.norm().item())
    close(only(trace, "0").parameter_gradient, math.hypot(w0.norm(), b0.norm()))
    close(only(trace, "2").parameter_gradient, math.hypot(w2.norm(), b2.norm()))
    assert only(trace, "1").parameter_gradient is None


def test_update_ratio_of_sgd_is_learning_rate_times_gradient_over_weight():
    model, x, lr = mlp(), randn(16, 5), 0.3
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr)
    with probe(model) as trace:
        model(x).square().mean().backward()
        gradients = [p.grad.clone() for p in model.parameters()]
        optimizer.step()
        optimizer.zero_grad()
    for layer, i in (("0", 0), ("2", 2)):
        gradient = math.hypot(*(g.norm() for g in gradients[i : i + 2]))
        weight = math.hypot(*(w.norm() for w in before[i : i + 2]))
        close(only(trace, layer).update_ratio, lr * gradient / weight)
        close(only(trace, layer).parameter_gradient, gradient)
    assert only(trace, "1").update_ratio is None


def test_parameters_that_start_at_zero_have_an_infinite_ratio():
    model = nn.Linear(3, 2, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with probe(model) as trace:
        model(torch.ones(4, 3)).sum().backward()
        optimizer.step()
    assert trace.records[0].update_ratio == math.inf
    assert trace.records[0].layer == "Linear"


@pytest.mark.parametrize(
    ("x", "channels_first", "share"),
    [
        (torch.tensor([[0.0, 1, 0, 0], [0, 0, 0, 2]]), None, 0.5),
        (torch.tensor([0.0, 1, 0, 0]), None, 0.75),
        (torch.tensor([[[0.0, 1], [0, 0]], [[0, 0], [0, 0]]]), None, 0.5),  # (N, T, D): unit 0 at no token
        (torch.tensor([[[0.0, 1], [0, 1]], [[0, 0], [0, 0]]]), True, 0.0),  # (N, C, L): both channels somewhere
        (torch.tensor([1.0, 0, 0, 0]).view(1, 4, 1, 1).expand(2, 4, 3, 3), None, 0.75),  # (N, C, H, W)
        (torch.tensor([1.0, 0, 0, 0]).expand(2, 3, 3, 4), False, 0.75),  # (N, H, W, C)
        (torch.tensor([[math.nan, 0.0]]), None, 0.5),
    ],
)
def test_share_of_dead_units(x, channels_first, share):
    class Given(nn.Module):
        def forward(self):
            return x.clone()

    model = Given()
    with probe(model, channels_first) as trace:
        model()
    assert trace.records[0].dead == share


def test_dead_relu_units_made_by_their_biases():
    model = mlp(torch.float32)
    with torch.no_grad():
        model[0].bias[:2] = -1e6
        model[0].bias[2:] = 1e6
    with probe(model) as trace:
        model(randn(16, 5, dtype=torch.float32))
    assert only(trace, "1").dead == 0.25
    assert only(trace, "0").dead is None  # has parameters


# Which step, which layer


def test_steps_are_kept_apart():
    model, x = mlp(), randn(16, 5)
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    outputs, ratios = [], []
    with probe(model) as trace:
        for _ in range(3):
            out = model(x)
            out.square().mean().backward()
            outputs.append(out)
            before = model[2].weight.detach().clone(), model[2].bias.detach().clone()
            optimizer.step()
            after = model[2].weight.detach(), model[2].bias.detach()
            change = math.hypot(*((a - b).norm() for a, b in zip(after, before, strict=True)))
            ratios.append(change / math.hypot(*(b.norm() for b in before)))
            optimizer.zero_grad()
    assert [r.step for r in trace.records] == [0] * 3 + [1] * 3 + [2] * 3
    for step in range(3):
        assert_statistics(only(trace, "2", step), outputs[step])
        close(only(trace, "2", step).update_ratio, ratios[step])
    assert trace.table().records == trace.table(2).records == trace.table(-1).records
    assert trace.table(0).records == trace.records[:3]
    with pytest.raises(IndexError, match="3 recorded, got 3"):
        trace.table(3)


def test_gradient_accumulation_is_one_step():
    model, x = mlp(), randn(16, 5)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with probe(model) as trace:
        for half in x.chunk(2):
            model(half).square().sum().backward()
        accumulated = model[0].weight.grad.norm().item(), model[0].bias.grad.norm().item()
        optimizer.step()
    assert {r.step for r in trace.records} == {0}
    assert {r.calls for r in trace.records} == {2}
    close(only(trace, "0").parameter_gradient, math.hypot(*accumulated))
    with probe(model) as whole:
        model(x)
    with probe(model) as halves:
        for half in x.chunk(2):
            model(half)
    for a, b in zip(whole.records, halves.records, strict=True):
        for name in ("mean", "variance", "rms"):
            close(getattr(a, name), getattr(b, name))


def test_two_optimizers_share_a_step():
    model, x = mlp(), randn(16, 5)
    optimizers = [torch.optim.SGD(model[i].parameters(), 0.1) for i in (0, 2)]
    stranger = nn.Parameter(torch.ones(2))
    stranger.grad = torch.ones(2)
    with probe(model) as trace:
        model(x).square().mean().backward()
        for optimizer in (*optimizers, torch.optim.SGD([stranger], 0.1)):
            optimizer.step()
    assert len(trace.records) == 3
    assert only(trace, "0").update_ratio > 0
    assert only(trace, "2").update_ratio > 0


def test_an_optimizer_with_a_closure():
    model, x = mlp(), randn(16, 5)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def closure():
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    for _ in range(2):  # the second time, the gradients of the first are still there
        weight = math.hypot(*(p.detach().norm() for p in model[0].parameters()))
        with probe(model) as trace:
            optimizer.step(closure)
        gradient = math.hypot(model[0].weight.grad.norm(), model[0].bias.grad.norm())
        close(only(trace, "0").parameter_gradient, gradient)
        close(only(trace, "0").update_ratio, 0.1 * gradient / weight)


def test_a_layer_called_twice_is_one_record_of_both_outputs():
    layer = nn.Linear(4, 4).double()
    model = nn.Sequential(layer, nn.Tanh(), layer)
    x = randn(8, 4)
    first = layer(x)
    second = layer(torch.tanh(first))
    gradients = torch.autograd.grad(second.square().sum(), [first, second, layer.weight, layer.bias])
    with probe(model) as trace:
        model(x).square().sum().backward()
    record = only(trace, "0")
    assert record.calls == 2
    assert_statistics(record, torch.stack([first, second]))
    close(record.output_gradient, math.hypot(*(g.norm() for g in gradients[:2])))
    close(record.parameter_gradient, math.hypot(*(g.norm() for g in gradients[2:])))


def test_tied_parameters_count_in_both_layers():
    model = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 6, bias=False)).double()
    model[1].weight = model[0].weight
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with probe(model) as trace:
        model(torch.arange(6)).square().sum().backward()
        optimizer.step()
    assert only(trace, "0").parameter_gradient == only(trace, "1").parameter_gradient > 0
    assert only(trace, "0").update_ratio == only(trace, "1").update_ratio > 0


def test_tuple_outputs_of_lstm_and_attention():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(4, 6, batch_first=True)
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

        def forward(self, x):
            self.hidden, _ = self.lstm(x)
            self.mixed, _ = self.attention(self.hidden, self.hidden, self.hidden)
            return self.mixed

    model = Model().double()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with probe(model) as trace:
        out = model(randn(3, 5, 4))
        model.hidden.retain_grad()
        out.square().sum().backward()
        optimizer.step()
    assert_statistics(only(trace, "lstm"), model.hidden)
    assert_statistics(only(trace, "attention"), model.mixed)
    close(only(trace, "lstm").output_gradient, model.hidden.grad.norm().item())
    projection = only(trace, "attention.out_proj")  # torch uses its weight without calling it
    assert projection.calls == 0
    assert projection.rms is None
    assert projection.parameter_gradient > 0
    assert projection.update_ratio > 0


def test_the_output_of_an_lstm_need_not_be_used():
    model = nn.LSTM(4, 6)
    with probe(model) as trace:
        _, (hidden, _) = model(randn(5, 3, 4, dtype=torch.float32))
        hidden.sum().backward()
    assert trace.records[0].parameter_gradient > 0


def test_frozen_parameters_have_no_gradient_and_no_ratio():
    model = mlp()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    with probe(model) as trace:
        model(randn(16, 5)).square().sum().backward()
        optimizer.step()
    frozen = only(trace, "0")
    assert frozen.rms > 0
    assert frozen.output_gradient is frozen.parameter_gradient is frozen.update_ratio is None
    assert only(trace, "2").update_ratio > 0


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_evaluation_records_signals_and_no_stale_gradients(mode):
    model, x = mlp(), randn(16, 5)
    model(x).sum().backward()
    model.eval()
    with probe(model) as trace, mode():
        y = model(x)
    assert_statistics(only(trace, "2"), y)
    assert {r.parameter_gradient for r in trace.records} == {None}


def test_in_place_operations():
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)).double()
    x = randn(16, 5)
    hidden = F.linear(x, model[0].weight, model[0].bias)
    (expected,) = torch.autograd.grad(model[2](torch.relu(hidden)).square().sum(), [hidden])
    with probe(model) as trace:
        model(x).square().sum().backward()
    assert_statistics(only(trace, "0"), hidden)
    assert_statistics(only(trace, "1"), torch.relu(hidden))
    close(only(trace, "0").output_gradient, expected.norm().item())


def test_identity_is_no_layer():
    model = nn.Sequential(nn.Identity(), nn.Linear(2, 2))
    with probe(model) as trace:
        model(torch.ones(3, 2))
    assert [r.layer for r in trace.records] == ["1"]


def test_parametrized_layers_own_what_their_weight_is_computed_from():
    model = nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 3, bias=False))).double()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with probe(model) as trace:
        model(randn(8, 4)).square().sum().backward()
        gradient = math.hypot(*(p.grad.norm() for p in model.parameters()))
        optimizer.step()
    (record,) = trace.records
    assert record.layer == "0"
    assert record.calls == 1
    close(record.parameter_gradient, gradient)


def test_sparse_gradients():
    model = nn.ModuleList([nn.Embedding(6, 4, sparse=True), nn.Embedding(6, 4, sparse=True)])
    optimizer = torch.optim.SparseAdam(model.parameters(), 0.1)
    tokens = torch.tensor([1, 1, 3])
    with probe(model) as trace:
        (model[0](tokens) * model[1](tokens)).sum().backward()
        expected = [each.weight.grad.to_dense().norm().item() for each in model]
        optimizer.step()
    for record, norm in zip(trace.records, expected, strict=True):
        close(record.parameter_gradient, norm, 1e-6)
        assert record.update_ratio > 0


@pytest.mark.filterwarnings("error")
def test_gradients_of_gradients():
    model, x = mlp(), randn(16, 5)
    with probe(model) as trace:
        out = model(x)
        (gradient,) = torch.autograd.grad(out.sum(), [model[0].weight], create_graph=True)
        gradient.square().sum().backward()
        expected = model[2].weight.grad.norm().item()
    assert type(only(trace, "2").output_gradient) is float
    close(only(trace, "2").parameter_gradient, expected)


def test_parameters_of_every_size():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.scalars = nn.ParameterList([nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(3.0))])
            self.empty = nn.Parameter(torch.ones(0, 3))
            self.large = nn.Parameter(torch.ones(80, 80))

        def forward(self):
            return self.scalars[0] + 2 * self.scalars[1] + self.large.sum() + self.empty.sum()

    model = Odd()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with probe(model) as trace:
        model().backward()
        optimizer.step()
    close(only(trace, "Odd").parameter_gradient, 80.0)
    close(only(trace, "Odd").update_ratio, 0.1, 1e-6)
    close(only(trace, "scalars").parameter_gradient, math.sqrt(5))
    close(only(trace, "scalars").update_ratio, 0.1 * math.sqrt(5 / 13), 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_in_float32(dtype):
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), 0.125)
    x = (300 * randn(64, 8)).to(dtype)  # squares overflow float16
    before = model[2].weight.detach().double(), model[2].bias.detach().double()
    with probe(model) as trace:
        y = model(x)
        (y.float().mean()).backward()
        gradient = model[2].weight.grad.double(), model[2].bias.grad.double()
        optimizer.step()
    assert_statistics(only(trace, "2"), y, 1e-5)
    close(only(trace, "2").parameter_gradient, math.hypot(*(g.norm() for g in gradient)), 1e-5)
    change = math.hypot(*((p.detach().double() - b).norm() for p, b in zip(model[2].parameters(), before, strict=True)))
    close(only(trace, "2").update_ratio, change / math.hypot(*(b.norm() for b in before)), 1e-5)


def test_empty_batches_and_outputs_that_are_no_floats():
    class Tokens(nn.Module):
        def forward(self, x):
            return x.argmax(dim=-1)

    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), Tokens())
    with probe(model) as trace:
        model(torch.ones(0, 3))
    assert [(r.layer, r.calls, r.mean, r.rms, r.dead) for r in trace.records] == [
        ("0", 1, None, None, None),
        ("1", 1, None, None, None),
    ]
    assert "–" in str(trace.table())


def test_infinities_and_nans_are_reported():
    model = nn.Sequential(nn.Hardtanh(-math.inf, math.inf))
    for bad in (math.nan, math.inf):
        with probe(model) as trace:
            model(torch.tensor([1.0, bad]))
        assert not math.isfinite(trace.records[0].rms)


# What it must not do


@pytest.mark.parametrize("probes", [1, 2])
def test_training_is_bitwise_the_same(probes):
    def train(probed):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(5, 32), nn.BatchNorm1d(32), nn.Dropout(0.5), nn.ReLU(inplace=True), mlp_tail())
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        traces = [probe(model) for _ in range(probes if probed else 0)]
        opened = [trace.__enter__() for trace in traces]
        losses = []
        for seed in range(3):
            optimizer.zero_grad()
            loss = model(randn(16, 5, dtype=torch.float32, seed=seed)).square().mean()
            loss.backward()
            losses.append(loss.detach())
            optimizer.step()
        for trace in reversed(traces):
            trace.__exit__(None, None, None)
        gradients = [p.grad for p in model.parameters()]
        return [*losses, *gradients, *model.state_dict().values(), torch.get_rng_state()], opened

    def mlp_tail():
        return nn.Sequential(nn.Linear(32, 8), nn.Tanh(), nn.Linear(8, 1))

    plain, _ = train(False)
    probed, traces = train(True)
    assert all(torch.equal(a, b) for a, b in zip(plain, probed, strict=True))
    assert all(len(trace.records) == 3 * 7 for trace in traces)
    assert traces[0].records == traces[-1].records


def test_the_transformer_of_the_course():
    model = Transformer(11, features=16, layers=2, heads=2, context=8, generator=generator())
    tokens = torch.randint(11, (4, 8), generator=generator())
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    with probe(model) as trace:
        F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
        optimizer.step()
    assert trace.records[-1].layer == "head"
    for record in trace.records:
        numbers = record.rms, record.output_gradient, record.parameter_gradient, record.update_ratio
        assert all(0 < number < math.inf for number in numbers), record


def train_once(model, x):
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    with probe(model) as trace:
        model(x).square().mean().backward()
        optimizer.step()
    return trace


def test_off_the_cpu_tensors_are_kept_until_they_are_read(monkeypatch):
    model, x = mlp(), 1e3 + randn(16, 5)
    expected = train_once(copy.deepcopy(model), x).records
    monkeypatch.setattr("lnorm.probing._at_hand", lambda x: False)
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "item", None)
        patch.setattr(torch.Tensor, "tolist", None)
        trace = train_once(model, x)
    for got, record in zip(trace.records, expected, strict=True):
        assert got[:4] == record[:4]
        for a, b in zip(got[4:], record[4:], strict=True):
            assert (a is None) == (b is None)
            assert a is None or type(a) is float
            assert a is None or a == pytest.approx(b, rel=1e-6)


if torch.cuda.is_available():  # where there is none, the test above stands in

    def test_no_step_waits_for_the_gpu():
        model, x = mlp(), randn(16, 5)
        expected = train_once(copy.deepcopy(model), x).records
        model, x = model.cuda(), x.cuda()
        torch.cuda.set_sync_debug_mode("error")
        try:
            trace = train_once(model, x)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        for got, record in zip(trace.records, expected, strict=True):
            assert got[4:] == pytest.approx(record[4:], rel=1e-6)


def test_hooks_are_removed_after_an_exception_and_the_records_kept():
    model, x = mlp(), randn(16, 5)
    before = hook_counts(model)
    with pytest.raises(KeyError, match="inside"), probe(model) as trace:
        y = model(x)
        assert hook_counts(model) != before
        raise KeyError("inside")
    assert hook_counts(model) == before
    assert len(trace.records) == 3
    y.sum().backward()
    assert only(trace, "2").output_gradient is None


def test_hooks_on_tensors_that_outlive_the_block_are_removed():
    class Weight(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self):
            return self.weight

    model = Weight()
    with probe(model) as trace:
        model().sum().backward()
    assert not model.weight._backward_hooks
    assert trace.records[0].output_gradient == pytest.approx(math.sqrt(3))


def test_nested_probes_of_a_model_and_of_its_part():
    model, x = mlp(), randn(16, 5)
    with probe(model) as outer:
        with probe(model[0]) as inner:
            model(x).sum().backward()
        model(x)
    assert inner.records[0].layer == "Linear"
    assert inner.records[0].rms == only(outer, "0").rms
    assert inner.records[0].calls == 1
    assert only(outer, "0").calls == 2


def test_compiled_models_run_uncompiled_inside_and_compiled_outside():
    calls = []

    def backend(graph, inputs):
        def run(*args):
            calls.append(1)
            return graph(*args)

        return run

    model = mlp()
    compiled = torch.compile(model, backend=backend)
    x = randn(16, 5)
    with probe(compiled) as trace:
        compiled(x).sum().backward()
    assert not calls
    assert [r.layer for r in trace.records] == ["0", "1", "2"]
    assert only(trace, "2").parameter_gradient > 0
    compiled(x)
    assert calls == [1]
    with probe(model) as again:
        compiled(x)
    assert calls == [1]
    assert len(again.records) == 3


# How it is shown


def test_table_as_text_and_as_markdown():
    model = mlp()
    with probe(model) as trace:
        model(randn(16, 5))
    table = trace.table()
    text = str(table).splitlines()
    assert len(text) == 4
    assert len({len(line) for line in text}) == 1
    assert text[0].split() == list(table.TITLES)
    assert text[2].split()[:2] == ["1", "ReLU"]
    markdown = table._repr_markdown_().splitlines()
    assert len(markdown) == 5
    assert markdown[1].startswith("|")
    assert {line.count("|") for line in markdown} == {10}
    assert f"{only(trace, '1').rms:.2g}" in markdown[3]


@pytest.mark.filterwarnings("error")
def test_plot_shows_every_layer_once():
    model = mlp(torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    nn.init.constant_(model[0].bias, -1e6)  # all units are dead: its gradient is exactly zero
    with probe(model) as trace:
        model(randn(16, 5, dtype=torch.float32)).sum().backward()
        optimizer.step()
    figure = trace.plot()
    figure.canvas.draw()
    signals, gradients, ratios = figure.axes
    assert [label.get_text() for label in signals.get_yticklabels()] == ["0", "1", "2"]
    assert {ax.get_xscale() for ax in figure.axes} == {"log"}
    points, crosses = (set(zip(*line.get_data(), strict=True)) for line in signals.lines)
    assert points == {(r.rms, row) for row, r in enumerate(trace.records) if r.rms}
    assert crosses == {(0.03, 1)}  # the dead ReLU
    _, output_crosses, points, weight_crosses = (set(zip(*line.get_data(), strict=True)) for line in gradients.lines)
    assert points == {(only(trace, "2").parameter_gradient, 2)}
    assert output_crosses == weight_crosses == {(0.03, 0)}
    assert set(zip(*ratios.lines[0].get_data(), strict=True)) == {(only(trace, "2").update_ratio, 2)}
    assert list(ratios.lines[-1].get_xdata()) == [1e-3, 1e-3]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("value", "edge"), [(0.0, 0.03), (math.inf, 0.97), (math.nan, 0.97)])
def test_plot_of_a_single_evaluation_of_what_cannot_be_drawn(value, edge):
    model = nn.Linear(3, 2)
    nn.init.constant_(model.weight, value)
    nn.init.zeros_(model.bias)
    with probe(model) as trace:
        model(torch.ones(4, 3))
    figure = trace.plot()
    figure.canvas.draw()
    assert [list(line.get_xdata()) for line in figure.axes[0].lines] == [[], [edge]]
    assert [list(line.get_xdata()) for line in figure.axes[1].lines] == [[], [], [], []]


def test_messages_say_what_to_do():
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module, got function"), probe(mlp):
        pass
    model = mlp()
    with probe(model) as trace, pytest.raises(RuntimeError, match="after the `with` block"):
        trace.table()
    for show in (trace.table, trace.plot):
        with pytest.raises(RuntimeError, match="nothing was recorded: run the forward pass"):
            show()
    assert trace.records == []
