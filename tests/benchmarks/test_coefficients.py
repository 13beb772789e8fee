"""The constants of fastrnn/kernels/elementwise.py are those that they are said to be."""

import numpy as np
import pytest

import coefficients
from fastrnn.kernels.elementwise import FORMATS


@pytest.mark.parametrize("bits", FORMATS)
def test_constants(bits: int) -> None:
    computed = coefficients.constants(bits)
    assert computed == {name: getattr(FORMATS[bits], name) for name in computed}


@pytest.mark.parametrize("bits", FORMATS)
def test_starting_values(bits: int) -> None:
    """Of 1/x and 1/√x; their errors are the same in every second octave."""
    x = np.linspace(1, 4, 1 << 18, dtype=f"f{bits // 8}")
    integers = x.view(f"i{bits // 8}")
    reciprocal = (FORMATS[bits].reciprocal_magic - integers).view(x.dtype)
    assert 0.0505 < np.abs(1 - x * reciprocal).max() < 0.0506
    rsqrt = (FORMATS[bits].rsqrt_magic - (integers >> 1)).view(x.dtype)
    assert 0.0340 < np.abs(1 - np.sqrt(x) * rsqrt).max() < 0.0344
