"""The command line: each command parses, calls one function, and prints.

What a command needs is imported inside it, so that `fastrnn --help` answers at once. Help texts are
arguments, not docstrings, which Python can be told to leave out.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import Field, fields
from typing import Any

import click
from click.core import ParameterSource

from fastrnn import config as defaults
from fastrnn._version import __version__
from fastrnn.checks import Bounds, Real, Whole, real
from fastrnn.config import CELLS, Config, default_in_words, option_name
from fastrnn.console import ERR, OUT, ModelText, drop_what_failed, open_closed_streams, reason_of
from fastrnn.errors import FastrnnError
from fastrnn.presets import PRESETS, preset
from fastrnn.training.signals import ending_at_once, interrupting_once, say_interrupted

DEFAULT_CHECKPOINT = "best.h5"
BEGAN = time.monotonic()

whole = click.IntRange(min=1)
seed_type = click.IntRange(min=0, max=2**31 - 1)
positive = click.FloatRange(min=0, min_open=True)


def text_options(command: Callable) -> Callable:
    """The options that say which text: `sources`, in the order given, and `encoding`."""
    for add in (
        click.option(
            "--encoding",
            default="utf-8",
            metavar="NAME",
            help="Encoding of the text; bytes: each byte is a character.",
        ),
        click.option(
            "--corpus",
            "sources",
            multiple=True,
            metavar="TEXT",
            help="The same as to name the TEXT; may be repeated.",
        ),
        click.argument("texts", nargs=-1, type=click.Path(), metavar="[TEXT]..."),
    ):
        command = add(command)
    return command


checkpoint_argument = click.argument("checkpoint", type=click.Path())


def setting_option(field: Field) -> Callable:
    """The option of a field of Config, with its bounds, its help and its default."""
    bounds, help = field.metadata["bounds"], field.metadata["help"]
    if words := default_in_words(field.name):
        help += f"  [default: {words}]"
    name = f"--{option_name(field.name)}"
    return click.option(name, default=field.default, help=help, **click_type(bounds))


def click_type(bounds: Bounds) -> dict[str, Any]:
    """Bounds for click, which shows them and refuses what it can; `Config` refuses the rest."""
    if isinstance(bounds, Whole):
        return {"type": click.IntRange(min=bounds.lowest)}
    if isinstance(bounds, Real):
        below = bounds.below if bounds.below < math.inf else None
        return {"type": click.FloatRange(0, below, min_open=not bounds.zero, max_open=True)}
    return {"type": click.Choice(bounds)} if isinstance(bounds, tuple) else {"is_flag": True}


def settings(*names: str) -> Callable[[Callable], Callable]:
    """The options of these fields of Config, or of all."""

    def add(command: Callable) -> Callable:
        for field in reversed(fields(Config)):
            if not names or field.name in names:
                command = setting_option(field)(command)
        return command

    return add


@contextmanager
def usage_errors() -> Iterator[None]:
    """Wrong values of options are errors of usage."""
    try:
        yield
    except FastrnnError as error:
        raise click.UsageError(f"--{error}") from error


class Commands(click.Group):
    """Commands whose expected failures are one line on standard error, and exit code 1 or 130."""

    def invoke(self, context: click.Context) -> Any:
        _show_logged_warnings()
        code: Any = 0
        try:
            with interrupting_once():
                super().invoke(context)
        except SystemExit as end:
            code = end.code
        except FastrnnError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            say_interrupted()
            code = 130
        except MemoryError as error:
            raise click.ClickException(
                f"not enough memory ({error}); use fewer hidden units, a shorter sequence length "
                "or a smaller batch"
            ) from error
        if OUT.problem is not None:
            _say_lost(OUT.problem)
            code = code or 1
        if code:
            sys.exit(code)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    help="""Train a recurrent network on any text, character by character, and let it write.

    \b
    Example:
      fastrnn train --epochs 9 --ckpt best.h5
      fastrnn synth best.h5
    """,
)
@click.version_option(__version__, prog_name="fastrnn", message="%(prog)s %(version)s")
def cli() -> None: ...


@cli.command(
    short_help="Train a network, and keep its best model.",
    help="""Train a network on a TEXT, and keep the model with the lowest loss.

    A TEXT is a file, also .gz, a folder, - for standard input, or 'shakespeare' to download;
    several are put together. Without one it is the language reference in Python's documentation.

    The checkpoint is written at the end, at intervals, and on Ctrl-C. One that is already there is
    kept under the next free name, best.1.h5 for best.h5. The defaults are the reference
    experiment's, and for gated or deep models what trains those. A preset is a set of other
    defaults: see fastrnn presets.

    With --val-fraction the end of the text is held out, and the best model is that of the lowest
    loss there; without, that of the lowest smooth loss.

    \b
    Example:
      fastrnn train --epochs 9 --ckpt best.h5
      fastrnn train --preset small book.txt
      fastrnn train book.txt --init-from best.h5 --ckpt book.h5
      fastrnn train book.txt --hidden 200 --learning-rate 0.03
      fastrnn train book.txt --cell lstm --hidden 256 --batch 8
      cat *.txt | fastrnn train -
    """,
)
@text_options
@click.option(
    "--preset",
    "preset_name",
    type=click.Choice(tuple(PRESETS)),
    help="Other defaults for all settings below: see fastrnn presets.",
)
@click.option(
    "--init-from",
    type=click.Path(),
    metavar="CHECKPOINT",
    help="Start from its best model, whose cell, hidden units, layers and dtype are then taken.",
)
@click.option(
    "--vocabulary",
    type=click.Choice(("union", "new")),
    default="union",
    help="With --init-from: keep the characters that the new text lacks, or have only its own.",
)
@settings()
@click.option(
    "--ckpt",
    "path",
    type=click.Path(),
    default=DEFAULT_CHECKPOINT,
    help="Checkpoint file to write.",
)
@click.option(
    "--overwrite", is_flag=True, help="Replace a checkpoint that is already there; do not keep it."
)
@click.option(
    "--ckpt-every",
    type=positive,
    default=defaults.CHECKPOINT_EVERY,
    help="Seconds between two writes of the checkpoint.",
)
@click.option(
    "--sample-every",
    type=click.IntRange(min=0),
    default=defaults.SAMPLE_EVERY,
    help="Write a sample before every so many-th update; 0: none.",
)
@click.option(
    "--sample-length", type=whole, default=defaults.SAMPLE_LENGTH, help="Characters of a sample."
)
@click.option(
    "--threads",
    type=click.IntRange(min=1, max=defaults.MOST_THREADS),
    help="Most threads that work together, up to one for each processor; the results are the same."
    "  [default: one for each physical core available, fewer for a small network]",
)
@click.option("--log", type=click.Path(), help="Write a log there, one JSON object a line.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but warnings.")
def train(
    texts: tuple[str, ...],
    sources: tuple[str, ...],
    encoding: str,
    preset_name: str | None,
    init_from: str | None,
    vocabulary: str,
    path: str,
    overwrite: bool,
    ckpt_every: float,
    sample_every: int,
    sample_length: int,
    threads: int | None,
    log: str | None,
    quiet: bool,
    **given: Any,
) -> None:
    context = click.get_current_context()
    source = context.get_parameter_source
    given = {key: one for key, one in given.items() if source(key) is not ParameterSource.DEFAULT}
    settings, model = given, None
    if init_from is not None:
        from fastrnn.model import load
        from fastrnn.training.start import architecture_of, refuse_contradictions

        model = load(init_from)
        with usage_errors():
            refuse_contradictions(model, given)
        settings = given | architecture_of(model)
    with usage_errors():
        real("ckpt-every", ckpt_every, infinity=True)  # NaN is in every range
        config = preset(preset_name or "reference", **settings)
        if init_from is None and vocabulary != "union":
            raise FastrnnError("vocabulary is new, which is of use only with --init-from")

    from fastrnn.presets import fit
    from fastrnn.text.corpus import read_corpus
    from fastrnn.training import diagnosis
    from fastrnn.training.loop import train
    from fastrnn.training.observers import Observer
    from fastrnn.training.progress import JsonLog, Progress, Warnings, reading, report_files

    texts = texts + sources
    if not texts and not quiet:
        ERR.say("No text was named: training on the language reference in Python's documentation.")
    if log is not None:
        _check_output(log, keep=(path, *texts))
    with nullcontext() if quiet else reading(texts) as progress:
        corpus = read_corpus(texts, encoding, progress)
    if not quiet:
        report_files(corpus, max(len(texts), 1))
        if preset_name and (advice := fit(config, corpus.length, len(corpus.vocabulary))):
            ERR.say(advice)
    shown = Warnings() if quiet else Progress()
    observers: list[Observer] = [shown]
    if log is not None:
        observers.append(JsonLog(log, shown.warned, BEGAN))
    with ending_at_once():
        trained = train(
            corpus,
            config,
            path=path,
            overwrite=overwrite,
            checkpoint_every=ckpt_every,
            sample_every=sample_every,
            sample_length=sample_length,
            threads=threads,
            init_from=model,
            vocabulary=vocabulary,
            observers=observers,
        )
    lost = any(isinstance(one, JsonLog) and one.problem for one in observers)
    if lost or diagnosis.failed(trained):
        sys.exit(1)


def drawing_options(command: Callable) -> Callable:
    """The options that say how characters are drawn."""
    for add in (
        click.option(
            "--top-p",
            type=click.FloatRange(0, 1, min_open=True),
            default=1.0,
            help="Then only the likeliest that together have this share of the probability.",
        ),
        click.option(
            "--top-k", type=whole, help="Draw from so many of the likeliest characters only."
        ),
        click.option("--greedy", is_flag=True, help="The same as --temperature 0."),
        click.option(
            "--temperature",
            type=click.FloatRange(min=0),
            default=1.0,
            help="Below 1 plainer text, above 1 wilder; 0: always the likeliest character.",
        ),
        click.option(
            "--seed",
            type=seed_type,
            help="Seed of the text: the same one gives the same text.  [default: random]",
        ),
    ):
        command = add(command)
    return command


unknown_option = click.option(
    "--unknown",
    type=click.Choice(("error", "skip", "replace")),
    default="error",
    help="What to do with characters that the model does not know.",
)
last_option = click.option("--last", is_flag=True, help="Take the last model instead of the best.")


def drawing(
    seed: int | None, temperature: float, greedy: bool, top_k: int | None, top_p: float
) -> dict[str, Any]:
    """What `drawing_options` say, as arguments of Model's methods; always with a seed."""
    if greedy and temperature not in (0, 1):
        raise click.UsageError("--greedy is --temperature 0; give one of the two")
    if greedy:
        temperature = 0.0
    if temperature == 0 and (top_k is not None or top_p < 1):
        raise click.UsageError(
            "--top-k and --top-p are of no use where the likeliest character is always taken"
        )
    if seed is None:
        seed = secrets.randbits(31)
    return {"seed": seed, "temperature": temperature, "top_k": top_k, "top_p": top_p}


