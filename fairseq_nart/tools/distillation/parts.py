"""Part files: translations that are kept as they come, and what they were made with."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fairseq_nart.files import claim


class Part:
    """One shard of a split: a file of lines `index TAB segmented text`, in any order.

    Of `count` sentences, number i belongs to shard i mod `num_shards`.
    """

    def __init__(self, folder: Path, split: str, count: int, shard: int, num_shards: int) -> None:
        self.file = folder / f"{split}.{shard}-of-{num_shards}.tsv"
        self.shard = shard
        self.indices = range(shard, count, num_shards)

    def read(self) -> dict[int, str]:
        """Index to translation, of all complete lines; a torn last line is left out.

        ValueError naming a line that is of another form, of another shard or there twice.
        """
        found: dict[int, str] = {}
        if not self.file.exists():
            return found
        # Not splitlines(): a word may hold other characters that Python takes for an end of line.
        for number, line in enumerate(self.file.read_bytes().split(b"\n")[:-1], start=1):
            index, tab, text = line.partition(b"\t")
            if not (tab and index.isdigit() and int(index) in self.indices):
                raise self._bad(number, "is not `index TAB text` of a sentence of this shard")
            if int(index) in found:
                raise self._bad(number, f"translates sentence {int(index)} once more")
            found[int(index)] = text.decode("utf-8")
        return found

    def missing(self) -> list[int]:
        """The indices that have no translation yet."""
        found = self.read()
        return [index for index in self.indices if index not in found]

    @contextlib.contextmanager
    def appending(self) -> Iterator[Callable[[Mapping[int, str]], None]]:
        """Cuts off a torn last line and gives a function that appends translations.

        What was appended survives a kill. ValueError while another process appends.
        """
        with open(self.file, "ab") as stream:
            claim(stream)
            stream.truncate(self.file.read_bytes().rfind(b"\n") + 1)

            def append(translations: Mapping[int, str]) -> None:
                lines = (f"{index}\t{text}\n" for index, text in translations.items())
                stream.write("".join(lines).encode("utf-8"))
                stream.flush()

            yield append

    def _bad(self, line: int, what: str) -> ValueError:
        return ValueError(f"{self.file}, line {line} {what}: delete that line and start again")


def gather(parts: list[Part]) -> list[str]:
    """All translations of a split, in its order, from its parts of all shards.

    ValueError naming what is missing.
    """
    found: dict[int, str] = {}
    for part in parts:
        found |= part.read()
    count = sum(len(part.indices) for part in parts)
    missing = [index for index in range(count) if index not in found]
    if missing:
        names = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise ValueError(
            f"{parts[0].file.parent}: {len(missing)} of {count} sentences are missing: {names}"
        )
    return [found[index] for index in range(count)]


def require_same(file: Path, recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """ValueError naming the first difference between what `file` records and what is asked for."""
    for name in [*recorded, *asked]:
        there, here = recorded.get(name), asked.get(name)
        if there != here:
            raise ValueError(
                f"{file}: it was begun with {name} {there}, and now {name} is {here}. Go on with "
                "what it was begun with, or give another --out"
            )
