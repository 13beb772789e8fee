"""Pictures are what their names say, for any history."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.report.plots import MOST_POINTS, _curve, plot_loss
from fastrnn.storage.checkpoint import Best, Checkpoint, CorpusInfo, History, Last

CHUNKS = 40  # in an epoch


def training(points: int = 200, **changes: object) -> Checkpoint:
    """A checkpoint with a falling loss, lowest two updates before its end."""
    update = np.arange(points)
    loss = 40 + 70 * np.exp(-update / 20)
    lowest = max(points - 3, 0)
    if points:
        loss[lowest] = 39.6641
    best = Best(lowest, 39.6641, {})
    last = Last(max(points - 1, 0), 0, 0, 40.0, {}, {}, np.zeros((1, 1, 1)), {})
    values: dict = {
        "config": Config(),
        "vocabulary": "ab",
        "corpus": CorpusInfo("tales", CHUNKS * 25 + 7, "0" * 64),
        "best": best,
        "last": last,
        "history": History(update, loss, []),
        "seconds": 1.0,
        "version": "0",
    }
    return Checkpoint(**values | changes)


def texts(svg: Path) -> list[str]:
    return [
        "".join(node.itertext()).strip()
        for node in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")
    ]


@pytest.mark.parametrize(
    ("name", "start"), [("a.png", b"\x89PNG\r\n\x1a\n"), ("a.PDF", b"%PDF-"), ("a.svg", b"<?xml")]
)
def test_suffix_decides_the_format(tmp_path: Path, name: str, start: bytes) -> None:
    plot_loss(training(), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_picture_says_what_it_shows(tmp_path: Path) -> None:
    plot_loss(training(), tmp_path / "a.svg")
    found = texts(tmp_path / "a.svg")
    assert "tales" in found
    assert (
        "vanilla RNN, 100 hidden units, T = 25, B = 1, adagrad, learning rate 0.1, float32"
    ) in found
    assert "lowest 39.6641 at update 197" in found
    assert {"updates", "epochs", "bits per character"} <= set(found)
    # The last of these 5 epochs lacks one update, so 4 have ended.
    assert [text for text in found if text in "12345"] == ["1", "2", "3", "4"]


def test_less_than_an_epoch_has_no_boundary(tmp_path: Path) -> None:
    plot_loss(training(CHUNKS), tmp_path / "a.svg")
    assert "epochs" not in texts(tmp_path / "a.svg")


@pytest.mark.parametrize("name", ["a.svg", "a.pdf", "a.png"])
def test_equal_trainings_give_equal_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    plot_loss(training(), path)
    first = path.read_bytes()
    plot_loss(training(), path)
    assert path.read_bytes() == first


@pytest.mark.parametrize("points", [0, 1, 2])
def test_short_history(tmp_path: Path, points: int) -> None:
    plot_loss(training(points), tmp_path / "a.svg")
    assert "lowest 39.6641 at update 0" in texts(tmp_path / "a.svg")


def test_huge_history_stays_small_and_keeps_its_spikes(tmp_path: Path) -> None:
    checkpoint = training(1_000_000)
    checkpoint.history.smooth_loss[345_678] = 55.5
    update, loss = _curve(checkpoint)
    assert len(update) <= MOST_POINTS + 2
    assert (np.diff(update) > 0).all()
    assert {0, 345_678, 999_997, 999_999} <= set(update)
    assert loss[update == 345_678] == 55.5
    plot_loss(checkpoint, tmp_path / "a.svg")
    assert "lowest 39.6641 at update 999,997" in texts(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size < 500_000


def validated(config: Config) -> Checkpoint:
    """The training with validations whose loss rises again."""
    one = training(config=config)
    validation = np.array([3.0, 2.0, 1.75, 1.9])
    update = np.array([50, 100, 150, 199])
    return replace(
        one,
        best=replace(one.best, update=150, validation_loss=1.75),
        history=replace(one.history, validation_update=update, validation_loss=validation),
    )


@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_validation_in_the_picture(tmp_path: Path, loss: str) -> None:
    """Both losses in nats per character, whatever the smooth loss is summed over."""
    checkpoint = validated(Config(val_fraction=0.1, loss=loss))
    figure = plot_loss(checkpoint, tmp_path / "a.svg")
    found = texts(tmp_path / "a.svg")
    for text in ("nats per character", "bits per character", "training, smooth loss", "validation"):
        assert text in found
    assert "lowest 1.7500 at update 150" in found
    smooth, validation, dot = figure.axes[0].lines[:2] + figure.axes[0].lines[-1:]
    assert validation.get_ydata().tolist() == [3.0, 2.0, 1.75, 1.9]
    unit = 25 if loss == "sum" else 1
    assert smooth.get_ydata()[-1] == checkpoint.history.smooth_loss[-1] / unit
    assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (150, 1.75)
    low, high = figure.axes[0].get_ylim()
    assert low < 1.75 and high > 3.0


def test_a_mean_is_per_character(tmp_path: Path) -> None:
    plot_loss(training(config=Config(loss="mean")), tmp_path / "a.svg")
    assert "smooth loss, nats per character" in texts(tmp_path / "a.svg")


def test_flat_history(tmp_path: Path) -> None:
    flat = History(np.arange(3), np.full(3, 39.6641), [])
    plot_loss(training(3, history=flat), tmp_path / "a.png")


def rescaled(points: int, step: int, scale: float) -> Checkpoint:
    """A training with so many updates between its points, and losses so many times as high."""
    one = training(points)
    return replace(
        one,
        best=Best(step * one.best.update, scale * one.best.smooth_loss, {}),
        last=replace(one.last, update=step * one.last.update),
        history=History(step * one.history.update, scale * one.history.smooth_loss, []),
    )


@pytest.mark.parametrize(
    ("points", "step", "scale"),
    [
        (1, 1, 1.0),
        (2, 1, 1.0),
        (9, 1, 0.77),
        (200, 1, 0.0),
        (200, 1, 1e-9),
        (200, 1, 1e-3),
        (200, 1, 100.0),
        (200, 1, 1e9),
        (1, 1, 1e30),
        (200, 5_000_000, 1.0),
    ],
)
def test_axes_of_any_training(points: int, step: int, scale: float) -> None:
    figure = plot_loss(rescaled(points, step, scale))
    figure.canvas.draw()
    (axes,) = figure.axes
    assert axes.get_xlim()[0] == 0
    assert 0 <= axes.get_ylim()[0] < axes.get_ylim()[1]
    numbered = [axis for one in (axes, *axes.child_axes) for axis in (one.xaxis, one.yaxis)]
    for axis in numbered:
        shown = [label.get_text() for label in axis.get_ticklabels() if label.get_text()]
        assert len(set(shown)) == len(shown)
        assert len({len(text.partition(".")[2]) for text in shown}) <= 1, shown
        assert not axis.get_offset_text().get_text()


def test_figure_is_returned_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    figure = plot_loss(training())
    assert figure._repr_png_().startswith(b"\x89PNG")  # which a notebook asks for
    figure.savefig("a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert type(plot_loss(training(), "b.svg")) is type(figure)


def called(name: str) -> Checkpoint:
    return training(corpus=CorpusInfo(name, 1026, "0" * 64))


def title(checkpoint: Checkpoint) -> str:
    return plot_loss(checkpoint).axes[0].get_title().split("\n")[0]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("$x^$", "$x^$"),
        ("&<>", "&<>"),
        ("a\nb\udcff\0", r"a\nb\udcff\x00"),
        ("long " * 100, "long long long long long…ong long long long long "),
        ("Война и мир", "Война и мир"),
        ("ألف ليلة", "ألف ليلة"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
def test_any_name_of_a_corpus(tmp_path: Path, name: str, shown: str) -> None:
    figure = plot_loss(called(name), tmp_path / "a.svg")
    assert figure.axes[0].get_title().split("\n")[0] == shown
    assert shown.strip() in texts(tmp_path / "a.svg")


@pytest.fixture
def fonts(monkeypatch: pytest.MonkeyPatch) -> list:
    """matplotlib's own fonts, as if nothing else were installed."""
    import matplotlib
    from matplotlib import font_manager

    manager = font_manager.fontManager
    own = [font for font in manager.ttflist if matplotlib.get_data_path() in str(font.fname)]
    monkeypatch.setattr(manager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    return own


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("红楼梦.txt", r"\u7ea2\u697c\u68a6.txt"),
        ("🎉", r"\U0001f389"),
        ("語" * 30, r"\u8a9e" * 4 + "…" + r"\u8a9e" * 4),  # no escape is cut
    ],
)
def test_characters_that_no_font_has(fonts: list, tmp_path: Path, name: str, shown: str) -> None:
    assert title(called(name)) == shown
    plot_loss(called(name), tmp_path / "a.png")  # no warning of a missing glyph
    plot_loss(called(name), tmp_path / "a.svg")  # whose viewer may have a font
    assert name in texts(tmp_path / "a.svg")


