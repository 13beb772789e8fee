"""What a model is, and what decides its training.

Every setting is a field with its bounds and its help; from here the API, the checkpoints and the
command line have them. Some defaults depend on the model or on another choice: they are in the
tables `MODELS` and `CHOICES`, and nowhere else.
"""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from fastrnn.checks import Bounds, Real, Whole, listed, setting
from fastrnn.errors import FastrnnError

CELLS = ("rnn", "lstm", "gru")
DTYPES = ("float32", "float64")
LOSSES = ("sum", "mean")
ORDERS = ("sequential", "chunks", "random")
MOST_THREADS = 1024
MOST_LAYERS = 1000
MOST = 2**31 - 1  # of anything else
MOST_UPDATES = 2**63 - 1  # as large as numbers in a checkpoint may be
# The smallest normal number of each type, the largest below 1, and the largest.
NUMBERS = {
    "float32": (2.0**-126, 1 - 2.0**-24, 2.0**128 - 2.0**104),
    "float64": (sys.float_info.min, 1 - 2.0**-53, sys.float_info.max),
}

EPOCHS = 9
SAMPLE_EVERY = 10_000  # updates
SAMPLE_LENGTH = 200  # characters
CHECKPOINT_EVERY = 60.0  # seconds


class OfMean(float):
    """A default for a loss that is the mean over a sequence, and so is its gradient."""

    words = "{:g} (times --seq-length for a sum)"

    def for_sum_of(self, length: int) -> float:
        return float(self) * length


class RateOfMean(OfMean):
    """A learning rate for that: so a step is the same with the mean and with the sum."""

    words = "{:g} (over --seq-length for a sum)"

    def for_sum_of(self, length: int) -> float:
        return float(self) / length


# What there is to choose, and the settings that each choice uses, with their defaults. They are
# PyTorch's where no source is given.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adagrad": {
        "learning_rate": 0.1,  # the reference experiment's, as in Karpathy's min-char-rnn
        "epsilon": 1e-8,  # in the root
        "weight_decay": 0.0,
    },
    "rmsprop": {
        "learning_rate": 0.002,  # Karpathy's char-rnn, for LSTMs
        "rho": 0.99,
        "epsilon": 1e-8,
        "momentum": 0.0,
        "weight_decay": 0.0,
    },
    "adam": {
        "learning_rate": 0.002,  # Johnson's torch-rnn
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "weight_decay": 0.0,
    },
    "adamw": {
        "learning_rate": 0.002,  # as adam
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "weight_decay": 0.01,
    },
    "sgd": {
        # 0.005 for a sum over 25: the reference experiment trains at it, not at twice as much
        "learning_rate": RateOfMean(0.125),
        "momentum": 0.0,
        "nesterov": False,
        "weight_decay": 0.0,
    },
}
SCHEDULES: dict[str, dict[str, Any]] = {
    "constant": {},
    "exponential": {"final_rate": 0.05},
    "cosine": {"final_rate": 0.05},
}
INITS: dict[str, dict[str, Any]] = {"normal": {"sigma": 0.01}, "torch": {}, "orthogonal": {}}
CHOICES = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "init": INITS}

MODELS: dict[str, dict[str, Any]] = {
    # The reference experiment's.
    "one vanilla layer": {
        "optimizer": "adagrad",
        "clip": 5.0,
        "clip_norm": math.inf,
        "init": "normal",
    },
    # The norm is clipped as by Pascanu 2013: to 1, if the loss is a mean over the characters.
    "gated or deep models": {
        "optimizer": "adam",
        "clip": math.inf,
        "clip_norm": OfMean(1.0),
        "init": "torch",
    },
}
"""The defaults that depend on the model."""

# The buffers that each optimizer keeps for every parameter: the first moment or momentum, and the
# sum or mean of squares.
OPTIMIZER_STATE = {
    "adagrad": ("squares",),
    "rmsprop": ("squares", "momentum"),
    "adam": ("momentum", "squares"),
    "adamw": ("momentum", "squares"),
    "sgd": ("momentum",),
}


