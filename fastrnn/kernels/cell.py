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
    """Weights in the other direction, for products that need their rows contiguous."""

    W: np.ndarray  # (m, m)  transposed
    V: np.ndarray  # (m, K)  transposed


class States(NamedTuple):
    """All that one update computes on its way, allocated once."""

    H: np.ndarray  # (T + 1, B, m)  hidden states; H[0] is carried from chunk to chunk
    D: np.ndarray  # (T, B, m)  gradient with respect to h_t, then to the pre-activations
    O: np.ndarray  # (T, B, K)  logits, then probabilities, then the gradient of the logits
    loss: np.ndarray  # (T·B,)  cross-entropy of every character, in nats
    total: np.ndarray  # (T·B,)  the softmax's denominators
    occurring: np.ndarray  # (K + 1,) int64  how many characters occur in the chunk, then which
    seen: np.ndarray  # (K,) bool  all False between updates


def forward(weights, packed, states, sizes, codes, first):
    """states.H[1:] from states.H[0] and the characters codes[first : first + T]."""
    raise NotImplementedError


def backward(weights, packed, states, sizes):
    """states.D from the gradient with respect to h_t, all other paths but the time loop included,
    to that with respect to the pre-activations."""
    raise NotImplementedError
