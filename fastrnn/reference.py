"""The same models and optimizers in plain NumPy: the yardstick for correctness and for speed.

Written as a careful user of NumPy would: input by index instead of one-hot vectors, everything but
the recurrence itself outside the time loop, products by BLAS, results into arrays that are there.
It works in the dtype of the parameters, also with complex numbers, which gradcheck uses for exact
derivatives: so it is analytic, and takes neither absolute values nor maxima of what is complex.

What the model is, its cell and its layers, is told by the names and shapes of the parameters.

Arrays: codes (T + 1, B), state (S·L, B, m); parameters as in fastrnn.parameters, L layers with g
gates. S is the number of states that a cell carries: 2 for the LSTM (h and c), 1 for others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from fastrnn.config import Config, state_names
from fastrnn.parameters import GATES, Parameters

# --- cells ----------------------------------------------------------------------------------------
#
# forward(W, n, inputs, states) fills states[:, 1:] and returns what its backward needs besides.
# backward(W, states, kept, dh) returns the gradient with respect to the inputs, and that with
# respect to the recurrent products W h, which is the same array where these are only added.
#
#     inputs   (T, B, g·m)       the input's product and the bias; may be overwritten
#     states   (S, T + 1, B, m)  h, and c of the LSTM; states[:, 0] is given
#     dh       (T, B, m)         gradient by way of the layers above; overwritten


def rnn_forward(W: np.ndarray, n: None, inputs: np.ndarray, states: np.ndarray) -> None:
    """h' = tanh(W h + inputs)."""
    WT = W.T
    h, *rest = states[0]
    for a, x in zip(rest, inputs, strict=True):
        np.dot(h, WT, out=a)
        a += x
        h = np.tanh(a, out=a)