@cli.command(
    short_help="Let a trained model write.",
    help="""Let the best model of a checkpoint write.

    What it writes is printed as it is; only a terminal gets control characters as escapes. Several
    texts are written side by side, with an empty line between them; the first is that of the same
    seed without --count.

    With --lines every line is written by itself, as if nothing were before it: names, for example,
    by a model of a list of names. If too few are left by --novel and --unique, the exit code is 1.

    \b
    Example:
      fastrnn synth best.h5
      fastrnn synth best.h5 --length 300 --seed 1 --prime "The " --temperature 0.7
      fastrnn synth best.h5 --count 64 --top-p 0.9 --json --output texts.jsonl
      fastrnn synth names.h5 --lines 20 --unique --novel names.txt
    """,
)
@checkpoint_argument
@click.option(
    "--length", type=click.IntRange(min=0), default=1000, help="Characters to write, at most."
)
@click.option("--prime", default="", help="Text to continue; it is printed first.")
@click.option("--prime-file", type=click.Path(), help="The same from a file.")
@unknown_option
@drawing_options
@click.option("--stop", metavar="TEXT", help="End before this text.")
@click.option("--count", type=whole, help="Write so many texts.")
@click.option("--lines", type=whole, help="Write so many lines, each by itself.")
@click.option(
    "--novel", multiple=True, metavar="TEXT", help="Leave out lines of this text; may be repeated."
)
@click.option("--unique", is_flag=True, help="Leave out lines that were there before.")
@click.option("--json", "as_json", is_flag=True, help="An object a line for each text or line.")
@click.option("--output", "-o", type=click.Path(), help="Write into this file instead.")
@last_option
def synth(
    checkpoint: str,
    length: int,
    prime: str,
    prime_file: str | None,
    unknown: str,
    stop: str | None,
    count: int | None,
    lines: int | None,
    novel: tuple[str, ...],
    unique: bool,
    as_json: bool,
    output: str | None,
    last: bool,
    **given: Any,
) -> None:
    options = drawing(**given) | {"unknown": unknown}
    if lines is None and (novel or unique):
        raise click.UsageError("--novel and --unique are of use only with --lines")
    if lines is not None and (count is not None or stop is not None):
        raise click.UsageError("--lines writes lines; leave out --count and --stop")
    if prime and prime_file is not None:
        raise click.UsageError("--prime and --prime-file are two beginnings; give one of them")
    if stop == "":
        raise click.UsageError("--stop is empty; give the text to end before")

    from fastrnn.model import Model
    from fastrnn.scoring import lines_of
    from fastrnn.storage.checkpoint import load
    from fastrnn.storage.files import write
    from fastrnn.text.sources import normalised, read_text

    if output is not None:
        _check_output(output, keep=(checkpoint, *novel, prime_file or checkpoint))
    trained = load(checkpoint)
    encoding = trained.corpus.encoding
    model = Model.from_checkpoint(trained, last=last)
    kept: list[bytes] | None = None if output is None else []
    text = ModelText(encoding, kept)
    if prime_file is not None:
        prime = "".join(read_text(prime_file, encoding))
    else:
        prime = os.fsencode(prime).decode("latin-1") if text.bytes else normalised(prime)
    prime, _ = model.vocabulary.fit(prime, unknown)

    def put(piece: str, index: int, name: str = "text") -> None:
        """A whole text or line."""
        if as_json:
            object = {"index": index, "seed": options["seed"], name: piece}
            piece = json.dumps(object, ensure_ascii=False)
            if text.bytes:
                piece = piece.encode().decode("latin-1")
        text.write(piece)
        text.end(always=as_json or lines is not None)

    with ending_at_once():
        if lines is not None:
            known = {line for one in novel for line in lines_of(read_text(one, encoding))}
            options |= {"prime": prime, "longest": max(length, 1), "novel": known}
            written = model.lines(lines, unique=unique, **options)
            # What has been found is not lost if there is no more.
            try:
                for index, line in enumerate(written):
                    put(line, index, "line")
                    if OUT.problem is not None:
                        break
            finally:
                if output is not None and kept is not None:
                    write(output, b"".join(kept))
                OUT.flush()
        elif count is not None or as_json:
            options |= {"prime": prime, "stop": stop}
            for index, piece in enumerate(model.samples(count or 1, length, **options)):
                if index and not as_json and (text.terminal or not text.bytes):
                    text.write("\n")
                put(prime + piece, index)
                if OUT.problem is not None:
                    break
        else:
            pieces = model.stream(length, prime=prime, stop=stop, **options)
            text.write(prime)
            for piece in pieces:
                text.write(piece)
                if OUT.problem is not None:
                    break
            text.end()
        if output is not None and kept is not None:
            write(output, b"".join(kept))
    _say_what_was_written(output)


