"""Pictures are what their names say, for any history."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from fastrnn.checkpoint import Best, Checkpoint, CorpusInfo, History, Last
from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.plots import MOST_POINTS, _curve, plot_loss

CHUNKS = 40  # in an epoch


def training(points: int = 200, **changes: object) -> Checkpoint:
    """A checkpoint with a falling loss, lowest two updates before its end."""
    update = np.arange(points)
    loss = 40 + 70 * np.exp(-update / 20)
    lowest = max(points - 3, 0)
    if points:
        loss[lowest] = 39.6641
    best = Best(lowest, 39.6641, {})
    last = Last(max(points - 1, 0), 0, 0, 40.0, {}, {}, np.zeros((1, 1)), {})
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
    assert "tales: m = 100, T = 25, float32" in found
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


def test_flat_history(tmp_path: Path) -> None:
    flat = History(np.arange(3), np.full(3, 39.6641), [])
    plot_loss(training(3, history=flat), tmp_path / "a.png")


@pytest.mark.parametrize("name", ["$x^$", "a\nb", "語", "long " * 100, "&<>"])
def test_any_name_of_a_corpus(tmp_path: Path, name: str) -> None:
    plot_loss(training(corpus=CorpusInfo(name, 1026, "0" * 64)), tmp_path / "a.svg")
    title = next(text for text in texts(tmp_path / "a.svg") if "m = 100" in text)
    assert title.startswith(name.replace("\n", "?")[:20])
    assert len(title) < 90


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
