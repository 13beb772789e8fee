"""Presets are settings that hang together, and say for which texts they are."""

import pytest

from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.presets import PRESETS, describe, fit, in_options, measured, preset, size


def test_reference_is_the_default():
    assert preset("reference") == Config()
    assert all(preset(name).val_fraction == 0.05 for name in PRESETS if name != "reference")


def test_every_value_can_be_overridden():
    found = preset("large", hidden=7, val_fraction=0.0, dropout=0.0, seed=3)
    assert (found.hidden, found.val_fraction, found.dropout, found.seed) == (7, 0.0, 0.0, 3)
    assert found.batch == PRESETS["large"]["batch"]
    # What another choice has no use for is left out, unless it was given.
    found = preset("large", optimizer="sgd", schedule="constant")
    assert (found.beta2, found.final_rate) == (None, None)
    with pytest.raises(FastrnnError, match=r"beta2 is 0\.9, but optimizer sgd does not use it"):
        preset("large", optimizer="sgd", beta2=0.9)
    with pytest.raises(FastrnnError, match="optimizer is 'none', but must be"):
        preset("large", optimizer="none")
    # How long it trains is one or the other.
    assert (preset("small", epochs=5).epochs, preset("small", epochs=5).updates) == (5, None)
    assert (preset("small", updates=5).epochs, preset("small", updates=5).updates) == (None, 5)
    assert preset("lines").patience and preset("lines", val_fraction=0).patience is None
    with pytest.raises(FastrnnError, match="preset is 'huge', but must be reference, small, med"):
        preset("huge")


def test_presets_grow():
    sizes = [size(preset(name), 65) for name in ("reference", "small", "medium", "large")]
    assert sizes == sorted(sizes)
    assert size(Config(hidden=5), 7) == 107


@pytest.mark.parametrize(
    ("name", "length", "words"),
    [
        ("large", 50_000, ["by heart", "--preset small"]),
        ("large", 465_000, None),
        ("large", 1_100_000, None),
        ("small", 20_000_000, ["a larger model learns more from it", "--preset large"]),
        ("reference", 1_100_000, ["larger model", "--preset"]),
        ("reference", 200_000, None),
    ],
)
def test_fit(name, length, words):
    said = fit(preset(name), length, 65)
    if words is None:
        assert said is None
    else:
        assert said.startswith(f"{size(preset(name), 65):,} parameters for {length:,} characters")
        for word in words:
            assert word in said
    # A list is another thing than a text, and with patience a short one does no harm.
    assert fit(preset("lines"), 10_000, 65) is None
    assert fit(preset("large", lines=True), 10_000, 65).endswith("; --preset lines suits it better")
    assert fit(preset("lines"), 10**9, 65).endswith("a larger model learns more from it")
    # Nothing better is there.
    assert "--preset" not in (fit(preset("large"), 10**9, 65) or "")


def test_description():
    for name in PRESETS:
        text = describe(name)
        assert text.startswith(f"{name}: ")
        told = [line for line in text.splitlines() if not line.startswith("    ")]
        assert max(map(len, told)) <= 100  # but for what models wrote
    assert measured()["rows"]
    for row in measured()["rows"]:
        text = describe(row["preset"])
        assert f"after {row['seconds']:.0f} s" in text
        assert row["sample"].splitlines()[0] in text
    assert in_options({"hidden": 3, "lines": True, "seq_length": 4}) == (
        "--hidden 3 --lines --seq-length 4"
    )
