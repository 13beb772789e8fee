"""Loss and gradient of a chunk, for any cell."""

from __future__ import annotations

from fastrnn.kernels import cell
from fastrnn.kernels.compile import jit
from fastrnn.kernels.output import cross_entropy
from fastrnn.kernels.simd import at, keep_first, lanes_of, load, store
from fastrnn.kernels.tiles import Matrix, product


@jit
def sum_of_rows(A, rows, row, out):
    """out (row,) = sum over the first `rows` rows of A, in their order."""
    width = lanes_of(A)
    for j in range(0, row, width):
        total = load(A, j)
        for r in range(1, rows):
            total = total + load(A, r * row + j)
        store(out, j, total)


@jit
def input_gradient(states, sizes, codes, first, dU):
    """dU = sum of the gradients of the pre-activations, each in the row of its character.

    Rows of characters that do not occur are zero. `states.occurring` tells which do, here and in
    the optimizer; before the call it still tells which did in the chunk before.

    states   in, out  States: D in; occurring in, out
    codes    in       (…, B) int32, characters by time and stream
    dU       out      (K, m), transposed as RNNWeights.U; in, it is zero but for the chunk before
    """
    D, occurring, seen = states.D, states.occurring, states.seen
    width = lanes_of(D)
    row = D.shape[2]
    zeros = keep_first(load(D, 0), 0, 0.0)
    for i in range(1, occurring[0] + 1):
        at_row = occurring[i] * row
        for j in range(at_row, at_row + row, width):
            store(dU, j, zeros)
    count = 0
    for t in range(sizes.T):
        for stream in range(sizes.B):
            code = codes[first + t, stream]
            start = (t * sizes.B + stream) * row
            if not seen[code]:
                seen[code] = True
                count += 1
                occurring[count] = code
            for j in range(0, row, width):
                store(dU, code * row + j, load(dU, code * row + j) + load(D, start + j))
    occurring[0] = count
    for i in range(1, count + 1):
        seen[occurring[i]] = False


@jit
def backward(weights, packed, states, sizes, codes, first, gradient):
    """Gradient of the loss, after the forward pass and `cross_entropy`.

    weights    in       named tuple of a cell (rnn.RNNWeights)
    packed     in       Packed, of the same weights
    states     in, out  States: H and O in, D out
    codes      in       (…, B) int32, characters by time and stream
    gradient   out      like weights
    """
    H, D, O = states.H, states.D, states.O
    rows, hidden, output = sizes.T * sizes.B, H.shape[2], O.shape[2]
    do, V = Matrix(at(O, 0), output, 1), Matrix(at(weights.V, 0), hidden, 1)
    dh = Matrix(at(D, 0), hidden, 1)
    product(do, V, dh, rows, sizes.K, hidden, add=False)
    cell.backward(weights, packed, states, sizes)
    daT, before = Matrix(at(D, 0), 1, hidden), Matrix(at(H, 0), hidden, 1)
    dW = Matrix(at(gradient.W, 0), hidden, 1)
    product(daT, before, dW, sizes.m, rows, hidden, add=False)
    doT, after = Matrix(at(O, 0), 1, output), Matrix(at(H, sizes.B * hidden), hidden, 1)
    dV = Matrix(at(gradient.V, 0), hidden, 1)
    product(doT, after, dV, sizes.K, rows, hidden, add=False)
    sum_of_rows(D, rows, hidden, gradient.b)
    sum_of_rows(O, rows, output, gradient.c)
    input_gradient(states, sizes, codes, first, gradient.U)


@jit
def loss_and_gradient(weights, packed, states, sizes, codes, first, gradient):
    """Loss of the chunk of codes[first : first + T + 1], and its gradient; see `backward`."""
    cell.forward(weights, packed, states, sizes, codes, first)
    loss = cross_entropy(weights, packed, states, sizes, codes, first)
    backward(weights, packed, states, sizes, codes, first, gradient)
    return loss
