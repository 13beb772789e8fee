"""Pictures of a training."""

from __future__ import annotations

import io
import math
import warnings
from typing import TYPE_CHECKING

import numpy as np

from fastrnn import checks
from fastrnn.checkpoint import Checkpoint
from fastrnn.files import AnyPath, check_picture, write
from fastrnn.streams import chunks_per_epoch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_POINTS = 4000  # of a curve, about three to a pixel
BLUE, RED, GREY = "#2a6fb0", "#c0392b", "#777777"


def plot_loss(checkpoint: Checkpoint, path: AnyPath) -> None:
    """Draw the smooth loss over the updates, with the epochs and the lowest point.

    Parameters
    ----------
    checkpoint : Checkpoint
        The training to show.
    path : str or path-like
        Where to; its suffix decides between PNG, SVG and PDF. An existing file is replaced.

    Raises
    ------
    FastrnnError
        If the suffix is another one, or the file cannot be written.
    """
    made_by = "fastrnn.train or fastrnn.load_checkpoint"
    checkpoint = checks.instance("checkpoint", checkpoint, Checkpoint, made_by)
    path = checks.path("path", path)
    check_picture(path)
    # Objects instead of pyplot: no window system, and nothing of the caller's plots is touched.
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    config, corpus, best = checkpoint.config, checkpoint.corpus, checkpoint.best
    update, loss = _curve(checkpoint)
    end = max(checkpoint.last.update, 1)

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(update, loss, color=BLUE, linewidth=1.2, marker="." if len(update) == 1 else "")
    axes.set_xlim(0, end)
    axes.set_ylim(_loss_limits(update, loss))
    axes.set_xlabel("updates")
    axes.set_ylabel(f"smooth loss, nats for {config.seq_length} characters")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.set_title(
        f"{_short(corpus.name)}: m = {config.hidden}, T = {config.seq_length}, {config.dtype}",
        parse_math=False,  # a name may contain dollar signs
    )

    bit = config.seq_length * math.log(2)
    bits = axes.secondary_yaxis("right", functions=(lambda y: y / bit, lambda y: y * bit))
    bits.set_ylabel("bits per character")

    chunks = chunks_per_epoch(corpus.length, config.batch, config.seq_length)
    passed = end // chunks if chunks else 0
    if passed:
        ticks = MaxNLocator(10, integer=True).tick_values(0, passed)
        epochs = [int(tick) for tick in ticks if 1 <= tick <= passed]
        for epoch in epochs:
            axes.axvline(epoch * chunks, color=GREY, linewidth=0.6, alpha=0.6, zorder=0)
        top = axes.secondary_xaxis("top", functions=(lambda x: x / chunks, lambda x: x * chunks))
        top.set_xticks(epochs)
        top.set_xlabel("epochs")

    axes.plot(best.update, best.smooth_loss, "o", color=RED, markersize=5, clip_on=False)
    side = ("left", "center", "right")[min(int(3 * best.update / end), 2)]
    axes.annotate(
        f"lowest {best.smooth_loss:.4f} at update {best.update:,}",
        (best.update, best.smooth_loss),
        xytext=({"left": 6, "center": 0, "right": -6}[side], -8),
        textcoords="offset points",
        horizontalalignment=side,
        verticalalignment="top",
        color=RED,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},  # over the epochs' lines
    )
    write_picture(figure, path)


def _curve(checkpoint: Checkpoint) -> tuple[np.ndarray, np.ndarray]:
    """Updates and losses to draw: the history, thinned out where it is dense, and the best."""
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
    """Limits of the loss axis that leave the first steep drop out, and below room for a line."""
    low, high = loss.min(), loss[update >= 0.02 * update[-1]].max()
    span = max(high - low, 0.02 * abs(low), 1e-6)
    return low - 0.16 * span, high + 0.06 * span


def _short(name: str) -> str:
    """A name of any length and any characters, fit for a title."""
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    return name if len(name) <= 50 else f"{name[:24]}…{name[-25:]}"


def write_picture(figure: Figure, path: AnyPath) -> None:
    """Draw a figure into a file whose suffix says its format.

    Completely in memory first, so that a failure leaves an older picture as it was.
    """
    import matplotlib

    suffix = check_picture(path)
    date = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix)
    # Text in an SVG stays text, and equal trainings give equal files.
    settings = {"svg.fonttype": "none", "svg.hashsalt": "fastrnn"}
    picture = io.BytesIO()
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # A corpus may have a name in a script that the font lacks; boxes in a title are harmless.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(picture, format=suffix[1:], dpi=150, metadata=date)
    write(path, picture.getvalue())
