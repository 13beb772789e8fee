"""The kernels' gradient against two derivatives that know nothing of backpropagation.

The first is the reference experiment's: central differences (f(x + h) - f(x - h)) / 2h of the
loss with h = 1e-4, and as measure the largest |ga - gn| over the sum of all |ga| + |gn|. What it
shows is mostly the error of the differences themselves, of the order h².

The second is exact: the complex-step derivative Im f(x + ih) / h of the NumPy reference, in which
nothing is subtracted, so that h can be 1e-30 (Squire and Trapp, SIAM Review 40, 1998). It shows the
kernels' own rounding, element by element.

Every cell, number of layers and dropout can be checked; the masks of the dropout stay the same.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np

from fastrnn import checks, reference
from fastrnn.checks import counted
from fastrnn.config import Config
from fastrnn.network import Network
from fastrnn.parameters import Parameters, initial_parameters, state_shape
from fastrnn.text.corpus import Corpus
from fastrnn.text.streams import EncodedText, Streams
from fastrnn.threads import Unshared
from fastrnn.training.schedule import dropout_keys

STEP = 1e-4  # of the central differences
COMPLEX_STEP = 1e-30
SMALLEST = 1e-8  # gradients below it are compared absolutely

# The reference experiment's figures, by number of hidden units.
REPORTED = {
    5: {"b": 6.6e-10, "c": 9.2e-12, "U": 1.9e-10, "W": 7.0e-9, "V": 1.6e-10},
    100: {"b": 5.1e-11, "c": 9.2e-12, "U": 1.2e-11, "W": 4.9e-11, "V": 9.5e-12},
}
HIDDEN = (5, 17)  # of all other models: less than a vector, and more than two
METHODS = ("central difference", "complex step", "complex step, by element")
REPORTED_FACTOR = 2.0  # how far above the reported figure the central differences may come
NUMERICAL_BOUND = 1e-7  # theirs for all other models
COMPLEX_BOUND = 1e-13  # by the experiment's measure
ELEMENT_BOUND = 1e-11  # element by element
# For all other models: their weights are larger than the experiment's, so large terms may cancel in
# an element, and leave their rounding there.
CANCELLED_BOUND = 1e-8
COLUMNS = 5  # of a table


@dataclass(frozen=True)
class Check:
    """One comparison of the analytic gradient of a parameter with another derivative.

    Attributes
    ----------
    hidden : int
        m of the network.
    parameter : str
    method : str
        One of `METHODS`.
    error : float
    bound : float
        The error must not be above it.
    reported : float, optional
        The reference experiment's figure.
    """

    hidden: int
    parameter: str
    method: str
    error: float
    bound: float
    reported: float | None = None

    @property
    def passed(self) -> bool:
        return self.error <= self.bound


def check_gradients(
    corpus: Corpus,
    seed: int = 0,
    cell: str = "rnn",
    layers: int = 1,
    dropout: float = 0.0,
    loss: str = "sum",
) -> Iterator[Check]:
    """Check the gradient of every parameter in the reference experiment's setting.

    The text's 25 first characters, float64. One vanilla layer without dropout has the experiment's
    initial weights from N(0, 0.01²) and its sizes, m = 5 and m = 100; all other models have m = 5
    and m = 17.

    Parameters
    ----------
    corpus : Corpus
    seed : int
        Of the weights and the dropout.
    cell : {"rnn", "lstm", "gru"}
    layers : int
    dropout : float
    loss : {"sum", "mean"}
        Over the characters.

    Returns
    -------
    iterator of Check
        For each m and parameter, one by each method, as they are done; for one thread.

    Raises
    ------
    FastrnnError
        If an argument is wrong, or the text is too short.
    """
    corpus = checks.instance("corpus", corpus, Corpus, "fastrnn.read_corpus")
    config = Config(
        seed=seed, dtype="float64", cell=cell, layers=layers, dropout=dropout, loss=loss
    )
    characters = len(corpus.vocabulary)
    text = EncodedText(corpus.codes, characters)
    codes = Streams(text, config.batch, config.seq_length).read(0, 1)
    return Unshared(_checks(config, codes, characters), "gradient check")


def _checks(config: Config, codes: np.ndarray, characters: int) -> Generator[Check, None, None]:
    keys = dropout_keys(config.seed, 0, 1, config.layers)
    setting = config.cell, config.layers, config.dropout, config.loss
    is_experiment = setting == ("rnn", 1, 0.0, "sum")
    for hidden in REPORTED if is_experiment else HIDDEN:
        config = replace(config, hidden=hidden)
        parameters = initial_parameters(config, characters)
        state = np.zeros(state_shape(config, 1))
        network = Network(config, characters)
        network.set_parameters(parameters)
        network.loss_and_gradient(codes, keys)
        gradient = network.gradient
        reported = REPORTED[hidden] if is_experiment else dict.fromkeys(parameters)
        for name, figure in reported.items():
            numerical = central_difference(network, parameters, name, codes, keys)
            exact = complex_step(parameters, name, state, codes, keys[0], config.dropout)
            exact *= config.loss_length / config.seq_length
            errors = (
                largest_difference(gradient[name], numerical),
                largest_difference(gradient[name], exact),
                largest_quotient(gradient[name], exact),
            )
            if figure is None:
                bounds = NUMERICAL_BOUND, COMPLEX_BOUND, CANCELLED_BOUND
            else:
                bounds = REPORTED_FACTOR * figure, COMPLEX_BOUND, ELEMENT_BOUND
            for method, error, bound in zip(METHODS, errors, bounds, strict=True):
                yield Check(hidden, name, method, error, bound, figure)


def central_difference(
    network: Network, parameters: Parameters, name: str, codes: np.ndarray, keys: np.ndarray
) -> np.ndarray:
    """Numerical derivative of the kernels' loss with respect to every element of a parameter."""

    def loss(value: float) -> float:
        parameter[i] = value
        network.set_parameters(parameters)
        return network.loss_and_gradient(codes, keys)

    parameter = parameters[name]
    derivative = np.zeros(parameter.shape)
    for i in elements(name, parameter, codes):
        value = parameter[i]
        derivative[i] = (loss(value + STEP) - loss(value - STEP)) / (2 * STEP)
        parameter[i] = value
    return derivative


