"""The Python API of exported models."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq_nart.errors import UserError, decode_each, name_line
from fairseq_nart.options import require_allowed
from fairseq_nart.runtime import folder as folders
from fairseq_nart.runtime.candidates import Hypothesis
from fairseq_nart.runtime.engine import Engine
from fairseq_nart.runtime.lattice import Lattice, decode_lattice
from fairseq_nart.runtime.text import Text

MOST_THREADS = 256
"""Each thread takes memory: 100,000 of them took all there was."""


@dataclass(frozen=True)
class Translation:
    """One translation of a line."""

    text: str
    score: float
    """The score that ranked it, in nats."""
    length: int
    """Number of tokens, the EOS included."""


class Translator:
    """An exported model. It may be used by one thread at a time, and copied or pickled."""

    def __init__(self, folder: Path, threads: int, options: dict[str, Any]) -> None:
        self.folder = folder
        self.threads = threads
        self.options = options
        self.manifest = folders.read(folder)
        self.engine = Engine(folder, self.manifest, threads, dict(options))
        self.text = Text(folder, self.manifest)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, also one that was pickled, loads the folder again."""
        return Translator, (self.folder, self.threads, self.options)

    @property
    def name(self) -> str:
        """The system's name in tables."""
        return self.manifest.title

    @property
    def system(self) -> str:
        """The architecture, such as nart_dcrf."""
        return self.manifest.system

    @property
    def source_lang(self) -> str:
        return self.manifest.languages[0]

    @property
    def target_lang(self) -> str:
        return self.manifest.languages[1]

    @property
    def longest_source(self) -> int:
        """Most tokens of a source, the EOS included; a longer one is cut."""
        return self.manifest.longest_source

    @property
    def has_crf(self) -> bool:
        """Whether `lattice` works."""
        one_pass = self.manifest.runtime == "by_length"
        return one_pass and "crf_candidates" in self.manifest.constants

    def translate(
        self, lines: Sequence[str], batch_size: int = 64, first_line: int = 1
    ) -> list[str]:
        """The best translation of each line, in order. An empty line gives an empty string.

        Warnings and errors number the lines starting with `first_line`.
        """
        result = [""] * len(lines)
        for place, hypotheses in self._decode(lines, batch_size, first_line, 1, scored=False):
            result[place] = self.text.decode(hypotheses[0].tokens)
        return result

    def translate_n_best(
        self,
        lines: Sequence[str],
        most: int | None = None,
        batch_size: int = 64,
        first_line: int = 1,
    ) -> list[list[Translation]]:
        """The distinct candidates of each line, best first, at most `most` if given."""
        result: list[list[Translation]] = [[] for _ in lines]
        for place, hypotheses in self._decode(lines, batch_size, first_line, most, scored=True):
            result[place] = [
                Translation(self.text.decode(one.tokens), one.score, len(one.tokens))
                for one in hypotheses
            ]
        return result

    def lattice(self, line: str, shown: int = 6) -> Lattice:
        """What the CRF does to a line: see `fairseq_nart.runtime.lattice`."""
        return decode_lattice(self, line, shown)

    def _decode(
        self,
        lines: Sequence[str],
        batch_size: int,
        first_line: int,
        most: int | None,
        scored: bool,
    ) -> Iterator[tuple[int, list[Hypothesis]]]:
        if isinstance(lines, str):
            raise TypeError("translate takes a list of lines: wrap a single line in [ ]")
        require_allowed("batch_size", batch_size, (), {"at least": 1})
        sources = [self.text.encode(line, number) for number, line in enumerate(lines, first_line)]
        # Batching lines of similar length saves padding.
        order = sorted(range(len(sources)), key=lambda place: len(sources[place]))
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            batch = [sources[place] for place in places]
            numbers = [first_line + place for place in places]
            found = decode_each(
                lambda some, _: self.engine(some, most, scored), batch, numbers, name_line
            )
            yield from zip(places, found, strict=True)


def load(folder: str | Path, threads: int | None = None, **options: Any) -> Translator:
    """Loads an exported model.

    `threads` of each product; by default one for each core, at most four. `options` are the
    model's decoding options, such as length_candidates=9; rescore=True ranks candidates by the
    exported teacher, and rescore_best=N only the N best by the model's own score. UserError for a
    folder that is not complete, and for options that the model does not have.
    """
    count = min(os.cpu_count() or 1, 4) if threads is None else threads
    if type(count) is not int or not 1 <= count <= MOST_THREADS:
        raise UserError(f"threads must be a number from 1 to {MOST_THREADS}, not {count!r}")
    return Translator(Path(folder).resolve(), count, options)


def demo_folder() -> Path:
    """The folder of the small model that is shipped with the package."""
    return Path(__file__).parent / "demo"
