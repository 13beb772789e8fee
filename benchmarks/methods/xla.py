"""JAX: all updates of a timing in one compiled loop, so that none waits for Python.

A call for each update is 30 µs slower at the smallest shape. Unrolling the loop over time (by 5)
gains no more than it loses over the shapes, so it stays rolled.
"""

from __future__ import annotations

import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fastrnn.measure.methods import LeftOut, Problem, Training
from fastrnn.parameters import Parameters
from fastrnn.reference import EPSILON


def versions() -> dict[str, str]:
    return {"jax": jax.__version__}


class Jax(Training):
    """Gradients by jax.grad through lax.scan; or a second scan by hand for the recurrence."""

    def __init__(self, problem: Problem, form: str):
        super().__init__(problem)
        if problem.threads == 1 and not hasattr(os, "sched_setaffinity"):
            raise LeftOut("cannot be kept to one thread on this system")
        jax.config.update("jax_enable_x64", problem.dtype == np.float64)
        self.codes = jnp.asarray(problem.codes)
        self.compiled = jax.jit(
            partial(many_updates, problem, scan if form == "scan" else by_hand), donate_argnums=0
        )

    def reset(self, squares: float = 0.0) -> None:
        problem = self.problem
        weights = {name: jnp.array(x) for name, x in problem.initial.items()}
        all_squares = {name: jnp.full_like(x, squares) for name, x in weights.items()}
        h = jnp.zeros((problem.B, problem.config.hidden), problem.dtype)
        self.state = weights, all_squares, h, jnp.zeros((), problem.dtype)
        self.i = 0

    def train(self, updates: int) -> float:
        self.state = self.compiled(self.state, self.codes, self.i, self.i + updates)
        self.i += updates
        jax.block_until_ready(self.state)
        return float(self.state[-1])

    def parameters(self) -> Parameters:
        return {name: np.asarray(x) for name, x in self.state[0].items()}


def many_updates(problem, recurrence, state, codes, start, stop):
    """Updates start to stop: of weights, squares, hidden state and the last loss."""
    config, T, B = problem.config, problem.T, problem.B

    def loss(weights, h, x, y):
        a = weights["U"].T[x] + weights["b"]
        states = recurrence(weights["W"], a, h)
        o = states.reshape(T * B, -1) @ weights["V"].T + weights["c"]
        at_target = jnp.take_along_axis(jax.nn.log_softmax(o), y.reshape(-1, 1), 1)
        return -at_target.sum() / B, states[-1]

    def update(i, state):
        weights, squares, h, _ = state
        chunk = jax.lax.dynamic_slice_in_dim(codes, i % problem.chunks * T, T + 1)
        gradients = jax.value_and_grad(loss, has_aux=True)
        (value, h), gradient = gradients(weights, h, chunk[:-1], chunk[1:])
        gradient = jax.tree.map(lambda g: jnp.clip(g, -config.clip, config.clip), gradient)
        squares = jax.tree.map(lambda s, g: s + g * g, squares, gradient)
        weights = jax.tree.map(
            lambda theta, g, s: theta - config.learning_rate * g / jnp.sqrt(s + EPSILON),
            *(weights, gradient, squares),
        )
        return weights, squares, h, value

    return jax.lax.fori_loop(start, stop, update, state)


def scan(W, a, h):
    """The hidden states (T, B, m) from inputs `a` and the state before them."""

    def step(h, a):
        h = jnp.tanh(h @ W.T + a)
        return h, h

    return jax.lax.scan(step, h, a)[1]


@jax.custom_vjp
def by_hand(W, a, h):
    return scan(W, a, h)


def by_hand_forward(W, a, h):
    states = scan(W, a, h)
    return states, (W, states, h)


def by_hand_backward(kept, dstates):
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


by_hand.defvjp(by_hand_forward, by_hand_backward)