@cli.command(
    short_help="Tell how surprising a text is for a model.",
    help="""Tell how surprised the best model of a checkpoint is by each TEXT.

    The surprise is measured in nats, bits and perplexity, per character: a model that expects every
    character has 0 bits, one that knows nothing about K characters log2 K. Each TEXT, a file, a
    folder or - for standard input, is read once from its start; its first character is not
    predicted, and not counted.

    With --per-line every line is read as a text of its own, and the most surprising come first;
    with --per-character there is a row for each character.

    \b
    Example:
      fastrnn score best.h5 new.txt
      fastrnn score best.h5 access.log --per-line --top 20 --unknown replace
      fastrnn score best.h5 new.txt --per-character --format csv
    """,
)
@checkpoint_argument
@click.argument("texts", nargs=-1, required=True, type=click.Path(), metavar="TEXT...")
@click.option("--per-line", is_flag=True, help="A row for each line, most surprising first.")
@click.option("--top", type=whole, help="With --per-line, only so many.  [default: all]")
@click.option("--per-character", is_flag=True, help="A row for each character.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("table", "json", "csv")),
    default="table",
    help="A table, JSON lines, or CSV.",
)
@click.option("--encoding", metavar="NAME", help="Of the texts.  [default: the training text's]")
@unknown_option
@last_option
def score(
    checkpoint: str,
    texts: tuple[str, ...],
    per_line: bool,
    top: int | None,
    per_character: bool,
    form: str,
    encoding: str | None,
    unknown: str,
    last: bool,
) -> None:
    if per_line and per_character:
        raise click.UsageError("give one of --per-line and --per-character")
    if top is not None and not per_line:
        raise click.UsageError("--top is of use only with --per-line")

    from fastrnn.model import Model
    from fastrnn.report.rows import Rows
    from fastrnn.scoring import lines_of, most_surprising
    from fastrnn.storage.checkpoint import load
    from fastrnn.storage.files import shown
    from fastrnn.text.sources import read_text

    trained = load(checkpoint)
    model = Model.from_checkpoint(trained, last=last)
    encoding = encoding or trained.corpus.encoding
    if per_line:
        rows = Rows(form, "bits_per_character", "nats", "unknown", "line", "text")
    elif per_character:
        rows = Rows(form, "position", "nats", "probability", "character")
    else:
        rows = Rows(
            form,
            "characters",
            "nats_per_character",
            "bits_per_character",
            "perplexity",
            "unknown",
            "file",
        )

    def lines_of_text(text: str) -> Iterator[str]:
        scores = model.score_lines(lines_of(read_text(text, encoding)), unknown=unknown)
        for one in most_surprising(scores, top):
            bits = one.score.bits_per_character
            yield rows.row(bits, one.score.nats, one.score.unknown, one.line, one.text)

    def characters_of_text(text: str) -> Iterator[str]:
        reader, position = model.reader(unknown), itertools.count()
        for piece in read_text(text, encoding):
            for character, nats in zip(*reader.read(piece), strict=True):
                yield rows.row(next(position), float(nats), math.exp(-nats), character)

    def whole_text(text: str) -> Iterator[str]:
        reader = model.reader(unknown)
        for piece in read_text(text, encoding):
            reader.read(piece)
        found = reader.score
        numbers = found.nats_per_character, found.bits_per_character, found.perplexity
        yield rows.row(found.characters, *numbers, found.unknown, shown(text))

    rows_of = lines_of_text if per_line else characters_of_text if per_character else whole_text
    with ending_at_once():
        if header := rows.header():
            OUT.write(header + "\n")
        for line in itertools.chain.from_iterable(map(rows_of, texts)):
            OUT.write(line + "\n")
            if OUT.problem is not None:
                break
        OUT.flush()


