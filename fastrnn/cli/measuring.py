"""Commands: speed and gradients, against NumPy."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from fastrnn.cli.group import cli, usage_errors
from fastrnn.cli.options import encoding_option, seed_type, settings, text_options
from fastrnn.cli.outputs import check_output, say_what_was_written
from fastrnn.config import Config
from fastrnn.console import OUT


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
        check_output(json_path)
    if plot_path is not None:
        check_picture(plot_path)
        check_output(plot_path)
    result = bench.run()
    OUT.say(bench.format_table(result))
    if json_path is not None:
        result.save(json_path)
    if plot_path is not None:
        bench.plot(result, plot_path)
    say_what_was_written(json_path, plot_path)


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
@encoding_option
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
        check_output(json_path, keep=texts)
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
    say_what_was_written(json_path)
    if not all(check.passed for check in checks):
        sys.exit(1)
