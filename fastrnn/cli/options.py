"""Arguments and options that several commands have."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any

import click

from fastrnn.checks import Bounds, Real, Whole
from fastrnn.config import Config, default_in_words, option_name

if TYPE_CHECKING:
    from fastrnn.storage.checkpoint import Checkpoint

whole = click.IntRange(min=1)
seed_type = click.IntRange(min=0, max=2**31 - 1)
positive = click.FloatRange(min=0, min_open=True)

checkpoint_argument = click.argument("checkpoint", type=click.Path())
unknown_option = click.option(
    "--unknown",
    type=click.Choice(("error", "skip", "replace")),
    default="error",
    help="What to do with characters that the model does not know.",
)
encoding_option = click.option(
    "--encoding",
    default="utf-8",
    metavar="NAME",
    help="Encoding of the text; bytes: each byte is a character.",
)
last_option = click.option("--last", is_flag=True, help="Take the last model instead of the best.")


def text_options(command: Callable) -> Callable:
    """The argument `texts` and the option `sources`, which say which text."""
    for add in (
        click.option(
            "--corpus",
            "sources",
            multiple=True,
            metavar="TEXT",
            help="Another way to name the TEXT; may be repeated.",
        ),
        click.argument("texts", nargs=-1, type=click.Path(), metavar="[TEXT]..."),
    ):
        command = add(command)
    return command


def encoding_for_model(what: str) -> Callable:
    """The option `encoding` where a model reads: see `encoding_of`."""
    help = f"Encoding of {what}.  [default: that of the training text]"
    return click.option("--encoding", metavar="NAME", help=help)


def encoding_of(given: str | None, trained: Checkpoint) -> str:
    """The encoding of a text that the model of a checkpoint reads: the one given, or its own.

    A model of bytes reads nothing else: to it a character would be the byte with its number.
    """
    own = trained.corpus.encoding
    if given is not None and own == "bytes" and given.lower() != own:
        raise click.UsageError(f"--encoding is {given}, but the model reads bytes; leave it out")
    return given or own


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


def drawing_options(command: Callable) -> Callable:
    """The options that say how characters are drawn."""
    for add in (
        click.option(
            "--top-p",
            type=click.FloatRange(0, 1, min_open=True),
            default=1.0,
            help="Of these, only from the likeliest that have this share of the probability.",
        ),
        click.option(
            "--top-k", type=whole, help="Draw only from this many of the likeliest characters."
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