@cli.command(
    short_help="Tell what a model has learnt by heart.",
    help="""Compare what the best model of a checkpoint writes with the text it was trained on.

    It writes a sample, and this tells which share of its substrings of 1 to 50 characters occurs in
    the text, the longest passage copied and its place, and which share of its words the text has.
    With --lines the sample is that many lines, and this tells how many of them are valid,
    different, and not in the text.

    The text is given as for train.

    \b
    Example:
      fastrnn novelty best.h5 --corpus book.txt --plot novelty.png
      fastrnn novelty names.h5 --corpus names.txt --lines 1000 --check "[A-Z][a-z]+"
    """,
)
@checkpoint_argument
@text_options
@click.option("--length", type=whole, default=20_000, help="Characters of the sample.")
@click.option("--lines", type=whole, help="The sample is so many lines, each written by itself.")
@click.option("--check", metavar="REGEX", help="With --lines: what a valid line matches.")
@drawing_options
@click.option("--plot", "plot_path", type=click.Path(), help="Draw the shares: PNG, SVG or PDF.")
@last_option
def novelty(
    checkpoint: str,
    texts: tuple[str, ...],
    sources: tuple[str, ...],
    encoding: str,
    length: int,
    lines: int | None,
    check: str | None,
    plot_path: str | None,
    last: bool,
    **given: Any,
) -> None:
    options = drawing(**given)
    if check is not None and lines is None:
        raise click.UsageError("--check is of use only with --lines")
    if plot_path is not None and lines is not None:
        raise click.UsageError("--plot draws the substrings of a text; leave out --lines")

    from fastrnn.model import Model
    from fastrnn.parameters import describe
    from fastrnn.report import novelty as module
    from fastrnn.storage.checkpoint import load
    from fastrnn.storage.files import check_picture
    from fastrnn.text.corpus import read_corpus
    from fastrnn.training.progress import reading

    if check is not None:
        with usage_errors():
            module.compiled(check)
    texts = texts + sources
    if plot_path is not None:
        check_picture(plot_path)
        _check_output(plot_path, keep=(checkpoint, *texts))
    trained = load(checkpoint)
    model = Model.from_checkpoint(trained, last=last)
    if trained.corpus.encoding == "bytes":
        encoding = "bytes"
    with reading(texts) as progress:
        corpus = read_corpus(texts, encoding, progress)
    if corpus.sha256 != trained.corpus.sha256:
        ERR.say(
            f"Note: this is another text than the model was trained on, {trained.corpus.name} of "
            f"{trained.corpus.length:,} characters."
        )
    with ending_at_once():
        if lines is not None:
            items = list(model.lines(lines, **options))
            OUT.say(module.describe_items(module.item_novelty(items, corpus, check)))
        else:
            found = module.novelty(model.sample(length, **options), corpus)
            OUT.say(module.describe(found))
            if plot_path is not None:
                from fastrnn.report.plots import plot_novelty

                name = describe(trained.config, len(model.vocabulary))
                plot_novelty(found, name, plot_path)
    _say_what_was_written(plot_path)


