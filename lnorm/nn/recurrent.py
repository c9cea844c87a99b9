"""Recurrent cells with layer normalization, placed as in Ba, Kiros & Hinton (2016).

Each norm's gain is its own ``weight``; its bias is torch's ``bias_ih`` or ``bias_hh``, which stands where the paper
puts the norm's bias. A checkpoint of torch's cell holds all but the norms' own parameters, which start at 1 and 0.
"""

import torch
from torch import Tensor, nn

from lnorm.nn import _arguments as arguments
from lnorm.nn.layer_norm import LayerNorm


class _Cell(nn.RNNCellBase):
    """What the three cells share: torch's weights for ``gates`` stacked gates, checks, biases that may be absent."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        gates: int,
        device: arguments.Device,
        dtype: torch.dtype | None,
    ) -> None:
        arguments.positive("input_size", input_size)
        arguments.positive("hidden_size", hidden_size)
        super().__init__(input_size, hidden_size, bias, gates, device, dtype)

    def reset_parameters(self) -> None:
        super().reset_parameters()  # uniform in ±1/√hidden_size, all parameters
        for norm in self.children():
            norm.reset_parameters()

    def _state(self, name: str, state: Tensor | None, x: Tensor) -> Tensor:
        """Return a state of shape ``(N, hidden_size)``, zeros for None."""
        arguments.trailing_axes("x", x, (self.input_size,))
        if state is None:
            return x.new_zeros(*x.shape[:-1], self.hidden_size)
        arguments.trailing_axes(name, state, (self.hidden_size,))
        if state.shape[:-1] != x.shape[:-1]:
            raise ValueError(f"{name}: expected one row for each row of x, {tuple(x.shape)}, got {tuple(state.shape)}")
        return state

    def _biases(self) -> tuple[Tensor | float, Tensor | float]:
        return (self.bias_ih, self.bias_hh) if self.bias else (0.0, 0.0)


class LayerNormRNNCell(_Cell):
    """``h' = tanh(LN(W_ih x + W_hh h) + b)``: one norm over the summed inputs (equation 4).

    ``separate=True`` normalizes the two terms on their own, ``tanh(LN(W_ih x) + LN(W_hh h) + b)``, as the paper's gated
    cells do. ``forward(x, h)`` takes ``(N, input_size)`` and ``(N, hidden_size)`` or None for zeros, and returns h'.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: arguments.Device = None,
        dtype: torch.dtype | None = None,
        *,
        separate: bool = False,
    ) -> None:
        arguments.one_of("nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity
        self.separate = separate
        names = ("norm_ih", "norm_hh") if separate else ("norm",)
        for name in names:
            self.add_module(name, LayerNorm(hidden_size, bias=False, device=device, dtype=dtype))

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        h = self._state("h", h, x)
        from_x, from_h = x @ self.weight_ih.T, h @ self.weight_hh.T
        normalized = self.norm_ih(from_x) + self.norm_hh(from_h) if self.separate else self.norm(from_x + from_h)
        bias_ih, bias_hh = self._biases()
        return getattr(torch, self.nonlinearity)(normalized + bias_ih + bias_hh)


class LayerNormLSTMCell(_Cell):
    """LSTM with a norm on ``W_hh h``, one on ``W_ih x``, each over all four gates together, and one on the cell::

        i, f, g, o = LN(W_ih x) + LN(W_hh h) + b
        c' = σ(f) c + σ(i) tanh(g)
        h' = σ(o) tanh(LN(c'))

    (supplementary material). The cell c' itself is carried on unnormalized, so that its recurrence stays linear. Gates
    are in torch's order. ``forward(x, (h, c))`` returns ``(h', c')``; None means zeros.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: arguments.Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)
        self.norm_ih = LayerNorm(4 * hidden_size, bias=False, device=device, dtype=dtype)
        self.norm_hh = LayerNorm(4 * hidden_size, bias=False, device=device, dtype=dtype)
        self.norm_c = LayerNorm(hidden_size, bias=bias, device=device, dtype=dtype)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        h, c = (None, None) if state is None else state
        h, c = self._state("state[0]", h, x), self._state("state[1]", c, x)
        bias_ih, bias_hh = self._biases()
        gates = self.norm_ih(x @ self.weight_ih.T) + bias_ih + self.norm_hh(h @ self.weight_hh.T) + bias_hh
        i, f, g, o = gates.chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * self.norm_c(c).tanh()
        return h, c


class LayerNormGRUCell(_Cell):
    """GRU with a norm on each term, reset and update gates together and the candidate apart::

        r, z = σ(LN(W_ih x) + LN(W_hh h) + b)
        n = tanh(LN(W_in x) + b_in + r (LN(W_hn h) + b_hn))
        h' = (1 - z) n + z h

    (supplementary material; the sense of z is torch's and that of the authors' code). Gates are in torch's order.
    ``forward(x, h)`` returns h'; None means zeros.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: arguments.Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)
        self.norm_ih = LayerNorm(2 * hidden_size, bias=False, device=device, dtype=dtype)
        self.norm_hh = LayerNorm(2 * hidden_size, bias=False, device=device, dtype=dtype)
        self.norm_in = LayerNorm(hidden_size, bias=False, device=device, dtype=dtype)
        self.norm_hn = LayerNorm(hidden_size, bias=False, device=device, dtype=dtype)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        h = self._state("h", h, x)
        sizes = (2 * self.hidden_size, self.hidden_size)
        gates_x, candidate_x = (x @ self.weight_ih.T).split(sizes, dim=-1)
        gates_h, candidate_h = (h @ self.weight_hh.T).split(sizes, dim=-1)
        from_x = torch.cat([self.norm_ih(gates_x), self.norm_in(candidate_x)], dim=-1)
        from_h = torch.cat([self.norm_hh(gates_h), self.norm_hn(candidate_h)], dim=-1)
        bias_ih, bias_hh = self._biases()
        r_x, z_x, n_x = (from_x + bias_ih).chunk(3, dim=-1)
        r_h, z_h, n_h = (from_h + bias_hh).chunk(3, dim=-1)
        r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
        n = torch.tanh(n_x + r * n_h)
        return (1 - z) * n + z * h
