"""The LSTM: c_t = f·c_{t-1} + i·g, h_t = o·tanh(c_t), with i, f, o = σ(a_t) and g = tanh(a_t).

Hochreiter and Schmidhuber 1997, with the forget gate of Gers, Schmidhuber and Cummins 2000; the
gates are in the order of torch.nn.LSTM.
"""

from __future__ import annotations

from fastrnn.kernels import cell
from fastrnn.kernels.compile import variant
from fastrnn.kernels.elementwise import sigmoid, tanh
from fastrnn.kernels.simd import fma, lanes_of, load, store

GATES = 4
STATES = 2  # of a layer: the hidden state and the cell state
COLUMNS = 4  # of A, in gates: i, f, g, o
RECURRENT = 0
ORDER = (0, 1, 2, 3)
RECURRENT_ORDER = (0, 1, 2, 3)


class LSTM(cell.Weights):
    """Weights of this cell."""

    __slots__ = ()


WEIGHTS = LSTM


@variant(cell.activate)
def _activate(weights, states, sizes, layer, s, t, begin, end):
    if weights.instance_class is not LSTM:
        return None

    def activate(weights, states, sizes, layer, s, t, begin, end):
        H, A, C, P = states.H, states.A, states.C, sizes.P
        step = (layer * H.shape[1] + s) * H.shape[2] + t
        start, gates = step * H.shape[3], step * A.shape[3]
        before = start - H.shape[3]
        for j in range(begin, end, lanes_of(H)):
            a = gates + j
            i, f = sigmoid(load(A, a)), sigmoid(load(A, a + P))
            g, o = tanh(load(A, a + 2 * P)), sigmoid(load(A, a + 3 * P))
            c = fma(f, load(C, before + j), i * g)
            store(A, a, i)
            store(A, a + P, f)
            store(A, a + 2 * P, g)
            store(A, a + 3 * P, o)
            store(C, start + j, c)
        # A loop of its own, so that no vector waits for another: tanh(c) needs c.
        for j in range(begin, end, lanes_of(H)):
            store(H, start + j, load(A, gates + 3 * P + j) * tanh(load(C, start + j)))

    return activate


@variant(cell.differentiate)
def _differentiate(weights, states, sizes, layer, s, t, begin, end):
    if weights.instance_class is not LSTM:
        return None

    def differentiate(weights, states, sizes, layer, s, t, begin, end):
        H, A, C, D, E, P = states.H, states.A, states.C, states.D, states.E, sizes.P
        step = (layer * H.shape[1] + s) * H.shape[2] + t
        start, gates = step * H.shape[3], step * A.shape[3]
        before = start - H.shape[3]
        gradient, running = (s * H.shape[2] + t) * H.shape[3], s * H.shape[3]
        carried = 1.0 if t < sizes.T else 0.0  # nothing comes from after the chunk
        for j in range(begin, end, lanes_of(H)):
            a = gates + j
            i, f = load(A, a), load(A, a + P)
            g, o = load(A, a + 2 * P), load(A, a + 3 * P)
            dh, c = load(D, gradient + j), tanh(load(C, start + j))
            dc = fma(dh * o, 1.0 - c * c, load(E, running + j) * carried)
            store(A, a, dc * g * (i * (1.0 - i)))
            store(A, a + P, dc * load(C, before + j) * (f * (1.0 - f)))
            store(A, a + 2 * P, dc * i * (1.0 - g * g))
            store(A, a + 3 * P, dh * c * (o * (1.0 - o)))
            store(E, running + j, dc * f)

    return differentiate
