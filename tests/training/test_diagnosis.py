"""What is said of a training's loss, and when."""

import math
from dataclasses import replace

import numpy as np
import pytest

from fastrnn.config import Config
from fastrnn.storage.checkpoint import Checkpoint
from fastrnn.text.corpus import Corpus
from fastrnn.text.vocabulary import Vocabulary
from fastrnn.training.diagnosis import diagnose, failed
from fastrnn.training.trainer import Trainer

T, CHUNKS = 25, 4000


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """Before its first update, on a text of CHUNKS chunks."""
    vocabulary = Vocabulary("".join(map(chr, range(65, 130))))
    codes = np.arange(CHUNKS * T + 1) % 65
    corpus = Corpus("text", codes.astype(np.uint8), vocabulary, "0" * 64)
    return Trainer(corpus, Config(hidden=2, seq_length=T)).checkpoint()


def after(checkpoint: Checkpoint, update: int, loss: float, best: int, lowest: float) -> Checkpoint:
    """The same after some updates; losses in nats a character."""
    return replace(
        checkpoint,
        best=replace(checkpoint.best, update=best, smooth_loss=lowest * T),
        last=replace(checkpoint.last, update=update, smooth_loss=loss * T),
    )


@pytest.mark.parametrize(
    ("update", "loss", "best", "lowest", "word"),
    [
        # Nothing improved on the start.
        (1000, 4.21, 0, 4.2, "no update improved"),
        (30, 9.0, 0, 4.2, "no update improved"),
        (300, 4.4, 0, 4.2, None),  # most of it is still the start
        (1, 4.2, 0, 4.2, None),
        (9000, 0.0, 0, 0.0, None),  # a text of a single character
        # The lowest lies in the first epoch.
        (4000, 3.0, 2000, 1.0, "it has not seen the last 50 % of the text"),
        (40_000, 1.2, 2000, 1.0, "it has not seen the last 50 % of the text"),
        (2100, 1.2, 2000, 1.0, None),  # hardly anything was read since
        (4000, 1.2, 3900, 1.0, None),  # hardly anything was left
        (4000, 1.02, 2000, 1.0, None),
        # It ends far above the lowest.
        (9000, 4.3, 2000, 1.0, "far above its lowest"),  # and above ln 65
        (40_000, 1.4, 20_000, 1.0, "far above its lowest"),
        (40_000, 1.1, 20_000, 1.0, None),
        (40_000, 0.02, 20_000, 0.005, None),  # known by heart
    ],
)
def test_diagnosis(checkpoint, update, loss, best, lowest, word) -> None:
    trained = after(checkpoint, update, loss, best, lowest)
    warnings = diagnose(trained)
    assert len(warnings) == (word is not None)
    assert word is None or word in warnings[0]
    assert failed(trained) == (word == "no update improved")


@pytest.mark.parametrize("shuffled", [{"order": "chunks"}, {"order": "random"}, {"lines": True}])
def test_no_part_of_a_shuffled_text_is_the_unread_one(checkpoint, shuffled) -> None:
    trained = after(checkpoint, 4000, 1.2, 2000, 1.0)
    assert len(diagnose(trained)) == 1
    assert diagnose(replace(trained, config=replace(trained.config, **shuffled))) == []


@pytest.mark.parametrize(
    ("validation", "loss", "word"),
    [
        (
            [(4000, 3.0), (8000, 2.0), (12_000, 2.5)],
            1.9,
            "rose after epoch 2.0, from 2.0000 to 2.5",
        ),
        ([(4000, 3.0), (8000, 2.0), (12_000, 2.01)], 1.9, None),  # not by much
        ([(4000, 3.0), (8000, 2.0), (12_000, 2.5)], 2.1, None),  # so it is not learnt by heart
        ([(4000, 3.0), (10_000, 2.0), (12_000, 2.5)], 1.9, None),  # half an epoch later
        ([(2000, 2.0), (6000, 3.0), (12_000, 2.0)], 2.2, None),  # all of the text was validated
        ([(4000, 4.2), (8000, 4.5), (12_000, 4.4)], 4.3, "no update improved"),  # ln 65 = 4.17
    ],
)
def test_diagnosis_of_validation(checkpoint, validation, loss, word) -> None:
    update, lowest = min(validation, key=lambda one: one[1])
    trained = after(checkpoint, 12_000, loss, update, 2.0)
    trained.best.validation_loss = lowest
    updates, losses = map(np.array, zip(*validation, strict=True))
    history = replace(trained.history, validation_update=updates, validation_loss=losses)
    trained = replace(trained, history=history)
    warnings = diagnose(trained)
    assert len(warnings) == (word is not None)
    assert word is None or word in warnings[0]
    assert failed(trained) == (word == "no update improved")
    if word is not None:  # with patience it has ended there
        trained.config = replace(trained.config, val_fraction=0.1, patience=1)
        assert len(diagnose(trained)) == failed(trained)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "a smaller clip"),
        ({"clip": math.inf, "clip_norm": 25.0}, "a smaller clip-norm"),
        ({"clip": math.inf}, "a clip-norm"),
        ({"input_rate": 50.0}, "a lower input-rate than 50, a smaller clip"),
        ({"weight_decay": 9.0}, "less weight-decay than 9, a smaller clip"),
    ],
    ids=str,
)
def test_the_remedy_is_what_was_chosen(checkpoint, settings, words) -> None:
    trained = replace(checkpoint, config=replace(checkpoint.config, **settings))
    (failure,) = diagnose(after(trained, 1000, 4.21, 0, 4.2))
    *others, clip = words.split(", ")
    words = ", ".join(["try a lower learning rate than 0.1", *others])
    assert failure.endswith(f"; {words}, fewer hidden units or {clip}")
    (rise,) = diagnose(after(trained, 40_000, 1.4, 20_000, 1.0))
    assert rise.endswith(f"; {words} or {clip}")