def option(default: Any, bounds: Bounds, help: str) -> Any:
    """A field of `Architecture` or `Config`; None as default stands for one of the tables'."""
    return field(default=default, metadata={"bounds": bounds, "help": help})


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What a model is: all that it needs to write, beside its vocabulary and its parameters.

    Parameters
    ----------
    cell : {"rnn", "lstm", "gru"}
        A vanilla RNN with tanh, or a gated one. Formulas are in `fastrnn.parameters`.
    hidden : int
        m, the hidden units of each layer.
    layers : int
        Each reads the hidden states of the one below.
    dtype : {"float32", "float64"}
        Of parameters and arithmetic.

    Raises
    ------
    FastrnnError
        If a value is out of its bounds.
    """

    cell: str = option("rnn", CELLS, "Kind of the layers.")
    hidden: int = option(100, Whole(1, MOST), "Hidden units of each layer.")
    layers: int = option(1, Whole(1, MOST_LAYERS), "Layers, each of which reads the one below.")
    dtype: str = option("float32", DTYPES, "Type of parameters and arithmetic.")

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if value is not None or one.default is not None:
                value = setting(option_name(one.name), value, one.metadata["bounds"])
                object.__setattr__(self, one.name, value)


@dataclass(frozen=True, kw_only=True)
class Config(Architecture):
    """Everything that, with the text, decides the outcome of a training.

    The defaults are the reference experiment's: a vanilla RNN with 100 hidden units on sequences
    of 25 characters, AdaGrad with learning rate 0.1, weights from N(0, 0.01²), gradients clipped
    to ±5. For gated and deep models they are others, in the table `MODELS`.

    A setting of an optimizer, schedule or start that is not the chosen one is None, and may not be
    given. All others have a value, also where it was left out; so another choice wants a new Config
    rather than `dataclasses.replace`.

    Parameters
    ----------
    seq_length, batch : int
        T and B: an update is made from T characters of each of B parallel streams.
    order : {"sequential", "chunks", "random"}
        Sequential: each stream is a part of the text, read from its start to its end with the state
        carried along. Chunks: the sequences of the text, from a state of zeros each, in another
        random order in every epoch. Random: as many sequences, from anywhere.
    lines : bool
        Every line of the text that is not empty is an item of its own: it starts from a state of
        zeros, and items are in another random order in every epoch.
    dropout : float
        The share of each layer's hidden states that is zero on its way up, while training.
    optimizer : {"adagrad", "rmsprop", "adam", "adamw", "sgd"}
    learning_rate, momentum, nesterov, rho, beta1, beta2, epsilon, weight_decay
        The optimizer's, by PyTorch's rules; but AdaGrad has its epsilon in the root.
    loss : {"sum", "mean"}
        Whether the loss of a chunk is the sum over its T characters, or the mean; of the streams it
        is the mean. What the optimizer gets is its gradient.
    clip, clip_norm : float
        Largest absolute value of an element of the gradient, and largest norm of all of it.
    input_rate : float
        The learning rate of the input weights U, as a multiple of that of the others. Larger models
        want it higher for Adam: with the width grows what an update of the other matrices changes
        in the next hidden state, but not what one of U does (Yang 2022, Tensor Programs V).
    schedule : {"constant", "exponential", "cosine"}
        How the learning rate goes down during the training.
    warmup : int
        Updates in which it goes up before that.
    final_rate : float
        Where it ends, as a share of `learning_rate`.
    init : {"normal", "torch", "orthogonal"}
        How the parameters start: see `fastrnn.parameters.initial_parameters`.
    sigma : float
        Standard deviation of the normal start.
    seed : int
        Of the initial weights, dropout and the samples.
    epochs, updates : int
        The training ends after this many passes over the text, or updates, or at whichever comes
        first if both are given. Without either, after 9 epochs.
    val_fraction, test_fraction : float
        The shares at the end of the text that are held out, for validation and for one last test:
        the order is training, validation, test.
    val_every : int, optional
        Updates between two validations. By default they come whenever the training has read ten
        times as many characters as they read.
    patience : int, optional
        End the training after this many validations without a lower loss.
    on_divergence : {"stop", "rollback"}
        What happens when the loss is not finite any more, or stays far above that of an untrained
        model: the training stops, or it goes back to where it was at the last thousand of updates
        and halves the learning rate, at most three times.

    Raises
    ------
    FastrnnError
        If a value is out of its bounds, or of no use with the others.
    """

    seq_length: int = option(25, Whole(1, MOST), "Characters per update, in each stream.")
    batch: int = option(1, Whole(1, MOST), "Parallel streams that the text is cut into.")
    order: str = option("sequential", ORDERS, "In which order sequences are read.")
    lines: bool = option(False, bool, "Every line is an item of its own; they are shuffled.")
    dropout: float = option(
        0.0,
        Real(zero=True, below=1.0),
        "Share of the hidden states that is dropped between layers and before the output.",
    )
    optimizer: str = option(None, tuple(OPTIMIZERS), "Rule of the updates.")
    learning_rate: float = option(None, Real(), "Learning rate.")
    input_rate: float = option(
        1.0, Real(), "Learning rate of the input weights U, as a multiple of --learning-rate."
    )
    momentum: float | None = option(
        None, Real(zero=True, below=1.0), "Share of the last step that is added to the next."
    )
    nesterov: bool | None = option(None, bool, "Look ahead with the momentum.")
    rho: float | None = option(
        None, Real(zero=True, below=1.0), "Decay of the mean of squared gradients."
    )
    beta1: float | None = option(None, Real(zero=True, below=1.0), "Decay of the mean gradient.")
    beta2: float | None = option(
        None, Real(zero=True, below=1.0), "Decay of the mean of squared gradients."
    )
    epsilon: float | None = option(None, Real(), "Is added in the denominator of an update.")
    weight_decay: float = option(
        None, Real(zero=True), "L2 penalty; with adamw, decay by this share of the learning rate."
    )
    loss: str = option(
        "sum", LOSSES, "Of the characters of a sequence: its gradient is that of their sum or mean."
    )
    clip: float = option(
        None, Real(infinity=True), "Clip gradients to ± this; inf for no clipping."
    )
    clip_norm: float = option(
        None, Real(infinity=True), "Clip the norm of the whole gradient; inf for no clipping."
    )
    schedule: str = option("constant", tuple(SCHEDULES), "How the learning rate goes down.")
    warmup: int = option(0, Whole(0, MOST), "Updates in which the learning rate first rises.")
    final_rate: float | None = option(
        None, Real(zero=True, below=1.0), "Share of the learning rate that is left at the end."
    )
    init: str = option(None, tuple(INITS), "How the weights start.")
    sigma: float | None = option(
        None, Real(zero=True), "Standard deviation of the normal initial weights."
    )
    seed: int = option(0, Whole(0, MOST), "Seed of the initial weights, dropout and the samples.")
    epochs: int | None = option(None, Whole(0, MOST), "Passes over the text.")
    updates: int | None = option(
        None, Whole(0, MOST_UPDATES), "Stop after this many updates, or after --epochs if sooner."
    )
    val_fraction: float = option(
        0.0, Real(zero=True, below=1.0), "Share of the text that is held out for validation."
    )
    test_fraction: float = option(
        0.0, Real(zero=True, below=1.0), "Share at the text's end for one test of the best model."
    )
    val_every: int | None = option(None, Whole(1, MOST_UPDATES), "Updates between two validations.")
    patience: int | None = option(
        None, Whole(1, MOST), "Stop after this many validations without a lower loss."
    )
    on_divergence: str = option(
        "stop",
        ("stop", "rollback"),
        "If the loss explodes: stop, or go back some updates and halve the learning rate.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._complete(MODELS[model_kind(self)])
        for choice, options in CHOICES.items():
            chosen = getattr(self, choice)
            self._refuse_unused(choice, chosen, options)
            self._complete(options[chosen])
        if self.epochs is None and self.updates is None:
            self._complete({"epochs": EPOCHS})
        self._refuse_extremes()
        if self.nesterov and self.momentum == 0:
            raise FastrnnError("nesterov is True, but there is no momentum; give one, such as 0.9")
        if self.schedule == "exponential" and self.final_rate == 0:
            raise FastrnnError(
                "final-rate is 0, which an exponential never reaches; give a positive number, or "
                "take the schedule cosine"
            )
        if self.lines and self.order != "sequential":
            raise FastrnnError(
                f"order is {self.order}, but with lines the items are shuffled; leave one out"
            )
        if self.val_fraction + self.test_fraction >= 1:
            raise FastrnnError(
                f"val-fraction is {self.val_fraction:g} and test-fraction {self.test_fraction:g}, "
                "which leaves nothing to train on; give less"
            )
        for name in ("val_every", "patience"):
            if getattr(self, name) is not None and self.val_fraction == 0:
                raise FastrnnError(
                    f"{option_name(name)} is {getattr(self, name)}, but no text is held out to "
                    "validate on; give a val-fraction, such as 0.05, or leave it out"
                )

    @property
    def loss_length(self) -> int:
        """Of how many characters a loss is the sum: T, or 1 where it is their mean."""
        return self.seq_length if self.loss == "sum" else 1

    def _complete(self, defaults: dict[str, Any]) -> None:
        """Give the settings that were left out their defaults."""
        for name, value in defaults.items():
            if getattr(self, name) is None:
                if isinstance(value, OfMean):
                    value = value.for_sum_of(self.loss_length)
                object.__setattr__(self, name, value)

    def _refuse_unused(self, choice: str, chosen: str, options: dict[str, dict[str, Any]]) -> None:
        for one in fields(self):
            users = [other for other, used in options.items() if one.name in used]
            value = getattr(self, one.name)
            if users and chosen not in users and value is not None:
                raise FastrnnError(
                    f"{option_name(one.name)} is {value}, but {choice} {chosen} does not use it; "
                    f"leave it out, or take {listed(users, 'or')}"
                )

    def _refuse_extremes(self) -> None:
        """Refuse numbers that would be 0, 1 or infinite in the type of the model, and learning
        rates with which the weights decay by more than all that they are."""
        smallest, below_one, largest = NUMBERS[self.dtype]
        for one in fields(self):
            bounds, value = one.metadata["bounds"], getattr(self, one.name)
            if not isinstance(bounds, Real) or value in (None, 0, math.inf):
                continue
            most = below_one if bounds.below == 1 else largest
            if not smallest <= value <= most:
                raise FastrnnError(
                    f"{option_name(one.name)} is {value!r}, but {self.dtype} has numbers from "
                    f"{smallest:.8g} to {most:.8g} for it; give one of these"
                    + ", or take the dtype float64"
                    * (self.dtype == "float32")
                )
        highest = self.learning_rate * max(self.input_rate, 1.0)
        if highest > largest:
            raise FastrnnError(
                f"input-rate is {self.input_rate!r} times the learning rate {self.learning_rate!r},"
                f" which is too large for {self.dtype}; give a smaller one"
            )
        if self.optimizer in ("adamw", "sgd") and highest * self.weight_decay > 1:
            raise FastrnnError(
                f"weight-decay is {self.weight_decay!r}, which at the highest learning rate, "
                f"{highest:g}, takes more from the weights than they are; give at most "
                f"{1 / highest:.3g}"
            )

    def to_json(self) -> dict[str, Any]:
        """As a dictionary for JSON, which has no infinity: no clipping is None there."""
        return {name: None if value == math.inf else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Config:
        """The inverse of `to_json`. Every field has to be given, as it is there."""
        names = {one.name for one in fields(cls)}
        if not isinstance(values, dict) or values.keys() != names:
            raise FastrnnError(
                f"the configuration has other fields than {', '.join(sorted(names))}"
            )
        unclipped = {name: math.inf for name in ("clip", "clip_norm") if values[name] is None}
        config = cls(**values | unclipped)
        for name, value in config.to_json().items():
            if value != values[name]:
                raise FastrnnError(f"{option_name(name)} has no value")
        return config


def model_kind(architecture: Architecture) -> str:
    """Which row of `MODELS` has the defaults."""
    plain = architecture.cell == "rnn" and architecture.layers == 1
    return "one vanilla layer" if plain else "gated or deep models"


def state_names(config: Config) -> tuple[str, ...]:
    """The buffers of the optimizer: there is no momentum where its factor is zero."""
    names = OPTIMIZER_STATE[config.optimizer]
    return tuple(name for name in names if name != "momentum" or config.momentum != 0)


def option_name(name: str) -> str:
    """A field's name as on the command line."""
    return name.replace("_", "-")


