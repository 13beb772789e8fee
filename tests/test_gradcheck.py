"""The gradient check passes for the right gradient, and for no other."""

from itertools import islice

import numpy as np
import pytest

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
from fastrnn.text.corpus import Corpus, read_corpus
from fastrnn.text.vocabulary import Vocabulary

SMALL = 3 * len(REPORTED[5])  # checks of m = 5


def test_small_network_passes_on_the_default_corpus() -> None:
    checks = list(islice(check_gradients(read_corpus(), seed=0), SMALL))
    assert {check.hidden for check in checks} == {5}
    assert [check.parameter for check in checks[::3]] == ["b", "c", "U", "W", "V"]
    assert [check.method for check in checks[:3]] == list(METHODS)
    assert all(check.passed for check in checks), format_table(checks)
    # Only central differences have an error worth the name.
    assert all(check.error > 0 for check in checks[::3])


@pytest.mark.parametrize("name", ["b", "c", "U", "W", "V"])
def test_wrong_gradient_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Network.loss_and_gradient

    def wrong(self: Network, codes: np.ndarray) -> float:
        loss = right(self, codes)
        self.gradient[name].flat[np.abs(self.gradient[name]).argmax()] *= 1 + 1e-9
        return loss

    monkeypatch.setattr(Network, "loss_and_gradient", wrong)
    text = "The quick brown fox jumps over the lazy dog."
    vocabulary = Vocabulary.from_text(text)
    corpus = Corpus("fox", vocabulary.encode(text), vocabulary, "0" * 64)
    checks = list(islice(check_gradients(corpus), SMALL))
    for check in checks:
        if check.method != METHODS[0]:
            assert check.passed == (check.parameter != name)


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
        Check(5, name, method, error * (1 + i), 2e-9)
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


def test_verdict() -> None:
    good = Check(5, "b", METHODS[0], 1e-9, 1e-9)
    rough, wrong = (Check(5, "b", METHODS[i], 2e-9, 1e-9) for i in (0, 1))
    assert verdict([good] * 30) == "The gradient is right: all 30 figures are within their bound."
    assert verdict([good, rough, good]) == (
        "The gradient is right by the complex step. 1 of 3 figures are over their bound: central "
        "differences, whose own error depends on the text and the seed."
    )
    assert verdict([good, rough, wrong]) == (
        "The gradient is NOT right: 2 of 3 figures are over their bound."
    )