@cli.command(
    short_help="Measure the speed against NumPy.",
    help="""Measure the kernels' speed against the NumPy baseline, in under a minute; the first time
    they are compiled before, which takes as long again.

    \b
    Example:
      fastrnn bench
      fastrnn bench --json bench.json --plot bench.png
    """,
)
@click.option("--json", "json_path", type=click.Path(), help="Write all measurements there.")
@click.option("--plot", "plot_path", type=click.Path(), help="Draw the ratios: PNG, SVG or PDF.")
def bench(json_path: str | None, plot_path: str | None) -> None:
    from fastrnn.measure import bench
    from fastrnn.storage.files import check_picture

    if json_path is not None:
        _check_output(json_path)
    if plot_path is not None:
        check_picture(plot_path)
        _check_output(plot_path)
    result = bench.run()
    OUT.say(bench.format_table(result))
    if json_path is not None:
        result.save(json_path)
    if plot_path is not None:
        bench.plot(result, plot_path)
    _say_what_was_written(json_path, plot_path)


@cli.command(
    short_help="Check the gradient against numerical derivatives.",
    help="""Check the gradient of every parameter against numerical derivatives.

    Central differences are compared as the reference experiment does, beside its own figures:
    the largest |ga - gn| over the sum of all |ga| + |gn|. At most twice its figure is allowed;
    nearly all of it is the error of the differences, which depends on the text and the seed.
    Complex-step derivatives of the NumPy reference have no such error: at most 1e-13 by the same
    measure, and 1e-11 element by element, which the rounding of a tiny element can exceed with
    some seeds. Exit code 1 if one is over its bound.

    The text is given as for train.

    \b
    Example:
      fastrnn gradcheck
      fastrnn gradcheck --cell lstm --layers 2 --dropout 0.5
    """,
)
@text_options
@settings("cell", "layers", "dropout", "loss")
@click.option("--seed", type=seed_type, default=0, help="Seed of the weights.")
@click.option("--json", "json_path", type=click.Path(), help="Write the figures there.")
def gradcheck(
    texts: tuple[str, ...],
    sources: tuple[str, ...],
    encoding: str,
    seed: int,
    json_path: str | None,
    **model: Any,
) -> None:
    with usage_errors():
        Config(**model)

    from dataclasses import asdict
    from itertools import groupby

    from fastrnn.gradcheck import Check, check_gradients, format_table, verdict
    from fastrnn.storage.files import write
    from fastrnn.text.corpus import read_corpus
    from fastrnn.training.progress import reading

    texts = texts + sources
    if json_path is not None:
        _check_output(json_path, keep=texts)
    checks: list[Check] = []
    with reading(texts) as progress:
        corpus = read_corpus(texts, encoding, progress)
    for _, group in groupby(check_gradients(corpus, seed, **model), key=lambda check: check.hidden):
        checks += (rows := list(group))
        OUT.say(format_table(rows) + "\n")
    OUT.say(verdict(checks))
    if json_path is not None:
        figures = [asdict(check) | {"passed": check.passed} for check in checks]
        write(json_path, json.dumps(figures, indent=1).encode())
    _say_what_was_written(json_path)
    if not all(check.passed for check in checks):
        sys.exit(1)


