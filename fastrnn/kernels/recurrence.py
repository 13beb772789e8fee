"""The time loops of a layer, forward and backward, and the products between layers.

Only the step from h_{t-1} to h_t is sequential: the inputs of the layers above the first, and what
goes back from them to the layer below, are products over all time steps at once.
"""

from __future__ import annotations

from fastrnn.kernels import cell
from fastrnn.kernels.compile import jit, shared
from fastrnn.kernels.items import ends_item
from fastrnn.kernels.simd import advance, at, lanes_of, load, mask_tail, store
from fastrnn.kernels.team import barrier, share
from fastrnn.kernels.tiles import Matrix, columns_from, panels_of, product


@jit
def units_of(sizes, shard, width):
    """A shard's share of the hidden units, from begin to end - 1, in whole vectors."""
    return share(sizes.m, width, shard.column_share, shard.column_shares)


@jit
def spans_of(sizes, shard, units):
    """The columns that a shard's `units` have in all gates: how many pieces, each how long.

    A piece for each gate, a gate's columns apart; or one for all where nobody shares the columns.
    """
    if shard.column_shares > 1:
        return sizes.gates, units
    return 1, (sizes.gates - 1) * sizes.P + sizes.m


@jit
def multiply(A, B, c, row, rows, n, begin, gate, spans, columns, backwards):
    """C += A B for a shard's columns: `spans` times `columns`, from `begin` on, `gate` apart.

    A   (rows, n)  in   Matrix
    B              in   Panels, of all columns
    c              out  pointer to where the first of all columns begins; rows are `row` apart
    """
    for span in range(spans):
        first = span * gate + begin
        C = Matrix(advance(c, first), row, 1)
        product(A, columns_from(B, first), C, rows, n, columns, True, backwards)


@shared
def forward(weights, packed, states, sizes, team, shard, layer, codes, first):
    """H[layer] and `after` from `before` and the inputs: the characters codes[first : first + T],
    or H of the layer below."""
    H, A, C, U, b = states.H, states.A, states.C, weights.U, weights.b
    width = lanes_of(H)
    row, columns = H.shape[3], A.shape[3]
    steps = sizes.T + 1
    begin, end = units_of(sizes, shard, width)
    spans, span = spans_of(sizes, shard, end - begin)
    streams = shard.last - shard.first
    of_layer = layer * H.shape[1] + shard.first  # the first of the shard's streams
    bias = layer * b.shape[1]
    for s in range(streams):
        stream = (layer * sizes.B + shard.start + shard.first + s) * row
        for j in range(begin, end, width):
            store(H, (of_layer + s) * steps * row + j, load(states.before, stream + j))
        if C.shape[0] > 0:
            stream += sizes.L * sizes.B * row
            for j in range(begin, end, width):
                store(C, (of_layer + s) * steps * row + j, load(states.before, stream + j))
    if layer > 0:
        layer_inputs(weights, packed, states, sizes, shard, layer)
    WT = panels_of(packed.WT, layer)
    for t in range(1, steps):
        hidden = (of_layer * steps + t) * row
        gates = (of_layer * steps + t) * columns
        for s in range(streams):
            inputs = gates + s * steps * columns
            if layer == 0:
                u = codes[first + t - 1, shard.start + shard.first + s] * U.shape[1]
                for k in range(spans):
                    at_span = k * sizes.P + begin
                    for j in range(at_span, at_span + span, width):
                        store(A, inputs + j, load(U, u + j) + load(b, bias + j))
            if sizes.recurrent > 0:
                q = inputs + sizes.gates * sizes.P
                for j in range(begin, end, width):
                    store(A, q + j, load(weights.n, layer * sizes.P + j))
        if shard.column_shares > 1:
            barrier(team, shard.thread)  # the other columns of h_{t-1}
        h_before = Matrix(at(H, hidden - row), steps * row, 1)
        a = at(A, gates + sizes.recurrent)
        multiply(
            h_before,
            WT,
            a,
            steps * columns,
            streams,
            sizes.m,
            begin,
            sizes.P,
            spans,
            span,
            t % 2 == 0,
        )
        for s in range(streams):
            cell.activate(weights, states, sizes, layer, shard.first + s, t, begin, end)
            if ends_item(sizes, codes, first + t - 1, shard.start + shard.first + s):
                clear(H, hidden + s * steps * row, begin, end)
                if C.shape[0] > 0:
                    clear(C, hidden + s * steps * row, begin, end)
    for s in range(streams):
        stream = (layer * sizes.B + shard.start + shard.first + s) * row
        last = ((of_layer + s) * steps + sizes.T) * row
        for j in range(begin, end, width):
            store(states.after, stream + j, load(H, last + j))
        if C.shape[0] > 0:
            stream += sizes.L * sizes.B * row
            for j in range(begin, end, width):
                store(states.after, stream + j, load(C, last + j))


