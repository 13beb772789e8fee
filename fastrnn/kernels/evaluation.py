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

    The streams are taken a group at a time. Threads wait for each other after each: in a smaller
    group, the last, another thread may have the place of a stream in the states.

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
            barrier(team, thread)  # all have read the states of this group
