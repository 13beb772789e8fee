"""JAX: all updates of a timing in one compiled loop, so that none waits for Python.

A call for each update is 30 µs slower at the smallest shape. Unrolling the loop over time (by 5)
gains no more than it loses over the shapes, so it stays rolled.
"""

from __future__ import annotations

import math
import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fastrnn.measure.methods import LeftOut, Problem, Training
from fastrnn.parameters import Parameters, state_shape


def versions() -> dict[str, str]:
    return {"jax": jax.__version__}


class Jax(Training):
    """Gradients by jax.grad through lax.scan; or a second scan by hand for the recurrence."""

    def __init__(self, problem: Problem, form: str):
        super().__init__(problem)
        config = problem.config
        if problem.threads == 1 and not hasattr(os, "sched_setaffinity"):
            raise LeftOut("cannot be kept to one thread on this system")
        if config.layers > 1 or config.dropout or config.weight_decay:
            raise LeftOut("is not written for layers, dropout and weight decay")
        if config.optimizer not in UPDATES:
            raise LeftOut("is not written for this optimizer")
        jax.config.update("jax_enable_x64", problem.dtype == np.float64)
        self.codes = jnp.asarray(problem.codes)
        cell = by_hand if form == "hand" else SCANS[config.cell]
        self.compiled = jax.jit(partial(many_updates, problem, cell), donate_argnums=0)

    def reset(self, squares: float = 0.0) -> None:
        problem = self.problem
        weights = {name: jnp.array(x) for name, x in problem.initial.items()}
        optimizer_state = jax.tree.map(jnp.array, problem.optimizer_state(squares))
        state = jnp.zeros(state_shape(problem.config, problem.B), problem.dtype)
        self.state = weights, optimizer_state, state, jnp.zeros((), problem.dtype)
        self.i = 0

    def train(self, updates: int) -> float:
        self.state = self.compiled(self.state, self.codes, self.i, self.i + updates)
        self.i += updates
        jax.block_until_ready(self.state)
        return float(self.state[-1])

    def parameters(self) -> Parameters:
        return {name: np.asarray(x) for name, x in self.state[0].items()}


def many_updates(problem, cell, state, codes, start, stop):
    """Updates start to stop: of weights, optimizer state, hidden state and the last loss."""
    config, T, B = problem.config, problem.T, problem.B

    def loss(weights, state, x, y):
        states, after = cell(weights, weights["U"].T[x] + weights["b"], state)
        o = states.reshape(T * B, -1) @ weights["V"].T + weights["c"]
        at_target = jnp.take_along_axis(jax.nn.log_softmax(o), y.reshape(-1, 1), 1)
        return -at_target.sum() / B, after

    def update(i, state):
        weights, optimizer_state, hidden, _ = state
        chunk = jax.lax.dynamic_slice_in_dim(codes, i % problem.chunks * T, T + 1)
        gradients = jax.value_and_grad(loss, has_aux=True)
        (value, hidden), gradient = gradients(weights, hidden, chunk[:-1], chunk[1:])
        if config.clip_norm < math.inf:
            norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in gradient.values()))
            factor = jnp.minimum(config.clip_norm / (norm + 1e-6), 1.0)
            gradient = jax.tree.map(lambda g: factor * g, gradient)
        if config.clip < math.inf:
            gradient = jax.tree.map(lambda g: jnp.clip(g, -config.clip, config.clip), gradient)
        weights, optimizer_state = UPDATES[config.optimizer](
            config, i, weights, gradient, **optimizer_state
        )
        return weights, optimizer_state, hidden, value

    return jax.lax.fori_loop(start, stop, update, state)


# --- optimizers -----------------------------------------------------------------------------------


def adagrad(config, i, weights, gradient, squares):
    squares = jax.tree.map(lambda s, g: s + g * g, squares, gradient)
    weights = jax.tree.map(
        lambda theta, g, s: theta - config.learning_rate * g / jnp.sqrt(s + config.epsilon),
        *(weights, gradient, squares),
    )
    return weights, {"squares": squares}


def adam(config, i, weights, gradient, momentum, squares):
    beta1, beta2 = config.beta1, config.beta2
    momentum = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, momentum, gradient)
    squares = jax.tree.map(lambda s, g: beta2 * s + (1 - beta2) * g * g, squares, gradient)
    rate = config.learning_rate / (1 - beta1 ** (i + 1))
    root = jnp.sqrt(1 - beta2 ** (i + 1))
    weights = jax.tree.map(
        lambda theta, m, s: (theta - rate * m / (jnp.sqrt(s) / root + config.epsilon)).astype(
            theta.dtype
        ),
        *(weights, momentum, squares),
    )
    return weights, {"momentum": momentum, "squares": squares}


UPDATES = {"adagrad": adagrad, "adam": adam}


# --- cells ----------------------------------------------------------------------------------------
#
# cell(weights, inputs (T, B, g·m), state (S, B, m)): hidden states (T, B, m), and the state after


def rnn(weights, inputs, state):
    def step(h, a):
        h = jnp.tanh(h @ weights["W"].T + a)
        return h, h

    last, states = jax.lax.scan(step, state[0], inputs)
    return states, last[None]


def lstm(weights, inputs, state):
    def step(state, a):
        h, c = state
        i, f, g, o = jnp.split(h @ weights["W"].T + a, 4, 1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    last, states = jax.lax.scan(step, (state[0], state[1]), inputs)
    return states, jnp.stack(last)


def gru(weights, inputs, state):
    m = state.shape[-1]

    def step(h, a):
        product = h @ weights["W"].T
        r, z = jnp.split(jax.nn.sigmoid(a[:, : 2 * m] + product[:, : 2 * m]), 2, 1)
        n = jnp.tanh(a[:, 2 * m :] + r * (product[:, 2 * m :] + weights["n"]))
        h = n + z * (h - n)
        return h, h

    last, states = jax.lax.scan(step, state[0], inputs)
    return states, last[None]


SCANS = {"rnn": rnn, "lstm": lstm, "gru": gru}


def by_hand(weights, inputs, state):
    states = recurrence(weights["W"], inputs, state[0])
    return states, states[-1:]


@jax.custom_vjp
def recurrence(W, inputs, h):
    return rnn({"W": W}, inputs, h[None])[0]


def recurrence_forward(W, inputs, h):
    states = recurrence(W, inputs, h)
    return states, (W, states, h)


def recurrence_backward(kept, dstates):
    """One product for all of dW after the loop; jax.grad would add to it in every step."""
    W, states, h = kept
    slope = 1 - states * states

    def step(da, x):
        dh, slope = x
        da = (dh + da @ W) * slope
        return da, da

    _, da = jax.lax.scan(step, jnp.zeros_like(h), (dstates, slope), reverse=True)
    before = jnp.concatenate([h[None], states[:-1]])
    m = len(W)
    return da.reshape(-1, m).T @ before.reshape(-1, m), da, jnp.zeros_like(h)


recurrence.defvjp(recurrence_forward, recurrence_backward)
