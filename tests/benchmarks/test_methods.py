"""PyTorch and JAX train as the reference does; where they are installed."""

from collections.abc import Callable

import pytest

from fastrnn.config import Config
from fastrnn.measure.methods import Baseline, LeftOut, Problem, Training, difference, results
from fastrnn.measure.results import Case

SETTINGS = {"hidden": 9, "seq_length": 4, "batch": 3}  # hidden more than characters
CASES = {cell: Case(Config(cell=cell, **SETTINGS), 5) for cell in ("rnn", "lstm", "gru")}


def compare(make: Callable[[Problem, str], Training], case: Case, forms: tuple[str, ...]) -> None:
    problem = Problem(case)
    expected = results(Baseline(problem))
    for form in forms:
        training = make(problem, form)
        assert difference(case.config.dtype, results(training), expected) is None, form
        assert training.extra


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cell", CASES)
def test_pytorch(cell: str) -> None:
    pytest.importorskip("torch", reason="PyTorch is an extra of benchmarks/peers.py")
    from methods.pytorch import make

    forms = ("module", "loop", "hand") if cell == "rnn" else ("module", "loop")
    compare(make, CASES[cell], forms)
    if cell != "rnn":
        compare(make, Case(Config(cell=cell, layers=2, **SETTINGS), 5), ("module",))
        with pytest.raises(LeftOut, match="as many hidden units as characters"):
            make(Problem(Case(Config(cell=cell, **SETTINGS), 80)), "module")
    with pytest.raises(LeftOut):
        make(Problem(Case(Config(cell=cell, dropout=0.5, **SETTINGS), 5)), "module")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cell", CASES)
def test_jax(cell: str) -> None:
    pytest.importorskip("jax", reason="JAX is an extra of benchmarks/peers.py")
    from methods.xla import Jax

    compare(Jax, CASES[cell], ("scan", "hand") if cell == "rnn" else ("scan",))
