"""Checkpoints that are written while the training goes on."""

from __future__ import annotations

from threading import Thread

from fastrnn.errors import FastrnnError
from fastrnn.storage.checkpoint import Checkpoint
from fastrnn.storage.destination import Destination
from fastrnn.storage.files import shown
from fastrnn.training.observers import Observer


class Saver:
    """Writes checkpoints in a thread of its own, and tells what becomes of them.

    A save that fails ends no training: the next one tries again. It is told once, not each time.

    Parameters
    ----------
    destination : Destination
    tell : Observer
        Is only called by the thread that trains.
    """

    def __init__(self, destination: Destination, tell: Observer) -> None:
        self.destination = destination
        self._tell = tell
        self._thread: Thread | None = None
        self._warning: str | None = None  # of the last save
        self._error: FastrnnError | None = None  # why the last save failed
        self._told: str | None = None  # the problem that lasts, as far as it was told

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, checkpoint: Checkpoint) -> None:
        """Begin to write a checkpoint, which nobody else may change meanwhile."""
        self.wait()
        thread = Thread(target=self._save, args=(checkpoint,), name="fastrnn-saver")
        try:
            thread.start()
        except RuntimeError:  # the system gives no thread
            self._save(checkpoint)
            self._tell_outcome()
        else:
            self._thread = thread

    def look(self) -> None:
        """Tell what became of a checkpoint that has been written, or could not be."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> bool:
        """Let the checkpoint that is being written be complete, and tell of it.

        Returns
        -------
        bool
            Whether the last one was written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._tell_outcome()
        return self._error is None

    def finish(self, checkpoint: Checkpoint) -> tuple[str | None, FastrnnError | None]:
        """Write the last checkpoint, elsewhere if it cannot be written where it belongs.

        Returns
        -------
        path : str or None
            Where it is; None if it could not be written anywhere.
        error : FastrnnError or None
            Why it is not where it belongs.
        """
        self._save(checkpoint)
        if self._error is None:
            self._tell_outcome()
            return self.destination.path, None
        error = self._error
        try:
            path = self.destination.rescue(checkpoint)
        except FastrnnError:
            return None, FastrnnError(f"{error}; nor beside it or in the temporary folder")
        return path, FastrnnError(f"{error}; the training is saved in {shown(path)} instead")

    def _save(self, checkpoint: Checkpoint) -> None:
        self._warning = self._error = None
        try:
            self._warning = self.destination.save(checkpoint)
        except FastrnnError as error:
            self._error = error

    def _tell_outcome(self) -> None:
        if self._warning is not None:
            self._tell.warned(self._warning)
        path, update = shown(self.destination.path), self.destination.update
        if self._error is None:
            if self._told is not None:
                self._tell.noted(f"{path} can be written again: it is of update {update:,} now")
            self._told = None
        elif self._told != str(self._error):
            self._told = str(self._error)
            stands = "" if update is None else f"; {path} stays as it was after update {update:,}"
            self._tell.warned(f"{self._told}; the training goes on, and tries again{stands}")
