"""The vanilla RNN: h_t = tanh(a_t) (Elman 1990)."""

from __future__ import annotations

from fastrnn.kernels import cell
from fastrnn.kernels.compile import variant
from fastrnn.kernels.elementwise import tanh
from fastrnn.kernels.simd import lanes_of, load, store

GATES = 1
STATES = 1  # of a layer: the hidden state
COLUMNS = 1  # of A, in gates
RECURRENT = 0  # the first of them that the recurrence goes to
ORDER = (0,)  # where the gates of the parameters are among the columns of the inputs
RECURRENT_ORDER = (0,)  # and of the recurrence


class RNN(cell.Weights):
    """Weights of this cell."""

    __slots__ = ()


WEIGHTS = RNN


@variant(cell.activate)
def _activate(weights, states, sizes, layer, s, t, begin, end):
    if weights.instance_class is not RNN:
        return None

    def activate(weights, states, sizes, layer, s, t, begin, end):
        H, A = states.H, states.A
        start = ((layer * H.shape[1] + s) * H.shape[2] + t) * H.shape[3]
        for i in range(start + begin, start + end, lanes_of(H)):
            store(H, i, tanh(load(A, i)))

    return activate


@variant(cell.differentiate)
def _differentiate(weights, states, sizes, layer, s, t, begin, end):
    if weights.instance_class is not RNN:
        return None

    def differentiate(weights, states, sizes, layer, s, t, begin, end):
        H, A = states.H, states.A  # which is D, too
        start = ((layer * H.shape[1] + s) * H.shape[2] + t) * H.shape[3]
        for i in range(start + begin, start + end, lanes_of(H)):
            h = load(H, i)
            store(A, i, load(A, i) * (1.0 - h * h))

    return differentiate
