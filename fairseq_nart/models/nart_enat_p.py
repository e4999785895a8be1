"""ENAT-P: the decoder's input comes from a phrase table (Guo et al. 2019, arXiv 1812.09664)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from fairseq.tasks import FairseqTask
from torch import Tensor, nn

from fairseq_nart.data import phrase_tables
from fairseq_nart.data.phrase_tables import Sides
from fairseq_nart.errors import UserError
from fairseq_nart.generation.graph import Graph
from fairseq_nart.layers.phrases import PhraseTable
from fairseq_nart.layers.states import EncoderStates
from fairseq_nart.models._registry import register_system
from fairseq_nart.models.nart import CopyingConfig, Nart


@dataclass
class EnatPConfig(CopyingConfig):
    """Options of ENAT-P."""

    phrase_table: Optional[str] = field(
        default=None,
        metadata={"help": "phrase table of fairseq-nart phrase-table; it is stored with the model"},
    )


@dataclass(frozen=True)
class PhraseStates(EncoderStates):
    """Encoded sources with what the phrase table makes of them."""

    phrases: Tensor
    """(B,P) target tokens, padded on the right."""


class StoredTable(nn.Module):
    """A phrase table in the buffers of a model, and so in its checkpoints."""

    NAMES = ("edges", "starts", "targets")

    def __init__(self, passed: np.ndarray[Any, Any]) -> None:
        """passed (source vocabulary,) the target token of each source token without a phrase."""
        super().__init__()
        self.passed = passed
        self.store(PhraseTable.empty(passed))

    def store(self, table: PhraseTable) -> None:
        """Replaces the table."""
        self.table: PhraseTable | None = table
        for name in self.NAMES:
            self.register_buffer(name, torch.from_numpy(getattr(table, name)))

    def get(self) -> PhraseTable:
        """The table on the CPU, where phrases are looked up."""
        if self.table is None:
            stored = (getattr(self, name).cpu().numpy() for name in self.NAMES)
            self.table = PhraseTable(*stored, self.passed)
        return self.table

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """Takes tensors of any size: the model is built before the size of its table is known."""
        for name in self.NAMES:
            if f"{prefix}{name}" in state:
                size = state[f"{prefix}{name}"].size()
                self.register_buffer(name, getattr(self, name).new_empty(size))
        super()._load_from_state_dict(state, prefix, *rest)
        self.table = None


@register_system("nart_enat_p", "ENAT-P", mask_self_attention_diagonal=True)
class NartEnatP(Nart):
    """The longest known source phrases, from left to right, are replaced by target phrases, whose
    embeddings are copied uniformly to the decoder's input.

    Not from the paper: the uniform copy, which fits the phrases to the target's length.
    """

    Config = EnatPConfig
    cfg: EnatPConfig
    runtime = "phrases"

    def __init__(self, cfg: EnatPConfig, task: FairseqTask) -> None:
        super().__init__(cfg, task)
        self.phrases = StoredTable(self._sides(task).passed())

    @staticmethod
    def _sides(task: FairseqTask) -> Sides:
        languages = (task.cfg.source_lang, task.cfg.target_lang)
        return Sides(languages, (task.source_dictionary, task.target_dictionary))

    def prepare_training(self, task: FairseqTask) -> None:
        """Reads the phrase table. UserError if there is none, or if it does not fit the data."""
        if not self.cfg.phrase_table:
            raise UserError(
                "nart_enat_p needs a phrase table: give --phrase-table FILE, which fairseq-nart "
                "phrase-table writes"
            )
        file = Path(self.cfg.phrase_table)
        self.phrases.store(phrase_tables.read(file, self._sides(task)))

    def renamed(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights without the phrase table: a new model has that of --phrase-table."""
        return {name: x for name, x in weights.items() if not name.startswith("phrases.")}

    def encode(self, source_tokens: Tensor) -> PhraseStates:
        states = super().encode(source_tokens)
        return PhraseStates(**vars(states), phrases=self.look_up(source_tokens))

    def look_up(self, source_tokens: Tensor) -> Tensor:
        """source_tokens (B,S), padded on either side -> (B,P) target tokens of their phrases."""
        tokens = source_tokens.cpu().numpy()
        phrases = self.phrases.get().look_up(tokens, tokens != self.pad, self.pad)
        return torch.from_numpy(phrases).to(source_tokens.device)

    def decoder_input(self, states: EncoderStates, mask: Tensor) -> Tensor:
        """mask (BN,T) of the target -> (BN,T,D), copies of the phrases' embeddings."""
        assert isinstance(states, PhraseStates)
        embeddings = self.decoder.embed(states.phrases)
        real = states.phrases.ne(self.pad)
        copied = EncoderStates(embeddings, embeddings, real, states.phrases)
        inputs: Tensor = self.source_map(copied, mask)
        return inputs

    def row_elements(self, length: int, source: int, options: Any) -> int:
        """Elements of the largest tensor for one target, copies of its phrases included."""
        phrases = self.phrases.get().most_tokens * source
        return max(super().row_elements(length, source, options), phrases * self.cfg.embed_dim)

    def timed_parts(self) -> list[tuple[object, str, str]]:
        """The parts of the model, and the lookup."""
        return [*super().timed_parts(), (self, "look_up", "phrases")]

    def graphs(self) -> list[Graph]:
        encode, decode = super().graphs()
        phrases = torch.tensor([[4, 4, 4, 2, *[self.pad] * 7], [4] * 10 + [2]])
        decode.example["phrases"] = phrases
        return [encode, decode]

    def arrays(self) -> dict[str, Tensor]:
        """The phrase table."""
        buffers = dict(self.phrases.named_buffers())
        return {**buffers, "passed": torch.from_numpy(self.phrases.passed)}

    def encoded(self, tokens: Tensor) -> dict[str, Tensor]:
        """tokens (B,S) -> memory and predicted lengths (B,)."""
        outputs = self.outputs(super().encode(tokens))
        del outputs["embeddings"]  # of the source, which are not copied
        return outputs

    def decoded(self, mask: Tensor, **encoded: Tensor) -> dict[str, Tensor]:
        """mask (BN,T) of the targets, phrases (B,P) and the encoded source -> what the head's
        search needs."""
        features = self.features(PhraseStates.in_graph(**encoded), mask)
        return self.head.in_graph(features, self.decoding_emissions(features, mask))
