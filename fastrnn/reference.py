"""The same update in plain NumPy: the yardstick for correctness and for speed.

Written as a careful user of NumPy would: input by index instead of one-hot vectors, everything but
the recurrence itself outside the time loop, products by BLAS, results into arrays that are there.
It works in the dtype of the parameters, also with complex numbers, which gradcheck uses for exact
derivatives.

Arrays: codes (T + 1, B), h (B, m); parameters as in fastrnn.parameters.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastrnn.parameters import Parameters

EPSILON = 1e-8  # that of kernels.optimizer, which this module must not import


class Forward(NamedTuple):
    """What the backward pass needs."""

    loss: float  # nats, summed over the T characters, averaged over the B streams
    h: np.ndarray  # (T + 1, B, m), h[0] the state before the chunk
    p: np.ndarray  # (T, B, K), probabilities


def forward(parameters: Parameters, h: np.ndarray, codes: np.ndarray) -> Forward:
    """Hidden states, probabilities and loss of the characters codes[1:] after codes[:-1]."""
    U, W, V, b, c = (parameters[name] for name in "UWVbc")
    T, B = codes.shape[0] - 1, codes.shape[1]
    states = np.empty((T + 1, B, W.shape[0]), W.dtype)
    states[0] = h
    inputs = U.T[codes[:-1]] + b
    for t in range(T):
        a = np.matmul(states[t], W.T, out=states[t + 1])
        a += inputs[t]
        np.tanh(a, out=a)
    o = states[1:].reshape(T * B, -1) @ V.T
    o += c
    o -= o.real.max(axis=1, keepdims=True)
    at_target = o[np.arange(T * B), codes[1:].ravel()]
    p = np.exp(o, out=o)
    total = p.sum(axis=1, keepdims=True)
    p /= total
    loss = (np.log(total[:, 0]) - at_target).sum() / B
    return Forward(loss, states, p.reshape(T, B, -1))


def backward(parameters: Parameters, forward: Forward, codes: np.ndarray) -> Parameters:
    """Gradient of the loss with respect to every parameter, by backpropagation through time."""
    W, V = parameters["W"], parameters["V"]
    _, h, p = forward
    T, B, K = p.shape
    do = p.reshape(T * B, K) / B
    do[np.arange(T * B), codes[1:].ravel()] -= do.dtype.type(1 / B)
    da = (do @ V).reshape(T, B, -1)
    slope = 1 - h[1:] * h[1:]
    da[-1] *= slope[-1]
    for t in range(T - 2, -1, -1):
        da[t] += da[t + 1] @ W
        da[t] *= slope[t]
    da = da.reshape(T * B, -1)
    dUT = np.zeros((K, W.shape[0]), W.dtype)
    for code, row in zip(codes[:-1].ravel().tolist(), da, strict=True):
        dUT[code] += row  # five times faster than np.add.at
    return {
        "U": dUT.T,
        "W": da.T @ h[:-1].reshape(T * B, -1),
        "V": do.T @ h[1:].reshape(T * B, -1),
        "b": da.sum(axis=0),
        "c": do.sum(axis=0),
    }


def update(
    parameters: Parameters,
    gradient: Parameters,
    memory: Parameters,
    learning_rate: float,
    clip: float,
) -> None:
    """One AdaGrad step in place, with the gradient clipped to ±clip."""
    for name, theta in parameters.items():
        g = np.clip(gradient[name], -clip, clip)
        root = g * g
        memory[name] += root
        np.sqrt(np.add(memory[name], EPSILON, out=root), out=root)
        g *= learning_rate
        g /= root
        theta -= g
