"""Pictures, drawn without a screen and alike for everybody, and the picture of a training."""

from __future__ import annotations

import io
import math
import os
import sys
import threading
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate
from typing import Any

import numpy as np

from fastrnn import checks
from fastrnn.errors import FastrnnError
from fastrnn.parameters import name_of
from fastrnn.report.novelty import Novelty
from fastrnn.storage.checkpoint import Checkpoint
from fastrnn.storage.files import AnyPath, check_picture, write


@contextmanager
def _any_backend() -> Iterator[None]:
    """Within it matplotlib can be imported whatever MPLBACKEND says.

    Jupyter sets it for all that it starts, and the import fails where that backend is missing.
    Pictures need no backend; for the caller's own plots it is chosen afterwards, as it would be.
    """
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        yield
    except (ImportError, OSError, ValueError) as error:
        raise FastrnnError(
            f"cannot import matplotlib: {error}; repair its installation or its settings"
        ) from error
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = backend


with _any_backend():
    import matplotlib
    from matplotlib import font_manager
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.ft2font import FT2Font
    from matplotlib.ticker import FixedLocator, Formatter, MaxNLocator

MOST_POINTS = 4000  # of a curve, about three to a pixel
MARKED = 50  # points of a curve at most, each with a mark
LONGEST_NAME = 50  # characters of a corpus in a title
BLUE, ORANGE, RED, GREY = "#2a6fb0", "#d9822b", "#c0392b", "#777777"


def plot_loss(checkpoint: Checkpoint, path: AnyPath | None = None) -> Figure:
    """Draw the smooth loss over the updates, with the epochs and the lowest point.

    If there were validations their loss is drawn too, both in nats per character.

    Parameters
    ----------
    checkpoint : Checkpoint
        The training to show.
    path : str or path-like, optional
        Where to; its suffix decides between PNG, SVG and PDF. An existing file is replaced.
        By default nothing is written.

    Returns
    -------
    matplotlib.figure.Figure
        The picture. A notebook shows it; its `savefig` writes it in other formats and sizes.

    Raises
    ------
    FastrnnError
        If the suffix is another one, or the file cannot be written.
    """
    made_by = "fastrnn.train or fastrnn.load_checkpoint"
    checkpoint = checks.instance("checkpoint", checkpoint, Checkpoint, made_by)
    path = None if path is None else checks.path("path", path)
    # The viewer of an SVG has fonts of its own, so no character has to be replaced there.
    text_stays = path is not None and check_picture(path) == ".svg"
    with default_settings():
        figure = _loss_figure(checkpoint, text_stays)
    if path is not None:
        write_picture(figure, path)
    return figure


