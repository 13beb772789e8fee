"""Commands: what a trained model writes, how it reads, and what it has learnt by heart."""

from __future__ import annotations

import itertools
import json
import math
import os
import shlex
from collections.abc import Iterator
from typing import Any

import click

from fastrnn.cli.group import cli, usage_errors
from fastrnn.cli.options import (
    checkpoint_argument,
    drawing,
    drawing_options,
    encoding_for_model,
    encoding_of,
    last_option,
    text_options,
    unknown_option,
    whole,
)
from fastrnn.cli.outputs import check_output, say_what_was_written
from fastrnn.console import ERR, OUT, ModelText
from fastrnn.training.signals import ending_at_once

SAMPLE = 20_000  # characters that novelty looks at


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
@encoding_for_model("--prime-file and --novel")
@unknown_option
@drawing_options
@click.option("--stop", metavar="TEXT", help="End before this text.")
@click.option("--count", type=whole, help="Write this many texts.")
@click.option("--lines", type=whole, help="Write this many lines, each by itself.")
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
    encoding: str | None,
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
    if lines is not None and length == 0:
        raise click.UsageError("--length is 0, but a line has at least one character")
    if prime and prime_file is not None:
        raise click.UsageError("--prime and --prime-file are two beginnings; give one of them")
    if encoding is not None and prime_file is None and not novel:
        raise click.UsageError("--encoding is of use only with --prime-file or --novel")
    if stop == "":
        raise click.UsageError("--stop is empty; give the text to end before")

    from fastrnn.model import Model
    from fastrnn.scoring import lines_of
    from fastrnn.storage.checkpoint import load
    from fastrnn.storage.files import write
    from fastrnn.text.sources import found_again, normalised, read_text

    trained = load(checkpoint)
    encoding = encoding_of(encoding, trained)
    if output is not None:
        trained_on = found_again(trained.corpus.sources or (), trained.corpus.folder)
        check_output(output, keep=(checkpoint, *trained_on, *novel, prime_file or checkpoint))
    model = Model.from_checkpoint(trained, last=last)
    kept: list[bytes] | None = None if output is None else []
    text = ModelText(trained.corpus.encoding, kept)
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

    def put_all() -> None:
        if lines is not None:
            known = {line for one in novel for line in lines_of(read_text(one, encoding))}
            found = {"prime": prime, "longest": length, "novel": known, "unique": unique}
            for index, line in enumerate(model.lines(lines, **options | found)):
                put(line, index, "line")
                if OUT.problem is not None:
                    return
        elif count is not None or as_json:
            begun = {"prime": prime, "stop": stop}
            for index, piece in enumerate(model.samples(count or 1, length, **options | begun)):
                if index and not as_json and (text.terminal or not text.bytes):
                    text.write("\n")
                put(prime + piece, index)
                if OUT.problem is not None:
                    return
        else:
            pieces = model.stream(length, prime=prime, stop=stop, **options)
            text.write(prime)
            for piece in pieces:
                text.write(piece)
                if OUT.problem is not None:
                    return
            text.end()

    with ending_at_once():
        try:
            put_all()
        finally:  # what there is, if no more lines are found
            if output is not None and kept:
                write(output, b"".join(kept))
            OUT.flush()
    say_what_was_written(output)


