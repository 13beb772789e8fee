"""The GRU: h_t = (1 - z)·n + z·h_{t-1}, with r, z = σ(a_t) and n = tanh(a_t + r·q_t).

Cho and others 2014, in the form of torch.nn.GRU and cuDNN: the reset gate r comes after the
product, q_t = W_n h_{t-1} + n, so that all three products go together. The columns of A are in the
order n, r, z, q: those of the inputs, as those of the recurrence, are then next to each other.
"""

from __future__ import annotations

from fastrnn.kernels import cell
from fastrnn.kernels.compile import variant
from fastrnn.kernels.elementwise import sigmoid, tanh
from fastrnn.kernels.simd import fma, lanes_of, load, store

GATES = 3
STATES = 1  # of a layer: the hidden state
COLUMNS = 4  # of A, in gates: n, r, z, q
RECURRENT = 1
ORDER = (1, 2, 0)  # the parameters have r, z, n
RECURRENT_ORDER = (0, 1, 2)


class GRU(cell.Weights):
    """Weights of this cell."""

    __slots__ = ()


WEIGHTS = GRU


@variant(cell.activate)
def _activate(weights, states, sizes, layer, s, t, begin, end):
    if weights.instance_class is not GRU:
        return None

    def activate(weights, states, sizes, layer, s, t, begin, end):
        H, A, P = states.H, states.A, sizes.P
        step = (layer * H.shape[1] + s) * H.shape[2] + t
        start, gates = step * H.shape[3], step * A.shape[3]
        before = start - H.shape[3]
        # Two loops, so that no vector waits for another: n needs r.
        for j in range(gates + P + begin, gates + P + end, lanes_of(H)):
            store(A, j, sigmoid(load(A, j)))
            store(A, j + P, sigmoid(load(A, j + P)))
        for j in range(begin, end, lanes_of(H)):
            a = gates + j
            n = tanh(fma(load(A, a + P), load(A, a + 3 * P), load(A, a)))
            store(A, a, n)
            z = load(A, a + 2 * P)
            store(H, start + j, fma(z, load(H, before + j) - n, n))

    return activate


@variant(cell.differentiate)
def _differentiate(weights, states, sizes, layer, s, t, begin, end):
    if weights.instance_class is not GRU:
        return None

    def differentiate(weights, states, sizes, layer, s, t, begin, end):
        H, A, D, P = states.H, states.A, states.D, sizes.P
        step = (layer * H.shape[1] + s) * H.shape[2] + t
        gates, before = step * A.shape[3], (step - 1) * H.shape[3]
        gradient = (s * H.shape[2] + t) * H.shape[3]
        gradient_before = gradient - H.shape[3]  # of t = 1 it is one that nobody reads
        for j in range(begin, end, lanes_of(H)):
            a = gates + j
            n, r, z, q = load(A, a), load(A, a + P), load(A, a + 2 * P), load(A, a + 3 * P)
            dh = load(D, gradient + j)
            dn = dh * (1.0 - z) * (1.0 - n * n)
            store(A, a, dn)
            store(A, a + P, dn * q * (r * (1.0 - r)))
            store(A, a + 2 * P, dh * (load(H, before + j) - n) * (z * (1.0 - z)))
            store(A, a + 3 * P, dn * r)
            store(D, gradient_before + j, fma(dh, z, load(D, gradient_before + j)))

    return differentiate