def complex_step(
    parameters: Parameters,
    name: str,
    state: np.ndarray,
    codes: np.ndarray,
    keys: np.ndarray,
    dropout: float,
) -> np.ndarray:
    """Derivative of the NumPy reference's loss with respect to every element of a parameter."""
    parameters = {key: value.astype(np.complex128) for key, value in parameters.items()}
    state = state.astype(np.complex128)
    parameter = parameters[name]
    derivative = np.zeros(parameter.shape)
    for i in elements(name, parameter, codes):
        value = parameter[i]
        parameter[i] = value + 1j * COMPLEX_STEP
        loss = reference.forward(parameters, state, codes, keys, dropout).loss
        derivative[i] = loss.imag / COMPLEX_STEP
        parameter[i] = value
    return derivative


def elements(name: str, parameter: np.ndarray, codes: np.ndarray) -> Iterator[tuple[int, ...]]:
    """The indices of a parameter, but for columns of U that are those of no character read."""
    read = set(codes[:-1].flat)
    return (i for i in np.ndindex(parameter.shape) if name != "U" or i[1] in read)


def largest_difference(a: np.ndarray, b: np.ndarray) -> float:
    """The reference experiment's measure: largest |a - b| over the sum of all |a| + |b|."""
    largest = np.abs(a - b).max()
    # With a single character to predict all gradients are zero.
    return float(largest / (np.abs(a) + np.abs(b)).sum()) if largest else 0.0


def largest_quotient(a: np.ndarray, b: np.ndarray) -> float:
    """Largest |a - b| / (|a| + |b|) of an element, with at least 1e-8 in the denominator."""
    return float((np.abs(a - b) / np.maximum(SMALLEST, np.abs(a) + np.abs(b))).max())


def format_table(checks: list[Check]) -> str:
    """The checks of one m as a table, beside the reference experiment's figures."""
    names = list(dict.fromkeys(check.parameter for check in checks))
    lines = []
    for first in range(0, len(names), COLUMNS):
        columns = names[first : first + COLUMNS]
        rows = {f"m = {checks[0].hidden}": columns}
        for method in METHODS:
            shown = [c for c in checks if c.method == method and c.parameter in columns]
            rows[method] = [f"{check.error:.1e}" for check in shown]
            reported = [f"{check.reported:.1e}" for check in shown if check.reported]
            if method == METHODS[0] and reported:
                rows["  reference experiment"] = reported
        for title, row in rows.items():
            lines.append(f"{title:26}" + "".join(f"{cell:>10}" for cell in row))
    lines += [
        f"{check.parameter}, {check.method}: {check.error:.1e} is over the bound {check.bound:.1e}"
        for check in checks
        if not check.passed
    ]
    return "\n".join(lines)


def verdict(checks: list[Check]) -> str:
    """All checks in a sentence or two."""
    over = [check for check in checks if not check.passed]
    if not over:
        return f"The gradient is right: all {len(checks)} figures are within their bound."
    figures = f"{len(over)} of {counted(len(checks), 'figure')}"
    if all(check.method == METHODS[0] for check in over):
        return (
            f"The gradient is right by the complex step. Over their bound: {figures}, of central "
            "differences, whose own error depends on the text and the seed."
        )
    return f"The gradient is NOT right. Over their bound: {figures}."
