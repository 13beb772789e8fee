"""A trained model writes text."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

import numpy as np

from fastrnn import checks, memory
from fastrnn.config import Architecture
from fastrnn.errors import FastrnnError
from fastrnn.network import TEXT_BYTES, Weights, Writer
from fastrnn.parameters import Parameters, describe, parameter_shapes
from fastrnn.storage import checkpoint as checkpoints
from fastrnn.storage.checkpoint import Checkpoint
from fastrnn.storage.files import AnyPath
from fastrnn.text.sources import normalised
from fastrnn.text.vocabulary import Vocabulary
from fastrnn.threads import Unshared


class Model:
    """A trained network with its vocabulary, which may write in any number of threads at once.

    `fastrnn.load` gives the best model of a checkpoint.

    Parameters
    ----------
    architecture : Architecture
        A `Config` is one, too.
    vocabulary : Vocabulary
    parameters : Parameters
        Arrays as `fastrnn.parameters` names them, of a layer of m vanilla units U (m, K), W (m, m),
        V (K, m), b (m,), c (K,), K the size of the vocabulary. They are copied.

    Attributes
    ----------
    architecture, vocabulary
        As given.

    Raises
    ------
    FastrnnError
        If one is missing or has another shape, or if there is too little memory.
    """

    @memory.running_out("the model", "use one of fewer hidden units")
    def __init__(self, architecture: Architecture, vocabulary: Vocabulary, parameters: Parameters):
        self.architecture = checks.instance("architecture", architecture, Architecture)
        self.vocabulary = checks.instance("vocabulary", vocabulary, Vocabulary)
        if not len(vocabulary):
            raise FastrnnError("the vocabulary is empty; a model needs at least one character")
        parameters = _checked(parameters, parameter_shapes(architecture, len(vocabulary)))
        self._weights = Weights(architecture, len(vocabulary))
        self._weights.set_parameters(parameters)

    @property
    def parameters(self) -> Parameters:
        """Copies of the model's own; read-only, as writing to them would change nothing."""
        parameters = self._weights.parameters
        for array in parameters.values():
            array.flags.writeable = False
        return parameters

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, last: bool = False) -> Model:
        """The best model of a checkpoint.

        Parameters
        ----------
        checkpoint : Checkpoint
            From `fastrnn.train` or `fastrnn.load_checkpoint`.
        last : bool
            The model as it was when the training ended, instead of that of the lowest smooth loss.
        """
        made_by = "fastrnn.train or fastrnn.load_checkpoint"
        checkpoint = checks.instance("checkpoint", checkpoint, Checkpoint, made_by)
        model = checkpoint.last if checks.instance("last", last, bool) else checkpoint.best
        return cls(checkpoint.config, Vocabulary(checkpoint.vocabulary), model.parameters)

    def __repr__(self) -> str:
        return f"<fastrnn.Model: {describe(self.architecture, len(self.vocabulary))}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies and other processes: what it was made from."""
        return Model, (self.architecture, self.vocabulary, self.parameters)

    @memory.running_out("the text", "write a shorter one, or use stream")
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
            line end, or a space if its text had no lines. As in a corpus, the line ends ``\\r\\n``
            and ``\\r`` become ``\\n``.
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
        pieces = self.stream(length, seed=seed, prime=prime, temperature=temperature)
        remedy = "write a shorter one, or use stream"
        subject = f"length is {checks.shown_value(length)}"
        memory.require(TEXT_BYTES * int(length), subject, "the text", remedy)
        return "".join(pieces)

    def stream(
        self,
        length: int = 1000,
        *,
        seed: int | None = None,
        prime: str = "",
        temperature: float = 1.0,
    ) -> Iterator[str]:
        """The text of `sample`, piece by piece as it is written; for one thread."""
        length = checks.whole("length", length)
        if seed is not None:
            seed = checks.whole("seed", seed)
        temperature = checks.real("temperature", temperature, zero=True)
        prime = checks.text("prime", prime)
        if "\r" not in self.vocabulary.characters:
            prime = normalised(prime)
        known = self.vocabulary.encode(prime or self._default_start())
        generator = np.random.default_rng(seed)
        return Unshared(self._pieces(known, length, generator, temperature), "stream of text")

    def _default_start(self) -> str:
        characters = self.vocabulary.characters
        return next((start for start in "\n " if start in characters), characters[0])

    def _pieces(
        self, known: np.ndarray, length: int, generator: np.random.Generator, temperature: float
    ) -> Generator[str, None, None]:
        for codes in Writer(self._weights).pieces(known, length, generator, temperature):
            yield self.vocabulary.decode(codes)


def _checked(parameters: Parameters, shapes: dict[str, tuple[int, ...]]) -> Parameters:
    """The parameters as arrays, which have to be there in these shapes."""
    if not isinstance(parameters, Mapping):
        checks.refuse("parameters", parameters, f"a dictionary of {', '.join(shapes)}")
    arrays = {}
    for name, shape in shapes.items():
        if name not in parameters:
            raise FastrnnError(f"parameters lack {name}; they must be {', '.join(shapes)}")
        arrays[name] = array = np.asarray(parameters[name])
        if array.dtype.kind not in "fiu" or array.shape != shape:
            raise FastrnnError(
                f"{name} is an array of {array.dtype} in the shape {array.shape}, but must be one "
                f"of real numbers in the shape {shape}"
            )
    return arrays


@memory.running_out("the model", "use one of fewer hidden units")
def load(path: AnyPath, last: bool = False) -> Model:
    """The best model of a checkpoint.

    Parameters
    ----------
    path : str or path-like
        A file written by `fastrnn train`.
    last : bool
        The model as it was when the training ended, instead of that of the lowest smooth loss.

    Raises
    ------
    FastrnnError
        If the file is no checkpoint, or a damaged one.
    """
    return Model.from_checkpoint(checkpoints.load(path), last)
