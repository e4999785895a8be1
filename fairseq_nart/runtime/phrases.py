"""ENAT-P: a phrase table gives the decoder's input."""

from functools import cached_property

from fairseq_nart.layers.phrases import PhraseTable
from fairseq_nart.runtime import by_length
from fairseq_nart.runtime.states import Ints, Source


class Runtime(by_length.Runtime):
    """Decodes as `NartEnatP` does."""

    timed = (*by_length.Runtime.timed, ("look_up", "phrases"))

    @cached_property
    def table(self) -> PhraseTable:
        """The phrase table of the folder."""
        return PhraseTable(**self.arrays)

    def encode(self, tokens: Ints) -> Source:
        """The outputs of the graph, and the target tokens of the phrases."""
        source = super().encode(tokens)
        return Source(tokens, source.mask, {**source.encoded, "phrases": self.look_up(source)})

    def look_up(self, source: Source) -> Ints:
        """(B,P) target tokens of the longest known phrases, padded on the right."""
        return self.table.look_up(source.tokens, source.mask, self.manifest.pad)