@cli.command(
    short_help="Tell how surprising a text is for a model.",
    help="""Tell how surprised the best model of a checkpoint is by each TEXT.

    The surprise is measured in nats, bits and perplexity, per character: a model that expects every
    character has 0 bits, one that knows nothing about K characters log2 K. Each TEXT, a file, a
    folder or - for standard input, is read once from its start; its first character is not
    predicted, and not counted.

    With --per-line every line is read as a text of its own, and the most surprising come first;
    with --per-character there is a row for each character. Of several TEXTs each row says which.

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
@click.option("--top", type=whole, help="With --per-line, at most this many rows.  [default: all]")
@click.option("--per-character", is_flag=True, help="A row for each character.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("table", "json", "csv")),
    default="table",
    help="A table, JSON lines, or CSV.",
)
@encoding_for_model("the texts")
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
    encoding = encoding_of(encoding, trained)
    file = ["file"] if len(texts) > 1 else []  # of which lines and characters are
    if per_line:
        rows = Rows(form, "bits_per_character", "nats", "unknown", "line", *file, "text")
    elif per_character:
        rows = Rows(form, "position", "nats", "probability", *file, "character")
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
            numbers = bits, one.score.nats, one.score.unknown, one.line
            yield rows.row(*numbers, *[shown(text)] * len(file), one.text)

    def characters_of_text(text: str) -> Iterator[str]:
        reader, position = model.reader(unknown), itertools.count()
        for piece in read_text(text, encoding):
            for character, nats in zip(*reader.read(piece), strict=True):
                numbers = next(position), float(nats), math.exp(-nats)
                yield rows.row(*numbers, *[shown(text)] * len(file), character)

    def whole_text(text: str) -> Iterator[str]:
        reader = model.reader(unknown)
        for piece in read_text(text, encoding):
            reader.read(piece)
        found = reader.score
        numbers = found.nats_per_character, found.bits_per_character, found.perplexity
        yield rows.row(found.characters, *numbers, found.unknown, shown(text))

    rows_of = lines_of_text if per_line else characters_of_text if per_character else whole_text
    with ending_at_once():
        lines = itertools.chain.from_iterable(map(rows_of, texts))
        first = [*itertools.islice(lines, 1)]  # before the header: a wrong text has neither
        header = filter(None, [rows.header()])
        for line in itertools.chain(header, first, lines):
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

    The text is read again from where it was at the training, unless a TEXT is given, as for train.

    \b
    Example:
      fastrnn novelty best.h5
      fastrnn novelty best.h5 book.txt --plot novelty.png
      fastrnn novelty names.h5 --lines 1000 --check "[A-Z][a-z]+"
    """,
)
@checkpoint_argument
@text_options
@encoding_for_model("the text")
@click.option("--length", type=whole, help=f"Characters of the sample.  [default: {SAMPLE}]")
@click.option("--lines", type=whole, help="The sample is this many lines, each written by itself.")
@click.option("--check", metavar="REGEX", help="With --lines: what a valid line matches.")
@drawing_options
@click.option("--plot", "plot_path", type=click.Path(), help="Draw the shares: PNG, SVG or PDF.")
@last_option
def novelty(
    checkpoint: str,
    texts: tuple[str, ...],
    sources: tuple[str, ...],
    encoding: str | None,
    length: int | None,
    lines: int | None,
    check: str | None,
    plot_path: str | None,
    last: bool,
    **given: Any,
) -> None:
    options = drawing(**given)
    if check is not None and lines is None:
        raise click.UsageError("--check is of use only with --lines")
    if length is not None and lines is not None:
        raise click.UsageError("--length is that of a text; leave it out, or --lines")
    if plot_path is not None and lines is not None:
        raise click.UsageError("--plot draws the substrings of a text; leave out --lines")
    texts = texts + sources
    if encoding is not None and not texts:
        raise click.UsageError("--encoding is of use only with a TEXT")

    from fastrnn.model import Model
    from fastrnn.parameters import describe
    from fastrnn.report import novelty as module
    from fastrnn.storage.checkpoint import load
    from fastrnn.storage.files import check_picture
    from fastrnn.text.corpus import read_corpus
    from fastrnn.text.sources import found_again
    from fastrnn.training.progress import reading
    from fastrnn.training.resume import text_of

    if check is not None:
        with usage_errors():
            module.compiled(check)
    trained = load(checkpoint)
    encoding = encoding_of(encoding, trained)
    known = trained.corpus.sources or ()
    if plot_path is not None:
        check_picture(plot_path)
        trained_on = found_again(known, trained.corpus.folder)
        check_output(plot_path, keep=(checkpoint, *trained_on, *texts))
    model = Model.from_checkpoint(trained, last=last)
    with reading(texts or known) as progress:
        if texts:
            corpus = read_corpus(texts, encoding, progress)
        else:
            again = f"fastrnn novelty {shlex.quote(checkpoint)} TEXT"
            corpus = text_of(trained, checkpoint, progress=progress, again=again)
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
            found = module.novelty(model.sample(length or SAMPLE, **options), corpus)
            OUT.say(module.describe(found))
            if plot_path is not None:
                from fastrnn.report.plots import plot_novelty

                name = describe(trained.config, len(model.vocabulary))
                plot_novelty(found, name, plot_path)
    say_what_was_written(plot_path)
