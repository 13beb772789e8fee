"""The gradient check passes for the right gradient, and for no other."""

from itertools import islice, takewhile

import numpy as np
import pytest

from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.gradcheck import (
    METHODS,
    REPORTED,
    Check,
    check_gradients,
    format_table,
    largest_difference,
    largest_quotient,
    verdict,
)
from fastrnn.network import Network
from fastrnn.parameters import Parameters, initial_parameters, parameter_shapes
from fastrnn.text.corpus import corpus_from_text, read_corpus

SMALL = 3 * len(REPORTED[5])  # checks of m = 5
FOX = corpus_from_text("The quick brown fox jumps over the lazy dog.")
FEW = corpus_from_text("abracadabra, abracadabra, abracadabra")  # characters: few weights


def test_small_network_passes_on_the_default_corpus() -> None:
    checks = list(islice(check_gradients(read_corpus(), seed=0), SMALL))
    assert {check.hidden for check in checks} == {5}
    assert [check.parameter for check in checks[::3]] == ["b", "c", "U", "W", "V"]
    assert [check.method for check in checks[:3]] == list(METHODS)
    assert [check.reported for check in checks[::3]] == list(REPORTED[5].values())
    assert all(check.passed for check in checks), format_table(checks)
    # Only central differences have an error worth the name.
    assert all(check.error > 0 for check in checks[::3])


@pytest.mark.parametrize(
    "model", [("rnn", 1, 0.4), ("rnn", 3, 0.0), ("lstm", 2, 0.4), ("gru", 2, 0.0)], ids=str
)
def test_every_model_passes(model: tuple[str, int, float]) -> None:
    cell, layers, dropout = model
    found = check_gradients(FEW, seed=1, cell=cell, layers=layers, dropout=dropout)
    checks = list(takewhile(lambda check: check.hidden == 5, found))
    config = Config(cell=cell, layers=layers)
    assert {check.parameter for check in checks} == set(parameter_shapes(config, 2))
    assert all(check.passed for check in checks), format_table(checks)
    assert all(check.error > 0 for check in checks[::3])
    assert not any(check.reported for check in checks)


def test_mean_loss_passes() -> None:
    found = check_gradients(FEW, cell="gru", dropout=0.2, loss="mean")
    checks = list(takewhile(lambda check: check.hidden == 5, found))
    assert all(check.passed for check in checks), format_table(checks)
    # The gradient is indeed another one.
    losses = []
    for loss in ("sum", "mean"):
        network = Network(Config(hidden=5, loss=loss), 2)
        network.set_parameters(initial_parameters(Config(hidden=5, sigma=0.5), 2))
        losses.append(network.loss(np.ones((26, 1), np.int32)))
    assert losses[0] == pytest.approx(25 * losses[1], rel=1e-6)


def wrong_gradient(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on networks have an error of 1e-9 in the largest entry of a gradient."""
    right = Network.gradient.fget

    def wrong(self: Network) -> Parameters:
        gradient = right(self)
        gradient[name].flat[np.abs(gradient[name]).argmax()] *= 1 + 1e-9
        return gradient

    monkeypatch.setattr(Network, "gradient", property(wrong))


@pytest.mark.parametrize("name", ["b", "c", "U", "W", "V"])
def test_wrong_gradient_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_gradient(name, monkeypatch)
    for check in islice(check_gradients(FOX), SMALL):
        if check.method != METHODS[0]:
            assert check.passed == (check.parameter != name)


def test_wrong_gradients_of_a_deep_model_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"n", "X2", "b2"}
    for name in wrong:
        wrong_gradient(name, monkeypatch)
    found = check_gradients(FEW, cell="gru", layers=2, dropout=0.2)
    checks = takewhile(lambda check: check.hidden == 5, found)
    caught = {c.parameter for c in checks if c.method == METHODS[1] and not c.passed}
    assert caught == wrong


def test_a_wrong_model_is_an_error() -> None:
    with pytest.raises(FastrnnError, match="layers is 0"):
        check_gradients(FOX, layers=0)


def test_measures() -> None:
    a, b = np.array([1.0, -2.0, 0.0]), np.array([1.0, -2.5, 1e-9])
    assert largest_difference(a, b) == pytest.approx(0.5 / 6.5, rel=1e-8)
    assert largest_quotient(a, b) == pytest.approx(0.5 / 4.5)
    assert largest_quotient(a[2:], b[2:]) == pytest.approx(1e-9 / 1e-8)
    assert largest_difference(a, a) == largest_quotient(a, a) == 0.0
    assert largest_difference(np.zeros(2), np.zeros(2)) == 0.0


def test_bound_itself_passes() -> None:
    assert Check(5, "b", METHODS[0], 1e-9, 1e-9).passed
    assert not Check(5, "b", METHODS[0], 1.1e-9, 1e-9).passed
    assert not Check(5, "b", METHODS[0], float("nan"), 1e-9).passed


def test_table() -> None:
    checks = [
        Check(5, name, method, error * (1 + i), 2e-9, REPORTED[5][name])
        for i, name in enumerate("bcUWV")
        for method, error in zip(METHODS, (5e-10, 1e-16, 2e-13), strict=True)
    ]
    assert (
        format_table(checks)
        == """\
m = 5                              b         c         U         W         V
central difference           5.0e-10   1.0e-09   1.5e-09   2.0e-09   2.5e-09
  reference experiment       6.6e-10   9.2e-12   1.9e-10   7.0e-09   1.6e-10
complex step                 1.0e-16   2.0e-16   3.0e-16   4.0e-16   5.0e-16
complex step, by element     2.0e-13   4.0e-13   6.0e-13   8.0e-13   1.0e-12
V, central difference: 2.5e-09 is over the bound 2.0e-09"""
    )


def test_table_of_many_parameters() -> None:
    checks = [
        Check(17, name, method, 10.0**-i, 1.0)
        for i, name in enumerate(("U", "W", "X2", "W2", "V", "b", "b2", "c"))
        for method in METHODS
    ]
    assert (
        format_table(checks)
        == """\
m = 17                             U         W        X2        W2         V
central difference           1.0e+00   1.0e-01   1.0e-02   1.0e-03   1.0e-04
complex step                 1.0e+00   1.0e-01   1.0e-02   1.0e-03   1.0e-04
complex step, by element     1.0e+00   1.0e-01   1.0e-02   1.0e-03   1.0e-04
m = 17                             b        b2         c
central difference           1.0e-05   1.0e-06   1.0e-07
complex step                 1.0e-05   1.0e-06   1.0e-07
complex step, by element     1.0e-05   1.0e-06   1.0e-07"""
    )


def test_verdict() -> None:
    good = Check(5, "b", METHODS[0], 1e-9, 1e-9)
    rough, wrong = (Check(5, "b", METHODS[i], 2e-9, 1e-9) for i in (0, 1))
    assert verdict([good] * 30) == "The gradient is right: all 30 figures are within their bound."
    assert verdict([good, rough, good]) == (
        "The gradient is right by the complex step. Over their bound: 1 of 3 figures, of central "
        "differences, whose own error depends on the text and the seed."
    )
    assert verdict([good, rough, wrong]) == (
        "The gradient is NOT right. Over their bound: 2 of 3 figures."
    )
