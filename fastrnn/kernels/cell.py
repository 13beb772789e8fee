"""What a cell is to the kernels around it, which do not know which one they run.

A layer computes in every time step t

    A_t = inputs_t + H_{t-1} Wᵀ      pre-activations, of each of the cell's gates
    H_t = activate(A_t, ...)         the cell's, element by element

and backwards, from D_t, the gradient with respect to H_t, that of A_t by `differentiate`. A cell is
a file of its own (rnn.py, lstm.py, gru.py): a subclass of `Weights`, and these two functions for
it by `compile.variant`; the compiler picks them by the type of their first argument.

Of a stream, A has a column for each unit of each gate; a gate's columns start with a whole vector:

    rnn     h              inputs and recurrence go to the same columns
    lstm    i  f  g  o     the same
    gru     n  r  z  q     inputs go to n, r, z; the recurrence to r, z and q, which n uses times r
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
    L: int  # layers
    P: int  # columns from a gate to the next: m in whole vectors
    gates: int  # that the inputs go to, and as many that the recurrence goes to
    recurrent: int  # the column that the recurrence goes to first
    rows: int  # of all matrices that are packed, each in whole vectors of the tiles
    divisor: int  # of the sum of all losses: B for a mean over streams, B·T over characters
    stride: int  # rows of the codes from a chunk to the next: T, or T + 1 if none goes on another
    separator: int  # the character around items (items.py), -1 for a text that has none


class Weights(NamedTuple):
    """Weights, or their gradients: views of one flat buffer, padded to whole vectors.

    Transposed as U is, the row of a character is contiguous.
    """

    U: np.ndarray  # (K, gates·P)  input to hidden of the first layer, transposed
    X: np.ndarray  # (L - 1, gates·P, m)  layer below to hidden of the others
    W: np.ndarray  # (L, gates·P, m)  hidden to hidden
    b: np.ndarray  # (L, gates·P)
    n: np.ndarray  # (L, P) of the GRU's q, else (0, P)
    V: np.ndarray  # (K, m)  hidden to output
    c: np.ndarray  # (K,)


class Packed(NamedTuple):
    """Matrices in panels for products (tiles.Panels), a panel in each row of an array."""

    W: np.ndarray  # (L, ...) of each W[l]
    WT: np.ndarray  # (L, ...) of its transpose
    X: np.ndarray  # (L - 1, ...) of each X[l]
    XT: np.ndarray  # (L - 1, ...) of its transpose
    V: np.ndarray  # (1, ...) of V
    VT: np.ndarray  # (1, ...) of its transpose


class States(NamedTuple):
    """All that one update computes on its way, allocated once, for G of the B streams at a time.

    Of the T + 1 rows of a stream, row t belongs to h_t, which is computed from the t-th character.
    Row 0 of H and C is the state before the chunk; the rows 0 of A and O are always zero, so that a
    product over all rows of all streams is the sum over all t of all streams.

    Two arrays may be another one: Z is H where there is no dropout, and D is A for a cell without
    gates, which has the gradients of h_t and a_t in one place.

    `used_rows` and `is_used` say which rows of the gradient of U are not zero, in the columns of a
    thread: all gradients have to be made by the same team.
    """

    H: np.ndarray  # (L, G, T + 1, m)  hidden states
    Z: np.ndarray  # (L, G, T + 1, m)  what the layer above, or the output layer, gets of them
    A: np.ndarray  # (L, G, T + 1, columns)  pre-activations, then gates, then their gradient
    C: np.ndarray  # (L or 0, G, T + 1, m)  cell states of the LSTM
    D: np.ndarray  # (1 or L, G, T + 1, m)  gradient with respect to h_t, of the present layer
    E: np.ndarray  # (G or 0, m)  gradient with respect to the cell state c_t
    O: np.ndarray  # (G, T + 1, K)  logits, then probabilities, then the gradient of the logits
    before: np.ndarray  # (S·L, B, m)  hidden, then cell states of the layers before the chunk
    after: np.ndarray  # (S·L, B, m)  and after it
    loss: np.ndarray  # (G, T)  cross-entropy of every character, in nats
    total: np.ndarray  # (G, T)  the softmax's denominators
    nats: np.ndarray  # (B,) float64  the loss of a stream
    used_rows: np.ndarray  # (threads, K + 1) int64  how many characters occur, then which
    is_used: np.ndarray  # (threads, K) bool  whether a character occurs


def activate(weights, states, sizes, layer, s, t, begin, end):
    """H[layer, s, t] from A[layer, s, t], in the units from begin to end - 1, whole vectors; what
    `differentiate` needs of the gates is left in A."""
    raise NotImplementedError


def differentiate(weights, states, sizes, layer, s, t, begin, end):
    """The gradient with respect to the pre-activations into A[layer, s, t], from that with respect
    to h_t in D; what goes from h_t and c_t to those before, other than by W, into D and E."""
    raise NotImplementedError