CIRCLED = "ⒶⒷ"  # in STIXGeneral, not in the default font


def test_other_fonts_that_have_a_character(fonts: list, tmp_path: Path) -> None:
    plot = plot_loss(called(CIRCLED), tmp_path / "a.pdf")
    assert plot.axes[0].title.get_text().startswith(CIRCLED)
    assert plot.axes[0].title.get_family() == ["sans-serif", "STIXGeneral"]


def test_font_that_was_installed_after_matplotlib_looked(
    fonts: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(font.fname) for font in fonts if font.name == "STIXGeneral"]
    fonts[:] = [font for font in fonts if font.name != "STIXGeneral"]
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    installed = [*paths, str(tmp_path / "broken.ttf")]
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: installed)
    assert title(called(CIRCLED)) == CIRCLED


def test_font_that_has_been_removed(fonts: list) -> None:
    for i, font in enumerate(fonts):
        if font.name == "STIXGeneral":
            fonts[i] = replace(font, fname="/missing/font.ttf")
    assert title(called(CIRCLED)) == r"\u24b6\u24b7"


@pytest.mark.parametrize("name", ["loss.gif", "loss", ".png"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FastrnnError, match=r"let it end in \.png, \.svg or \.pdf"):
        plot_loss(training(), tmp_path / name)
    assert not any(tmp_path.iterdir())


def test_missing_folder(tmp_path: Path) -> None:
    path = tmp_path / "none" / "loss.png"
    with pytest.raises(FastrnnError) as caught:
        plot_loss(training(), path)
    assert str(caught.value) == (
        f"cannot write {path}: No such file or directory; choose another path"
    )


def test_failure_to_draw_keeps_the_old_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail(figure: Figure, file: object, **options: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise RuntimeError

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(RuntimeError):
        plot_loss(training(), path)
    assert path.read_bytes() == b"old"