def default_in_words(name: str) -> str | None:
    """The default of a field that depends on others, or None if it does not."""
    tables = [(MODELS, " for "), *((options, " with ") for options in CHOICES.values())]
    for table, word in tables:
        cases: dict[str, list[str]] = {}
        for case, defaults in table.items():
            if name in defaults:
                cases.setdefault(_shown(defaults[name]), []).append(case)
        if cases:
            return "; ".join(f"{value}{word}{listed(those)}" for value, those in cases.items())
    return OTHER_DEFAULTS.get(name)


OTHER_DEFAULTS = {
    "epochs": "9, unless --updates",
    "val_every": "when the training has read ten times as much as a validation reads",
    "patience": "no end before that of the training",
}


def _shown(value: Any) -> str:
    words = value.words if isinstance(value, OfMean) else "{:g}"
    if isinstance(value, float):
        return words.format(value)
    return "off" if value is False else str(value)


def describe_training(config: Config, init_from: str | None = None) -> str:
    """What depends on the model or the optimizer, in a few words; `init_from` names the model that
    the training starts from, if it does."""
    words = [config.optimizer, f"learning rate {config.learning_rate:g}"]
    if config.input_rate != 1:
        words.append(f"input rate {config.input_rate:g}")
    if config.loss == "mean":
        words.append("mean loss")
    for name in ("clip", "clip_norm"):
        if (most := getattr(config, name)) < math.inf:
            words.append(f"{name.replace('_', ' ')} {most:g}")
    start = f"{config.init} initial weights" if init_from is None else f"starts from {init_from}"
    return ", ".join([*words, start])
