"""Encoded texts in the cache: found again, never stale, never half written."""

import hashlib
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from fastrnn.errors import FastrnnError
from fastrnn.text import corpus as corpus_module
from fastrnn.text import encoded
from fastrnn.text.corpus import read_corpus
from fastrnn.text.encoded import load, save
from fastrnn.text.streams import EncodedText, Streams
from fastrnn.text.vocabulary import Vocabulary

TEXT = "To be, or not to be:\nthat is the question – déjà\n"
KEY = bytes(range(32))
SHA256 = hashlib.sha256(TEXT.encode()).hexdigest()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache's folder, where every text has its file, however small."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(corpus_module, "IN_MEMORY", 0)
    return tmp_path / "cache/fastrnn/encoded"


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def pieces(text=TEXT):
    vocabulary = Vocabulary.from_text(TEXT)
    return map(vocabulary.encode, text.splitlines(keepends=True))


def save_text(codes=None):
    save(KEY, Vocabulary.from_text(TEXT).characters, SHA256, codes or pieces(), 1000)


def test_a_text_is_encoded_once(cache, text, monkeypatch):
    first = read_corpus(text)
    (path,) = cache.iterdir()
    monkeypatch.setattr(encoded, "save", None)
    monkeypatch.setattr(Vocabulary, "from_pieces", None)
    second = read_corpus([text])
    assert list(cache.iterdir()) == [path]
    monkeypatch.undo()
    in_memory = read_corpus(text)
    assert not isinstance(in_memory.codes, np.memmap)
    for corpus in (first, second):
        assert isinstance(corpus.codes, np.memmap) and not corpus.codes.flags.writeable
        assert corpus.codes.dtype == in_memory.codes.dtype
        assert np.array_equal(corpus.codes, in_memory.codes)
        assert (corpus.vocabulary, corpus.sha256) == (in_memory.vocabulary, in_memory.sha256)
        assert (corpus.name, corpus.length) == (str(text), len(TEXT))


def test_another_text_or_encoding_is_another_file(cache, text):
    read_corpus(text)
    assert read_corpus(text, "utf8").length == len(TEXT)  # the same by another name
    assert len(list(cache.iterdir())) == 1
    status = text.stat()
    text.write_text(TEXT.replace("not", "now"), encoding="utf-8")
    os.utime(text, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "w" in read_corpus(text).vocabulary.characters
    assert len(read_corpus(text, "latin-1").vocabulary) > len(read_corpus(text).vocabulary)
    # One newline at the border of two files, but two within one.
    text.write_bytes(b"a\r\nb")
    assert read_corpus(text).length == 3
    text.write_bytes(b"a\r")
    (other := text.with_name("other")).write_bytes(b"\nb")
    assert read_corpus([text, other]).length == 4


@pytest.mark.parametrize(
    ("characters", "dtype"), [(256, "u1"), (257, "<u2"), (65536, "<u2"), (65537, "<u4")]
)
def test_codes_have_the_smallest_type(cache, text, characters, dtype):
    expected = "".join(map(chr, range(0x10000, 0x10000 + characters)))
    text.write_text(expected, encoding="utf-8")
    corpus = read_corpus(text)
    assert corpus.codes.dtype == dtype
    assert np.array_equal(corpus.codes, np.arange(characters))
    assert corpus.vocabulary.characters == expected


def test_a_file_that_is_not_as_it_should_be_is_made_again(cache, text):
    read_corpus(text)
    (path,) = cache.iterdir()
    good = path.read_bytes()
    key = bytes.fromhex(path.stem)
    assert load(key) is not None
    for damaged in (good[:-1], good + b"\0", good[:50], b"", bytes(len(good))):
        path.write_bytes(damaged)
        assert load(key) is None
    for i in range(len(good) - len(TEXT)):
        path.write_bytes(good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :])
        assert load(key) is None, i
    path.rename(path.with_stem("00" * 32))  # another text's
    assert load(bytes(32)) is None
    assert read_corpus(text).sha256 == SHA256
    assert path.read_bytes() == good


def test_codes_outside_the_vocabulary_never_reach_the_kernels(cache, text):
    corpus = read_corpus(text)
    (path,) = cache.iterdir()
    K = len(corpus.vocabulary)
    streams = Streams(EncodedText(corpus.codes, K), 1, 5)
    streams.read(0, streams.chunks)
    with open(path, "r+b") as file:
        file.seek(-len(TEXT) + 7, os.SEEK_END)
        file.write(bytes([K]))
    streams.read(0, 1)
    with pytest.raises(FastrnnError) as caught:
        streams.read(1, 1)
    assert str(caught.value) == (
        f"the encoded text in {path} is damaged, it has codes that stand for none of its {K} "
        "characters; delete that file and start again"
    )
    os.truncate(path, 200)
    with pytest.raises(FastrnnError, match=f"^cannot read {path}: it has been cut off; start agai"):
        streams.read(streams.chunks - 1, 1)
    path.unlink()
    with pytest.raises(FastrnnError, match=f"^cannot read {path}: No such file or directory; star"):
        Streams(EncodedText(corpus.codes, K), 1, 5)


