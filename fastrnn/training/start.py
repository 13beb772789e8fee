"""What a training starts from: fresh weights, or those of another model."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np

from fastrnn import checks
from fastrnn.config import Architecture, Config, option_name
from fastrnn.errors import FastrnnError
from fastrnn.model import Model, load
from fastrnn.parameters import Parameters, initial_parameters
from fastrnn.storage.checkpoint import Checkpoint
from fastrnn.storage.files import AnyPath
from fastrnn.text.corpus import Corpus
from fastrnn.text.vocabulary import Vocabulary

VOCABULARIES = ("union", "new")
AXES = {"U": 1, "V": 0, "c": 0}  # the one along which a parameter has a place for each character


class Start(NamedTuple):
    """A model before its first update."""

    vocabulary: Vocabulary
    parameters: Parameters


def fresh(corpus: Corpus, config: Config) -> Start:
    """A new model of the characters of a text."""
    return Start(corpus.vocabulary, initial_parameters(config, len(corpus.vocabulary)))


def model_of(init_from: AnyPath | Checkpoint | Model) -> Model:
    """The model to start from: the best of a checkpoint."""
    if isinstance(init_from, Model):
        return init_from
    if isinstance(init_from, Checkpoint):
        return Model.from_checkpoint(init_from)
    return load(init_from)


def architecture_of(model: Model) -> dict[str, Any]:
    """The settings that a model fixes."""
    return {one.name: getattr(model.architecture, one.name) for one in fields(Architecture)}


def refuse_contradictions(model: Model, given: dict[str, Any]) -> None:
    """Raise FastrnnError if a setting is another one than the model's."""
    for name, value in architecture_of(model).items():
        if name in given and given[name] != value:
            raise FastrnnError(
                f"{option_name(name)} is {given[name]}, but the model to start from has {value}; "
                "leave it out, or start from another model"
            )


def carried_over(corpus: Corpus, config: Config, model: Model, vocabulary: str) -> Start:
    """A model's weights for another text.

    What belongs to a character that the model does not know is fresh, as `config.init` says.

    Parameters
    ----------
    corpus : Corpus
    config : Config
    model : Model
        Of the same architecture.
    vocabulary : {"union", "new"}
        Whether characters that the text lacks are kept.

    Raises
    ------
    FastrnnError
        If the architecture is another one, or the text is of bytes and the model knows characters
        that are none.
    """
    checks.choice("vocabulary", vocabulary, VOCABULARIES)
    refuse_contradictions(model, vars(config))
    characters = set(corpus.vocabulary.characters)
    if vocabulary == "union":
        characters |= set(model.vocabulary.characters)
        if corpus.encoding == "bytes" and max(characters) > "\xff":
            raise FastrnnError(
                f"the text is of bytes, but the model to start from knows {max(characters)!r}, "
                "which is none; take the vocabulary new"
            )
    whole = Vocabulary("".join(sorted(characters)))
    parameters = initial_parameters(config, len(whole))
    known = "".join(sorted(characters & set(model.vocabulary.characters)))
    here, there = whole.encode(known), model.vocabulary.encode(known)
    for name, old in model.parameters.items():
        if name in AXES:
            new = np.moveaxis(parameters[name], AXES[name], 0)
            new[here] = np.moveaxis(old, AXES[name], 0)[there]
        else:
            parameters[name] = old
    return Start(whole, parameters)
