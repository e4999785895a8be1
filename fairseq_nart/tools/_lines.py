"""Translates a text as a stream, in the order of its lines."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from fairseq_nart.errors import UserError, decode_each
from fairseq_nart.text import bounded_lines, chunks, decode_lines

CHUNK = 2048
"""Lines that are sorted by length and translated together."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the text and --batch-size."""
    parser.add_argument(
        "file", type=Path, nargs="?", help="text, one sentence per line (default: standard input)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=64, help="sentences per batch (default: 64)"
    )


Translator = Callable[[list[str], int, int], list[str]]
"""Takes lines, a batch size and the number of the first line."""


def translate(options: argparse.Namespace, translator: Translator) -> None:
    """Prints the translations, one line each, in UTF-8.

    A line that cannot be translated gets an empty line and a message on standard error, and in the
    end a UserError counts these lines. UserError at once if no line of the first chunk works but
    empty ones.
    """
    name, size = str(options.file or "standard input"), options.batch_size
    first, failed = 1, 0
    with ExitStack() as stack:
        text = stack.enter_context(open(options.file, "rb")) if options.file else sys.stdin.buffer
        bar = stack.enter_context(tqdm(desc="translated", unit=" lines", disable=None))
        for lines in chunks(decode_lines(bounded_lines(text, name), name), CHUNK):
            errors: list[UserError] = []
            translations = list(translated(lines, first, size, translator, errors))
            words = sum(bool(line.strip()) for line in lines)
            if first == 1 and errors and len(errors) == words:
                raise UserError(f"{name}: {errors[0]}") from errors[0]
            for error in errors:
                print(f"{name}: {error}", file=sys.stderr)
            sys.stdout.buffer.write("".join(f"{line}\n" for line in translations).encode())
            sys.stdout.buffer.flush()
            failed += len(errors)
            first += len(lines)
            bar.update(len(lines))
    if failed:
        raise UserError(f"{name}: {failed} lines have no translation: see the messages above")


def translated(
    lines: list[str], first: int, size: int, translator: Translator, errors: list[UserError]
) -> Iterator[str]:
    """The translations of `lines`, of which `first` is the number of the first one. A line that
    cannot be translated gets an empty one, and its error is added to `errors`."""

    def failed(_: int, error: UserError) -> str:
        errors.append(error)
        return ""

    numbers = range(first, first + len(lines))
    return decode_each(lambda some, own: translator(some, size, own[0]), lines, numbers, failed)
