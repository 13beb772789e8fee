"""What a training that is resumed has in common with the one before, and what may be another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastrnn.checks import counted
from fastrnn.config import Config, option_name
from fastrnn.errors import FastrnnError
from fastrnn.storage.checkpoint import Checkpoint, is_checkpoint, load
from fastrnn.storage.files import shown, typed
from fastrnn.text.corpus import Corpus, read_corpus
from fastrnn.text.sources import Progress, checked_encoding, found_again
from fastrnn.training.schedule import total_updates
from fastrnn.training.validation import out_of_patience

# What may be another on the command line when a training is resumed: its end, and what does not
# change its results.
FREE = (
    "resume", "texts", "sources", "epochs", "updates", "keep", "ckpt_every", "threads", "log",
    "quiet", "preset_name",
)  # fmt: skip


def command_to_resume(path: str, sources: Sequence[str] | None) -> str:
    """The command that resumes a training; with TEXT for a text that cannot be read again."""
    again = sources is not None and "-" not in sources
    return f"fastrnn train --resume {typed(path)}" + ("" if again else " TEXT")


def is_complete(checkpoint: Checkpoint) -> bool:
    """Whether a training has come to its end, with all that belongs there."""
    config, last, history = checkpoint.config, checkpoint.last, checkpoint.history
    ended = last.update >= total_updates(config, checkpoint.updates_per_epoch)
    validated = config.val_fraction == 0 or last.update in (0, *history.validation_update[-1:])
    ended = ended or out_of_patience(history.validation_loss.tolist(), config.patience)
    tested = config.test_fraction == 0 or checkpoint.best.test_loss is not None
    return ended and validated and tested


def complete(checkpoint: Checkpoint, path: str) -> str:
    """That a training is complete, and how there can be more of it, in words."""
    patience, losses = checkpoint.config.patience, checkpoint.history.validation_loss.tolist()
    made = f"{shown(path)} is complete, after {counted(checkpoint.last.update, 'update')}"
    if patience is not None and out_of_patience(losses, patience):
        return (
            f"{made}, as {counted(patience, 'validation')} had no lower loss; another training can "
            f"start from its model, with --init-from {typed(path)}."
        )
    return f"{made}; give more epochs or updates."


def refuse_others(checkpoint: Checkpoint, path: str, given: dict[str, Any]) -> None:
    """Raise FastrnnError if an option of `fastrnn train` contradicts the training in a file.

    Parameters
    ----------
    checkpoint : Checkpoint
    path : str
        Where it is from.
    given : dict
        Values by the names of their parameters.
    """
    there = vars(checkpoint.config) | {
        "sample_every": checkpoint.run.sample_every,
        "sample_length": checkpoint.run.sample_length,
        "encoding": checkpoint.corpus.encoding,
        "ckpt": path,
    }
    for name, value in given.items():
        if name == "path":
            name = "ckpt"
            value = path if os.path.realpath(value) == os.path.realpath(path) else value
        if name == "encoding":
            value = checked_encoding(value)
        if name not in (*FREE, *there):
            raise FastrnnError(
                f"{option_name(name)} is of no use with --resume, which goes on with what is in "
                f"{shown(path)}; leave one of the two out"
            )
        if name not in FREE and value != there[name]:
            raise FastrnnError(
                f"{option_name(name)} is {value}, but the training in {shown(path)} has "
                f"{'none' if there[name] is None else there[name]}; leave it out, or start another "
                "training"
            )


def with_end(checkpoint: Checkpoint, path: str, epochs: int | None, updates: int | None) -> Config:
    """The settings of a training with another end, if one is given.

    Raises
    ------
    FastrnnError
        If the training is already beyond it.
    """
    config, done = checkpoint.config, checkpoint.last.update
    if epochs is None and updates is None:
        return config
    config = replace(config, epochs=epochs, updates=updates)
    end = total_updates(config, checkpoint.updates_per_epoch)
    if end < done:
        name, value = ("updates", updates) if end == updates else ("epochs", epochs)
        raise FastrnnError(
            f"{name} is {value}, but the training in {shown(path)} has made "
            f"{counted(done, 'update')}, {done / checkpoint.updates_per_epoch:.2f} epochs; give "
            "more, or leave it out"
        )
    return config


def text_of(
    checkpoint: Checkpoint,
    path: str,
    sources: Sequence[str] = (),
    progress: Progress | None = None,
    again: str | None = None,
) -> Corpus:
    """The text of a training, read again from where it was, or from these sources.

    `again` is a command that names the text, for messages; by default the one that resumes.

    Raises
    ------
    FastrnnError
        If it cannot be.
    """
    corpus = checkpoint.corpus
    again = f"give it once more, as in {again or command_to_resume(path, None)}"
    if sources:
        return read_corpus(sources, corpus.encoding, progress)
    if corpus.sources is None:
        raise FastrnnError(f"{shown(path)} does not say where its text was read from; {again}")
    if "-" in corpus.sources:
        raise FastrnnError(f"the text of {shown(path)} came from standard input; {again}")
    try:
        found = read_corpus(found_again(corpus.sources, corpus.folder), corpus.encoding, progress)
    except FastrnnError as error:
        raise FastrnnError(
            f"cannot read the text of {shown(path)} again: {error}. If it is elsewhere, {again}"
        ) from error
    return replace(found, name=corpus.name, sources=tuple(corpus.sources), folder=corpus.folder)


def same_text(checkpoint: Checkpoint, path: str, corpus: Corpus) -> Corpus:
    """A text, if it is that of a training.

    Raises
    ------
    FastrnnError
        If it is another one.
    """
    known = checkpoint.corpus
    if corpus.sha256 != known.sha256:
        raise FastrnnError(
            f"{shown(path)} was trained on {shown(known.name)}, "
            f"{counted(known.length, 'character')}, but {shown(corpus.name)}, "
            f"{counted(corpus.length, 'character')}, is not that text, or was changed; give the "
            f"same text, or start anew with --init-from {typed(path)}"
        )
    corpus = replace(corpus, encoding=known.encoding)
    if corpus.sources is None and known.sources is not None:
        corpus = replace(corpus, sources=tuple(known.sources), folder=known.folder)
    return corpus


def bends_with_the_end(config: Config) -> bool:
    """Whether the learning rate depends on how long the training is."""
    return config.schedule != "constant"


def unfinished(path: str, config: Config, corpus: Corpus) -> Checkpoint | None:
    """The checkpoint at a path, if it is of this very training and not complete."""
    if not is_checkpoint(path):
        return None
    try:
        there = load(path)
    except FastrnnError:
        return None
    same = there.config == config and there.corpus.sha256 == corpus.sha256
    return there if same and not is_complete(there) else None