@jit
def layer_inputs(weights, packed, states, sizes, shard, layer):
    """A[layer] = X Z[layer - 1] + b, for all time steps."""
    Z, A, b = states.Z, states.A, weights.b
    width = lanes_of(A)
    row, columns = Z.shape[3], A.shape[3]
    steps = sizes.T + 1
    begin, end = units_of(sizes, shard, width)
    spans, span = spans_of(sizes, shard, end - begin)
    bias = layer * b.shape[1]
    for s in range(shard.first, shard.last):
        start = ((layer * A.shape[1] + s) * steps + 1) * columns
        for t in range(sizes.T):
            for k in range(spans):
                at_span = k * sizes.P + begin
                for j in range(at_span, at_span + span, width):
                    store(A, start + t * columns + j, load(b, bias + j))
        z = Matrix(at(Z, (((layer - 1) * Z.shape[1] + s) * steps + 1) * row), row, 1)
        XT, a = panels_of(packed.XT, layer - 1), at(A, start)
        multiply(z, XT, a, columns, sizes.T, sizes.m, begin, sizes.P, spans, span, False)


@jit
def clear(array, start, begin, end):
    """Zeros from element start + begin to start + end - 1, whole vectors."""
    zeros = mask_tail(load(array, start), 0, 0.0)
    for j in range(start + begin, start + end, lanes_of(array)):
        store(array, j, zeros)


@shared
def backward(weights, packed, states, sizes, team, shard, layer, codes, first):
    """A[layer] from the gates to the gradient with respect to the pre-activations; D in, all paths
    to h_t but the time loop included."""
    A, D, E = states.A, states.D, states.E
    width = lanes_of(A)
    row, columns = D.shape[3], A.shape[3]
    steps = sizes.T + 1
    begin, end = units_of(sizes, shard, width)
    streams = shard.last - shard.first
    of_layer = layer * A.shape[1] + shard.first
    d = layer % D.shape[0] * D.shape[1] + shard.first
    for s in range(streams):
        clear(D, (d + s) * steps * row, begin, end)
    W = columns_from(panels_of(packed.W, layer), begin)
    n = (sizes.gates - 1) * sizes.P + sizes.m
    for t in range(sizes.T, 0, -1):
        if t < sizes.T:
            if shard.column_shares > 1:
                barrier(team, shard.thread)  # the other columns of the gradient by a_{t+1}
            after = (of_layer * steps + t + 1) * columns + sizes.recurrent
            product(
                Matrix(at(A, after), steps * columns, 1),
                W,
                Matrix(at(D, (d * steps + t) * row + begin), steps * row, 1),
                streams,
                n,
                end - begin,
                add=True,
                backwards=t % 2 == 0,
            )
        for s in range(streams):
            if ends_item(sizes, codes, first + t - 1, shard.start + shard.first + s):
                clear(D, ((d + s) * steps + t) * row, begin, end)
                if E.shape[0] > 0:
                    clear(E, (shard.first + s) * row, begin, end)
            cell.differentiate(weights, states, sizes, layer, shard.first + s, t, begin, end)


@shared
def layer_gradient(packed, states, sizes, shard, layer):
    """D of the layer below, from A of this one by way of X, for all time steps."""
    A, D = states.A, states.D
    row, columns = D.shape[3], A.shape[3]
    steps = sizes.T + 1
    begin, end = units_of(sizes, shard, lanes_of(A))
    X = columns_from(panels_of(packed.X, layer - 1), begin)
    d = (layer - 1) % D.shape[0] * D.shape[1]
    for s in range(shard.first, shard.last):
        a = Matrix(at(A, ((layer * A.shape[1] + s) * steps + 1) * columns), columns, 1)
        below = Matrix(at(D, ((d + s) * steps + 1) * row + begin), row, 1)
        n = (sizes.gates - 1) * sizes.P + sizes.m
        product(a, X, below, sizes.T, n, end - begin, False)
