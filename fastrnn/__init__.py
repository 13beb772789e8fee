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
    from fastrnn.checkpoint import Checkpoint
    from fastrnn.checkpoint import load as load_checkpoint
    from fastrnn.config import Config
    from fastrnn.corpus import Corpus, Vocabulary, corpus_from_text, read_corpus
    from fastrnn.errors import FastrnnError
    from fastrnn.gradcheck import check_gradients
    from fastrnn.observers import Observer
    from fastrnn.plots import plot_loss
    from fastrnn.progress import JsonLog, Progress
    from fastrnn.synthesis import Model, load
    from fastrnn.training import train

__all__ = [
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
    "read_corpus",
    "train",
]

_HOMES = {
    "Checkpoint": "checkpoint.Checkpoint",
    "Config": "config.Config",
    "Corpus": "corpus.Corpus",
    "FastrnnError": "errors.FastrnnError",
    "JsonLog": "progress.JsonLog",
    "Model": "synthesis.Model",
    "Observer": "observers.Observer",
    "Progress": "progress.Progress",
    "Vocabulary": "corpus.Vocabulary",
    "check_gradients": "gradcheck.check_gradients",
    "corpus_from_text": "corpus.corpus_from_text",
    "load": "synthesis.load",
    "load_checkpoint": "checkpoint.load",
    "plot_loss": "plots.plot_loss",
    "read_corpus": "corpus.read_corpus",
    "train": "training.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fastrnn' has no attribute {name!r}")
    module, attribute = _HOMES[name].split(".")
    value = getattr(import_module(f"fastrnn.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
