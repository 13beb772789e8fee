"""Named settings for whoever wants good text, and no search for settings.

Each but `reference` is made for a time, whatever the text: it ends after so many updates. They were
found by `benchmarks/quality.py` on tiny Shakespeare, a text of 1.1 million characters, with two
cores; `measured.json` has what they reach there. `lines` was found on three lists: 949 names of
colours, 6,000 of Python, 29,000 of Unicode.
"""

from __future__ import annotations

import json
import math
import textwrap
from pathlib import Path
from typing import Any

from fastrnn import checks
from fastrnn.config import CHOICES, Config, option_name

FAMILY: dict[str, Any] = {
    "cell": "lstm",
    "optimizer": "adamw",
    "beta2": 0.99,
    "input_rate": 50.0,
    "schedule": "cosine",
    "init": "orthogonal",
    "val_fraction": 0.05,
}
"""What all but the reference experiment have in common."""

PRESETS: dict[str, dict[str, Any]] = {
    "reference": {},
    "small": FAMILY
    | {
        "hidden": 192,
        "seq_length": 32,
        "batch": 16,
        "learning_rate": 0.005,
        "warmup": 30,
        "updates": 1700,
    },
    "medium": FAMILY
    | {
        "hidden": 384,
        "seq_length": 64,
        "batch": 32,
        "dropout": 0.2,
        "learning_rate": 0.004,
        "warmup": 30,
        "updates": 980,
    },
    "large": FAMILY
    | {
        "hidden": 512,
        "seq_length": 64,
        "batch": 32,
        "dropout": 0.5,
        "learning_rate": 0.003,
        "warmup": 100,
        "updates": 3430,
    },
    # A short list is soon known by heart: the more dropout, and an end when that begins.
    "lines": FAMILY
    | {
        "lines": True,
        "hidden": 192,
        "seq_length": 32,
        "batch": 16,
        "dropout": 0.5,
        "learning_rate": 0.005,
        "warmup": 30,
        "updates": 3000,
        "patience": 15,
    },
}

PURPOSES = {
    "reference": "the reference experiment, as without a preset",
    "small": "seconds: a first look at a text",
    "medium": "a minute: sentences that nearly make sense",
    "large": "some minutes: the best text",
    "lines": "a list of names, molecules, headlines: up to a minute, less for a short one",
}

MAGNITUDE = 10  # times as many parameters as characters, or as few, are of the same order

MEASURED = Path(__file__).with_name("measured.json")


def preset(name: str, **settings: Any) -> Config:
    """The settings of a preset, in place of which others may be given.

    Parameters
    ----------
    name : str
        One of `PRESETS`.
    **settings
        Of `Config`. Settings of the preset that have no use with these are left out.

    Raises
    ------
    FastrnnError
        If there is no such preset, or a setting is wrong.
    """
    values = dict(PRESETS[checks.choice("preset", name, tuple(PRESETS))])
    for choice, options in CHOICES.items():
        chosen = settings.get(choice)
        if isinstance(chosen, str) and chosen in options:
            used = options[chosen].keys()
            of_others = {one for others in options.values() for one in others} - used
            values = {one: value for one, value in values.items() if one not in of_others}
    if settings.get("epochs") is not None:
        values.pop("updates", None)
    if settings.get("val_fraction") == 0:
        values.pop("patience", None)
    return Config(**values | settings)


def in_options(settings: dict[str, Any]) -> str:
    """Settings as on the command line."""
    return " ".join(
        f"--{option_name(name)}" + ("" if value is True else f" {value}")
        for name, value in settings.items()
    )


def measured() -> dict[str, Any]:
    """What the presets reach on tiny Shakespeare, and where: see benchmarks/quality.py."""
    return json.loads(MEASURED.read_text(encoding="utf-8"))


def describe(name: str) -> str:
    """A preset, its settings and what it reaches, in lines for people to read."""
    from fastrnn.parameters import per_character  # here because it takes NumPy, which takes time

    options = in_options(PRESETS[name]) or "the defaults"
    lines = [f"{name}: {PURPOSES[name]}", *textwrap.wrap(options, 96, break_on_hyphens=False)]
    reached = measured()
    for row in reached["rows"]:
        if row["preset"] == name:
            nats, bits = per_character(row["nats"], 1)
            lines += [
                f"{nats:.4f} nats, {bits:.4f} bits per character on {reached['text']}",
                f"after {row['seconds']:.0f} s on {reached['machine']}; it writes:",
                *("  " + line for line in row["sample"].splitlines()),
            ]
    return "\n  ".join(lines)


def size(config: Config, characters: int) -> int:
    """How many parameters a model has."""
    from fastrnn.parameters import parameter_shapes

    return sum(map(math.prod, parameter_shapes(config, characters).values()))


def fit(config: Config, length: int, characters: int) -> str | None:
    """What to expect of a model that is too large or too small for a text, and what suits better.

    The rule is that of char-rnn: parameters and characters should be of the same order. It is not
    for lines with patience, where a training ends before it knows them by heart.

    Parameters
    ----------
    config : Config
    length : int
        Of the text.
    characters : int
        K, the size of its vocabulary.

    Returns
    -------
    str or None
        None if they are.
    """
    parameters = size(config, characters)

    def ratio(name: str) -> float:
        return abs(math.log(size(preset(name), characters) / max(length, 1)))

    same = [name for name in PRESETS if name != "reference" and preset(name).lines == config.lines]
    best = min(same, key=ratio)
    counts = f"{parameters:,} parameters for {length:,} characters of text"
    if parameters > MAGNITUDE * length and not (config.lines and config.patience):
        expect = "the model will know the text by heart before it writes well"
    elif MAGNITUDE * parameters < length:
        expect = "a larger model learns more from it"
    else:
        return None
    suits = "" if config == preset(best) else f"; --preset {best} suits it better"
    return f"{counts}: {expect}{suits}"
