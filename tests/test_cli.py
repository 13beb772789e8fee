"""The command: what it prints, where, and how it ends."""

import fcntl
import json
import math
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import fields
from pathlib import Path

import click
import pytest
from command import COMMAND, EXAMPLE, TEXT, error_of, run, run_here

from fastrnn import __version__, gradcheck, warmup
from fastrnn.cli import cli
from fastrnn.config import Config
from fastrnn.errors import FastrnnError
from fastrnn.presets import PRESETS, preset
from fastrnn.storage.checkpoint import load
from fastrnn.text import sources
from fastrnn.training import loop, progress

COMMANDS = sorted(cli.commands)

NO_TEXT = "No text was named: training on the language reference in Python's documentation."
SAMPLE = r"iter = (\d+), smooth_loss = \d+\.\d{4}"
RESULT = (
    r"min_iter = \d+\n"
    r"min_loss = \d+\.\d{4} \(\d+\.\d{4} nats, \d+\.\d{4} bits per character\)\n"
    r"[\d,]+ updates in \d+\.\d s, [\d,]+ updates per second\n"
)


def next_commands(name: str) -> str:
    return (
        rf"The model is in {name}\.h5\. Go on with\n"
        rf"  fastrnn synth {name}\.h5\n"
        rf"  fastrnn plot {name}\.h5 -o {name}\.png\n"
        rf"  fastrnn info {name}\.h5\n"
    )


