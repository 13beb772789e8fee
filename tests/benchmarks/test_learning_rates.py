import json

import numpy as np
import pytest

import learning_rates
from fastrnn import reference
from fastrnn.config import Config
from fastrnn.parameters import initial_parameters
from fastrnn.text.corpus import read_corpus


def fixed_result():
    """One stream learns best at 0.1; two diverge in all ways."""
    done = {"updates": 1234, "seconds": 2.0, "losses": {}}
    failed = {"updates": None, "seconds": None, "losses": None, "loss": None}
    return {
        "command": "python benchmarks/learning_rates.py a",
        "date": "2025-01-02T03:04:05+00:00",
        "machine": {
            "cpu": "A Processor",
            "cores": 1,
            "instructions": "AVX2",
            "system": "Linux x86_64",
        },
        "versions": {"fastrnn": "0.1", "python": "3.12.1", "numpy": "2.0.0", "numba": "0.61.0"},
        "corpus": {"name": "a text", "length": 200000, "sha256": "0"},
        "epochs": 9,
        "judged": 100000,
        "hidden": 100,
        "seq_length": 25,
        "rows": [
            {"batch": 1, "learning_rate": 0.1, **done, "loss": 1.5},
            {"batch": 1, "learning_rate": 1.0, **done, "loss": 2.0},
            {"batch": 2, "learning_rate": 0.1, **done, "loss": None},
            {"batch": 2, "learning_rate": 1.0, **failed},
        ],
    }


MARKDOWN = """\
| B | updates | η = 0.1 | η = 1 | seconds |
|--:|--:|--:|--:|--:|
| 1 | 1,234 | **1.500 (2.164)** | 2.000 (2.885) | 2.00 |
| 2 | 1,234 | diverged | diverged | 2.00 |

Nats (and bits) per character on the first 100,000 characters of a text, after 9 epochs of its \
200,000 characters; m = 100, T = 25, one seed. Seconds are the median of a row. A Processor \
(AVX2), 1 core, Linux x86_64; fastrnn 0.1, Python 3.12.1, NumPy 2.0.0, Numba 0.61.0; \
`python benchmarks/learning_rates.py a`, 2025-01-02."""


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("abracadabra, simsalabim. " * 200)
    return path


def test_from_end_to_end(monkeypatch, tmp_path, text):
    monkeypatch.setattr(learning_rates, "BATCHES", (1, 3))
    monkeypatch.setattr(learning_rates, "LEARNING_RATES", (0.1, 1e38))
    monkeypatch.setattr("common.RESULTS", tmp_path)
    options = ["--corpus", str(text), "--epochs", "2", "--threads", "1"]
    learning_rates.main(["a", *options])
    result = json.loads((tmp_path / "learning_rates" / "a.json").read_text())
    assert [(row["batch"], row["learning_rate"]) for row in result["rows"]] == [
        (1, 0.1),
        (1, 1e38),
        (3, 0.1),
        (3, 1e38),
    ]
    assert (result["judged"], result["epochs"]) == (4999, 2)
    for good, bad in (result["rows"][:2], result["rows"][2:]):
        assert 0 < good["loss"] == min(good["losses"]["best"], good["losses"]["last"]) < 2
        assert bad["loss"] is None
    assert result["rows"][0]["updates"] == 2 * 199


def test_a_model_that_has_learnt_nothing_has_diverged(text):
    row = learning_rates.run(read_corpus([text]), Config(learning_rate=1e-9), 1, 1)
    assert row["losses"]["last"] == pytest.approx(np.log(12), rel=1e-2)
    assert row["loss"] is None


def test_the_judge_reads_one_stream(monkeypatch, text):
    monkeypatch.setattr(learning_rates, "JUDGED", 60)
    corpus = read_corpus([text])
    config = Config(hidden=9, batch=4, sigma=0.5)
    parameters = initial_parameters(config, len(corpus.vocabulary))
    codes = corpus.codes[:61, None].astype(np.int32)
    expected = reference.forward(parameters, np.zeros((1, 1, 9), np.float32), codes).loss / 60
    found = learning_rates.loss_per_character(corpus, config, parameters)
    assert found == pytest.approx(expected, rel=1e-5)
