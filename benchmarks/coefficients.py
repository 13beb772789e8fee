"""Computes the constants of fastrnn/kernels/elementwise.py, with 50 digits, and prints them.

    python benchmarks/coefficients.py

tests/benchmarks/test_coefficients.py compares them with those in use. The starting values of 1/x
and 1/√x are not among them: elementwise.py names where these are from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpmath import chebyfit, e, floor, log, mp, mpf, sqrt

mp.dps = 50

WIDER = mpf("1.0001")  # than the reduced arguments are, as their reduction rounds
TERMS = {32: {"expm1": 5, "log": 3}, 64: {"expm1": 10, "log": 8}}
LN2_BITS = {32: 12, 64: 32}  # of ln2_high: with those of n no more than a mantissa has
TYPES = {32: np.float32, 64: np.float64}


def expm1_rest(r: mpf) -> mpf:
    """(e^r - 1 - r) / r²."""
    return (e**r - 1 - r) / r**2 if abs(r) > mpf(10) ** -20 else (1 + r / 3) / 2


def log_rest(z: mpf) -> mpf:
    """(ln((1 + s) / (1 - s)) - 2s) / s³ for s = √z."""
    s = sqrt(z)
    return (log((1 + s) / (1 - s)) - 2 * s) / s**3


def polynomial(function: Any, low: mpf, high: mpf, terms: int) -> list[float]:
    """Coefficients, the constant first, of what interpolates at the Chebyshev nodes of a range."""
    return [float(coefficient) for coefficient in chebyfit(function, [low, high], terms, asc=True)]


def constants(bits: int) -> dict[str, Any]:
    """Fields of elementwise.Format, for floats of 32 or 64 bits, by their names."""
    info, kind = np.finfo(TYPES[bits]), TYPES[bits]
    mantissa = info.nmant
    ln2 = log(mpf(2))
    high = floor(ln2 * 2 ** LN2_BITS[bits]) / 2 ** LN2_BITS[bits]

    def above(x: mpf) -> float:
        """The least float that is not below x."""
        nearest = kind(float(x))
        return float(nearest if mpf(float(nearest)) >= x else np.nextafter(nearest, kind(np.inf)))

    def nearest(x: mpf) -> float:
        return float(kind(float(x)))

    reduced = WIDER * ln2 / 2  # |r| of e^r
    squared = WIDER * (3 - 2 * sqrt(mpf(2))) ** 2  # s² of √2 = (1 + s) / (1 - s)
    return {
        "mantissa_bits": mantissa,
        "bias": info.maxexp - 1,
        "round_magic": 1.5 * 2.0**mantissa,
        "ln2_high": float(high),
        "ln2_low": nearest(ln2 - high),
        "exp_lowest": above(log(mpf(float(info.tiny)))),
        "exp_highest": -above(-log(mpf(float(info.max)))),
        # 1 - tanh x = 2 / (e^2x + 1) is below half a unit of the numbers below 1; to a tenth
        "tanh_one": float(-floor(-10 * log(mpf(2) ** (mantissa + 3) - 1) / 2) / 10),
        "expm1": polynomial(expm1_rest, -reduced, reduced, TERMS[bits]["expm1"]),
        "log": polynomial(log_rest, mpf(0), squared, TERMS[bits]["log"]),
        "sqrt_half_bits": int(np.sqrt(kind(0.5)).view(f"u{bits // 8}")),
    }


def main() -> None:
    for bits in TYPES:
        print(f"float{bits}")
        for name, value in constants(bits).items():
            print(f"    {name} = {hex(value) if name == 'sqrt_half_bits' else value}")


if __name__ == "__main__":
    main()
