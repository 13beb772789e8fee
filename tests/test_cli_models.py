"""The commands that use a trained model: synth, score, novelty."""

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from command import error_of, run_here

import fastrnn
from fastrnn.cli import cli

TEXT = "anna\nbob\nclara\ndan\nemma\n" * 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "names.txt").write_text(TEXT)
    (folder / "other.txt").write_text("anna\nbéa\n")
    corpus = fastrnn.read_corpus(folder / "names.txt")
    config = fastrnn.Config(hidden=20, seq_length=10, updates=300)
    path = folder / "names.h5"
    fastrnn.train(corpus, config, path=path, sample_every=0, observers=[])
    return folder


def run(folder: Path, command: str, *arguments: object, code: int = 0, **options: object):
    places = [str(folder / one) if str(one).startswith("names.") else str(one) for one in arguments]
    done = CliRunner().invoke(cli, [command, str(folder / "names.h5"), *places], **options)
    assert done.exit_code == code, done.output
    return done


def test_synth_is_what_the_model_says(folder: Path) -> None:
    model = fastrnn.load(folder / "names.h5")
    drawn = ("--seed", 5, "--temperature", "0.9", "--top-k", 6, "--top-p", "0.95")
    options = {"seed": 5, "temperature": 0.9, "top_k": 6, "top_p": 0.95}
    texts = list(model.samples(3, 40, prime="a", stop="dan", **options))

    one = run(folder, "synth", *drawn, "--length", 40, "--prime", "a", "--stop", "dan")
    assert one.stdout == f"a{texts[0]}\n"
    given = ("--length", 40, "--stop", "dan", "--count", 3)
    several = run(folder, "synth", *drawn, *given, "--prime", "ä", "--unknown", "replace")
    assert several.stdout == "\n".join(f"a{text}\n" for text in texts)
    (folder / "names.prime").write_text("a")
    out = folder / "names.jsonl"
    run(folder, "synth", *drawn, *given, "--prime-file", "names.prime", "--json", "-o", out)
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert found == [{"index": i, "seed": 5, "text": "a" + text} for i, text in enumerate(texts)]
    greedy = run(folder, "synth", "--greedy", "--length", 20).stdout
    assert greedy == model.sample(20, temperature=0) + "\n"


def test_synth_writes_lines(folder: Path) -> None:
    model = fastrnn.load(folder / "names.h5")
    names = set(TEXT.split())
    lines = list(model.lines(9, seed=2, unique=True, novel=names))
    asked = ("--lines", 9, "--seed", 2, "--unique", "--novel", "names.txt")
    assert run(folder, "synth", *asked).stdout == "".join(f"{line}\n" for line in lines)
    assert not names & set(lines)
    rows = run(folder, "synth", *asked, "--json").stdout.splitlines()
    assert [json.loads(row)["line"] for row in rows] == lines


def test_lines_of_bytes_end_as_they_like(folder: Path) -> None:
    """With a carriage return, which no line has in it."""
    text = folder / "names.dos"
    text.write_bytes(TEXT.replace("\n", "\r\n").encode())
    corpus = fastrnn.read_corpus(text, "bytes")
    config = fastrnn.Config(hidden=20, seq_length=10, updates=300, lines=True, learning_rate=0.05)
    path = folder / "bytes.h5"
    fastrnn.train(corpus, config, path=path, sample_every=0, observers=[])
    model = fastrnn.load(path)
    assert model.probabilities("\nanna\r")[-1] < 0.01  # it was not trained on
    asked = ("--lines", 20, "--seed", 1, "--temperature", 0.5)
    wrong = CliRunner().invoke(cli, ["score", str(path), str(text), "--encoding", "utf-8"])
    assert "--encoding is utf-8, but the model reads bytes; leave it out" in wrong.stderr
    known = CliRunner().invoke(cli, ["novelty", str(path), str(text), *map(str, asked)])
    assert "novel      0.0 %" in known.stdout
    others = CliRunner().invoke(cli, ["synth", str(path), "--novel", str(text), *map(str, asked)])
    assert not set(others.stdout.splitlines()) & set(TEXT.split())
    scores = CliRunner().invoke(cli, ["score", str(path), str(text), "--per-line", "--top", "1"])
    assert scores.stdout.splitlines()[-1].split()[-1] in TEXT.split()


