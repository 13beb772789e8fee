"""What a checkpoint holds, in words."""

from __future__ import annotations

from dataclasses import asdict, fields

from fastrnn.checks import counted
from fastrnn.config import Architecture
from fastrnn.layout import model_memory
from fastrnn.memory import shown_bytes
from fastrnn.parameters import describe as describe_model
from fastrnn.parameters import loss_in_words, per_character
from fastrnn.storage.checkpoint import Checkpoint


def describe(checkpoint: Checkpoint) -> str:
    """What a checkpoint holds, in lines for people to read."""
    config, corpus = checkpoint.config, checkpoint.corpus
    best, last = checkpoint.best, checkpoint.last
    model = {field.name for field in fields(Architecture)}

    def loss(value: float) -> str:
        nats, bits = per_character(value, config.loss_length)
        return f"{value:.4f} ({nats:.4f} nats, {bits:.4f} bits per character)"

    characters = len(checkpoint.vocabulary)
    history, held = checkpoint.history, {}
    if corpus.validation or corpus.test:
        training = corpus.length - corpus.validation - corpus.test
        parts = {"training": training, "validation": corpus.validation, "test": corpus.test}
        held["parts"] = ", ".join(
            f"{name} {length:,} characters" for name, length in parts.items() if length
        )
    if checkpoint.run.init_from is not None:
        held["started"] = f"from {checkpoint.run.init_from}"
    if best.validation_loss is not None:
        held["validation"] = (
            f"{len(history.validation_loss)} times, lowest {loss_in_words(best.validation_loss)} "
            f"after update {best.update:,}, last {loss_in_words(history.validation_loss[-1])}"
        )
    if best.test_loss is not None:
        held["test"] = loss_in_words(best.test_loss)
    if history.rollbacks:
        held["went back"] = ", ".join(
            f"from update {update:,} to {back_to:,}" for update, back_to in history.rollbacks
        )
    rows = {
        "model": describe_model(config, characters),
        "memory": f"{shown_bytes(model_memory(config, characters))} to write with",
        "corpus": f"{corpus.name}, {corpus.encoding}, {counted(corpus.length, 'character')}, "
        f"SHA-256 {corpus.sha256}",
        "vocabulary": f"{counted(characters, 'character')}: {checkpoint.vocabulary!r}",
        "training": ", ".join(
            f"{name.replace('_', ' ')} {value}"
            for name, value in asdict(config).items()
            if value is not None and name not in model
        ),
        "best model": f"after update {best.update:,}, smooth loss {loss(best.smooth_loss)}",
        **held,
        "last state": f"after update {last.update:,}, smooth loss {loss(last.smooth_loss)}",
        "epochs": f"{last.epoch} complete, then {counted(last.chunk, 'update')}",
        "history": f"{counted(len(history.update), 'smooth loss')}, "
        f"{counted(len(history.samples), 'sample')}",
        "time": f"{checkpoint.seconds:.1f} s",
        "written by": f"fastrnn {checkpoint.version}",
    }
    return "\n".join(f"{name:12}{row}" for name, row in rows.items())
