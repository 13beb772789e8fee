"""The pace of a training: how many updates are made at a time, and by how many threads."""

from __future__ import annotations

SLICE_SECONDS = 0.1  # in compiled code at a time; signals and progress are looked at in between
SHORTEST = 0.005  # seconds that tell how long an update takes
GROWTH = 4.0  # at most, as a single slice tells little about how long the next one takes
TRIAL = 0.25  # of a slice
LATE, FASTER = 1.5, 0.9  # times as long as usual
NEWEST = 0.25  # what a slice counts in what is usual
FIRST_REST, LONGEST_REST = 4, 64  # slices between trials


class Pace:
    """The next slice of a training, from how long those before it took.

    Threads wait for each other, so where other processes keep cores busy, fewer may be faster than
    many. Now and then a short slice tries fewer or more of them: soon when a slice takes longer
    than usual, and otherwise the more rarely the more often that was in vain.

    Parameters
    ----------
    most : int
        Threads.

    Attributes
    ----------
    updates : int
        How many the next slice makes.
    threads : int
        How many make them, together; that does not change the results.
    """

    def __init__(self, most: int):
        halves = {most >> i for i in range(most.bit_length())}
        # One core may be busy: all threads but one are a choice, too.
        self._choices = sorted(halves | {max(1, most - 1)})
        self._chosen = len(self._choices) - 1
        self._step = 0  # from the chosen to that on trial
        self._next_step = -1
        self._usual: float | None = None  # seconds of an update
        self._slices = 0  # since the last trial
        self._rest = FIRST_REST
        self.updates = 1

    @property
    def threads(self) -> int:
        return self._choices[self._chosen + self._step]

    def took(self, updates: int, seconds: float) -> None:
        """Hear how long a slice took that made `updates` with `threads`."""
        each = max(seconds, 1e-9) / updates
        if seconds >= SHORTEST and len(self._choices) > 1:
            if self._step == 0:
                self._watch(each)
            else:
                self._judge(each)
        wanted = SLICE_SECONDS * (TRIAL if self._step else 1.0)
        self.updates = max(1, int(min(GROWTH * updates, wanted / each)))

    def _watch(self, each: float) -> None:
        """Follow what is usual, and begin a trial when it is time."""
        late = self._usual is not None and each > LATE * self._usual
        if self._usual is None or late:
            self._usual = each
        else:
            self._usual += NEWEST * (each - self._usual)
        self._slices += 1
        if self._slices >= (FIRST_REST if late else self._rest):
            if late:
                self._next_step = -1
            if not 0 <= self._chosen + self._next_step < len(self._choices):
                self._next_step *= -1
            self._step = self._next_step

    def _judge(self, each: float) -> None:
        """End a trial."""
        if self._usual is not None and each < FASTER * self._usual:
            self._chosen += self._step
            self._usual = each
            self._rest = FIRST_REST
        else:
            self._next_step *= -1
            self._rest = min(2 * self._rest, LONGEST_REST)
        self._step = self._slices = 0