def test_lines_that_were_found_are_not_lost(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr("fastrnn.model.MORE_TRIES", 0)
    monkeypatch.setattr("fastrnn.model.TRIES", 1)
    out = folder / "names.few"
    asked = ("--lines", 40, "--seed", 2, "--unique", "--temperature", "0.5", "-o", out)
    done = run(folder, "synth", *asked, code=1)
    found = out.read_text().splitlines()
    assert 0 < len(found) < 40
    assert done.stderr.startswith(
        f"Error: only {len(found)} of the 40 lines that the model wrote can be taken; the others"
    )


def test_texts_in_another_encoding(folder: Path) -> None:
    """What an error advises works."""
    (folder / "names.latin").write_bytes("béa\nanna\n".encode("latin-1"))
    asked = ("--lines", 5, "--seed", 2, "--novel", "names.latin")
    assert "name its encoding with --encoding" in run(folder, "synth", *asked, code=1).stderr
    assert "anna" in run(folder, "synth", *asked[:-2]).stdout.split()
    assert "anna" not in run(folder, "synth", *asked, "--encoding", "latin-1").stdout.split()
    given = ("--prime-file", "names.latin", "--encoding", "latin-1", "--unknown", "replace")
    assert run(folder, "synth", *given, "--length", 3).stdout.startswith("bea\nanna\n")


def test_score(folder: Path) -> None:
    model = fastrnn.load(folder / "names.h5")
    text = (folder / "other.txt").read_text()
    wanted = model.score(text, unknown="replace")
    options = ("--unknown", "replace", "--format")
    rows = run(folder, "score", folder / "other.txt", "-", *options, "json", input=text).stdout
    first, second = map(json.loads, rows.splitlines())
    assert first.pop("file") == str(folder / "other.txt") and second.pop("file") == "-"
    assert first == second
    assert first["bits_per_character"] == wanted.bits_per_character
    assert (first["characters"], first["unknown"]) == (wanted.characters, 1)

    arguments = (folder / "other.txt", "--per-character", *options, "csv")
    found = list(csv.DictReader(io.StringIO(run(folder, "score", *arguments).stdout)))
    assert "".join(row["character"] for row in found) == "anna\nbea\n"
    assert [row["position"] for row in found] == [str(i) for i in range(9)]
    assert found[0]["nats"] == ""
    assert sum(float(row["nats"]) for row in found[1:]) == pytest.approx(wanted.nats)

    table = run(folder, "score", folder / "other.txt", "--per-line", *options, "table").stdout
    assert [row.split()[-2:] for row in table.splitlines()[1:]] == [["2", "béa"], ["1", "anna"]]
    arguments = (folder / "other.txt", "--per-line", "--top", 1, *options, "table")
    assert run(folder, "score", *arguments).stdout.splitlines() == table.splitlines()[:2]

    for kind, name in (("--per-line", "text"), ("--per-character", "character")):
        several = ("names.txt", folder / "other.txt", kind, *options, "json")
        rows = [json.loads(row) for row in run(folder, "score", *several).stdout.splitlines()]
        assert {row["file"] for row in rows} == {str(folder / one) for one in several[:2]}
        assert [*rows[0]][-2:] == ["file", name]


def test_novelty(folder: Path) -> None:
    done = run(folder, "novelty", "names.txt", "--seed", 1, "--plot", folder / "novelty.svg")
    assert done.stdout.startswith("20,000 characters written. Of its substrings the text has\n")
    assert "Note" not in done.stderr and (folder / "novelty.svg").exists()
    check = ("--lines", 50, "--check", "[a-z]+", "--seed", 1)
    done = run(folder, "novelty", "--corpus", folder / "other.txt", *check)
    assert done.stdout.splitlines()[:2] == ["50 lines written.", "  valid    100.0 %"]
    assert done.stderr.splitlines()[-1].startswith(
        "Note: this is another text than the model was trained on, "
    )


def test_novelty_finds_the_text(folder: Path) -> None:
    asked = ("--lines", 20, "--seed", 1)
    done = run(folder, "novelty", *asked)
    assert done.stdout == run(folder, "novelty", "names.txt", *asked).stdout
    assert done.stderr == ""  # no note that it is another text


def test_no_text_of_a_model_is_replaced(tmp_path: Path) -> None:
    for name in ("a.txt", "b.svg"):
        (tmp_path / name).write_text(TEXT)
    trained = run_here(tmp_path, "train", "a.txt", "b.svg", "--updates", "1", "--hidden", "3", "-q")
    assert trained.returncode == 0
    for command in (("synth", "-o"), ("novelty", "--length", "9", "--plot")):
        error = error_of(tmp_path, command[0], "best.h5", *command[1:], "b.svg")
        assert "cannot write b.svg: it is a checkpoint or a text in use" in error
    assert (tmp_path / "b.svg").read_text() == TEXT


def test_novelty_of_a_text_that_is_gone(tmp_path: Path) -> None:
    train = ("train", "-", "--updates", "1", "--hidden", "3", "-q")
    assert run_here(tmp_path, *train, input=TEXT.encode()).returncode == 0
    assert error_of(tmp_path, "novelty", "best.h5") == (
        "the text of best.h5 came from standard input; give it once more, as in fastrnn novelty "
        "best.h5 TEXT"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("synth", "--greedy", "--temperature", "2"), 2, "--greedy is --temperature 0; give one"),
        (("synth", "--greedy", "--top-k", "3"), 2, "--top-k and --top-p are of no use where"),
        (("synth", "--top-k", "0"), 2, "0 is not in the range x>=1"),
        (("synth", "--top-p", "1.1"), 2, "1.1 is not in the range 0<x<=1"),
        (("synth", "--top-p", "nan"), 1, "top_p is nan, but must be a positive number"),
        (("synth", "--count", "0"), 2, "0 is not in the range x>=1"),
        (("synth", "--stop", ""), 2, "--stop is empty"),
        (("synth", "--encoding", "latin-1"), 2, "--encoding is of use only with --prime-file or"),
        (("synth", "--unique"), 2, "--novel and --unique are of use only with --lines"),
        (("synth", "--lines", "2", "--count", "2"), 2, "--lines writes lines; leave out --count"),
        (("synth", "--lines", "2", "--length", "0"), 2, "--length is 0, but a line has at least"),
        (("synth", "--prime", "a", "--prime-file", "b"), 2, "are two beginnings; give one of them"),
        (("synth", "--prime-file", "nowhere"), 1, "there is no file or folder 'nowhere'"),
        (("synth", "--lines", "2", "--novel", "nowhere"), 1, "there is no file or folder"),
        (("synth", "--lines", "2", "--prime", "a\nb"), 1, "prime has a line end"),
        (("synth", "--unknown", "drop"), 2, "'drop' is not one of"),
        (("synth", "--prime", "Ω"), 1, "the character 'Ω'"),
        (("synth", "-o", "names.h5"), 1, "it is a checkpoint or a text in use"),
        (("synth", "-o", "names.txt"), 1, "it is a checkpoint or a text in use"),
        (("score",), 2, "Missing argument 'TEXT...'"),
        (("score", "names.txt", "--top", "3"), 2, "--top is of use only with --per-line"),
        (("score", "names.txt", "--per-line", "--per-character"), 2, "give one of --per-line"),
        (("score", "names.txt", "--encoding", "klingon"), 1, "unknown encoding 'klingon'"),
        (("score", "nowhere"), 1, "there is no file or folder 'nowhere'"),
        (("novelty", "names.txt", "--check", "a"), 2, "--check is of use only with --lines"),
        (("novelty", "names.txt", "--lines", "2", "--check", "["), 2, "check is no regular expr"),
        (("novelty", "names.txt", "--lines", "2", "--plot", "a.png"), 2, "leave out --lines"),
        (
            ("novelty", "names.txt", "--lines", "2", "--length", "9"),
            2,
            "--length is that of a text",
        ),
        (("novelty", "names.txt", "--plot", "a.txt"), 1, "its name says no format"),
        (("novelty", "--encoding", "latin-1"), 2, "--encoding is of use only with a TEXT"),
        (("novelty", "nowhere"), 1, "there is no file or folder 'nowhere'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_bad_input(folder: Path, arguments, code: int, message: str) -> None:
    done = run(folder, *arguments, code=code)
    *_, line = done.stderr.splitlines()
    assert line.startswith("Error: ") and message in line
    assert done.stdout == "" and "Traceback" not in done.output
