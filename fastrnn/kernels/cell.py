"""What a cell has to provide; the kernels around it do not know which one they run.

A cell is a file of its own (rnn.py) with a named tuple of its weights. It implements the two
functions here for that tuple, through Numba's `overload`: the compiler picks the implementation by
the type of the first argument.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Sizes(NamedTuple):
    """The sizes that the padded arrays do not show."""

    m: int  # hidden units
    K: int  # characters
    T: int  # sequence length
    B: int  # parallel streams


class Packed(NamedTuple):
    """Weights in panels for products (tiles.Panels), a panel in each row of an array."""

    W: np.ndarray  # of W (m, m)
    WT: np.ndarray  # of its transpose
    V: np.ndarray  # of V (K, m)
    VT: np.ndarray  # of its transpose


class States(NamedTuple):
    """All that one update computes on its way, allocated once, for G of the B streams at a time.

    Of the T + 1 rows of a stream, row t belongs to h_t, which is computed from the t-th character.
    H[:, 0] is the hidden state before the chunk; the rows 0 of D and O are always zero, so that a
    product over all rows of all streams is the sum over all t of all streams.

    `used_rows` and `is_used` say which rows of the gradient of U are not zero, in the columns of a
    thread: all gradients have to be made by the same team.
    """

    H: np.ndarray  # (G, T + 1, m)  hidden states
    D: np.ndarray  # (G, T + 1, m)  gradient with respect to h_t, then to the pre-activations a_t
    O: np.ndarray  # (G, T + 1, K)  logits, then probabilities, then the gradient of the logits
    before: np.ndarray  # (B, m)  hidden states before the chunk
    after: np.ndarray  # (B, m)  hidden states after the chunk
    loss: np.ndarray  # (G, T)  cross-entropy of every character, in nats
    total: np.ndarray  # (G, T)  the softmax's denominators
    nats: np.ndarray  # (B,) float64  the loss of a stream
    used_rows: np.ndarray  # (threads, K + 1) int64  how many characters occur, then which
    is_used: np.ndarray  # (threads, K) bool  whether a character occurs


def forward(weights, packed, states, sizes, team, shard, codes, first):
    """states.H and states.after from states.before and the characters codes[first : first + T]."""
    raise NotImplementedError


def backward(weights, packed, states, sizes, team, shard):
    """states.D from the gradient with respect to h_t, all other paths but the time loop included,
    to that with respect to the pre-activations."""
    raise NotImplementedError