def rnn_backward(
    W: np.ndarray, states: np.ndarray, kept: None, dh: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    h = states[0, 1:]
    slope = 1 - h * h
    da = dh
    *rest, d = da
    d *= slope[-1]
    for a, by in zip(rest[::-1], slope[-2::-1], strict=True):
        a += np.dot(d, W)
        a *= by
        d = a
    return da, da


def lstm_forward(
    W: np.ndarray, n: None, inputs: np.ndarray, states: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """c' = f·c + i·g, h' = o·tanh(c'); gates i, f, g, o.

    One tanh makes all gates: the logistic function of a is 1/2 + tanh(a/2)/2.
    """
    WT, m = W.T, W.shape[1]
    factor = np.repeat(np.array([0.5, 0.5, 1, 0.5], W.real.dtype), m)
    shift = np.repeat(np.array([0.5, 0.5, 0, 0.5], W.real.dtype), m)
    h, c = states
    product = np.empty_like(inputs[0])
    tanh_c = np.empty_like(h[1:])
    i, f, g, o = gates_of(inputs, m)
    for t, a in enumerate(inputs):
        a += np.dot(h[t], WT, out=product)
        a *= factor
        np.tanh(a, out=a)
        a *= factor
        a += shift
        after = np.multiply(f[t], c[t], out=c[t + 1])
        after += i[t] * g[t]
        np.tanh(after, out=tanh_c[t])
        np.multiply(o[t], tanh_c[t], out=h[t + 1])
    return inputs, tanh_c


def lstm_backward(
    W: np.ndarray, states: np.ndarray, kept: tuple[np.ndarray, np.ndarray], dh: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    (gates, tanh_c), m = kept, W.shape[1]
    i, f, g, o = gates_of(gates, m)
    # Every gradient is that of c or h times a slope; all slopes are made outside of the loop.
    slopes = gates * (1 - gates)  # of the logistic gates
    to_i, to_f, to_g, to_o = gates_of(slopes, m)
    to_i *= g
    to_f *= states[1, :-1]
    np.multiply(i, 1 - g * g, out=to_g)
    to_o *= tanh_c
    to_c = o * (1 - tanh_c * tanh_c)
    T, B = dh.shape[:2]
    by_gate = slopes.reshape(T, B, 4, m)
    dc = np.zeros_like(dh[0])
    for t in range(T - 1, -1, -1):
        d = dh[t]
        if t < T - 1:
            d += np.dot(slopes[t + 1], W)
        dc += d * to_c[t]
        to_all = by_gate[t]
        to_all[:, :3] *= dc[:, None]
        to_all[:, 3] *= d
        dc *= f[t]
    return slopes, slopes


def gru_forward(
    W: np.ndarray, n: np.ndarray, inputs: np.ndarray, states: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """h' = g + z·(h - g), candidate g = tanh(inputs_g + r·(W_g h + n)); gates r, z, g."""
    WT, m = W.T, W.shape[1]
    h = states[0]
    products = np.empty_like(inputs)
    q = products[..., 2 * m :]
    r, z, g = gates_of(inputs, m)
    for t, product in enumerate(products):
        np.dot(h[t], WT, out=product)
        a = inputs[t, :, : 2 * m]
        a += product[:, : 2 * m]
        a *= 0.5
        np.tanh(a, out=a)
        a *= 0.5
        a += 0.5
        a = q[t]
        a += n
        candidate = g[t]
        candidate += r[t] * a
        np.tanh(candidate, out=candidate)
        after = np.subtract(h[t], candidate, out=h[t + 1])
        after *= z[t]
        after += candidate
    return inputs, q


def gru_backward(
    W: np.ndarray, states: np.ndarray, kept: tuple[np.ndarray, np.ndarray], dh: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    (gates, q), m = kept, W.shape[1]
    r, z, g = gates_of(gates, m)
    # Every gradient is that of h times a slope; all slopes are made outside of the loop.
    to_g = (1 - z) * (1 - g * g)
    slopes = gates * (1 - gates)  # of the logistic gates
    to_r, to_z, to_q = gates_of(slopes, m)
    to_r *= to_g * q
    to_z *= states[0, :-1] - g
    np.multiply(to_g, r, out=to_q)
    T, B = dh.shape[:2]
    by_gate = slopes.reshape(T, B, 3, m)
    for t in range(T - 1, -1, -1):
        d = dh[t]
        if t < T - 1:
            d += dh[t + 1] * z[t + 1]
            d += np.dot(slopes[t + 1], W)
        to_all = by_gate[t]
        to_all *= d[:, None]
    da, dq = slopes.copy(), slopes
    np.multiply(dh, to_g, out=da[..., 2 * m :])
    return da, dq


def gates_of(a: np.ndarray, m: int) -> list[np.ndarray]:
    """Views of the gates, (T, B, m) each."""
    return np.split(a, a.shape[-1] // m, axis=-1)


class Cell(NamedTuple):
    """The two time loops of a cell."""

    forward: Callable[..., Any]
    backward: Callable[..., tuple[np.ndarray, np.ndarray]]


CELLS = {
    GATES["rnn"]: Cell(rnn_forward, rnn_backward),
    GATES["lstm"]: Cell(lstm_forward, lstm_backward),
    GATES["gru"]: Cell(gru_forward, gru_backward),
}


def cell_of(parameters: Parameters) -> Cell:
    """The cell, which the number of gates tells."""
    rows, m = parameters["W"].shape
    return CELLS[rows // m]


# --- loss and gradient ----------------------------------------------------------------------------


class Forward(NamedTuple):
    """What the backward pass needs."""

    loss: float  # nats, summed over the T characters, averaged over the B streams
    state: np.ndarray  # (S·L, B, m) after the chunk: all h, then all c
    p: np.ndarray  # (T, B, K), probabilities
    layers: list[Layer]


class Layer(NamedTuple):
    """What the backward pass of a layer needs."""

    states: np.ndarray  # (S, T + 1, B, m)
    kept: Any  # what the cell keeps
    mask: np.ndarray | None  # (T, B, m), 0 or 1 / (1 - dropout)
    outputs: np.ndarray  # (T·B, m), what the layer above gets


def forward(
    parameters: Parameters,
    state: np.ndarray,
    codes: np.ndarray,
    keys: np.ndarray | None = None,
    dropout: float = 0.0,
) -> Forward:
    """Hidden states, probabilities and loss of the characters codes[1:] after codes[:-1].

    Parameters
    ----------
    parameters : Parameters
    state : (S·L, B, m) array
        Before the chunk.
    codes : (T + 1, B) integer array
    keys : (L, 2) integer array, optional
        What the masks of the layers are made from; without it nothing is dropped.
    dropout : float
        Share of the hidden units that the layer above does not get.
    """
    cell, names = cell_of(parameters), layer_names(parameters)
    L, m = len(names), parameters["W"].shape[1]
    T, B = codes.shape[0] - 1, codes.shape[1]
    after = np.empty_like(state)
    layers: list[Layer] = []
    for l, (X, W, b, n) in enumerate(names):
        if l == 0:
            inputs = parameters[X].T[codes[:-1]] + parameters[b]
        else:
            inputs = (layers[-1].outputs @ parameters[X].T).reshape(T, B, -1)
            inputs += parameters[b]
        states = np.empty((len(state) // L, T + 1, B, m), inputs.dtype)
        states[:, 0] = state[l::L]
        kept = cell.forward(parameters[W], parameters.get(n), inputs, states)
        after[l::L] = states[:, -1]
        outputs, mask = states[0, 1:], None
        if keys is not None and dropout:
            mask = dropout_mask(keys[l], dropout, T, B, m).astype(outputs.real.dtype)
            mask /= 1 - dropout
            outputs = outputs * mask
        layers.append(Layer(states, kept, mask, outputs.reshape(T * B, m)))
    o = layers[-1].outputs @ parameters["V"].T
    o += parameters["c"]
    o -= o.real.max(axis=1, keepdims=True)
    at_target = o[np.arange(T * B), codes[1:].ravel()]
    p = np.exp(o, out=o)
    total = p.sum(axis=1, keepdims=True)
    p /= total
    loss = (np.log(total[:, 0]) - at_target).sum() / B
    return Forward(loss, after, p.reshape(T, B, -1), layers)


def backward(parameters: Parameters, forward: Forward, codes: np.ndarray) -> Parameters:
    """Gradient of the loss with respect to every parameter, by backpropagation through time."""
    cell, names = cell_of(parameters), layer_names(parameters)
    T, B, K = forward.p.shape
    m = parameters["W"].shape[1]
    do = forward.p.reshape(T * B, K) / B
    do[np.arange(T * B), codes[1:].ravel()] -= do.dtype.type(1 / B)
    gradient = {"V": do.T @ forward.layers[-1].outputs, "c": do.sum(axis=0)}
    d = do @ parameters["V"]
    for l in range(len(names) - 1, -1, -1):
        X, W, b, n = names[l]
        states, kept, mask, _ = forward.layers[l]
        dh = d.reshape(T, B, m)
        if mask is not None:
            dh *= mask
        da, dq = cell.backward(parameters[W], states, kept, dh)
        da, dq = da.reshape(T * B, -1), dq.reshape(T * B, -1)
        gradient[W] = dq.T @ states[0, :-1].reshape(T * B, m)
        gradient[b] = da.sum(axis=0)
        if n in parameters:
            gradient[n] = dq[:, -m:].sum(axis=0)
        if l > 0:
            gradient[X] = da.T @ forward.layers[l - 1].outputs
            d = da @ parameters[X]
    dUT = np.zeros((K, da.shape[1]), da.dtype)
    for code, row in zip(codes[:-1].ravel().tolist(), da, strict=True):
        dUT[code] += row  # five times faster than np.add.at
    gradient["U"] = dUT.T
    return {name: gradient[name] for name in parameters}


def layer_names(parameters: Parameters) -> list[tuple[str, str, str, str]]:
    """For each layer the names of its input weights, W, b and n, which only the GRU has."""
    numbers = [name[1:] for name in parameters if name[0] == "W"]
    return [("X" + l if l else "U", "W" + l, "b" + l, "n" + l) for l in numbers]


def dropout_mask(key: np.ndarray, dropout: float, T: int, B: int, m: int) -> np.ndarray:
    """Which hidden units of one layer are kept, (T, B, m).

    A hash of the unit's place in the batch and of two numbers below 2³², so that nothing has to be
    stored, and nothing depends on who computes it. Multiplications between shifts are the form that
    Wellons found to mix best for their time (https://github.com/skeeto/hash-prospector).
    """
    t, stream, unit = np.ogrid[:T, :B, :m]
    first, second = np.asarray(key).astype(np.uint32)
    x = ((stream * T + t) * m + unit).astype(np.uint32)
    x *= np.uint32(0x9E3779B1)  # 2³² over the golden ratio
    x += first
    x ^= x >> 16
    x *= np.uint32(0x21F0AAAD)
    x ^= second
    x ^= x >> 15
    x *= np.uint32(0x735A2D97)
    x ^= x >> 15
    return (x >> 8) >= round(dropout * 2**24)


# --- optimizers -----------------------------------------------------------------------------------
#
# A rule takes a parameter, which it changes, its clipped gradient, which it may overwrite, the
# number of the update, t from 1, and its buffers: `momentum`, the mean of gradients or of steps,
# and `squares`, the sum or mean of squared gradients. They are PyTorch's, but for AdaGrad's
# epsilon, which is in the root, as in the reference experiment. (A Config has None for the settings
# of other optimizers, so to the type checker it is anything.)


def adagrad(config: Any, theta: np.ndarray, g: np.ndarray, t: int, squares: np.ndarray) -> None:
    """Duchi, Hazan and Singer, JMLR 12, 2011."""
    root = g * g
    squares += root
    np.sqrt(np.add(squares, config.epsilon, out=root), out=root)
    g *= config.learning_rate
    g /= root
    theta -= g


def rmsprop(
    config: Any,
    theta: np.ndarray,
    g: np.ndarray,
    t: int,
    squares: np.ndarray,
    momentum: np.ndarray | None = None,
) -> None:
    """Hinton, Neural Networks for Machine Learning, lecture 6, 2012."""
    squares *= config.rho
    squares += (1 - config.rho) * (g * g)
    root = np.sqrt(squares)
    root += config.epsilon
    g /= root
    if momentum is not None:
        momentum *= config.momentum
        momentum += g
        g = momentum
    theta -= config.learning_rate * g


def adam(
    config: Any,
    theta: np.ndarray,
    g: np.ndarray,
    t: int,
    momentum: np.ndarray,
    squares: np.ndarray,
) -> None:
    """Kingma and Ba, ICLR 2015; with decay AdamW, Loshchilov and Hutter, ICLR 2019."""
    if config.optimizer == "adamw":
        theta *= 1 - config.learning_rate * config.weight_decay
    momentum *= config.beta1
    momentum += (1 - config.beta1) * g
    squares *= config.beta2
    squares += (1 - config.beta2) * (g * g)
    root = np.sqrt(squares)
    root /= math.sqrt(1 - config.beta2**t)
    root += config.epsilon
    step = momentum / root
    step *= config.learning_rate / (1 - config.beta1**t)
    theta -= step


def sgd(
    config: Any,
    theta: np.ndarray,
    g: np.ndarray,
    t: int,
    momentum: np.ndarray | None = None,
) -> None:
    """Gradient descent; with momentum, also Nesterov's: Sutskever and others, ICML 2013."""
    if momentum is not None:
        momentum *= config.momentum
        momentum += g
        g = g + config.momentum * momentum if config.nesterov else momentum
    theta -= config.learning_rate * g


RULES: dict[str, Callable[..., None]] = {
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adam,
    "sgd": sgd,
}

OptimizerState = dict[str, Parameters]
"""The buffers by their names, each in the shapes of the parameters."""


def optimizer_state(config: Config, parameters: Parameters) -> OptimizerState:
    """The buffers before the first update."""
    return {
        buffer: {name: np.zeros_like(theta) for name, theta in parameters.items()}
        for buffer in state_names(config)
    }


def update(
    config: Config,
    parameters: Parameters,
    gradient: Parameters,
    state: OptimizerState,
    number: int,
) -> None:
    """One update in place: clip by norm, then by value, then the optimizer's rule.

    Parameters
    ----------
    config : Config
        Its learning rate is taken as it is: `dataclasses.replace` puts in that of a schedule.
    parameters, gradient : Parameters
    state : OptimizerState
        As `optimizer_state` gives it, or as the update before left it.
    number : int
        Of the update, from 0.
    """
    rule, clip = RULES[config.optimizer], config.clip
    factor = 1.0
    if config.clip_norm < math.inf:
        norm = math.hypot(*(np.linalg.norm(g) for g in gradient.values()))
        factor = min(1.0, config.clip_norm / (norm + 1e-6))  # as torch.nn.utils.clip_grad_norm_
    decay = config.weight_decay if config.optimizer != "adamw" else 0.0
    for name, theta in parameters.items():
        g = gradient[name] if factor == 1.0 else factor * gradient[name]
        g = g.clip(-clip, clip)
        if decay:
            g += decay * theta
        of_name = config
        if name == "U" and config.input_rate != 1.0:
            rate = config.input_rate * config.learning_rate
            of_name = replace(config, learning_rate=rate)
        rule(
            of_name, theta, g, number + 1, **{kind: buffer[name] for kind, buffer in state.items()}
        )
