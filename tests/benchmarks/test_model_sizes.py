import json

import model_sizes
import tables


def fixed_result():
    """Of two sizes the larger one learns more, at the higher rate, where the smaller diverges."""
    losses = [(5, 0.1, 1.5), (5, 1.0, None), (9, 0.1, 2.0), (9, 1.0, 1.0)]
    return {
        "command": "python benchmarks/model_sizes.py a",
        "date": "2025-01-02T03:04:05+00:00",
        "machine": {
            "cpu": "A Processor",
            "cores": 1,
            "instructions": "AVX2",
            "system": "Linux x86_64",
        },
        "versions": {"fastrnn": "0.1", "python": "3.12.1", "numpy": "2.0.0", "numba": "0.61.0"},
        "epochs": 9,
        "judged": 1000,
        "seq_length": 25,
        "rows": [
            {"corpus": "a", "length": 1234, "hidden": hidden, "learning_rate": rate, "loss": loss}
            for hidden, rate, loss in losses
        ],
    }


MARKDOWN = """\
| text | m | η = 0.1 | η = 1 |
|---|--:|--:|--:|
| a, 1,234 characters | 5 | 2.164 | diverged |
|  | 9 | 2.885 | **1.443** |

Bits per character on the first 1,000 characters of each text, after 9 epochs of all of it; B = 1, \
T = 25, one seed. A Processor (AVX2), 1 core, Linux x86_64; fastrnn 0.1, Python 3.12.1, NumPy \
2.0.0, Numba 0.61.0; `python benchmarks/model_sizes.py a`, 2025-01-02."""


def test_from_end_to_end(monkeypatch, tmp_path):
    (tmp_path / "text.txt").write_text("abracadabra, simsalabim. " * 200)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_sizes, "TEXTS", (("text.txt", 1000), ("text.txt", None)))
    monkeypatch.setattr(model_sizes, "HIDDEN", (3, 9))
    monkeypatch.setattr(model_sizes, "LEARNING_RATES", (0.1, 1e38))
    monkeypatch.setattr("common.RESULTS", tmp_path)
    model_sizes.main(["a", "--epochs", "2"])
    result = json.loads((tmp_path / "model_sizes" / "a.json").read_text())
    cases = [(row["length"], row["hidden"], row["learning_rate"]) for row in result["rows"]]
    assert cases[:5] == [
        *[(1000, 3, 0.1), (1000, 3, 1e38), (1000, 9, 0.1), (1000, 9, 1e38)],
        (5000, 3, 0.1),
    ]
    assert [row["updates"] for row in result["rows"][::2]] == [2 * 39, 2 * 39, 2 * 199, 2 * 199]
    assert all((row["loss"] is None) == (row["learning_rate"] > 1) for row in result["rows"])


def test_the_table():
    assert tables.model_sizes(fixed_result()) == MARKDOWN
