"""The recurrent cells against their formulas, written step by step and gate by gate."""

import pytest
import torch
from torch import nn

from lnorm.nn import LayerNormGRUCell, LayerNormLSTMCell, LayerNormRNNCell

INPUT, HIDDEN, ROWS, STEPS = 3, 4, 5, 6
CELLS = (LayerNormRNNCell, LayerNormGRUCell, LayerNormLSTMCell)


def ln(z, gain, bias=0.0):
    return gain * (z - z.mean(-1, keepdim=True)) / (z.var(-1, correction=0, keepdim=True) + 1e-5).sqrt() + bias


def randomized(cell):
    torch.manual_seed(0)
    cell = cell.double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter += torch.randn(parameter.shape)
    return cell


def sequence():
    torch.manual_seed(1)
    return torch.randn(STEPS, ROWS, INPUT, dtype=torch.float64)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_rnn(nonlinearity, separate):
    cell = randomized(LayerNormRNNCell(INPUT, HIDDEN, nonlinearity=nonlinearity, separate=separate))
    h = expected = torch.zeros(ROWS, HIDDEN, dtype=torch.float64)
    for x in sequence():
        from_x, from_h = x @ cell.weight_ih.T, expected @ cell.weight_hh.T
        if separate:
            a = ln(from_x, cell.norm_ih.weight) + ln(from_h, cell.norm_hh.weight)
        else:
            a = ln(from_x + from_h, cell.norm.weight)
        expected = getattr(torch, nonlinearity)(a + cell.bias_ih + cell.bias_hh)
        h = cell(x, h)
        torch.testing.assert_close(h, expected)


def test_lstm_normalizes_the_cell_only_on_its_way_out():
    cell = randomized(LayerNormLSTMCell(INPUT, HIDDEN))
    state = None
    h = c = torch.zeros(ROWS, HIDDEN, dtype=torch.float64)
    for x in sequence():
        gates = ln(h @ cell.weight_hh.T, cell.norm_hh.weight, cell.bias_hh)
        gates = gates + ln(x @ cell.weight_ih.T, cell.norm_ih.weight, cell.bias_ih)
        i, f, g, o = (gates[:, k * HIDDEN : (k + 1) * HIDDEN] for k in range(4))
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(ln(c, cell.norm_c.weight, cell.norm_c.bias))
        state = cell(x, state)
        torch.testing.assert_close(state[0], h)
        torch.testing.assert_close(state[1], c)


def test_gru_normalizes_the_two_gates_together_and_the_candidate_apart():
    cell = randomized(LayerNormGRUCell(INPUT, HIDDEN))
    h = expected = torch.zeros(ROWS, HIDDEN, dtype=torch.float64)
    two = slice(0, 2 * HIDDEN)
    last = slice(2 * HIDDEN, None)
    for x in sequence():
        from_x, from_h = x @ cell.weight_ih.T, expected @ cell.weight_hh.T
        gates = ln(from_x[:, two], cell.norm_ih.weight, cell.bias_ih[two])
        gates = torch.sigmoid(gates + ln(from_h[:, two], cell.norm_hh.weight, cell.bias_hh[two]))
        r, z = gates[:, :HIDDEN], gates[:, HIDDEN:]
        n = ln(from_x[:, last], cell.norm_in.weight, cell.bias_ih[last])
        n = torch.tanh(n + r * ln(from_h[:, last], cell.norm_hn.weight, cell.bias_hh[last]))
        expected = (1 - z) * n + z * expected
        h = cell(x, h)
        torch.testing.assert_close(h, expected)


@pytest.mark.parametrize(
    ("cell", "theirs"),
    [(LayerNormRNNCell, nn.RNNCell), (LayerNormGRUCell, nn.GRUCell), (LayerNormLSTMCell, nn.LSTMCell)],
)
def test_torchs_checkpoint_holds_all_but_the_norms(cell, theirs):
    mine = cell(INPUT, HIDDEN)
    missing, unexpected = mine.load_state_dict(theirs(INPUT, HIDDEN).state_dict(), strict=False)
    assert not unexpected
    assert all(key.startswith("norm") for key in missing) and missing


@pytest.mark.parametrize("cell", CELLS)
def test_norms_start_at_one_and_zero_and_scaling_the_weights_changes_little(cell):
    mine = cell(INPUT, HIDDEN, bias=False)
    mine.reset_parameters()
    for name, parameter in mine.named_parameters():
        if name.startswith("norm"):
            assert torch.equal(parameter, torch.full_like(parameter, float(name.endswith("weight"))))
    mine = mine.double()
    x = sequence()[0]
    first = mine(x)
    with torch.no_grad():
        mine.weight_ih *= 100
        mine.weight_hh *= 100
    second = mine(x)
    first, second = (out[0] if isinstance(out, tuple) else out for out in (first, second))
    torch.testing.assert_close(first, second, atol=2e-3, rtol=0)  # eps alone tells them apart


@pytest.mark.parametrize("cell", CELLS)
def test_errors_name_the_argument(cell):
    mine = cell(INPUT, HIDDEN)
    x = torch.ones(ROWS, INPUT)
    with pytest.raises(ValueError, match=r"x: expected shape \(\.\.\., 3\)"):
        mine(torch.ones(ROWS, INPUT + 1))
    with pytest.raises(TypeError, match="x: expected a floating-point"):
        mine(x.long())
    for state in (torch.ones(ROWS, HIDDEN + 1), torch.ones(ROWS + 1, HIDDEN)):
        wrong = (state, state) if cell is LayerNormLSTMCell else state
        with pytest.raises(ValueError, match=r"(h|state\[0\]): expected"):
            mine(x, wrong)
    with pytest.raises(ValueError, match="hidden_size: "):
        cell(INPUT, 0)


def test_an_unknown_nonlinearity_is_refused():
    with pytest.raises(ValueError, match="nonlinearity: expected one of 'tanh', 'relu', got 'sin'"):
        LayerNormRNNCell(INPUT, HIDDEN, nonlinearity="sin")
