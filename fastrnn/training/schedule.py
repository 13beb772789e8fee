"""What depends on the number of an update: its learning rate, its corrections, its dropout.

All are pure functions of that number, so that a training which is resumed, or divided otherwise,
goes on with the same bits. And the same on every machine: `pow`, `exp` and `cos` of the system's
library differ in their last bits, so here are sums and products, which do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any

import numpy as np

from fastrnn.config import Config

ETA, DECAY, CORRECTION1, CORRECTION2 = range(4)
"""The columns of `steps`."""

# Taylor's series, highest power first, as polynomials of z and z². For |z| ≤ ln(2)/2 the first term
# left out of the exponential is below 2^-63, for |z| ≤ π/2 that of the sine below 2^-59.
LN2 = 0.6931471805599453
EXP_TERMS = [1 / math.factorial(k) for k in range(14, -1, -1)]
SIN_TERMS = [(-1) ** k / math.factorial(2 * k + 1) for k in range(10, -1, -1)]


def total_updates(config: Config, per_epoch: int) -> int:
    """After how many updates a training ends, with `per_epoch` of them in an epoch."""
    limits = [] if config.epochs is None else [config.epochs * per_epoch]
    return min(limits if config.updates is None else [*limits, config.updates])


def steps(config: Config, first_update: int, updates: int, total: int) -> np.ndarray:
    """The numbers of some successive updates.

    The learning rate goes up in equal steps during the warm-up, then down to its share
    `final_rate`, which it would have in the update after the last.

    Parameters
    ----------
    config : Config
    first_update : int
        Number of the first of them, from 0.
    updates : int
        How many.
    total : int
        How many the training has in all: see `total_updates`.

    Returns
    -------
    (updates, 4) float64 array
        By the columns above: the learning rate η; the factor of AdamW's decay, 1 - η·weight_decay;
        and the divisors 1 - β1^t and 1 - β2^t of Adam's moments, t from 1. What an optimizer does
        not use is 1.
    """
    update = first_update + np.arange(updates, dtype=np.int64)
    rows = np.ones((updates, 4))
    warm = np.minimum((update + 1) / max(config.warmup, 1), 1.0)
    passed = np.clip((update - config.warmup) / max(total - config.warmup, 1), 0.0, 1.0)
    rows[:, ETA] = config.learning_rate * warm * SHAPES[config.schedule](config.final_rate, passed)
    if config.optimizer == "adamw":
        rows[:, DECAY] -= rows[:, ETA] * config.weight_decay
    for column, beta in (CORRECTION1, config.beta1), (CORRECTION2, config.beta2):
        if beta is not None:
            rows[:, column] -= powers(beta, update + 1)
    return rows


def exponential(final: float, passed: np.ndarray) -> np.ndarray:
    """final^passed, with a relative error below 2^-50 for a `final` from 0.001."""
    context = Context(prec=30)  # whose logarithm is rounded correctly
    log2 = context.divide(context.ln(Decimal(final)), context.ln(Decimal(2)))
    exponent = passed * float(log2)
    whole = np.rint(exponent)
    fraction = np.polyval(EXP_TERMS, (exponent - whole) * LN2)
    return np.ldexp(fraction, whole.astype(np.int32))


def cosine(final: float, passed: np.ndarray) -> np.ndarray:
    """From 1 down to `final` on half a wave of a cosine, with an error below 2^-51."""
    z = (passed - 0.5) * math.pi  # cos(π passed) = -sin(z)
    sine = z * np.polyval(SIN_TERMS, z * z)
    return final + (1 - final) * (0.5 - 0.5 * sine)


SHAPES: dict[str, Callable[[Any, np.ndarray], np.ndarray]] = {
    "constant": lambda final, passed: np.ones_like(passed),
    "exponential": exponential,
    "cosine": cosine,
}
"""The share of the learning rate after each share of the updates, down to `final`."""


def powers(base: float, exponents: np.ndarray) -> np.ndarray:
    """base^n for each n ≥ 0, by squaring: the relative error is below n · 2^-52."""
    result, square = np.ones(len(exponents)), base
    remaining = exponents.copy()
    with np.errstate(under="ignore"):
        while remaining.any():
            result[remaining % 2 == 1] *= square
            square *= square
            remaining //= 2
    return result


def dropout_keys(seed: int, first_update: int, updates: int, layers: int) -> np.ndarray:
    """Random keys of the dropout masks of some successive updates.

    They come from Philox, which makes the numbers of any place in its sequence at once (Salmon et
    al. 2011), with one sequence for each layer.

    Returns
    -------
    (updates, layers, 2) int64 array
        Of numbers from 0 to 2^32 - 1.
    """
    keys = np.empty((updates, layers, 2), np.int64)
    for layer in range(layers):
        generator = np.random.Philox(key=seed + (layer << 64), counter=first_update)
        words = generator.random_raw(4 * updates).reshape(updates, 4)  # four for each count
        keys[:, layer] = words[:, :2] >> np.uint64(32)
    return keys
