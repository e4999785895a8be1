"""Links from a teacher: the source word that it attends to most as it says each target word.

Teacher forcing, mean over heads, by default the penultimate layer, which aligns best (Garg et al.
2019, arXiv 1909.02074); of an LSTM and a ConvS2S the attention that they report.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from fairseq.models.transformer import TransformerDecoderBase
from torch import Tensor
from tqdm import tqdm

from fairseq_nart.tools.alignment.repair import CHUNK, Ints, Links
from fairseq_nart.tools.distillation.data import Split
from fairseq_nart.tools.distillation.teacher import Teacher
from fairseq_nart.tools.distillation.translate import batches_by_tokens


class AttentionAligner:
    """Aligns with one layer of a teacher, on a GPU where there is one."""

    def __init__(self, teacher: Teacher, layer: int | None, max_tokens: int) -> None:
        """`layer` counts from 1; ValueError where the teacher has no such layer."""
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.teacher = teacher
        self.model = teacher.model.to(self.device)
        self.max_tokens = max_tokens
        self.layer: int | None = None
        if isinstance(self.model.decoder, TransformerDecoderBase):
            layers = len(self.model.decoder.layers)
            self.layer = max(1, layers - 1) if layer is None else layer
            if not 1 <= self.layer <= layers:
                raise ValueError(f"--layer must be 1 to {layers}, the teacher's, not {layer}")
        elif layer is not None:
            raise ValueError(
                f"--layer is for Transformers, and {teacher.path} is none: leave it out"
            )

    def made_with(self, split: Split) -> dict[str, Any]:
        """What determines the links of `split` beside its sentences."""
        teacher = {"sha256 of --teacher": self.teacher.record["sha256"]}
        return {"method": "attention", **teacher, "--layer": self.layer}

    def links(self, split: Split) -> Iterator[Links]:
        """The links of a split, CHUNK sentences at a time."""
        sizes, targets = (np.asarray(side.sizes) for side in (split.source, split.target))
        source_room, target_room = self.model.max_positions()
        # What is longer than the teacher knows has no links, as an empty source.
        fits = (sizes > 1) & (sizes <= source_room) & (targets <= target_room)
        with tqdm(desc=f"aligning {split.name}", unit=" sentences", total=len(sizes)) as bar:
            for start in range(0, len(sizes), CHUNK):
                chunk = range(start, min(start + CHUNK, len(sizes)))
                words = [i for i in chunk if fits[i]]
                parts = []
                for batch in batches_by_tokens(words, sizes, self.max_tokens):
                    parts.append(self._batch(split, np.array(batch), start))
                    bar.update(len(batch))
                bar.update(len(chunk) - len(words))
                yield Links(*(np.concatenate([x, *more]) for x, *more in zip(_EMPTY, *parts)))

    @torch.no_grad()
    def _batch(self, split: Split, batch: Ints, start: int) -> tuple[Ints, ...]:
        """Sentence from `start` on, source and target word of each link; sources of one length."""
        source = torch.stack([split.source[i] for i in batch]).long()
        eos, pad = self.teacher.target.eos(), self.teacher.target.pad()
        targets = [split.target[i].long()[:-1] for i in batch]
        said = torch.nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=pad)
        if not said.size(1):
            return _EMPTY
        previous = torch.cat([said.new_full((len(said), 1), eos), said[:, :-1]], dim=1)
        attention = self._attention(source.to(self.device), previous.to(self.device))
        best = attention[:, :, :-1].argmax(dim=2).cpu()  # not the end of sentence
        row, target = said.ne(pad).nonzero(as_tuple=True)
        return (
            batch[row.numpy()] - start,
            best[row, target].numpy(),
            target.numpy(),
        )

    def _attention(self, source: Tensor, previous: Tensor) -> Tensor:
        """source (B,S), previous (B,T) -> (B,T,S), of each step that says a target token."""
        lengths = torch.full((len(source),), source.size(1), device=source.device)
        encoded = self.model.encoder(source, src_lengths=lengths)
        decoder = self.model.decoder
        if self.layer is None:
            attention: Tensor = decoder(previous, encoder_out=encoded)[1]
            return attention
        _, more = decoder.extract_features(
            previous, encoder_out=encoded, alignment_layer=self.layer - 1
        )
        attention = more["attn"][0]
        return attention


_EMPTY = tuple(np.empty(0, dtype=np.int64) for _ in range(3))
