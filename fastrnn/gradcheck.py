"""The kernels' gradient against two derivatives that know nothing of backpropagation.

The first is the reference experiment's: central differences (f(x + h) - f(x - h)) / 2h of the
loss with h = 1e-4, and as measure the largest |ga - gn| over the sum of all |ga| + |gn|. What it
shows is mostly the error of the differences themselves, of the order h².

The second is exact: the complex-step derivative Im f(x + ih) / h of the NumPy reference, in which
nothing is subtracted, so that h can be 1e-30 (Squire and Trapp, SIAM Review 40, 1998). It shows the
kernels' own rounding, element by element.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastrnn import checks, reference
from fastrnn.config import Config
from fastrnn.network import Network
from fastrnn.parameters import Parameters, initial_parameters
from fastrnn.text.corpus import Corpus
from fastrnn.text.streams import Streams
from fastrnn.threads import Unshared

STEP = 1e-4  # of the central differences
COMPLEX_STEP = 1e-30
SMALLEST = 1e-8  # gradients below it are compared absolutely

# The reference experiment's figures, by number of hidden units.
REPORTED = {
    5: {"b": 6.6e-10, "c": 9.2e-12, "U": 1.9e-10, "W": 7.0e-9, "V": 1.6e-10},
    100: {"b": 5.1e-11, "c": 9.2e-12, "U": 1.2e-11, "W": 4.9e-11, "V": 9.5e-12},
}
NUMERICAL_FACTOR = 2.0  # how far above the reported figure the central differences may come
METHODS = ("central difference", "complex step", "complex step, by element")
COMPLEX_BOUND = 1e-13  # by the experiment's measure
ELEMENT_BOUND = 1e-11  # element by element


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
    """

    hidden: int
    parameter: str
    method: str
    error: float
    bound: float

    @property
    def passed(self) -> bool:
        return self.error <= self.bound


def check_gradients(corpus: Corpus, seed: int = 0) -> Iterator[Check]:
    """Check the gradient of b, c, U, W, V in the reference experiment's setting.

    Its 25 first characters, float64, initial weights from N(0, 0.01²), m = 5 and m = 100.

    Parameters
    ----------
    corpus : Corpus
    seed : int
        Of the weights.

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
    config = Config(seed=seed, dtype="float64")
    characters = len(corpus.vocabulary)
    codes = Streams(corpus.codes, 1, config.seq_length, characters).read(0, 1)
    return Unshared(_checks(config, codes, characters), "gradient check")


def _checks(config: Config, codes: np.ndarray, characters: int) -> Generator[Check, None, None]:
    for hidden, reported in REPORTED.items():
        config = replace(config, hidden=hidden)
        parameters = initial_parameters(config, characters)
        network = Network(config, characters)
        network.set_parameters(parameters)
        network.loss_and_gradient(codes)
        for name, figure in reported.items():
            analytic = network.gradient[name]
            numerical = central_difference(network, name, codes)
            exact = complex_step(parameters, name, codes)
            errors = (
                largest_difference(analytic, numerical),
                largest_difference(analytic, exact),
                largest_quotient(analytic, exact),
            )
            bounds = NUMERICAL_FACTOR * figure, COMPLEX_BOUND, ELEMENT_BOUND
            for method, error, bound in zip(METHODS, errors, bounds, strict=True):
                yield Check(hidden, name, method, error, bound)


def central_difference(network: Network, name: str, codes: np.ndarray) -> np.ndarray:
    """Numerical derivative of the kernels' loss with respect to every element of a parameter."""
    parameter = network.parameters[name]
    derivative = np.empty(parameter.shape)
    for i in np.ndindex(parameter.shape):
        value = parameter[i]
        losses = []
        for step in (STEP, -STEP):
            parameter[i] = value + step
            network.pack()
            losses.append(network.loss(codes))
        parameter[i] = value
        derivative[i] = (losses[0] - losses[1]) / (2 * STEP)
    network.pack()
    return derivative


def complex_step(parameters: Parameters, name: str, state: np.ndarray, *rest: Any) -> np.ndarray:
    """Derivative of the NumPy reference's loss with respect to every element of a parameter.

    The other arguments are those of `reference.forward`.
    """
    complex_parameters = {key: value.astype(np.complex128) for key, value in parameters.items()}
    inputs = complex_parameters, state.astype(np.complex128), *rest
    parameter = complex_parameters[name]
    derivative = np.empty(parameter.shape)
    for i in np.ndindex(parameter.shape):
        value = parameter[i]
        parameter[i] = value + 1j * COMPLEX_STEP
        derivative[i] = reference.forward(*inputs).loss.imag / COMPLEX_STEP
        parameter[i] = value
    return derivative


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
    hidden = checks[0].hidden
    reported = REPORTED[hidden]
    rows = {f"m = {hidden}": list(reported)}
    for method in METHODS:
        rows[method] = [f"{check.error:.1e}" for check in checks if check.method == method]
        if method == METHODS[0]:
            rows["  reference experiment"] = [f"{figure:.1e}" for figure in reported.values()]
    lines = [f"{title:26}" + "".join(f"{cell:>10}" for cell in row) for title, row in rows.items()]
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
    figures = f"{len(over)} of {len(checks)} figures are over their bound"
    if all(check.method == METHODS[0] for check in over):
        return (
            f"The gradient is right by the complex step. {figures}: central differences, whose own "
            "error depends on the text and the seed."
        )
    return f"The gradient is NOT right: {figures}."