@cli.command(
    short_help="Draw the loss of a training.",
    help="""Draw the smooth loss over the updates of a training, and the validation loss.

    \b
    Example:
      fastrnn plot best.h5 -o loss.png
    """,
)
@checkpoint_argument
@click.option("--output", "-o", type=click.Path(), default="loss.png", help="PNG, SVG or PDF file.")
def plot(checkpoint: str, output: str) -> None:
    from fastrnn.report.plots import plot_loss
    from fastrnn.storage.checkpoint import load

    _check_output(output, keep=(checkpoint,))
    plot_loss(load(checkpoint), output)
    _say_what_was_written(output)


@cli.command(
    short_help="Print what a checkpoint holds.",
    help="""Print what a checkpoint holds.

    \b
    Example:
      fastrnn info best.h5
    """,
)
@checkpoint_argument
def info(checkpoint: str) -> None:
    from fastrnn.storage.checkpoint import describe, load

    OUT.say(describe(load(checkpoint)))


@cli.command(
    short_help="List the presets of train.",
    help="""List the presets of train: their settings, and what they reach on tiny Shakespeare.

    \b
    Example:
      fastrnn presets
    """,
)
def presets() -> None:
    from fastrnn.presets import describe

    OUT.say("\n\n".join(map(describe, PRESETS)))