@pytest.fixture(scope="module", autouse=True)
def best(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint made by the installed command; from then on the kernels are compiled."""
    folder = tmp_path_factory.mktemp("best")
    (folder / "a text.txt").write_text(TEXT)
    ended = run(folder, "train", *EXAMPLE, "--updates", "300", "--quiet")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    return folder / "best.h5"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a text.txt").write_text(TEXT)
    return tmp_path


# Help


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, tmp_path: Path) -> None:
    text = run_here(tmp_path, command, "--help").stdout
    assert f"Example:\n    fastrnn {command}" in text
    for parameter in cli.commands[command].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_every_setting_is_an_option_and_tells_its_default(tmp_path: Path) -> None:
    text = " ".join(run_here(tmp_path, "train", "--help").stdout.split())
    for field in fields(Config):
        assert f"--{field.name.replace('_', '-')} " in text
        assert field.metadata["help"] in text
    assert "[default: 0.1 with adagrad; 0.002 with rmsprop, adam and adamw; " in text
    assert "[default: 5 for one vanilla layer; inf for gated or deep models]" in text
    assert "[default: 9, unless --updates]" in text
    assert "[default: rnn]" in text and "[default: 0.0; 0<=x<1.0]" in text


def test_options_that_are_given_reach_the_configuration(monkeypatch, folder: Path) -> None:
    configs = []

    def train(corpus, config, **options):
        configs.append(config)
        raise FastrnnError("that is all")

    monkeypatch.setattr(loop, "train", train)

    def config_of(*options: str) -> Config:
        assert error_of(folder, "train", "a text.txt", "--quiet", *options) == "that is all"
        return configs.pop()

    assert config_of() == Config()
    assert config_of("--updates", "5") == Config(updates=5)
    assert config_of("--cell", "gru", "--layers", "3", "--dropout", "0.4") == Config(
        cell="gru", layers=3, dropout=0.4
    )
    sgd = ("--optimizer", "sgd", "--momentum", "0.9", "--nesterov", "--weight-decay", "1e-4")
    assert config_of(*sgd) == Config(
        optimizer="sgd", momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    assert config_of("--optimizer", "sgd").nesterov is False
    adam = ("--optimizer", "adamw", "--beta1", "0.8", "--beta2", "0.99", "--epsilon", "1e-6")
    assert config_of(*adam) == Config(optimizer="adamw", beta1=0.8, beta2=0.99, epsilon=1e-6)
    assert config_of("--optimizer", "rmsprop", "--rho", "0.95").rho == 0.95
    assert config_of("--clip", "inf", "--clip-norm", "5") == Config(clip=math.inf, clip_norm=5)
    schedule = ("--schedule", "cosine", "--warmup", "9", "--final-rate", "0")
    assert config_of(*schedule) == Config(schedule="cosine", warmup=9, final_rate=0)
    assert config_of("--init", "orthogonal") == Config(init="orthogonal")
    held_out = ("--val-fraction", "0.1", "--test-fraction", "0.2", "--val-every", "7")
    assert config_of(*held_out, "--patience", "3", "--loss", "mean") == Config(
        val_fraction=0.1, test_fraction=0.2, val_every=7, patience=3, loss="mean"
    )
    assert config_of("--preset", "large") == preset("large")
    # What is given counts, also where it is the default of the reference experiment.
    assert config_of("--preset", "large", "--hidden", "100", "--layers", "2") == preset(
        "large", hidden=100, layers=2
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--cell", "lstm", "--rho", "0.9"),
            "--rho is 0.9, but optimizer adam does not use it; leave it out, or take rmsprop",
        ),
        (
            ("--optimizer", "sgd", "--nesterov"),
            "--nesterov is True, but there is no momentum; give one, such as 0.9",
        ),
        (
            ("--init", "torch", "--sigma", "0.1"),
            "--sigma is 0.1, but init torch does not use it; leave it out, or take normal",
        ),
        (
            ("--preset", "small", "--optimizer", "sgd", "--beta2", "0.9"),
            "--beta2 is 0.9, but optimizer sgd does not use it; leave it out, or take adam or "
            "adamw",
        ),
        (
            ("--val-fraction", "0.5", "--test-fraction", "0.5"),
            "--val-fraction is 0.5 and test-fraction 0.5, which leaves nothing to train on; give "
            "less",
        ),
        (
            ("--patience", "2"),
            "--patience is 2, but no text is held out to validate on; give a val-fraction, such as "
            "0.05, or leave it out",
        ),
        (
            ("--vocabulary", "new"),
            "--vocabulary is new, which is of use only with --init-from",
        ),
        (
            ("--schedule", "exponential", "--final-rate", "0"),
            "--final-rate is 0, which an exponential never reaches; give a positive number, or "
            "take the schedule cosine",
        ),
    ],
)
def test_options_that_do_not_go_together(folder: Path, options, message: str) -> None:
    ended = run_here(folder, "train", *options)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == f"Error: {message}"


def test_gradcheck_and_warmup_of_a_model(monkeypatch, folder: Path) -> None:
    called: list = []

    def check_gradients(corpus, seed, **model):
        called.append((seed, model))
        raise FastrnnError("that is all")

    monkeypatch.setattr(gradcheck, "check_gradients", check_gradients)
    monkeypatch.setattr(warmup, "compile_all", called.append)

    def code(*arguments: str) -> int:
        return run_here(folder, *arguments).returncode

    gradcheck_of = "gradcheck", "a text.txt"
    assert code(*gradcheck_of) == 1
    assert code(*gradcheck_of, "--cell", "lstm", "--layers", "2", "--dropout", "0.5") == 1
    assert code(*gradcheck_of, "--layers", "1001") == 2
    assert code(*gradcheck_of, "--dropout", "nan") == 2
    assert code("warmup") == code("warmup", "--cell", "lstm", "--cell", "gru") == 0
    assert code("warmup", "--cell", "elman") == 2
    assert called == [
        (0, {"cell": "rnn", "layers": 1, "dropout": 0.0, "loss": "sum"}),
        (0, {"cell": "lstm", "layers": 2, "dropout": 0.5, "loss": "sum"}),
        ("rnn", "lstm", "gru"),
        ("lstm", "gru"),
    ]


def test_version(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").stdout == f"fastrnn {__version__}\n"
    module = [sys.executable, "-m", "fastrnn", "--version"]
    assert subprocess.check_output(module, text=True) == f"fastrnn {__version__}\n"


def test_help_needs_no_library(tmp_path: Path) -> None:
    program = (
        "import sys; from fastrnn.cli import cli\n"
        "try: cli(['train', '--help'])\n"
        "finally: print({'numpy', 'numba', 'h5py', 'tqdm'} & sys.modules.keys())"
    )
    assert subprocess.check_output([sys.executable, "-c", program]).endswith(b"\nset()\n")


# The commands


def test_train_then_synth_info_and_plot(folder: Path) -> None:
    options = ("--updates", "300", "--sample-every", "100", "--sample-length", "9")
    trained = run(folder, "train", *EXAMPLE, *options)
    assert trained.returncode == 0
    samples = "".join(rf"{SAMPLE}\n(?:.|\n){{9}}\n\n" for _ in range(4))
    found = re.fullmatch(samples + RESULT + next_commands("best"), trained.stdout)
    assert found and found.groups() == ("1", "100", "200", "300")
    corpus, model, *_ = trained.stderr.splitlines()
    assert corpus == "a text.txt: 1,500 characters, 32 distinct; 299 updates an epoch"
    assert re.fullmatch(
        r"vanilla RNN, 7 hidden units, 536 parameters, float32; "
        r"adagrad, learning rate 0\.1, clip 5, normal initial weights; \d+ kB of memory, "
        r"\d+ kB while it is saved",
        model,
    )

    text = run(folder, "synth", "best.h5", "--seed", "1").stdout
    assert len(text) == 1001 and text.endswith("\n")
    short = run_here(folder, "synth", "best.h5", "--seed", "1", "--length", "70").stdout
    assert short == text[:70] + "\n"
    primed = run_here(folder, "synth", "best.h5", "--prime", "The ", "--length", "0").stdout
    assert primed == "The \n"

    lines = run(folder, "info", "best.h5").stdout.splitlines()
    assert lines[0] == "model       vanilla RNN, 7 hidden units, 536 parameters, float32"

    assert run(folder, "plot", "best.h5", "-o", "loss.svg").returncode == 0
    assert (folder / "loss.svg").read_text().startswith("<?xml")


def test_streams_and_threads(folder: Path) -> None:
    """Threads change nothing, streams do; after `warmup` nothing has to be compiled for them."""
    assert run(folder, "warmup").stderr == "Compiling the kernels.\n"
    bests = []
    for batch, threads, run_it in ((1, 1, run_here), (4, 1, run_here), (4, 3, run)):
        sizes = ("--batch", str(batch), "--threads", str(threads), "--dtype", "float64")
        ended = run_it(folder, "train", *EXAMPLE, *sizes, "--updates", "60")
        assert ended.returncode == 0 and "ompiling" not in ended.stderr
        trained = load(folder / "best.h5")
        assert (trained.config.batch, trained.last.state.shape) == (batch, (1, batch, 7))
        bests.append((trained.last.smooth_loss, trained.last.parameters["W"].tobytes()))
    assert bests[0] != bests[1] == bests[2]


def test_default_corpus(tmp_path: Path) -> None:
    options = ("--updates", "100", "--ckpt", "b.h5", "--sample-every", "0")
    ended = run_here(tmp_path, "train", *options)
    assert ended.stderr.splitlines()[0] == NO_TEXT
    assert re.fullmatch(RESULT + next_commands("b"), ended.stdout)
    trained = load(tmp_path / "b.h5")
    assert (trained.config.hidden, trained.config.seq_length, trained.last.update) == (100, 25, 100)


def test_texts_are_put_together(folder: Path) -> None:
    run_here(
        folder,
        *("train", "--corpus", "a text.txt", "--corpus", "-", "--updates", "1", "--quiet"),
        input="é\r\n".encode() * 10,
    )
    trained = load(folder / "best.h5")
    assert trained.corpus.length == len(TEXT) + 20
    assert trained.corpus.name == "a text.txt, standard input"
    assert "é" in trained.vocabulary and "\r" not in trained.vocabulary


def test_log(folder: Path) -> None:
    run_here(folder, "train", *EXAMPLE, "--updates", "400", "--clip", "inf", "--log", "log")
    lines = (folder / "log").read_text().splitlines()
    start, *rest, end = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert (start["event"], start["updates"], start["updates_per_epoch"]) == ("start", 400, 299)
    assert start["config"]["hidden"] == 7 and start["config"]["clip"] is None
    assert {row["event"] for row in rest} == {"sample", "progress"}
    sample = next(row for row in rest if row["event"] == "sample")
    assert (sample["iter"], len(sample["text"])) == (1, 200)
    progress = next(row for row in rest if row["event"] == "progress")
    assert progress["nats_per_character"] == pytest.approx(progress["smooth_loss"] / 5)
    trained = load(folder / "best.h5")
    assert (end["event"], end["update"]) == ("end", 400)
    assert (end["min_iter"], end["min_loss"]) == (trained.best.update, trained.best.smooth_loss)


def test_validation_and_start_from_another_model(folder: Path) -> None:
    options = ("--val-fraction", "0.1", "--test-fraction", "0.1", "--val-every", "50")
    ended = run(folder, "train", *EXAMPLE, *options, "--updates", "200", "--log", "log")
    trained = load(folder / "best.h5")
    best, loss = trained.best, r"\d\.\d{4} nats \(\d\.\d{4} bits\) per character"
    assert re.search(
        rf"\nmin_iter = {best.update}\nsmooth_loss = {best.smooth_loss:.4f} \(.*\)\n"
        rf"validation = {loss}\ntest = {loss}\n",
        ended.stdout,
    )
    rows = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    validations = [row for row in rows if row["event"] == "validation"]
    assert [row["update"] for row in validations] == [50, 100, 150, 200]
    nats = [row["nats_per_character"] for row in validations]
    assert nats == trained.history.validation_loss.tolist()
    assert validations[0]["bits_per_character"] == nats[0] / math.log(2)
    seconds = [row["seconds"] for row in validations]
    assert 0 < seconds[0] < seconds[3] < 100
    assert (rows[-1]["validation_loss"], rows[-1]["test_loss"]) == (min(nats), best.test_loss)
    described = run_here(folder, "info", "best.h5").stdout
    assert (
        "\nparts       training 1,200 characters, validation 150 characters, test 150" in described
    )
    assert f"\nvalidation  4 times, lowest {min(nats):.4f} nats" in described

    (folder / "new").write_text("Fly, foxes, fly! " * 20)
    start = ("train", "new", "--init-from", "best.h5", "--updates", "1", "--ckpt", "new.h5")
    started = run_here(folder, *start, "--vocabulary", "new")
    assert ", clip 5, starts from best.h5; " in started.stderr
    new = load(folder / "new.h5")
    assert (new.config.hidden, new.vocabulary) == (7, " !,Feflosxy")
    assert "\nstarted     from best.h5\n" in run_here(folder, "info", "new.h5").stdout
    assert error_of(folder, *start, "--hidden", "8", code=2) == (
        "--hidden is 8, but the model to start from has 7; leave it out, or start from another "
        "model"
    )
    assert error_of(folder, *start[:3], "none.h5").startswith("cannot load none.h5: No such file")
    short = ("train", "new", "--val-fraction", "0.001", "--ckpt", "short.h5")
    assert error_of(folder, *short).startswith(
        "val-fraction holds out 1 of the text's characters, but at least 2 are needed"
    )


def test_presets(folder: Path) -> None:
    ended = run_here(folder, "presets")
    assert ended.returncode == 0
    for name in PRESETS:
        assert f"{name}: " in ended.stdout
    options = ("--preset", "large", "--hidden", "400", "--updates", "0")
    ended = run_here(folder, "train", "a text.txt", *options)
    note = r"[\d,]+ parameters for 1,500 characters of text: the model will know the text by heart"
    assert re.match(note, ended.stderr)
    assert "the part of the text to train on has 1,425 characters, but batch 32" in ended.stderr


def test_gradcheck_fails_over_a_bound(monkeypatch, folder: Path) -> None:
    monkeypatch.setattr(gradcheck, "REPORTED", {5: {"b": 1.0, "c": 1e-30}})
    ended = run_here(folder, "gradcheck", "a text.txt", "--json", "json")
    assert ended.returncode == 1
    assert "\nc, central difference: " in ended.stdout
    checks = json.loads((folder / "json").read_text())
    assert [check["passed"] for check in checks] == [True, True, True, False, True, True]


def test_progress_line_in_a_terminal(folder: Path) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 50, 200, 0, 0))
    training = subprocess.Popen(
        [COMMAND, "train", *EXAMPLE, "--updates", str(10**9)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=slave,
    )
    state = (
        rb"\r0 %, [\d:]+ left, epoch \d+/3344482, \d\.\d{3} bits/char \(best \d\.\d{3}\), "
        rb"[1-9][\d,]* chars/s"
    )
    shown = b""
    try:
        while not re.search(state, shown):
            assert len(shown) < 5000, shown
            shown += os.read(master, 1000)
    finally:
        training.send_signal(signal.SIGINT)
        assert training.wait(100) == 130
        os.close(slave)
        os.close(master)


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_progress_while_a_text_is_encoded(folder: Path, monkeypatch, quiet: list[str]) -> None:
    monkeypatch.setattr(progress, "READING_AFTER", 0)
    monkeypatch.setattr(progress, "LINE_EVERY", 0)
    monkeypatch.setattr(sources, "PIECE", 100)
    (folder / "a text").write_text(TEXT[:300])
    ended = run_here(folder, "train", "--corpus", "a text", "--updates", "1", *quiet)
    assert ended.returncode == 0
    lines = ended.stderr.splitlines()
    if quiet:
        assert lines == []
    else:
        assert "a text: 300B read" in lines
        assert any(line.startswith("a text: 50 % encoded, ") for line in lines)


def test_progress_lines_in_a_file(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.2)
    options = ("--updates", "100000", "--sample-every", "30000")
    lines = run_here(folder, "train", *EXAMPLE, *options).stderr.splitlines()[2:]
    assert lines
    for line in lines:
        assert re.fullmatch(
            r"\d+ %, ([\d:]+|\?) left(, epoch \d+/335, \d\.\d{3} bits/char "
            r"\(best \d\.\d{3}\), [\d,]+ chars/s)?",
            line,
        )


# Endings


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [(signal.SIGINT, 130, "Interrupted.\n"), (signal.SIGTERM, 143, "")],
)
def test_signal_leaves_a_checkpoint_and_nothing_else(folder, number, code, message) -> None:
    training = subprocess.Popen(
        [COMMAND, "train", *EXAMPLE, "--updates", str(10**9), "--log", "log", "--quiet"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not ((folder / "log").exists() and "progress" in (folder / "log").read_text()):
        assert training.poll() is None, training.stderr.read()
        time.sleep(0.02)
    training.send_signal(number)
    assert training.communicate(timeout=100)[1] == message
    assert training.returncode == code
    assert sorted(os.listdir(folder)) == ["a text.txt", "best.h5", "log"]
    end = json.loads((folder / "log").read_text().splitlines()[-1])
    assert end["event"] == "end" and end["update"] == load(folder / "best.h5").last.update > 0


def test_interrupted_while_compiling(folder: Path) -> None:
    """Nothing is lost, and the compiler does not swallow it."""
    training = subprocess.Popen(
        [COMMAND, "train", *EXAMPLE, "--batch", "2", "--threads", "2", "--updates", "1"],
        cwd=folder,
        env=os.environ | {"NUMBA_CACHE_DIR": str(folder / "kernels")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert training.stderr.readline().startswith("Compiling the kernels")
    time.sleep(1)
    training.send_signal(signal.SIGINT)
    assert training.communicate(timeout=100)[1] == "Interrupted.\n"
    assert training.returncode == 130
    assert sorted(os.listdir(folder)) == ["a text.txt", "kernels"]


def test_interrupted_synthesis(best: Path) -> None:
    synth = subprocess.Popen(
        [COMMAND, "synth", best, "--length", str(10**9)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert len(synth.stdout.read(10)) == 10
    synth.send_signal(signal.SIGINT)
    assert synth.communicate(timeout=100)[1] == "Interrupted.\n"
    assert synth.returncode == 130


def test_divergence(folder: Path) -> None:
    error = error_of(
        folder, "train", *EXAMPLE, "--updates", "500", "--learning-rate", "1e38", "--quiet"
    )
    assert error.startswith("the loss is not finite any more at update 2, with a gradient of norm ")
    assert error.endswith("; try a lower learning rate than 1e+38 or a smaller clip")
    assert load(folder / "best.h5").last.update == 1


def test_reader_that_leaves_early(best: Path) -> None:
    synth = subprocess.Popen(
        [COMMAND, "synth", best, "--length", "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert len(synth.stdout.read(10)) == 10
    synth.stdout.close()
    assert synth.stderr.read() == b""
    assert synth.wait(100) == 1
    synth.stderr.close()


# Wrong input


def test_errors_end_the_process(tmp_path: Path) -> None:
    """All that follow are of this kind."""
    assert "'--hidden'" in error_of(tmp_path, "train", "--hidden", "0", code=2, run=run)
    assert "No such file" in error_of(tmp_path, "info", "none.h5", code=1, run=run)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            "there is no file or folder 'text'; give a path, - for standard input, or a name: "
            "shakespeare, stdlib",
        ),
        (b"", "'text' is empty; give a text"),
        (
            b"a\0b",
            "'text' is a binary file: its byte 1, counted from 0, is NUL; give a text file, or "
            "--encoding bytes to take each byte for a character",
        ),
        (
            b"short",
            "the text has 5 characters, but batch 1 and sequence length 25 need at least 26; give "
            "a longer text, or a smaller batch or sequence length",
        ),
        (
            b"caf\xe9 au lait",
            "'text' is not utf-8 text: its byte 3, counted from 0, is 0xe9 (invalid continuation "
            "byte); name its encoding with --encoding",
        ),
    ],
)
def test_unusable_text(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "text").write_bytes(content)
    assert error_of(tmp_path, "train", "--corpus", "text", "--quiet") == message
    assert not (tmp_path / "best.h5").exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("hidden", "0", "Invalid value for '--hidden': 0 is not in the range x>=1."),
        (
            "hidden",
            "3000000000",
            "--hidden is 3000000000, but must be a whole number from 1 to 2147483647",
        ),
        ("hidden", "ten", "Invalid value for '--hidden': 'ten' is not a valid integer range."),
        ("learning-rate", "nan", "--learning-rate is nan, but must be a positive number"),
        ("learning-rate", "1e400", "--learning-rate is inf, but must be a positive number"),
        ("learning-rate", "0", "Invalid value for '--learning-rate': 0.0 is not in the range x>0."),
        ("ckpt-every", "nan", "--ckpt-every is nan, but must be a positive number"),
        ("sigma", "inf", "--sigma is inf, but must be zero or a positive number"),
        ("clip", "nan", "--clip is nan, but must be a positive number"),
        (
            "dtype",
            "float16",
            "Invalid value for '--dtype': 'float16' is not one of 'float32', 'float64'.",
        ),
        ("updates", "-1", "Invalid value for '--updates': -1 is not in the range x>=0."),
        ("seed", "-1", "Invalid value for '--seed': -1 is not in the range x>=0."),
        (
            "cell",
            "elman",
            "Invalid value for '--cell': 'elman' is not one of 'rnn', 'lstm', 'gru'.",
        ),
        ("dropout", "1", "Invalid value for '--dropout': 1.0 is not in the range 0<=x<1.0."),
        ("dropout", "nan", "--dropout is nan, but must be zero or a positive number below 1"),
        (
            "beta1",
            "0.5",
            "--beta1 is 0.5, but optimizer adagrad does not use it; leave it out, or take adam or "
            "adamw",
        ),
        (
            "final-rate",
            "0.1",
            "--final-rate is 0.1, but schedule constant does not use it; leave it out, or take "
            "exponential or cosine",
        ),
        ("sed", "1", "No such option: --sed Did you mean --seed?"),
    ],
)
def test_unusable_options(tmp_path: Path, option: str, value: str, message: str) -> None:
    found = error_of(tmp_path, "train", f"--{option}", value, code=2)
    # click's wording changes from version to version, ours does not.
    assert found == message or not message.startswith("--")
    assert f"--{option}" in found


@pytest.mark.parametrize("command", ["synth", "info", "plot"])
def test_unusable_checkpoints(command: str, best: Path, tmp_path: Path) -> None:
    def error(name: str) -> str:
        return error_of(tmp_path, command, name)

    damaged = bytearray(best.read_bytes())
    damaged[5000] ^= 1
    (tmp_path / "damaged.h5").write_bytes(damaged)
    (tmp_path / "short.h5").write_bytes(damaged[:100])
    (tmp_path / "foreign.h5").write_text("something else")
    assert error("missing.h5") == (
        "cannot load missing.h5: No such file or directory; check the path, or train a model first"
    )
    assert error("damaged.h5") == (
        "cannot load damaged.h5: it is damaged, its contents do not match their checksum; "
        "use a backup or train again"
    )
    assert error("short.h5") == (
        "cannot load short.h5: it is damaged, only 100 bytes are left; use a backup or train again"
    )
    assert error("foreign.h5") == (
        "cannot load foreign.h5: it is no fastrnn checkpoint; choose a file that fastrnn saved"
    )
    assert error(".") == "cannot load .: Is a directory; name a file"


def test_unusable_targets_are_found_before_training(folder: Path) -> None:
    def error(*args: str) -> str:
        return error_of(folder, "train", *EXAMPLE, "--updates", str(10**9), "--quiet", *args)

    (folder / "thesis.doc").write_text("years of work")
    (folder / "texts").mkdir()
    (folder / "texts/b.txt").write_text(TEXT)
    assert error("--ckpt", "thesis.doc") == (
        "cannot save thesis.doc: there is a file that is no checkpoint; "
        "choose another path, or move it away"
    )
    assert (folder / "thesis.doc").read_text() == "years of work"
    assert error("--ckpt", ".") == "cannot save .: Is a directory; name a file"
    assert error("--ckpt", "no/best.h5") == (
        "cannot save no/best.h5: No such file or directory; create its folder first"
    )
    assert error("--ckpt", "/dev/null") == (
        "cannot save /dev/null: Invalid argument; choose another path"
    )
    assert error("--log", "no/log") == (
        "cannot write no/log: there is no such folder; choose another path"
    )
    assert error("--log", ".") == "cannot write .: it is a folder; choose another path"
    taken = "it is a checkpoint or a text in use; choose another path"
    assert error("--log", "a text.txt") == f"cannot write a text.txt: {taken}"
    assert error("--ckpt", "new.h5", "--log", "./new.h5") == f"cannot write ./new.h5: {taken}"
    assert (
        error("--log", "texts/b.txt", "--corpus", "texts") == f"cannot write texts/b.txt: {taken}"
    )
    assert (folder / "a text.txt").read_text() == (folder / "texts/b.txt").read_text() == TEXT
    assert not (folder / "new.h5").exists()


def test_log_replaces_no_checkpoint(best: Path) -> None:
    before = best.read_bytes()
    options = ("--updates", "9", "--quiet", "--log", "best.h5")
    assert error_of(best.parent, "train", *EXAMPLE, *options) == (
        "cannot write best.h5: it is a checkpoint or a text in use; choose another path"
    )
    assert best.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--prime", "Ω"],
            "the character 'Ω' (U+03A9) at position 0, counted from 0, is not among the 32 "
            "characters of the vocabulary; leave it out, or train on a text that has it",
        ),
        (
            ["--temperature", "nan"],
            "temperature is nan, but must be zero or a positive number",
        ),
    ],
)
def test_unusable_synthesis_options(best: Path, options: list[str], message: str) -> None:
    assert error_of(best.parent, "synth", best, *options) == message


# Odd surroundings


def test_terminal_that_cannot_show_the_text(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("Ωμέγα 😀 " * 40, encoding="utf-8")
    options = ("--corpus", "text", "--updates", "1")
    trained = run(tmp_path, "train", *options, PYTHONIOENCODING="ascii")
    assert trained.returncode == 0
    assert len(trained.stdout) > 300
    assert run(tmp_path, "synth", "best.h5", PYTHONIOENCODING="ascii").returncode == 0


def test_no_home(folder: Path) -> None:
    ended = run(folder, "train", *EXAMPLE, "--updates", "1", "--quiet", HOME=None)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
