import hashlib
import io
import os
import platform
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import platformdirs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import fastrnn
from fastrnn.errors import FastrnnError
from fastrnn.text import sources
from fastrnn.text.corpus import read_corpus
from fastrnn.text.vocabulary import Vocabulary


def text_of(corpus):
    return corpus.vocabulary.decode(corpus.codes)


def message(function, *arguments):
    with pytest.raises(FastrnnError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file into an empty current folder."""
    monkeypatch.chdir(tmp_path)

    def write(name, content):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)
        return name

    return write


# --- Vocabulary -----------------------------------------------------------------------------------


@given(st.text())
@example("")
@example("a\x00b\x00")
@example("\ud800 \udfff \U0010ffff")
def test_encode_and_decode_are_inverse(text):
    vocabulary = Vocabulary.from_text(text)
    assert vocabulary.characters == "".join(sorted(set(text)))
    codes = vocabulary.encode(text)
    assert codes.tolist() == [vocabulary.characters.index(character) for character in text]
    assert vocabulary.decode(codes) == text
    assert vocabulary.decode(codes.tolist()) == text


@pytest.mark.parametrize(
    ("characters", "dtype"),
    [(1, "uint8"), (256, "uint8"), (257, "uint16"), (65536, "uint16"), (65537, "uint32")],
)
def test_codes_have_the_smallest_type(characters, dtype):
    text = "".join(map(chr, range(0x10000, 0x10000 + characters)))
    vocabulary = Vocabulary.from_text(text[::-1])
    codes = vocabulary.encode(text)
    assert codes.dtype == dtype
    assert np.array_equal(codes, np.arange(characters))
    assert vocabulary.decode(codes) == text


@pytest.mark.parametrize("position", [0, 5, 65535, 65536, 200_000])
def test_unknown_character(position):
    text = "ab" * (position // 2) + "a" * (position % 2) + "é" + "aéa"
    assert message(Vocabulary("ab").encode, text) == (
        f"the character 'é' (U+00E9) at position {position}, counted from 0, is not among the 2 "
        "characters of the vocabulary; leave it out, or train on a text that has it"
    )


def test_unknown_characters_that_cannot_be_printed():
    assert message(Vocabulary("").encode, "\n").startswith(r"the character '\n' (U+000A) at")
    assert message(Vocabulary("a").encode, "\udc80").startswith(r"the character '\udc80' (U+DC80)")
    assert message(Vocabulary("a").encode, "a😀").startswith("the character '😀' (U+1F600) at")


@pytest.mark.parametrize("characters", ["ba", "aab"])
def test_vocabulary_is_sorted_and_distinct(characters):
    expected = "the characters of a vocabulary must be sorted and distinct"
    assert message(Vocabulary, characters) == expected


# --- Text -----------------------------------------------------------------------------------------


def test_file(write):
    corpus = read_corpus([write("a.txt", "zażółć\n".encode())])
    assert text_of(corpus) == "zażółć\n"
    assert corpus.name == "a.txt"
    assert corpus.length == len(corpus.codes) == 7
    assert len(corpus.vocabulary) == 7
    assert corpus.sha256 == hashlib.sha256("zażółć\n".encode()).hexdigest()


def test_one_distinct_character_is_a_corpus(write):
    corpus = read_corpus([write("a.txt", b"aaaa")])
    assert corpus.vocabulary == Vocabulary("a")
    assert corpus.codes.tolist() == [0, 0, 0, 0]


def test_a_single_source_needs_no_list(write):
    write("a.txt", b"text")
    assert text_of(read_corpus("a.txt")) == text_of(read_corpus(Path("a.txt"))) == "text"


@given(st.lists(st.sampled_from(["a", "é", "\r", "\n", "\r\n"]), min_size=1))
@example(["\r", "\r\n", "\n", "\r"])
def test_line_ends(tmp_path_factory, pieces):
    path = tmp_path_factory.getbasetemp() / "line_ends.txt"
    path.write_bytes("".join(pieces).encode())
    corpus = read_corpus([path])
    # Python's own universal newlines are the reference.
    expected = io.TextIOWrapper(io.BytesIO("".join(pieces).encode()), "utf-8", newline=None).read()
    assert text_of(corpus) == expected
    assert corpus.sha256 == hashlib.sha256(expected.encode()).hexdigest()


@pytest.mark.parametrize(
    ("encoding", "raw"),
    [
        ("utf-8", b"\xef\xbb\xbfd\xc3\xa9j\xc3\xa0"),
        ("utf-8", b"d\xc3\xa9j\xc3\xa0"),
        ("utf-8-sig", b"\xef\xbb\xbfd\xc3\xa9j\xc3\xa0"),
        ("utf-16", b"\xff\xfed\0\xe9\0j\0\xe0\0"),
        ("utf-16", b"\xfe\xff\0d\0\xe9\0j\0\xe0"),
        ("utf_16_le", b"\xff\xfed\0\xe9\0j\0\xe0\0"),
        ("UTF16", b"\xff\xfed\0\xe9\0j\0\xe0\0"),
        ("utf-32", "\ufeffdéjà".encode("utf-32-be")),
        ("latin-1", b"d\xe9j\xe0"),
    ],
)
def test_encodings_and_byte_order_marks(write, encoding, raw):
    corpus = read_corpus([write("a.txt", raw)], encoding)
    assert text_of(corpus) == "déjà"
    assert corpus.sha256 == hashlib.sha256("déjà".encode()).hexdigest()


def test_only_a_leading_byte_order_mark_is_removed(write):
    assert text_of(read_corpus([write("a.txt", "\ufeffa\ufeff".encode())])) == "a\ufeff"


@pytest.mark.parametrize("encoding", ["klingon", "", "hex", "rot13", "utf-8\0", "undefined"])
def test_unknown_encoding(write, encoding):
    write("a.txt", b"text")
    assert message(read_corpus, ["a.txt"], encoding) == (
        f"unknown encoding {encoding!r}; --encoding takes bytes or the name of a Python "
        "text codec, such as utf-8, latin-1 or utf-16"
    )


@pytest.mark.parametrize(
    ("raw", "encoding", "position", "byte", "reason"),
    [
        (b"\xe9", "utf-8", 0, "e9", "unexpected end of data"),
        (b"abc\xff", "utf-8", 3, "ff", "invalid start byte"),
        ("aé😀\r\n".encode() + b"\xe9x", "utf-8", 9, "e9", "invalid continuation byte"),
        (b"\xef\xbb\xbfab\xff", "utf-8", 5, "ff", "invalid start byte"),
        (b"ab\xff", "utf-8-sig", 2, "ff", "invalid start byte"),
        (b"\xed\xa0\x80", "utf-8", 0, "ed", "invalid continuation byte"),
        (b"ab\x80", "ascii", 2, "80", "ordinal not in range(128)"),
        (b"\xff\xfea\0b", "utf-16", 4, "62", "truncated data"),
        (b"a\0\x00\xdcb\0", "utf-16-le", 2, "00", "illegal encoding"),
    ],
)
def test_bytes_that_are_no_text(write, raw, encoding, position, byte, reason):
    write("a.txt", raw)
    remedy = "name its encoding with --encoding"
    if raw.startswith(tuple(sources.MARKS)):
        remedy = "its byte-order mark says that encoding: correct the file or its mark"
    assert message(read_corpus, ["a.txt"], encoding) == (
        f"'a.txt' is not {encoding} text: its byte {position}, counted from 0, is 0x{byte} "
        f"({reason}); {remedy}"
    )


def test_lone_surrogates_do_not_get_in(write):
    write("a.txt", b"+2AA-")
    assert message(read_corpus, ["a.txt"], "utf-7") == (
        "'a.txt' is not utf-7 text: 'utf-8' codec can't encode character '\\ud800' in position 0: "
        "surrogates not allowed"
    )


def test_binary_file(write):
    write("a.png", b"\x89PNG\0\xff")
    assert message(read_corpus, ["a.png"]) == (
        "'a.png' is a binary file: its byte 4, counted from 0, is NUL; give a text file, or "
        "--encoding bytes to take each byte for a character"
    )


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_characters_without_a_mark(write, encoding):
    write("a.txt", "Some text.".encode(encoding))
    error = message(read_corpus, ["a.txt"])
    assert (
        f"give a text file, with --encoding {encoding} if it is one in that encoding, or" in error
    )
    assert text_of(read_corpus(["a.txt"], encoding)) == "Some text."


@pytest.mark.parametrize("raw", [b"", b"\xef\xbb\xbf"])
def test_empty_file(write, raw):
    write("a.txt", b"text")
    write("empty.txt", raw)
    assert message(read_corpus, ["a.txt", "empty.txt"]) == "'empty.txt' is empty; give a text"


# --- Sources --------------------------------------------------------------------------------------


def test_default_corpus():
    corpus = read_corpus()
    assert corpus.name == "Python language reference (pydoc_data.topics)"
    assert 350_000 < corpus.length < 700_000
    assert 90 < len(corpus.vocabulary) < 150
    text = text_of(corpus)
    assert "\r" not in text
    assert 'The "assert" statement' in text
    assert corpus.sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_python_without_the_default_corpus(monkeypatch, write):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    assert message(read_corpus) == (
        "this Python comes without pydoc_data, the default corpus; name a text file"
    )
    assert text_of(read_corpus([write("a.txt", b"text")])) == "text"


def test_stdlib(write, monkeypatch):
    monkeypatch.setattr("sysconfig.get_path", {"stdlib": "lib"}.__getitem__)
    write("lib/b.py", b"b = 1\n")
    write("lib/a/z.py", b"z = 1\r\n")
    write("lib/a/latin.py", "# -*- coding: latin-1 -*-\nx = 'é'\n".encode("latin-1"))
    write("lib/a/__init__.py", b"")
    for name in ("a.so", "a/b.pyc", "test/t.py", "a/tests/t.py", "site-packages/s.py"):
        write(f"lib/{name}", b"no module\n")
    for name in ("encodings/cp1252.py", "_sysconfigdata_x.py", "config-x/c.py"):
        write(f"lib/{name}", b"no module\n")
    corpus = read_corpus(["stdlib"], "utf-16")  # whatever others are in
    assert text_of(corpus) == "z = 1\nb = 1\n"
    assert corpus.name == f"Python {platform.python_version()} standard library"
    assert [str(one) for one in corpus.left_out] == [
        f"1 empty ({Path('lib/a/__init__.py')})",
        f"1 not ASCII ({Path('lib/a/latin.py')})",
    ]
    assert text_of(read_corpus(["stdlib"], "bytes")) == "z = 1\r\nb = 1\n"


def test_stdlib_of_this_python():
    corpus = read_corpus(["stdlib"])
    assert 5e6 < corpus.length < 30e6
    assert len(corpus.vocabulary) < 100
    assert "class OrderedDict(dict):" in text_of(corpus)


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("python.zip", "cannot read 'python.zip': Not a directory"),
        ("none", "cannot read 'none': No such file or directory"),
        ("compiled", "the folder 'compiled' has no text file; left out so far: nothing"),
    ],
)
def test_python_without_sources(write, monkeypatch, folder, reason):
    write("python.zip", b"zip")
    write("compiled/os.pyc", b"compiled")
    monkeypatch.setattr("sysconfig.get_path", {"stdlib": folder}.__getitem__)
    assert message(read_corpus, ["stdlib"]) == (
        f"this Python comes without the sources of its standard library: {reason}; name a text file"
    )


def test_several_sources_in_the_order_given(write):
    write("b.txt", b"\xef\xbb\xbfone\r")
    write("a.txt", b"\ntwo")
    write("folder/c.txt", b"three")
    corpus = read_corpus(["b.txt", Path("a.txt"), "folder", "b.txt"])
    assert corpus.name == "b.txt, a.txt, folder, b.txt"
    assert text_of(corpus) == "one\n\ntwothreeone\n"


def test_folder(write):
    write("folder/b.txt", b"2")
    write("folder/a/z.md", b"1\r\n")
    write("folder/c/d/e", b"3")
    write("folder/empty", b"")
    write("folder/picture.png", b"\x89PNG\0\xff")
    write("folder/.hidden", b"hidden")
    write("folder/.git/config", b"hidden")
    write("folder/-", b"0")
    os.symlink("nowhere", "folder/broken")
    assert text_of(read_corpus(["folder"])) == "01\n23"
    os.chdir("folder")
    corpus = read_corpus(["."])
    assert text_of(corpus) == "01\n23"
    assert corpus.name == "."


def test_a_file_in_a_folder_that_is_no_text_in_the_encoding(write):
    write("folder/good", b"good")
    write("folder/sub/latin", b"d\xe9j\xe0")
    assert message(read_corpus, ["folder"]) == (
        f"{str(Path('folder/sub/latin'))!r} is not utf-8 text: its byte 1, counted from 0, is 0xe9 "
        "(invalid continuation byte); name its encoding with --encoding"
    )
    assert text_of(read_corpus(["folder"], "latin-1")) == "gooddéjà"


def test_folder_without_text(write):
    write("folder/empty", b"")
    write("folder/.hidden", b"hidden")
    write("folder/sub/binary", b"\0")
    assert message(read_corpus, ["folder"]) == (
        f"the folder 'folder' has no text file; left out so far: "
        f"1 hidden ({Path('folder/.hidden')}), 1 empty ({Path('folder/empty')}), "
        f"1 binary ({Path('folder/sub/binary')})"
    )
    os.mkdir("nothing")
    assert message(read_corpus, ["nothing"]) == (
        "the folder 'nothing' has no text file; left out so far: nothing"
    )


@pytest.mark.parametrize("source", ["missing.txt", "", "folder/missing", "shakspeare"])
def test_missing_file(write, source):
    assert message(read_corpus, [source]) == (
        f"there is no file or folder {source!r}; give a path, - for standard input, or a "
        "name: shakespeare, stdlib"
    )


def test_unreadable_file(write, monkeypatch):
    write("a.txt", b"text")

    def refuse(path, mode):  # as chmod does not keep an administrator out
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("builtins.open", refuse)
    error = message(read_corpus, ["a.txt"])
    monkeypatch.undo()
    assert error == "cannot read 'a.txt': Permission denied"


def test_paths_that_cannot_be(write):
    wrong = r"a source is 'a\x00b', but must be a path, and those have no NUL"
    assert message(read_corpus, ["a\0b"]) == wrong
    write("file", b"text")
    assert message(read_corpus, ["file/below"]) == "cannot read 'file/below': Not a directory"


def test_unreadable_folder(write, monkeypatch):
    write("folder/a.txt", b"text")

    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    error = message(read_corpus, ["folder"])
    monkeypatch.undo()
    assert error == "cannot read 'folder': Permission denied"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode there")
def test_the_name_of_a_corpus_is_unicode(write):
    corpus = read_corpus([write(os.fsdecode(b"caf\xe9"), b"text")])
    assert corpus.name == r"'caf\udce9'"


@pytest.mark.skipif(sys.platform == "win32", reason="file names have no such characters there")
def test_the_name_of_a_corpus_is_a_line_that_drives_no_terminal(write):
    corpus = read_corpus([write("a\nb\x1b[31m", b"text")])
    assert corpus.name == r"'a\nb\x1b[31m'"
    write("folder/a.txt", b"text")
    write("folder/\x1b", b"")
    assert str(*read_corpus("folder").left_out) == r"1 empty ('folder/\x1b')"


NONE = "it is closed, or has no bytes; give a text file"


def closed():
    stream = io.TextIOWrapper(io.BytesIO(b"text"))
    stream.close()
    return stream


def stdin_of(raw):
    return SimpleNamespace(buffer=io.BytesIO(raw))


def test_standard_input(write, monkeypatch):
    monkeypatch.setattr(sys, "stdin", stdin_of(b"\xef\xbb\xbfone\r\n"))
    corpus = read_corpus(["-", write("a.txt", b"two")])
    assert corpus.name == "standard input, a.txt"
    assert text_of(corpus) == "one\ntwo"


@pytest.mark.parametrize(
    ("stdin", "expected"),
    [
        (None, f"cannot read standard input: {NONE}"),
        (io.StringIO("text"), f"cannot read standard input: {NONE}"),
        (closed(), f"cannot read standard input: {NONE}"),
        (stdin_of(b""), "standard input is empty; give a text"),
        (
            stdin_of(b"a\xff"),
            "standard input is not utf-8 text: its byte 1, counted from 0, is 0xff (invalid start "
            "byte); name its encoding with --encoding",
        ),
    ],
)
def test_standard_input_without_text(monkeypatch, stdin, expected):
    monkeypatch.setattr(sys, "stdin", stdin)
    assert message(read_corpus, ["-"]) == expected


def test_a_file_called_minus(write, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    write("-", b"text")
    assert text_of(read_corpus(["./-"])) == text_of(read_corpus([Path("-")])) == "text"


def test_reading_a_file_imports_nothing_heavy(write):
    write("a.txt", b"text")
    program = (
        "import sys; from fastrnn.text.corpus import read_corpus; read_corpus(['a.txt']);"
        "print(sorted({'numba', 'pooch', 'requests', 'pydoc_data'} & set(sys.modules)))"
    )
    root = str(Path(fastrnn.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": root}
    output = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
    assert output == "[]\n"


# --- Named corpora --------------------------------------------------------------------------------

CONTENT = "To be, or not to be:\r\nthat is the question – déjà\n".encode()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Serves `server.content` as the corpus "hamlet", and counts the requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.requests += 1
            self.send_response(server.status)
            self.send_header("Content-Length", str(len(server.content)))
            self.end_headers()
            self.wfile.write(server.content)

        def log_message(self, *arguments):
            pass

    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def stop():
        if thread.is_alive():
            http.shutdown()
            thread.join()
            http.server_close()

    server = SimpleNamespace(
        content=CONTENT,
        status=200,
        requests=0,
        stop=stop,
        url=f"http://127.0.0.1:{http.server_port}/hamlet.txt",
        cache=tmp_path / "cache" / "fastrnn",
    )
    monkeypatch.setitem(sources.NAMED_CORPORA, "hamlet", (server.url, SHA256))
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name, appauthor: str(server.cache))
    yield server
    stop()


def instead(server):
    return (
        f"fetch {server.url} by other means, check that its SHA-256 is {SHA256}, and name that file"
    )


def test_named_corpus_is_downloaded_once(server, capsys):
    first = read_corpus(["hamlet"])
    assert first.name == "hamlet"
    assert text_of(first) == CONTENT.decode().replace("\r\n", "\n")
    server.stop()
    second = read_corpus(["hamlet"], encoding="utf-16")  # which is the files', not the corpus'
    assert server.requests == 1
    assert second.sha256 == first.sha256
    assert [path.name for path in server.cache.iterdir()] == ["hamlet.txt"]
    assert capsys.readouterr().out == ""


def test_named_corpus_wins_over_a_file_of_that_name(server, write):
    write("hamlet", b"my own")
    assert read_corpus(["hamlet"]).length == len(CONTENT.decode()) - 1
    assert text_of(read_corpus(["./hamlet"])) == "my own"
    assert text_of(read_corpus([Path("hamlet")])) == "my own"


def test_wrong_hash(server):
    server.content = CONTENT[:-1]
    assert message(read_corpus, ["hamlet"]) == (
        f"the corpus 'hamlet' was downloaded with a wrong SHA-256 and thrown away; "
        f"{instead(server)}"
    )
    assert list(server.cache.iterdir()) == []
    server.content = CONTENT
    assert read_corpus(["hamlet"]).length > 0


def test_a_damaged_cache_is_downloaded_again(server):
    read_corpus(["hamlet"])
    (server.cache / "hamlet.txt").write_bytes(b"damaged")
    assert read_corpus(["hamlet"]).length == len(CONTENT.decode()) - 1
    assert server.requests == 2


def test_offline(server):
    server.stop()
    assert message(read_corpus, ["hamlet"]) == (
        f"the corpus 'hamlet' cannot be downloaded (ConnectionError); {instead(server)}"
    )
    assert list(server.cache.iterdir()) == []


def test_server_without_the_corpus(server):
    server.status = 404
    assert message(read_corpus, ["hamlet"]) == (
        f"the corpus 'hamlet' cannot be downloaded (HTTP 404); {instead(server)}"
    )
    assert list(server.cache.iterdir()) == []


def test_without_a_cache_folder_a_temporary_one_is_used(server, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    server.cache = Path("~/.cache/fastrnn")
    assert read_corpus(["hamlet"]).length > 0
    assert [path.name for path in tmp_path.glob("fastrnn-*/*")] == ["hamlet.txt"]


def test_shakespeare_is_the_known_one():
    assert sources.NAMED_CORPORA == {
        "shakespeare": (
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"
            "input.txt",
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        )
    }
