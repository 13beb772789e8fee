"""exp, tanh, the logistic sigmoid, log, 1/√x of whole vectors: the same bits on every processor.

Numba's own call the C library for one element at a time, fifty times slower, and differ from system
to system. These use only arithmetic that IEEE 754 rounds in one way, fused multiply-adds, and bit
operations. The polynomials interpolate at Chebyshev nodes; their coefficients were
computed with 50 digits.

Largest errors, in units in the last place of the result (tests/test_elementwise.py measures them):

              float32   float64   arguments
    exp         1.1       1.1     all; results below the smallest normal number are 0
    tanh        2.9       2.9     all
    sigmoid     2.5       2.5     from -80 or -700 on; below, that of -80 or -700
    log         1.0       1.0     normal positive numbers
    rsqrt       1.3       1.3     normal positive numbers below 2^126 or 2^1022
"""

from __future__ import annotations

from typing import NamedTuple

from fastrnn.kernels.simd import Lanes, unary


class Format(NamedTuple):
    """Constants of a floating-point format, and of the functions in it."""

    mantissa_bits: int
    bias: int  # of the exponent
    round_magic: float  # x + round_magic has the integer nearest to x in its low bits
    ln2_high: float  # few enough bits that a multiple of it is exact
    ln2_low: float
    exp_lowest: float  # ln of the smallest normal number
    exp_highest: float  # ln of the largest number
    sigmoid_lowest: float  # e^-x is still in the range of _reciprocal
    tanh_one: float  # from here on tanh rounds to 1
    expm1: list[float]  # (e^r - 1 - r) / r² for |r| ≤ ln(2)/2
    # (ln((1 + s) / (1 - s)) - 2s) / s³ in powers of s², for √½ ≤ (1 + s) / (1 - s) ≤ √2
    log: list[float]
    sqrt_half_bits: int
    reciprocal_magic: int
    rsqrt_magic: int
    cubic_steps: int  # of both, from relative errors of 5 % and 3.5 % to below 2^-12 or 2^-26


FORMATS = {
    32: Format(
        mantissa_bits=23,
        bias=127,
        round_magic=1.5 * 2.0**23,
        ln2_high=0.693115234375,
        ln2_low=3.194618329871446e-05,
        exp_lowest=-87.33654022216797,
        exp_highest=88.72283172607422,
        sigmoid_lowest=-80.0,
        tanh_one=9.1,
        expm1=[
            0.5,
            0.16666576989698775,
            0.041666554617204574,
            0.008363179052722578,
            0.0013926183587713494,
        ],
        log=[0.6666668504515603, 0.39988778282162807, 0.2958005304318844],
        sqrt_half_bits=0x3F3504F3,
        reciprocal_magic=0x7EF311C3,
        rsqrt_magic=0x5F3759DF,
        cubic_steps=1,
    ),
    64: Format(
        mantissa_bits=52,
        bias=1023,
        round_magic=1.5 * 2.0**52,
        ln2_high=0.6931471803691238,
        ln2_low=1.9082149292705877e-10,
        exp_lowest=-708.3964185322641,
        exp_highest=709.782712893384,
        sigmoid_lowest=-700.0,
        tanh_one=19.1,
        expm1=[
            0.5000000000000001,
            0.16666666666666669,
            0.04166666666662413,
            0.008333333333330062,
            0.0013888888917213717,
            0.00019841269863053618,
            2.4801521295954376e-05,
            2.7557268459997064e-06,
            2.7620088445409746e-07,
            2.510038549551032e-08,
        ],
        log=[
            0.6666666666666666,
            0.4000000000000088,
            0.2857142857080323,
            0.2222222239180047,
            0.18181795630884753,
            0.15386240205813478,
            0.13268759668560612,
            0.13086767009948175,
        ],
        sqrt_half_bits=0x3FE6A09E667F3BCD,
        reciprocal_magic=0x7FDE623822FC16E6,
        rsqrt_magic=0x5FE6EB50C7B537A9,
        cubic_steps=2,
    ),
}

LOG2_E = 1.4426950408889634


