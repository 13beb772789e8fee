import json

import common
import quality
from fastrnn import presets


def test_from_end_to_end(monkeypatch, tmp_path):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(presets, "MEASURED", tmp_path / "measured.json")
    monkeypatch.setattr(presets, "PRESETS", {"reference": {}})
    text = tmp_path / "text.txt"
    text.write_text("abracadabra, simsalabim. " * 200)
    monkeypatch.setitem(quality.SAMPLE, "length", 9)
    for _ in range(2):  # the second time takes the place of the first
        trials = ("--try", "--hidden 7 --updates 60 --val-every 25")
        quality.main(["a", "--corpus", str(text), *trials])
    result = json.loads((tmp_path / "quality" / "a.json").read_text())
    (row,) = result["rows"]
    assert (row["options"], row["seed"], row["characters"]) == (trials[1], 0, 60 * 25)
    assert len(row["curve"]) == 3
    assert round(row["nats"], 4) == min(nats for _, nats in row["curve"])
    assert 0 < row["curve"][0][0] <= row["curve"][-1][0] < row["seconds"]

    # Published is what a preset reaches, as the median of its seeds.
    seeds = [row | {"options": "--preset reference", "seed": i} for i in range(3)]
    for one, nats in zip(seeds, (2.5, 1.5, 2.0), strict=True):
        one["nats"] = nats
    seeds[1] |= {"seconds": None, "curve": []}  # as of an untimed one
    result["rows"] += seeds
    (tmp_path / "quality" / "a.json").write_text(json.dumps(result))
    quality.main(["a", "--publish", "--plot", str(tmp_path / "a.svg")])
    assert (tmp_path / "a.svg").read_text().count("preset reference") == 1
    (reached,) = presets.measured()["rows"]
    assert (reached["preset"], reached["nats"], reached["seeds"]) == ("reference", 2.0, 3)
    assert reached["seconds"] == row["seconds"]
    assert "2.0000 nats, 2.8854 bits per character on tiny" in presets.describe("reference")
