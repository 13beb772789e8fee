"""A trained model writes text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fastrnn import checkpoint as checkpoints
from fastrnn.config import Config
from fastrnn.corpus import Vocabulary
from fastrnn.errors import FastrnnError
from fastrnn.model import Parameters
from fastrnn.network import Network

PIECE = 64  # characters drawn at a time while streaming: less than a millisecond
PRIME_PIECE = 4096  # characters of the prime read at a time; between them Ctrl-C is seen


class Model:
    """A trained network with its vocabulary.

    `fastrnn.load` gives the best model of a checkpoint.

    Parameters
    ----------
    config : Config
    vocabulary : Vocabulary
    parameters : Parameters
        Arrays U (m, K), W (m, m), V (K, m), b (m,), c (K,), K the size of the vocabulary.
    """

    def __init__(self, config: Config, vocabulary: Vocabulary, parameters: Parameters):
        self.config = config
        self.vocabulary = vocabulary
        self.parameters = parameters
        # For writing, one stream of one character suffices.
        self._network = Network(replace(config, batch=1, seq_length=1), len(vocabulary))
        self._network.set_parameters(parameters)

    def sample(
        self,
        length: int = 1000,
        *,
        seed: int | None = None,
        prime: str = "",
        temperature: float = 1.0,
    ) -> str:
        """Write `length` characters.

        Parameters
        ----------
        length : int
            How many characters.
        seed : int, optional
            The same seed gives the same text; without one, each call gives another.
        prime : str
            Text to continue; it is not part of the result. Without it the model starts as after a
            line end, or a space if its text had no lines.
        temperature : float
            Below 1 the likelier characters are preferred, above 1 the text is wilder; 0 takes the
            likeliest character each time.

        Returns
        -------
        str

        Raises
        ------
        FastrnnError
            If `prime` has a character that the training text did not have, or another argument is
            out of its range.
        """
        return "".join(self.stream(length, seed=seed, prime=prime, temperature=temperature))

    def stream(
        self,
        length: int = 1000,
        *,
        seed: int | None = None,
        prime: str = "",
        temperature: float = 1.0,
    ) -> Iterator[str]:
        """The text of `sample`, piece by piece as it is written."""
        if length < 0 or (seed is not None and seed < 0) or not 0 <= temperature < np.inf:
            raise FastrnnError(
                f"length {length}, seed {seed} and temperature {temperature} must be finite "
                "and not negative"
            )
        known = self.vocabulary.encode(prime or self._default_start())
        return self._pieces(known, length, np.random.default_rng(seed), temperature)

    def _default_start(self) -> str:
        characters = self.vocabulary.characters
        return next((start for start in "\n " if start in characters), characters[0])

    def _pieces(
        self, known: np.ndarray, length: int, generator: np.random.Generator, temperature: float
    ) -> Iterator[str]:
        hidden = np.zeros(self.config.hidden, self.config.dtype)
        nothing = np.empty(0)
        while len(known) > PRIME_PIECE:
            self._network.sample(hidden, known[:PRIME_PIECE], nothing)
            known = known[PRIME_PIECE - 1 :]
        for first in range(0, length, PIECE):
            uniforms = generator.random(min(PIECE, length - first))
            codes = self._network.sample(hidden, known, uniforms, temperature)
            yield self.vocabulary.decode(codes)
            known = codes[-1:]


def load(path: str | os.PathLike[str]) -> Model:
    """The best model of a checkpoint.

    Parameters
    ----------
    path : str or path-like
        A file written by `fastrnn train`.

    Raises
    ------
    FastrnnError
        If the file is no checkpoint, or a damaged one.
    """
    checkpoint = checkpoints.load(path)
    return Model(checkpoint.config, Vocabulary(checkpoint.vocabulary), checkpoint.best.parameters)
