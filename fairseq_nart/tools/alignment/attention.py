"""Links from a teacher: each target word goes with the source word that it attends to most.

Teacher forcing, mean over heads. Of a Transformer, by default the penultimate layer, which aligns
best (Garg et al. 2019, arXiv 1909.02074); of an LSTM or ConvS2S, the attention that it returns.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from fairseq.models.transformer import TransformerDecoderBase
from torch import Tensor
from tqdm import tqdm

from fairseq_nart.data.splits import Split
from fairseq_nart.errors import UserError
from fairseq_nart.tools._teacher import Teacher
from fairseq_nart.tools.alignment.repair import CHUNK, Ints, Links
from fairseq_nart.tools.distillation.translate import batches_by_tokens


class AttentionAligner:
    """Aligns with one layer of a teacher, on a GPU if available."""

    def __init__(self, teacher: Teacher, layer: int | None, max_tokens: int) -> None:
        """`layer` counts from 1; UserError where the teacher has no such layer."""
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.teacher = teacher
        self.model = teacher.model.to(self.device)
        self.max_tokens = max_tokens
        self.layer: int | None = None
        if isinstance(self.model.decoder, TransformerDecoderBase):
            layers = len(self.model.decoder.layers)
            self.layer = max(1, layers - 1) if layer is None else layer
            if not 1 <= self.layer <= layers:
                raise UserError(f"--layer must be 1 to {layers}, the teacher's layers, not {layer}")
        elif layer is not None:
            raise UserError(
                f"--layer is for Transformers, which {teacher.path} is not: leave it out"
            )

    def made_with(self, split: Split) -> dict[str, Any]:
        """What determines the links of `split`, apart from its sentences."""
        teacher = {"sha256 of --teacher": self.teacher.record["sha256"]}
        return {"method": "attention", **teacher, "--layer": self.layer}

    def links(self, split: Split) -> Iterator[Links]:
        """Yields the links of a split, CHUNK sentences at a time."""
        sizes, targets = (np.asarray(side.sizes) for side in (split.source, split.target))
        longest_source, longest_target = self.model.max_positions()
        # Sentences that are too long for the teacher, and empty sources, have no links.
        fits = (sizes > 1) & (sizes <= longest_source) & (targets <= longest_target)
        with tqdm(desc=f"aligning {split.name}", unit=" sentences", total=len(sizes)) as bar:
            for start in range(0, len(sizes), CHUNK):
                chunk = range(start, min(start + CHUNK, len(sizes)))
                aligned = [i for i in chunk if fits[i]]
                links = []
                for batch in batches_by_tokens(aligned, sizes, self.max_tokens):
                    links.append(self._batch(split, np.array(batch), start))
                    bar.update(len(batch))
                bar.update(len(chunk) - len(aligned))
                yield Links(*(np.concatenate([x, *more]) for x, *more in zip(_EMPTY, *links)))

    @torch.no_grad()
    def _batch(self, split: Split, batch: Ints, start: int) -> tuple[Ints, ...]:
        """Sentence, counted from `start`, source word and target word of each link, all (links,).

        All sources of the batch have the same length.
        """
        source = torch.stack([split.source[i] for i in batch]).long()
        eos, pad = self.teacher.target.eos(), self.teacher.target.pad()
        targets = [split.target[i].long()[:-1] for i in batch]
        padded = torch.nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=pad)
        if not padded.size(1):
            return _EMPTY
        previous = torch.cat([padded.new_full((len(padded), 1), eos), padded[:, :-1]], dim=1)
        attention = self._attention(source.to(self.device), previous.to(self.device))
        best = attention[:, :, :-1].argmax(dim=2).cpu()  # without the end of sentence
        row, target = padded.ne(pad).nonzero(as_tuple=True)
        return (
            batch[row.numpy()] - start,
            best[row, target].numpy(),
            target.numpy(),
        )

    def _attention(self, source: Tensor, previous: Tensor) -> Tensor:
        """source (B,S), previous target tokens (B,T) -> attention of each decoder step (B,T,S)."""
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
