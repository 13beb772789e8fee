"""How surprised a model is by a text: the forward pass alone, over any number of chunks."""

from __future__ import annotations

from fastrnn.kernels import gradients, output
from fastrnn.kernels.compile import entry
from fastrnn.kernels.entries import carry
from fastrnn.kernels.simd import lanes_of
from fastrnn.kernels.team import barrier


@entry
def losses(weights, packed, states, sizes, team, thread, dropout, codes, out):
    """The loss of every character of `codes` after the first row, chunk by chunk.

    A thread reads its streams and nobody else's, from the first chunk to the last; only threads
    that share the columns of the same streams wait for each other.

    states   in, out  before is the state before codes[0] is read, then that before its last row
    dropout  in       with a threshold of 0
    codes    in       (chunks · T + 1, B) int32, characters by time and stream
    out      out      (chunks · T, B) nats, in the type of the states
    """
    group, width = states.H.shape[1], lanes_of(states.loss)
    for first in range(0, out.shape[0], sizes.T):
        for start in range(0, sizes.B, group):
            shard = gradients.shard_of(team, thread, start, min(group, sizes.B - start))
            gradients.forward_layers(
                weights, packed, states, sizes, team, shard, dropout, 0, codes, first
            )
            carry(states, sizes, shard)
            if shard.column_shares > 1:
                barrier(team, thread)  # the other columns of h
            output.cross_entropy(weights, packed, states, sizes, shard, codes, first)
            begin, end = output.time_steps(sizes, shard, width)
            for s in range(shard.first, shard.last):
                for t in range(begin - 1, end - 1):
                    out[first + t, start + s] = states.loss[s, t]
            if shard.column_shares > 1:
                barrier(team, thread)  # all have read the columns of this one