def _expm1_parts(x: Lanes, f: Format) -> tuple[Lanes, Lanes]:
    """q and the bits of an n such that e^x = 2^n (1 + q) and |q| < 0.42."""
    shifted = x.fma(LOG2_E, f.round_magic)
    n = shifted - f.round_magic
    r = n.fma(-f.ln2_low, n.fma(-f.ln2_high, x))
    return (r * r).fma(r.polynomial(f.expm1), r), shifted.bits() << f.mantissa_bits


def _exp(x: Lanes) -> Lanes:
    f = FORMATS[x.bitwidth]
    inside = (x < f.exp_lowest).where(f.exp_lowest, x)
    inside = (inside > f.exp_highest).where(f.exp_highest, inside)
    q, exponent = _expm1_parts(inside, f)
    result = ((q + 1.0).bits() + exponent).floats()
    result = (x < f.exp_lowest).where(0.0, result)
    return (x <= f.exp_highest).where(result, x * float("inf"))  # a NaN stays one


def _reciprocal(x: Lanes, f: Format) -> Lanes:
    """1/x for normal x below 2^126 or 2^1022, in a third of the division instruction's time.

    With e = 1 - x·y, a cubic step goes from y to y (1 + e + e²), Newton's to y (1 + e).
    """
    y = (f.reciprocal_magic - x.bits()).floats()
    for _ in range(f.cubic_steps):
        e = (-x).fma(y, 1.0)
        y = y.fma(e.fma(e, e), y)
    return y.fma((-x).fma(y, 1.0), y)


def _tanh(x: Lanes) -> Lanes:
    """tanh |x| = E / (E + 2) with E = e^2|x| - 1, which keeps small results accurate."""
    f = FORMATS[x.bitwidth]
    sign = x.bits() & -(2 ** (x.bitwidth - 1))
    size = (x.bits() & (2 ** (x.bitwidth - 1) - 1)).floats()
    size = (size > f.tanh_one).where(f.tanh_one, size)
    q, exponent = _expm1_parts(size + size, f)
    power = (exponent + (f.bias << f.mantissa_bits)).floats()
    E = power.fma(q, power - 1.0)
    return ((E * _reciprocal(E + 2.0, f)).bits() | sign).floats()


def _sigmoid(x: Lanes) -> Lanes:
    """1 / (1 + e^-x)."""
    f = FORMATS[x.bitwidth]
    inside = (x < f.sigmoid_lowest).where(f.sigmoid_lowest, x)
    inside = (inside > -f.exp_lowest).where(-f.exp_lowest, inside)
    q, exponent = _expm1_parts(-inside, f)
    power = (exponent + (f.bias << f.mantissa_bits)).floats()
    return _reciprocal(power.fma(q, power) + 1.0, f)


def _log(x: Lanes) -> Lanes:
    f = FORMATS[x.bitwidth]
    exponent = (x.bits() - f.sqrt_half_bits).arithmetic_shift(f.mantissa_bits)
    d = (x.bits() - (exponent << f.mantissa_bits)).floats() - 1.0  # √½ - 1 ≤ d ≤ √2 - 1
    s = d / (d + 2.0)
    z = s * s
    # ln(1 + d) = 2s + s³Q(z), and 2s = d - s·d, where d is exact.
    rest = s * (d - z * z.polynomial(f.log))
    n = exponent.to_floats()
    result = n.fma(f.ln2_high, d - n.fma(-f.ln2_low, rest))
    return (x < float("inf")).where(result, x)  # a NaN stays one


def _rsqrt(x: Lanes) -> Lanes:
    """1/√x by Halley's cubic method and one step of Newton's."""
    f = FORMATS[x.bitwidth]
    y = (f.rsqrt_magic - (x.bits() >> 1)).floats()
    for _ in range(f.cubic_steps):
        e = (-(x * y)).fma(y, 1.0)
        y = (y * e).fma(e.fma(0.375, 0.5), y)
    e = (-(x * y)).fma(y, 1.0)
    return (y * 0.5).fma(e, y)


exp = unary(_exp)
tanh = unary(_tanh)
sigmoid = unary(_sigmoid)
log = unary(_log)
rsqrt = unary(_rsqrt)