def _loss_figure(checkpoint: Checkpoint, text_stays: bool) -> Figure:
    config, corpus, best = checkpoint.config, checkpoint.corpus, checkpoint.best
    update, loss = _curve(checkpoint)
    validated, validation = checkpoint.history.validation_update, checkpoint.history.validation_loss
    end = max(checkpoint.last.update, 1)
    characters, lowest = config.loss_length, best.smooth_loss  # what a loss is of, on the axis
    if best.validation_loss is not None:
        loss, characters, lowest = loss / characters, 1, best.validation_loss

    figure = Picture(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    line = {"color": BLUE, "linewidth": 1.2, "marker": "." if len(update) == 1 else ""}
    if len(validated):
        line["label"] = "training, smooth loss"
    axes.plot(update, loss, **line)
    if len(validated):
        marker = "." if len(validated) <= MARKED else ""
        axes.plot(validated, validation, color=ORANGE, marker=marker, label="validation")
    axes.set_xlim(0, end)
    axes.set_ylim(_loss_limits(np.append(update, validated), np.append(loss, validation)))
    axes.set_xlabel("updates")
    of = f"for {characters} characters" if characters > 1 else "per character"
    axes.set_ylabel(f"nats {of}" if len(validated) else f"smooth loss, nats {of}")
    plain_ticks(axes.xaxis, 6, integer=True)
    plain_ticks(axes.yaxis, 8)

    families, lacking = _fonts(set(filter(_printable, corpus.name)))
    title = axes.set_title(
        f"{_written(corpus.name, set() if text_stays else lacking)}\n"
        f"{name_of(config)}, T = {config.seq_length}, B = {config.batch}, "
        f"{config.optimizer}, learning rate {config.learning_rate:g}, {config.dtype}",
        parse_math=False,  # a name may contain dollar signs
    )
    title.set_family([*title.get_family(), *families])

    bit = characters * math.log(2)
    bits = axes.secondary_yaxis("right", functions=(lambda y: y / bit, lambda y: y * bit))
    bits.set_ylabel("bits per character")
    plain_ticks(bits.yaxis, 8)

    per_epoch = checkpoint.updates_per_epoch
    passed = end // per_epoch if per_epoch else 0
    if passed:
        top = axes.secondary_xaxis(
            "top", functions=(lambda x: x / per_epoch, lambda x: x * per_epoch)
        )
        plain_ticks(top.xaxis, 10, integer=True)
        ticks = top.xaxis.get_major_locator().tick_values(0, passed)
        epochs = [int(tick) for tick in ticks if 1 <= tick <= passed]
        for epoch in epochs:
            axes.axvline(epoch * per_epoch, color=GREY, linewidth=0.6, alpha=0.6, zorder=0)
        top.xaxis.set_major_locator(FixedLocator(epochs))
        top.set_xlabel("epochs")

    label = f"lowest {lowest:,.4f} at update {best.update:,}"
    dot = {"color": RED, "markersize": 5, "linestyle": "", "clip_on": False}
    axes.plot(best.update, lowest, "o", label=label, **dot)
    if len(validated):
        axes.legend(labelcolor="linecolor", edgecolor="none")
    else:
        axes.legend(labelcolor=RED, handletextpad=0, edgecolor="none")
    return figure


def plot_novelty(novelty: Novelty, name: str, path: AnyPath) -> Figure:
    """Draw which share of a sample's substrings occurs in the text, over their length.

    Parameters
    ----------
    novelty : Novelty
        Of `fastrnn.report.novelty`.
    name : str
        What the model is, for the title.
    path : str or path-like
        Where to, as for `plot_loss`.

    Raises
    ------
    FastrnnError
        If the suffix is another one, or the file cannot be written.
    """
    with default_settings():
        figure = Picture(figsize=(7, 4.5), layout="constrained")
        axes = figure.add_subplot()
        lengths = np.arange(1, len(novelty.shares) + 1)
        axes.plot(lengths, 100 * np.array(novelty.shares), color=BLUE, marker=".", linewidth=1.2)
        longest = len(novelty.longest.text)
        if longest <= len(lengths):
            label = f"longest passage in the text: {longest} characters"
            axes.axvline(longest, color=RED, linewidth=0.8, label=label)
            axes.legend(edgecolor="none")
        axes.set_xlim(0, max(len(lengths), 2))
        axes.set_ylim(0, 103)
        axes.set_xlabel("length, characters")
        axes.set_ylabel("% of the sample's substrings that the text has")
        plain_ticks(axes.xaxis, 10, integer=True)
        plain_ticks(axes.yaxis, 10)
        axes.set_title(f"{name}, {novelty.characters:,} characters written", parse_math=False)
    write_picture(figure, path)
    return figure


def _curve(checkpoint: Checkpoint) -> tuple[np.ndarray, np.ndarray]:
    """Updates and smooth losses: the history, thinned out where it is dense, and the best."""
    best, history = checkpoint.best, checkpoint.history
    update, first = np.unique(np.append(history.update, best.update), return_index=True)
    loss = np.append(history.smooth_loss, best.smooth_loss)[first]
    if len(update) <= MOST_POINTS:
        return update, loss
    # The lowest and the highest of every stretch, so that no spike is lost.
    keep = {0, len(loss) - 1}
    for stretch in np.array_split(np.arange(len(loss)), MOST_POINTS // 2):
        keep |= {stretch[loss[stretch].argmin()], stretch[loss[stretch].argmax()]}
    kept = sorted(keep)
    return update[kept], loss[kept]


def _loss_limits(update: np.ndarray, loss: np.ndarray) -> tuple[float, float]:
    """Limits of the loss axis that leave the first steep drop out, and nothing below zero."""
    low, high = loss.min(), loss[update >= 0.02 * update.max()].max()
    margin = 0.06 * max(high - low, 0.02 * low, 0.01)
    return max(low - margin, 0.0), high + margin


def _fonts(characters: set[str]) -> tuple[list[str], set[str]]:
    """Font families that have what the default font lacks, and the characters that none has."""
    default = font_manager.findfont(font_manager.FontProperties())
    lacking = characters - _found(default, characters)
    families: list[str] = []
    # matplotlib lists the fonts once; fonts installed later are looked for where those do not do.
    for entries in (_listed_fonts, _new_fonts):
        if not lacking:
            break
        # The fewest fonts that have the most characters, the plainest of equal ones.
        found = {entry: _found(entry.fname, lacking) for entry in entries()}
        while any(lacking & have for have in found.values()):
            entry = min(found, key=lambda entry: (-len(lacking & found[entry]), _plainness(entry)))
            families.append(entry.name)
            lacking -= found[entry]
    return families, lacking


def _listed_fonts() -> list[font_manager.FontEntry]:
    # The last-resort fonts have a box for every character.
    fonts = font_manager.fontManager.ttflist
    return [font for font in fonts if not font.name.replace(" ", "").startswith("LastResort")]


def _new_fonts() -> list[font_manager.FontEntry]:
    manager = font_manager.fontManager
    listed = {str(font.fname) for font in manager.ttflist}
    for path in sorted(set(font_manager.findSystemFonts()) - listed):
        with suppress(Exception):  # of another kind for every kind of bad font
            manager.addfont(path)
    return [font for font in _listed_fonts() if str(font.fname) not in listed]


def _found(path: str, characters: set[str]) -> set[str]:
    """Which of the characters a font has."""
    try:
        font = FT2Font(str(path))
    except (OSError, RuntimeError):  # it has been removed, or is damaged
        return set()
    return {character for character in characters if font.get_char_index(ord(character))}


def _plainness(font: font_manager.FontEntry) -> tuple[bool, int, str]:
    weight = font_manager.weight_dict.get(font.weight, font.weight)
    return font.style != "normal", abs(weight - 400), font.name


def _printable(character: str) -> bool:
    # Format characters count as unprintable, but join letters in Persian and in emoji.
    return character.isprintable() or unicodedata.category(character) == "Cf"


def _written(name: str, lacking: set[str]) -> str:
    """A name of any length, with escapes for the characters that cannot be shown."""
    pieces = [
        letter if _printable(letter) and letter not in lacking else ascii(letter)[1:-1]
        for letter in name
    ]
    if sum(map(len, pieces)) <= LONGEST_NAME:
        return "".join(pieces)

    def start(pieces: list[str]) -> list[str]:
        lengths = accumulate(map(len, pieces))
        return [piece for piece, n in zip(pieces, lengths, strict=True) if n < LONGEST_NAME // 2]

    return "".join([*start(pieces), "…", *start(pieces[::-1])[::-1]])


# --- any picture --------------------------------------------------------------------------------


class Picture(Figure):
    """A figure that a notebook shows although pyplot does not know it.

    Not made by pyplot, it needs no window system, and nothing of the caller's plots is touched.
    """

    def _repr_png_(self) -> bytes:
        return _drawn(self, "png")


class Numbers(Formatter):
    """Numbers with thousands separators, and as many decimals on all of an axis as one needs."""

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        step = np.diff(values).min() if len(values) > 1 else 1.0
        last = math.floor(math.log10(step) + 1e-6)  # the decimal place that the step needs
        first = math.floor(math.log10(np.abs(values).max(initial=step)))
        if first >= 12:
            return [f"{value:.{max(0, first - last)}e}" for value in values]
        return [f"{value:,.{max(0, -last)}f}" for value in values]

    def __call__(self, x: float, pos: int | None = None) -> str:  # under the mouse
        return f"{x:,g}"


def plain_ticks(axis: Axis, most: int, integer: bool = False) -> None:
    """Ticks at multiples of 1, 2 or 5 times a power of ten, in at most so many steps."""
    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10], integer=integer))
    axis.set_major_formatter(Numbers())


# The settings, and what warnings are shown, belong to the whole process: one picture at a time.
_drawing = threading.RLock()


@contextmanager
def default_settings() -> Iterator[None]:
    """Within it matplotlib has its default settings, whatever the user's are."""
    with _drawing, warnings.catch_warnings():
        # In an SVG; in other pictures no glyph is missing.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        settings = dict(matplotlib.rcParamsDefault)
        del settings["backend"]  # which stays; asking for it would choose one
        # Text in an SVG stays text, and equal trainings give equal files.
        settings |= {"svg.fonttype": "none", "svg.hashsalt": "fastrnn"}
        with matplotlib.rc_context(settings):
            yield


def _drawn(figure: Figure, kind: str, **options: Any) -> bytes:
    """The bytes of a picture file of the given kind."""
    picture = io.BytesIO()
    with default_settings():
        figure.savefig(picture, format=kind, **options)
    return picture.getvalue()


def write_picture(figure: Figure, path: AnyPath) -> None:
    """Draw a figure into a file whose suffix says its format.

    Completely in memory first, so that a failure leaves an older picture as it was.
    """
    suffix = check_picture(path)
    date = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix)
    write(path, _drawn(figure, suffix[1:], dpi=150, metadata=date))