def test_too_small_an_address_space(cache, monkeypatch):
    save_text()

    def refuse(*arguments):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(np, "memmap", refuse)
    with pytest.raises(
        FastrnnError, match=r"^cannot map .*: Cannot allocate memory; let the proce"
    ):
        load(KEY)


@pytest.mark.parametrize("error", [KeyboardInterrupt, FastrnnError])
def test_an_interruption_leaves_nothing(cache, error):
    def interrupted():
        yield next(pieces())
        assert len(list(cache.iterdir())) == 1
        raise error

    with pytest.raises(error):
        save_text(interrupted())
    assert list(cache.iterdir()) == []


FULL = """
import io, resource, sys
from types import SimpleNamespace
from fastrnn import cli
from fastrnn.text import corpus, sources
resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_000, 2_500_000))
corpus.IN_MEMORY, sources.IN_MEMORY = 0, 1
cli.main()
"""


# The last 1000 bytes of the smaller size wait in a buffer until the file is complete.
@pytest.mark.parametrize(
    ("source", "size"), [("text", 2_990_000), ("-", 2_990_000), ("-", 2_501_000)]
)
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, source, size):
    (tmp_path / "text").write_bytes(b"ab" * (size // 2))
    with open(tmp_path / "text") as stdin:
        ended = subprocess.run(
            [sys.executable, "-c", FULL, "train", "--corpus", source],
            cwd=tmp_path,
            env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
            stdin=stdin,
            capture_output=True,
            text=True,
        )
    folder = tmp_path / "fastrnn"
    kept, needed = f"standard input in {folder}", "as much as the text has"
    if source == "text":
        kept, needed = f"the encoded text in {folder}/encoded", "up to 3 MB"
    assert ended.stderr == (
        f"Error: cannot keep {kept}: File too large; free some space there, it needs {needed}, or "
        "set XDG_CACHE_HOME to a folder on a larger disk\n"
    )
    assert ended.returncode == 1
    assert [path.name for path in folder.glob("encoded/*")] == []
    assert all(path.name.startswith(("encoded", "kernels-")) for path in folder.iterdir())


def test_two_processes_may_encode_the_same_text(cache):
    def interleaved():
        yield from pieces(TEXT[:10])
        save_text()
        yield from pieces(TEXT[10:])

    save_text(interleaved())
    codes, characters, sha256 = load(KEY)
    assert Vocabulary(characters).decode(codes) == TEXT
    assert sha256 == SHA256
    assert len(list(cache.iterdir())) == 1


def test_what_is_of_no_use_any_more_is_removed(cache):
    cache.mkdir(parents=True)
    ages = {"a.tmp": 2, "b.tmp": 0.5, "c.codes": 31, "d.codes": 29, "theirs.txt": 99}
    for name, days in ages.items():
        (cache / name).touch()
        os.utime(cache / name, times=(time.time() - days * 24 * 60 * 60,) * 2)
    save_text()
    left = {path.name for path in cache.iterdir()}
    assert left == {"b.tmp", "d.codes", "theirs.txt", KEY.hex() + ".codes"}
    os.utime(cache / (KEY.hex() + ".codes"), times=(0, 0))
    load(KEY)  # a use
    save(bytes(32), "a", SHA256, [np.zeros(1, np.uint8)], 1)
    assert load(KEY) is not None


MEMORY = """
import resource, sys
from pathlib import Path
from fastrnn.text.corpus import read_corpus
from fastrnn.text.streams import EncodedText, Streams

def peak(path):
    corpus = read_corpus(path)
    streams = Streams(EncodedText(corpus.codes, len(corpus.vocabulary)), 64, 50)
    for first in range(0, streams.chunks - 30, 30):
        streams.read(first, 30)
    assert streams.chunks * 64 * 50 > 0.99 * Path(path).stat().st_size
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = peak("small")
print(peak("large") - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the resource module is Unix's")
def test_a_large_text_needs_no_memory(tmp_path):
    """Reading all of it, which would need 100 MB and more in memory."""
    piece = bytes(range(32, 127)) * 10_000
    (tmp_path / "small").write_bytes(piece)
    with open(tmp_path / "large", "wb") as file:
        for _ in range(100):
            file.write(piece)
    grown = subprocess.check_output(
        [sys.executable, "-c", MEMORY],
        cwd=tmp_path,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
    )
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(grown) * unit < 30_000_000