@cli.command(
    short_help="Compile the kernels ahead of the first training.",
    help="""Compile the kernels now, so that training, sampling and gradcheck start at once.

    They are kept in your cache folder until fastrnn, its dependencies or the processor change.
    bench compiles some more, which repeat single phases.

    \b
    Example:
      fastrnn warmup
      fastrnn warmup --cell lstm
    """,
)
@click.option(
    "--cell",
    "cells",
    type=click.Choice(CELLS),
    multiple=True,
    help="Only the kernels of this cell; may be repeated.  [default: all]",
)
def warmup(cells: tuple[str, ...]) -> None:
    from fastrnn.kernels.compile import kernel_folder, unkept
    from fastrnn.warmup import compile_all

    ERR.say("Compiling the kernels.")
    with ending_at_once():
        compile_all(cells or CELLS)
    if unkept:  # of which a warning told
        sys.exit(1)
    OUT.say(f"They are in {kernel_folder()}")


def _check_output(path: str, keep: Sequence[str] = ()) -> None:
    """Find out before long work whether a file can be written, and that none is lost by it."""
    from fastrnn.storage.checkpoint import is_checkpoint
    from fastrnn.storage.files import shown

    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    kept = [os.path.realpath(one) for one in keep]
    in_kept_folder = any(target.startswith(one + os.sep) for one in kept)
    if is_checkpoint(path) or target in kept or (in_kept_folder and os.path.exists(target)):
        problem = "it is a checkpoint or a text in use"
    elif os.path.isdir(target):
        problem = "it is a folder"
    elif not os.path.isdir(folder):
        problem = "there is no such folder"
    elif not os.access(target if os.path.exists(target) else folder, os.W_OK):
        problem = "permission denied"
    else:
        return
    raise FastrnnError(f"cannot write {shown(path)}: {problem}; choose another path")


def _say_what_was_written(*paths: str | None) -> None:
    from fastrnn.storage.files import shown

    for path in paths:
        if path is not None:
            ERR.say(f"Wrote {shown(path)}")


def _show_logged_warnings() -> None:
    """Print what the package logs, such as damage to its cache, as the other warnings."""
    import logging

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            ERR.say(f"Warning: {record.getMessage()}")

    logger = logging.getLogger("fastrnn")
    logger.propagate = False
    logger.addHandler(Handler())


def _say_lost(problem: OSError | ValueError) -> None:
    """A word of output that is lost, unless its reader had enough."""
    if not isinstance(problem, BrokenPipeError):
        ERR.say(f"Error: cannot write the output: {reason_of(problem)}")


def main() -> None:
    """The `fastrnn` command."""
    open_closed_streams()
    # Only the NumPy baseline uses BLAS, on matrices too small for threads, which would wait for
    # each other on a busy machine.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Text may have characters that the terminal's encoding does not: show them somehow.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with ending_at_once():
            cli(prog_name="fastrnn")
    except OSError as error:  # of click, which prints the help
        _say_lost(error)
        sys.exit(1)
    finally:
        drop_what_failed()
