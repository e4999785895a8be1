"""Shard files: translations saved as they are made, and a check of how they were made."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fairseq_nart.errors import UserError
from fairseq_nart.files import claim


class Shard:
    """One shard of a split: a file of lines `index TAB segmented text`, in any order.

    Of `count` sentences, number i belongs to shard i mod `num_shards`.
    """

    def __init__(self, folder: Path, split: str, count: int, shard: int, num_shards: int) -> None:
        self.file = folder / f"{split}.{shard}-of-{num_shards}.tsv"
        self.shard = shard
        self.indices = range(shard, count, num_shards)

    def read(self) -> dict[int, str]:
        """Index to translation of all complete lines; a partial last line is ignored.

        UserError names a line that is malformed, belongs to another shard or occurs twice.
        """
        translations: dict[int, str] = {}
        if not self.file.exists():
            return translations
        # Not splitlines(): a word may hold other characters that Python treats as line ends.
        for number, line in enumerate(self.file.read_bytes().split(b"\n")[:-1], start=1):
            index, tab, text = line.partition(b"\t")
            if not (tab and index.isdigit() and int(index) in self.indices):
                raise self._bad(number, "is not `index TAB text` of a sentence of this shard")
            if int(index) in translations:
                raise self._bad(number, f"translates sentence {int(index)} again")
            translations[int(index)] = text.decode("utf-8")
        return translations

    def missing(self) -> list[int]:
        """The indices that have no translation yet."""
        translations = self.read()
        return [index for index in self.indices if index not in translations]

    @contextlib.contextmanager
    def appending(self) -> Iterator[Callable[[Mapping[int, str]], None]]:
        """Removes a partial last line and yields a function that appends translations.

        Appended translations survive a kill. UserError while another process appends.
        """
        with open(self.file, "ab") as stream:
            claim(stream)
            stream.truncate(self.file.read_bytes().rfind(b"\n") + 1)

            def append(translations: Mapping[int, str]) -> None:
                lines = (f"{index}\t{text}\n" for index, text in translations.items())
                stream.write("".join(lines).encode("utf-8"))
                stream.flush()

            yield append

    def _bad(self, line: int, what: str) -> UserError:
        return UserError(f"{self.file}, line {line} {what}: delete that line and start again")


def gather(shards: list[Shard]) -> list[str]:
    """All translations of a split, in its order, from all its shards.

    UserError names the missing sentences.
    """
    translations: dict[int, str] = {}
    for shard in shards:
        translations |= shard.read()
    count = sum(len(shard.indices) for shard in shards)
    missing = [index for index in range(count) if index not in translations]
    if missing:
        names = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise UserError(
            f"{shards[0].file.parent}: {len(missing)} of {count} sentences are missing: {names}"
        )
    return [translations[index] for index in range(count)]


def require_same(file: Path, recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """UserError names the first difference between what `file` records and what is asked for."""
    for name in [*recorded, *asked]:
        old, new = recorded.get(name), asked.get(name)
        if old != new:
            raise UserError(
                f"{file}: it was begun with {name} {old}, and now {name} is {new}. Use the old "
                "value, or give another --out"
            )
