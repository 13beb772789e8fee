"""fastrnn: train a recurrent network on any text, character by character, and let it write.

>>> import fastrnn
>>> corpus = fastrnn.read_corpus("book.txt")
>>> checkpoint = fastrnn.train(corpus, fastrnn.Config(hidden=100), epochs=9, path="best.h5")
>>> fastrnn.load("best.h5").sample(200, seed=1)

The names below are the public interface; each is imported when it is first used, so that
`import fastrnn` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastrnn._version import __version__

if TYPE_CHECKING:
    from fastrnn.config import Architecture, Config
    from fastrnn.errors import FastrnnError
    from fastrnn.gradcheck import check_gradients
    from fastrnn.model import Model, load
    from fastrnn.presets import preset
    from fastrnn.report.plots import plot_loss
    from fastrnn.storage.checkpoint import Checkpoint
    from fastrnn.storage.checkpoint import load as load_checkpoint
    from fastrnn.text.corpus import Corpus, corpus_from_text, read_corpus
    from fastrnn.text.vocabulary import Vocabulary
    from fastrnn.training.loop import resume, train
    from fastrnn.training.observers import Observer
    from fastrnn.training.progress import JsonLog, Progress

__all__ = [
    "Architecture",
    "Checkpoint",
    "Config",
    "Corpus",
    "FastrnnError",
    "JsonLog",
    "Model",
    "Observer",
    "Progress",
    "Vocabulary",
    "__version__",
    "check_gradients",
    "corpus_from_text",
    "load",
    "load_checkpoint",
    "plot_loss",
    "preset",
    "read_corpus",
    "resume",
    "train",
]

_HOMES = {
    "Architecture": "config.Architecture",
    "Checkpoint": "storage.checkpoint.Checkpoint",
    "Config": "config.Config",
    "Corpus": "text.corpus.Corpus",
    "FastrnnError": "errors.FastrnnError",
    "JsonLog": "training.progress.JsonLog",
    "Model": "model.Model",
    "Observer": "training.observers.Observer",
    "Progress": "training.progress.Progress",
    "Vocabulary": "text.vocabulary.Vocabulary",
    "check_gradients": "gradcheck.check_gradients",
    "corpus_from_text": "text.corpus.corpus_from_text",
    "load": "model.load",
    "load_checkpoint": "storage.checkpoint.load",
    "plot_loss": "report.plots.plot_loss",
    "preset": "presets.preset",
    "read_corpus": "text.corpus.read_corpus",
    "resume": "training.loop.resume",
    "train": "training.loop.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fastrnn' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].rpartition(".")
    value = getattr(import_module(f"fastrnn.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
