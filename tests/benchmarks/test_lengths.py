import json

import common
import lengths
import quality
import tables
from fastrnn import presets

ORIGIN = {
    "date": "2025-01-02T03:04:05+00:00",
    "machine": {
        "cpu": "A Processor",
        "cores": 1,
        "instructions": "AVX2",
        "system": "Linux x86_64",
    },
    "versions": {"fastrnn": "0.1", "python": "3.12.1", "numpy": "2.0.0", "numba": "0.61.0"},
}
WHERE = (
    "A Processor (AVX2), 1 core, Linux x86_64; fastrnn 0.1, Python 3.12.1, NumPy 2.0.0, Numba "
    "0.61.0"
)


def fixed_result():
    one = {"text": "a", "characters": 1234, "seconds": 8.0, "says": None}
    rows = [
        one | {"preset": "small", "nats": 1.5, "reference": 2.0},
        one | {"preset": "large", "nats": None, "reference": None, "says": "by heart"},
        one | {"text": "b", "preset": "small", "nats": 1.75, "reference": 1.5},
    ]
    return ORIGIN | {"command": "python benchmarks/lengths.py a", "rows": rows}


MARKDOWN = f"""\
| text | preset | nats | `reference` in the same time |
|---|---|--:|--:|
| a, 1,234 characters | small, 8.00 s | **1.5000** | 2.0000 |
|  | large, 8.00 s | says that the text is short |  |
| b, 1,234 characters | small, 8.00 s | 1.7500 | **1.5000** |

Nats per character on the last tenth of each text, seed 0. {WHERE}; `python \
benchmarks/lengths.py a`, 2025-01-02.

`large`, a, 1,234 characters: “by heart”"""


def quality_result():
    row = {"options": "--preset small", "seconds": 8.0}
    rows = [row | {"nats": nats} for nats in (1.75, 1.25)]
    rows.append(row | {"nats": 1.5, "seconds": None})
    return ORIGIN | {"rows": [*rows, row | {"options": "--hidden 9", "nats": 1.0}]}


QUALITY = f"""\
| preset | seconds | nats | bits | nats of all seeds |
|---|--:|--:|--:|--:|
| small | 8.00 | 1.5000 | 2.1640 | 1.2500, 1.5000, 1.7500 |

Loss per character on the last tenth of tiny Shakespeare, and the time of the whole command; \
medians. {WHERE}; `python benchmarks/quality.py NAME --presets`, 2025-01-02."""


def torch_result():
    ours = {"seconds": 8.0, "nats": 1.5}
    row = {"preset": "small", "seconds": 20.0, "nats": 1.5625, "threads": 2, "fastrnn": ours}
    versions = ORIGIN["versions"] | {"torch": "2.0"}
    command = "python benchmarks/quality_torch.py a"
    return ORIGIN | {"versions": versions, "command": command, "rows": [row]}


TORCH = f"""\
| preset | fastrnn, s | nats | PyTorch, s | nats | **times as long** |
|---|--:|--:|--:|--:|--:|
| small | 8.00 | 1.5000 | 20.0 | 1.5625 | **2.50×** |

{WHERE}, PyTorch 2.0; `python benchmarks/quality_torch.py a`, 2025-01-02."""


def test_from_end_to_end(monkeypatch, tmp_path):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setitem(quality.SAMPLE, "length", 9)
    small = {"hidden": 9, "updates": 40, "val_fraction": 0.05}
    monkeypatch.setattr(
        presets, "PRESETS", {"reference": {}, "small": small, "large": small | {"hidden": 500}}
    )
    text = tmp_path / "text.txt"
    text.write_text("abracadabra, simsalabim. " * 200)
    monkeypatch.setattr(lengths, "TEXTS", (("magic", [str(text)], 4000),))
    monkeypatch.setattr(lengths, "POINTS", 10)
    # The reference experiment makes 100 updates of 25 characters a second, which is 200 here.
    rows = [
        {"options": f"--preset {name}", "seconds": 2.0, "characters": 5000, "nats": 1.0, "seed": 0}
        for name in presets.PRESETS
    ]
    (tmp_path / "quality").mkdir()
    (tmp_path / "quality" / "a.json").write_text(json.dumps({"rows": rows, "corpus": "a"}))
    asked = []
    trial = lengths.trial
    monkeypatch.setattr(lengths, "trial", lambda *all: asked.append(all[1]) or trial(*all))
    lengths.main(["a"])
    found = json.loads((tmp_path / "lengths" / "a.json").read_text())["rows"]
    assert [row["preset"] for row in found] == ["small", "large"]
    assert asked == [["--preset", "small"], ["--updates", "200", "--val-every", "20"]]
    assert {row["characters"] for row in found} == {4000}
    assert found[0]["says"] is None
    assert 0 < found[0]["reference"] < 2.5
    assert "by heart before it writes well" in found[1]["says"]


def test_the_tables():
    assert tables.lengths(fixed_result()) == MARKDOWN
    assert tables.quality(quality_result()) == QUALITY
    assert tables.quality_torch(torch_result()) == TORCH
