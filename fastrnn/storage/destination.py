"""Where a training saves: at the path that was asked for, if nothing is lost by that.

    found at the start     what the first save does
    nothing                takes the path
    a checkpoint           moves it to best.1.h5, or the next name that is free, and takes the path
    ... with overwrite     replaces it
    a read-only one        leaves it, and takes best.1.h5

Every later save replaces the one before, which is kept under the name of its update where that is
asked for, best.update-1200.h5. If some other file has come to the path meanwhile, it is left there,
and the training goes on in best.1.h5.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace

from fastrnn import parameters
from fastrnn.errors import FastrnnError
from fastrnn.storage import atomic
from fastrnn.storage.checkpoint import Checkpoint, load, save_errors, to_pieces
from fastrnn.storage.files import AnyPath, shown
from fastrnn.storage.sealed import MAGIC, USER_BLOCK

_Pieces = tuple[bytes | memoryview, ...]


@dataclass(frozen=True)
class _Identity:
    """What tells a file from others: its header, which has a checksum of the rest, and its size.

    Inode and time would not do: some network file systems change them by themselves.
    """

    size: int
    header: bytes

    @classmethod
    def at(cls, path: str) -> _Identity | None:
        """That of the file at a path, None if the path is free."""
        try:
            if stat.S_ISREG(os.lstat(path).st_mode):
                with open(path, "rb") as file:
                    return cls(os.fstat(file.fileno()).st_size, file.read(USER_BLOCK))
        except FileNotFoundError:
            return None
        except OSError:  # unreadable, so nothing of ours
            pass
        return cls(-1, b"")


class Destination:
    """The file of one training. It replaces only what it found at the start or wrote itself.

    Parameters
    ----------
    path : str, bytes or path-like
        Where the training is to be saved; a symbolic link stays, and leads to the file.
    overwrite : bool
        Replace a checkpoint that is found instead of keeping it under another name.
    keep : int
        How many of its own checkpoints to keep beside the newest. Older ones are removed.

    Attributes
    ----------
    update : int or None
        After which the training was, when it was saved last; None if it was not yet.
    notices : list of str
        What to tell before the training starts: what will become of a checkpoint that is there.

    Raises
    ------
    FastrnnError
        If there is a file that is no checkpoint, or a folder; or if files in the path's folder
        cannot be made and replaced.
    """

    def __init__(self, path: AnyPath, overwrite: bool = False, keep: int = 0) -> None:
        self.notices: list[str] = []
        self.update: int | None = None
        self._keep = keep
        self._history: list[tuple[str, _Identity]] = []  # the older ones that are kept
        self._given = os.fsdecode(path)
        self._ours: set[_Identity] = set()  # what may be replaced
        self._kept: _Identity | None = None  # of these, what first gets another name
        with save_errors(path):
            self._target = self._current = self._aside = atomic.real_path(path)
            found = _Identity.at(self._target) if atomic.check_replaceable(self._target) else None
        if found is not None:
            if not found.header.startswith(MAGIC):
                raise FastrnnError(
                    f"cannot save {shown(path)}: there is a file that is no checkpoint; "
                    "choose another path, or move it away"
                )
            self._plan(found, overwrite)
        with save_errors(path):
            atomic.remove_leftovers(self._target)
            self._rehearse((), ())
            if self._ours and atomic.is_mount_point(self._target):
                raise OSError(errno.EBUSY, "it is mounted by itself, so nothing can replace it")

    @property
    def path(self) -> str:
        """Where the checkpoint is, or will be after the first save."""
        return self._named(self._current)

    @property
    def path_before(self) -> str:
        """Where the checkpoint that was found at the start is, or will be after the first save."""
        return self._given if self._kept is None else self._named(self._aside)

    def go_on(self, checkpoint: Checkpoint) -> None:
        """Go on with the training whose checkpoint is at the path, and with those that it kept.

        Later ones, which it may have made before it went back, stay as they are.
        """
        self.update = checkpoint.last.update
        if self._keep:
            for name in atomic.numbered_files(self._target, "update-"):
                identity = _Identity.at(name)
                if identity is not None and _is_earlier(name, checkpoint):
                    self._history.append((name, identity))

    def check(self, checkpoint: Checkpoint, growth: int = 0) -> None:
        """Check that this training can be saved, by what its saves do but under other names.

        Parameters
        ----------
        checkpoint : Checkpoint
            One of this training.
        growth : int
            How many bytes larger a later one may be.

        Raises
        ------
        FastrnnError
            If it cannot.
        """
        with save_errors(self.path):
            file = *to_pieces(checkpoint), bytes(growth)
            # While a file is written, the one before is still there.
            overwrites = self._ours and self._kept is None
            self._rehearse(() if overwrites else file, file)

    def save(self, checkpoint: Checkpoint) -> str | None:
        """Write a checkpoint, in one step as `checkpoint.save` does, to `path`.

        Returns
        -------
        str or None
            A warning if this training, or the checkpoint found at the start, is from now on
            elsewhere than has been said. `path` is right in any case.

        Raises
        ------
        FastrnnError
            If the file cannot be written, or the checkpoint is one that `load` would refuse. The
            file before is unchanged, and the next call tries again.
        """
        with save_errors(self.path):
            header, contents = to_pieces(checkpoint)
            written = _Identity(len(header) + len(contents), header)
            with (
                atomic.temporary_file(self._target, header, contents) as temporary,
                atomic.locked_folder(self._target),
            ):
                self._ours.add(written)  # first, as an interruption may come at any moment
                if self._keep and self.update not in (None, checkpoint.last.update):
                    self._keep_current()
                warning = self._place(temporary)
                self._ours = {written}
                self.update = checkpoint.last.update
            atomic.sync_folder(self._target)
            self._forget_oldest()
        return warning

    def rescue(self, checkpoint: Checkpoint) -> str:
        """Write a checkpoint to where there is room: beside the path, or into the temporary folder.

        Returns
        -------
        str
            Its path.

        Raises
        ------
        FastrnnError
            If there is nowhere any.
        """
        with save_errors(self.path):
            pieces = to_pieces(checkpoint)
            with suppress(OSError), atomic.temporary_file(self._target, *pieces) as temporary:
                return self._named(atomic.claim_numbered(temporary, self._target))
            elsewhere = os.path.join(tempfile.gettempdir(), os.path.basename(self._target))
            with atomic.temporary_file(elsewhere, *pieces) as temporary:
                return atomic.claim_numbered(temporary, elsewhere)

    def _plan(self, found: _Identity, overwrite: bool) -> None:
        """Decide what becomes of the checkpoint that is there, and tell it."""
        name, protection = shown(self._given), atomic.protection(self._target)
        names = (atomic.numbered(self._target, number) for number in itertools.count(1))
        free = next(file for file in names if not os.path.lexists(file))
        if protection:
            self._current = free
            self.notices.append(_elsewhere(f"{name} {protection}", self.path))
            return
        fate = "replaced"
        if not overwrite:
            self._kept, self._aside = found, free
            fate = f"kept as {shown(self._named(free))}"
        self._ours = {found}
        self.notices.append(f"{name} holds {_contents(self._target)}; it will be {fate}")

    def _place(self, temporary: str) -> str | None:
        """Give a complete file its place, and return a warning if that is not the expected one."""
        name = shown(self.path)
        reason = f"another file has come to {name}"
        there = _Identity.at(self._current)
        if there is None:
            with suppress(FileExistsError):
                atomic.claim(temporary, self._current)
                return None
        elif there in self._ours:
            protection = atomic.protection(self._current)
            if protection is None:
                return self._replace(temporary, there)
            reason = f"{name} {protection}"
        self._current = atomic.claim_numbered(temporary, self._target)
        return _elsewhere(reason, self.path)

    def _replace(self, temporary: str, there: _Identity) -> str | None:
        atomic.copy_mode(self._current, temporary)
        warning = None
        if there == self._kept:
            aside = atomic.claim_numbered(self._current, self._target)
            self._kept = None
            if aside != self._aside:
                warning = (
                    f"what {shown(self.path)} held is kept as {shown(self._named(aside))}, "
                    f"because {shown(self._named(self._aside))} is there by now"
                )
        os.replace(temporary, self._current)
        return warning

    def _keep_current(self) -> None:
        """Give what was saved last the name of its update, too."""
        there = _Identity.at(self._current)
        if there is None or there not in self._ours:
            return
        name = atomic.numbered(self._target, f"update-{self.update}")
        try:
            atomic.claim(self._current, name)
        except FileExistsError:
            if _Identity.at(name) == there:  # a kill came between its two names
                return
            name = atomic.claim_numbered(self._current, name)
        self._history.append((name, there))

    def _forget_oldest(self) -> None:
        """Remove what is more than was to be kept, now that the newest is safe."""
        while len(self._history) > self._keep:
            name, identity = self._history.pop(0)
            if _Identity.at(name) == identity:
                with suppress(OSError):
                    os.unlink(name)

    def _rehearse(self, older: _Pieces, newer: _Pieces) -> None:
        with (
            atomic.temporary_file(self._target, *older) as path,
            atomic.temporary_file(self._target, *newer) as temporary,
        ):
            os.replace(temporary, path)

    def _named(self, file: str) -> str:
        """A file of the target's folder as the user would name it."""
        if file == self._target:
            return self._given
        beside = self._target if os.path.islink(self._given) else self._given
        return os.path.join(os.path.dirname(beside), os.path.basename(file))


def _elsewhere(reason: str, path: str) -> str:
    return f"{reason}; it stays as it is, and this training is saved in {shown(path)}"


def _is_earlier(path: str, now: Checkpoint) -> bool:
    """Whether a file is of the same training as a checkpoint, and of no later update."""
    try:
        there = load(path)
    except FastrnnError:
        return False

    def training(one: Checkpoint) -> tuple[object, ...]:
        config = replace(one.config, epochs=now.config.epochs, updates=now.config.updates)
        return config, one.corpus.sha256, one.vocabulary, one.run.init_from

    return training(there) == training(now) and there.last.update <= now.last.update


def _contents(path: str) -> str:
    """What a file holds, for people to read."""
    try:
        old = load(path)
    except FastrnnError:
        return "a checkpoint that cannot be loaded"
    best, kind = old.best, parameters.describe(old.config, len(old.vocabulary))
    return f"a {kind}, smooth loss {best.smooth_loss:.4f} after update {best.update:,}"
