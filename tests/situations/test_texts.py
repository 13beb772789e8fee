"""Texts as they lie about: folders with everything in them, compressed, piped, typed."""

import gzip
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from command import COMMAND, run

import fastrnn
from fastrnn import Config, Corpus, FastrnnError, read_corpus
from fastrnn.storage.checkpoint import load
from fastrnn.training.progress import JsonLog

posix = pytest.mark.skipif(os.name != "posix", reason="this situation is POSIX's")
TEXT = "Ærø is an island, as is Fanø.\n" * 9


def text_of(corpus: Corpus) -> str:
    return corpus.vocabulary.decode(corpus.codes)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    return tmp_path / "texts"


def test_folder_with_everything_in_it(folder: Path) -> None:
    (folder / "1").write_bytes("one é".encode())
    (folder / "2").write_bytes(b"\xef\xbb\xbf" + "two é".encode())
    for name, encoding in {"3": "utf-16-le", "4": "utf-16-be", "5": "utf-32-le"}.items():
        (folder / name).write_bytes(f"\ufeff{name} é".encode(encoding))
    (folder / "6.gz").write_bytes(gzip.compress("six é".encode()))
    (folder / "empty").touch()
    (folder / "mark").write_bytes(b"\xef\xbb\xbf")
    (folder / "mark32").write_bytes(b"\xff\xfe\0\0")
    for name in "abc":
        (folder / f"picture-{name}").write_bytes(b"\x89PNG\0")
    config = Config(hidden=2, seq_length=3)
    trained = fastrnn.corpus_from_text("abcdefgh" * 9)
    log = JsonLog(folder / "log")
    fastrnn.train(trained, config, updates=2, path=folder / "best.h5", observers=[log])
    os.rename(folder / "best.h5", folder / "other.h5.0123456789abcdef.tmp")
    fastrnn.train(trained, config, updates=2, path=folder / "best.h5", observers=[])

    corpus = read_corpus(folder)
    assert text_of(corpus) == "one étwo é3 é4 é5 ésix é"
    assert corpus.files == 6
    left_out = {one.reason: one.count for one in corpus.left_out}
    assert left_out == {"empty": 3, "binary": 3, "written by fastrnn": 3}
    binary = next(one for one in corpus.left_out if one.reason == "binary")
    assert str(binary).endswith("picture-b and 1 more)")
    with pytest.raises(FastrnnError, match="a file that fastrnn wrote, not a text"):
        read_corpus(folder / "best.h5")

    ended = run(folder.parent, "train", "texts", "--updates", "1", "--sample-every", "0")
    assert "texts: 6 files read; left out: 3 written by fastrnn (" in ended.stderr


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:20] + b"???"])
def test_damaged_gzip(folder: Path, damage) -> None:
    (folder / "a.gz").write_bytes(damage(gzip.compress(os.urandom(9999).hex().encode())))
    with pytest.raises(FastrnnError, match=r"a\.gz' is a damaged gzip file"):
        read_corpus(folder / "a.gz")


def test_bytes(folder: Path) -> None:
    data = bytes(range(256)) + b"\xef\xbb\xbf\r\n\0" * 60
    (folder / "data").write_bytes(data)
    corpus = read_corpus(folder / "data", "bytes")
    assert text_of(corpus).encode("latin-1") == data
    assert (len(corpus.vocabulary), corpus.encoding) == (256, "bytes")

    options = ("--encoding", "bytes", "--updates", "9", "--quiet")
    assert run(folder, "train", "-", *options, input=data).returncode == 0
    assert load(folder / "best.h5").corpus.encoding == "bytes"
    arguments = [COMMAND, "synth", "best.h5", "--length", "500", "--seed", "1", "--prime", "é"]
    written = subprocess.check_output(arguments, cwd=folder)
    assert written.startswith("é".encode()) and len(written) == 502
    sampled = fastrnn.load(folder / "best.h5").sample(500, seed=1, prime="\xc3\xa9")
    assert written == ("\xc3\xa9" + sampled).encode("latin-1")


def test_from_text() -> None:
    corpus = fastrnn.corpus_from_text("\ufeffa\r\nb\rc\n")
    assert text_of(corpus) == "a\nb\nc\n"
    with pytest.raises(FastrnnError, match="the text is empty"):
        fastrnn.corpus_from_text("")
    with pytest.raises(FastrnnError, match=r"lone surrogate '\\ud800' at position 1"):
        fastrnn.corpus_from_text("a\ud800")
    with pytest.raises(FastrnnError, match=r"text is .* must be a str"):
        fastrnn.corpus_from_text(b"bytes")
    assert len(fastrnn.corpus_from_text("a", name="long" * 50_000).name) < 1000


def test_thousands_of_files_by_name(folder: Path) -> None:
    names = [f"{number:04} {'long' * 50}.txt" for number in range(2500)]
    for name in names:
        (folder / name).write_text(TEXT[:20])
    corpus = read_corpus([folder / name for name in names])
    assert corpus.name.endswith(" and 2,498 more") and len(corpus.name) < 1000
    fastrnn.train(corpus, Config(hidden=2), updates=1, path="best.h5", observers=[])
    assert load("best.h5").corpus.name == corpus.name


@posix
@pytest.mark.parametrize("bad", [TEXT.encode() + b"\0", TEXT.encode() + b"\xff", b"ab\0"])
def test_pipe_is_refused_at_its_first_bad_byte(folder: Path, bad: bytes) -> None:
    training = subprocess.Popen(
        [COMMAND, "train", "-"], cwd=folder, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    training.stdin.write(bad)
    training.stdin.flush()
    assert training.wait(60) == 1  # although the pipe is still open
    assert b"standard input is " in training.stderr.read()
    training.stdin.close()
    training.stderr.close()


@posix
def test_typed_text_ends_with_one_end_of_file(folder: Path) -> None:
    master, slave = os.openpty()
    program = "import fastrnn; print(fastrnn.read_corpus('-').length)"
    reader = subprocess.Popen([sys.executable, "-c", program], stdin=slave, stdout=subprocess.PIPE)
    os.close(slave)
    os.write(master, b"a line\nanother\n\x04")
    assert reader.communicate(timeout=60)[0] == b"15\n"
    os.close(master)


@posix
def test_standard_input_that_does_not_wait(folder: Path) -> None:
    """Another program has set it so: nothing yet is not the end."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    program = "import fastrnn; print('ready', flush=True); print(fastrnn.read_corpus('-').length)"
    reader = subprocess.Popen([sys.executable, "-c", program], stdin=read, stdout=subprocess.PIPE)
    os.close(read)
    assert reader.stdout.readline() == b"ready\n"
    for piece in (b"one, ", b"two"):
        with pytest.raises(subprocess.TimeoutExpired):
            reader.wait(0.5)
        os.write(write, piece)
    os.close(write)
    assert reader.communicate(timeout=60)[0] == b"8\n"


@posix
def test_named_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    writer = threading.Thread(target=(folder / "pipe").write_text, args=(TEXT,))
    writer.start()
    assert text_of(read_corpus(folder / "pipe")) == TEXT
    writer.join()


@posix
def test_links_that_go_round(folder: Path) -> None:
    os.symlink("b", folder / "a")
    os.symlink("a", folder / "b")
    os.symlink(".", folder / "c")
    os.mkfifo(folder / "pipe")
    (folder / ".hidden").touch()
    (folder / "text").write_text(TEXT)
    corpus = read_corpus(folder)
    assert text_of(corpus) == TEXT
    reasons = {one.reason: one.count for one in corpus.left_out}
    assert reasons == {"hidden": 1, "unreadable": 2, "behind a link": 1, "special": 1}
