"""Who is told how a training goes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fastrnn import checks

if TYPE_CHECKING:
    from fastrnn.storage.checkpoint import Checkpoint, Sample
    from fastrnn.training.trainer import Trainer, Validation


class Observer:
    """What `train` tells while it runs. Override what you want to hear; the rest does nothing.

    The methods are called by the thread that trains, which waits for them. An exception ends the
    training, after its checkpoint has been written.
    """

    def noted(self, message: str) -> None:
        """Something worth knowing, such as that the kernels are compiled first."""

    def started(self, trainer: Trainer, updates: int) -> None:
        """The training will end after `updates` updates."""

    def progressed(self, trainer: Trainer) -> None:
        """Some updates were made: about ten calls a second.

        All numbers are the trainer's: `update`, `smooth_loss`, `best_update`, `validations`, ...
        """

    def validated(self, validation: Validation) -> None:
        """The model was validated, on the text that is held out."""

    def sampled(self, sample: Sample) -> None:
        """A text was written, after `sample.update` updates."""

    def warned(self, message: str) -> None:
        """Something went wrong that does not end the training, or its result is doubtful."""

    def ended(self, checkpoint: Checkpoint, path: str | None) -> None:
        """The training is over: complete, interrupted, or failed.

        `path` is the file that holds it, None if there is none.
        """


class Observers(Observer):
    """Several as one; each hears of the end, even if another cannot."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        if not isinstance(observers, Iterable):
            checks.refuse("observers", observers, "a sequence of observers")
        self.observers = [checks.instance("an observer", one, Observer) for one in observers]

    def noted(self, message: str) -> None:
        for observer in self.observers:
            observer.noted(message)

    def started(self, trainer: Trainer, updates: int) -> None:
        for observer in self.observers:
            observer.started(trainer, updates)

    def progressed(self, trainer: Trainer) -> None:
        for observer in self.observers:
            observer.progressed(trainer)

    def sampled(self, sample: Sample) -> None:
        for observer in self.observers:
            observer.sampled(sample)

    def validated(self, validation: Validation) -> None:
        for observer in self.observers:
            observer.validated(validation)

    def warned(self, message: str) -> None:
        for observer in self.observers:
            observer.warned(message)

    def ended(self, checkpoint: Checkpoint, path: str | None) -> None:
        failure = None
        for observer in self.observers:
            try:
                observer.ended(checkpoint, path)
            except BaseException as error:
                failure = failure or error
        if failure is not None:
            raise failure
