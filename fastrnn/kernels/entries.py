"""The kernels that Python calls. They check nothing and allocate nothing: network.py does.

weights, gradient, memory   named tuples of a cell (rnn.RNNWeights)
packed, states, sizes       Packed, States and Sizes of cell.py
codes                       (…, B) int32, characters by time and stream
"""

from __future__ import annotations

from typing import NamedTuple

from fastrnn.kernels import cell, gradients, optimizer, output
from fastrnn.kernels.compile import entry, jit
from fastrnn.kernels.simd import lanes_of, load, store
from fastrnn.kernels.tiles import transpose

SMOOTHING = 0.999  # smooth_loss = 0.999 · smooth_loss + 0.001 · loss


class Record(NamedTuple):
    """The smooth loss and its lowest value, before and after some updates."""

    smooth_loss: float
    lowest: float  # of all updates ever
    lowest_index: int  # of the update in this call that reached it, or -1
    pending: bool  # whether the weights of the lowest are still the current ones, not copied


@entry
def pack(weights, packed):
    """Fill the packed copies from the weights."""
    transpose(weights.W, packed.W, 0, weights.W.shape[0])
    transpose(weights.V, packed.V, 0, weights.V.shape[0])


@entry
def loss(weights, packed, states, sizes, codes):
    """Loss of the chunk codes[: T + 1]; states.H[1:] are its hidden states."""
    cell.forward(weights, packed, states, sizes, codes, 0)
    return output.cross_entropy(weights, packed, states, sizes, codes, 0)


@entry
def loss_and_gradient(weights, packed, states, sizes, codes, gradient):
    """Loss of the chunk codes[: T + 1]; its gradient is left in `gradient`."""
    return gradients.loss_and_gradient(weights, packed, states, sizes, codes, 0, gradient)


@entry
def update(weights, gradient, memory, packed, states, sizes, eta, clip):
    """One step of the optimizer after `loss_and_gradient`."""
    optimizer.update(weights, gradient, memory, packed, states.occurring, sizes, eta, clip)


@entry
def train(
    weights,
    gradient,
    memory,
    packed,
    states,
    sizes,
    codes,
    eta,
    clip,
    flat,
    best,
    record,
    smooth_losses,
):
    """One update for each element of `smooth_losses`, on successive chunks.

    weights, memory, packed   in, out
    gradient        scratch  like weights
    states          in, out  H[0] is the hidden state before the first chunk, then after the last
    codes           in       (updates · T + 1, B) int32, characters by time and stream
    flat            in       (P,) the buffer that all weights are views of
    best            in, out  (P,) copy of `flat` after the update of lowest smooth loss
    record          in       Record, of the updates before; returned with these
    smooth_losses   out      (updates,) float64, after each update
    """
    smooth, lowest, _, pending = record
    lowest_index = -1
    H = states.H
    carried = sizes.B * H.shape[2]
    for i in range(smooth_losses.size):
        first = i * sizes.T
        nats = gradients.loss_and_gradient(weights, packed, states, sizes, codes, first, gradient)
        smooth = SMOOTHING * smooth + (1.0 - SMOOTHING) * nats
        # While the smooth loss falls, the best model is the current one: it is copied only when the
        # next update would not improve it.
        if pending and not smooth < lowest:
            for j in range(0, flat.size, lanes_of(flat)):
                store(best, j, load(flat, j))
            pending = False
        optimizer.update(weights, gradient, memory, packed, states.occurring, sizes, eta, clip)
        if smooth < lowest:
            lowest, lowest_index, pending = smooth, i, True
        smooth_losses[i] = smooth
        for j in range(0, carried, lanes_of(H)):
            store(H, j, load(H, sizes.T * carried + j))
    return Record(smooth, lowest, lowest_index, pending)


@jit
def likeliest(O, c, K):
    """The character with the highest logit."""
    code = 0
    for k in range(1, K):
        if O[0, 0, k] + c[k] > O[0, 0, code] + c[code]:
            code = k
    return code


@jit
def draw(O, c, K, temperature, uniform):
    """The character in whose part of the cumulated softmax `uniform` falls."""
    total, _ = output.softmax_row(O, 0, c, K, 1.0 / temperature)
    rest = uniform * total
    code = 0
    while code < K - 1 and rest >= O[0, 0, code]:
        rest -= O[0, 0, code]
        code += 1
    return code


@entry
def sample(weights, packed, states, sizes, codes, known, temperature, uniforms):
    """Read the known characters, then draw others one by one, each given all before it.

    states      in, out  States for T = B = 1; H[0] is the hidden state before codes[0] is read,
                         then that after all but the last character
    codes       in, out  (known + n, 1) int32; the first `known` ≥ 1 are read, the others drawn
    uniforms    in       (n,) float64 in [0, 1), one for each draw
    """
    H, O = states.H, states.O
    for i in range(codes.shape[0] - 1):
        cell.forward(weights, packed, states, sizes, codes, i)
        for j in range(0, H.shape[2], lanes_of(H)):
            store(H, j, load(H, H.shape[2] + j))
        if i + 1 < known:
            continue
        output.logits(weights, packed, states, sizes)
        if temperature > 0.0:
            codes[i + 1, 0] = draw(O, weights.c, sizes.K, temperature, uniforms[i + 1 - known])
        else:
            codes[i + 1, 0] = likeliest(O, weights.c, sizes.K)
