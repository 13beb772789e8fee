"""PyTorch, where it is installed, ends at the loss of the same training in fastrnn."""

import pytest

import fastrnn
from fastrnn.presets import preset


def test_the_same_training(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is an extra of benchmarks/peers.py")
    from quality_torch import train

    path = tmp_path / "text.txt"
    path.write_text("abracadabra, simsalabim. " * 4000)
    settings = {"hidden": 9, "seq_length": 8, "batch": 4, "warmup": 5, "updates": 60}
    config = preset("medium", **settings, val_fraction=0.3, dropout=0.0, seed=3)
    expected = fastrnn.train(fastrnn.read_corpus(path), config, observers=[]).best.validation_loss
    seconds, found = train(config, str(path))
    assert seconds > 0
    assert abs(found - expected) < 1e-4
    assert expected < 2
