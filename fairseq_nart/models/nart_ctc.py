"""CTC: no target length; frames out of split states say tokens or blanks (arXiv 1811.04719)."""

import torch
from fairseq.models import register_model
from fairseq.tasks import FairseqTask
from torch import Tensor, nn

from fairseq_nart.ctc.loss import ctc_loss, label_log_probs
from fairseq_nart.ctc.search import best_path, prefix_beam_search
from fairseq_nart.generation.options import DecodingOptions
from fairseq_nart.layers.splitting import StateSplitting
from fairseq_nart.layers.states import Decoded, EncoderStates, LossTerm, Proposal
from fairseq_nart.models._backbone import NartModel
from fairseq_nart.models._options import NartCtcConfig
from fairseq_nart.models._presets import register_sizes


@register_model("nart_ctc")
class NartCtc(NartModel):
    """The encoder-decoder variant with positions after the split (section 3, variant c)."""

    Config = NartCtcConfig
    cfg: NartCtcConfig
    decoding_options = ("ctc_beam",)
    positional_attention = False
    own_score = "sum"
    widest_option = "ctc_beam"

    def __init__(self, cfg: NartCtcConfig, task: FairseqTask) -> None:
        super().__init__(cfg, task)
        self.split = StateSplitting(cfg.embed_dim, cfg.ctc_split)
        self.blank = nn.Parameter(torch.randn(cfg.embed_dim) * cfg.embed_dim**-0.5)
        self.eos = task.target_dictionary.eos()
        self.forbidden = [*self.forbidden, self.eos]

    def frames(self, states: EncoderStates) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of tokens (B,F,V) and blank (B,F), mask (B,F), real frames first; F = kS."""
        states = states.right_padded()
        x, mask = self.split(states.output, states.mask)
        features = self.decoder(x, mask, states)
        return self.decoder.output_projection(features), features @ self.blank, mask

    def forward(self, source_tokens: Tensor, target: Tensor) -> list[LossTerm]:
        """As the base class says; the end of sentence is no label."""
        words = target.ne(self.pad) & target.ne(self.eos)
        lengths = words.sum(dim=1)
        labels = target[:, : max(1, target.size(1) - 1)]
        logits, blank, mask = self.frames(self.encode(source_tokens))
        log_probs = label_log_probs(logits, blank, labels)
        loss, too_long = ctc_loss(log_probs, labels, mask.sum(dim=1), lengths)
        return [
            LossTerm("ctc_loss", loss, target.ne(self.pad).sum()),
            LossTerm("too_long", too_long, len(target), weight=0.0, in_nats=False),
        ]

    def propose(self, states: EncoderStates, options: DecodingOptions) -> Proposal:
        """As many frames as there are."""
        frames = self.cfg.ctc_split * states.lengths[:, None]
        valid = torch.ones_like(frames, dtype=torch.bool)
        return Proposal(frames, valid)

    def row_elements(self, length: int, source: int, options: DecodingOptions) -> int:
        """As the base class says: the frames with their blanks, or what the beam keeps (int64) and
        compares."""
        beam, vocabulary = options.ctc_beam, self.vocab_size
        frames = length * (vocabulary + 1)
        search = max(2 * beam * length, beam**2 * min(beam, vocabulary)) if beam > 1 else 0
        return max(super().row_elements(length, source, options), frames, search)

    def decode(
        self,
        states: EncoderStates,
        proposal: Proposal,
        options: DecodingOptions,
        log_probs: bool = True,
    ) -> Decoded:
        """The best path, or the outputs of the beam with their probability spread over tokens.

        The end of sentence is one of them, because an empty output has its probability too.
        """
        logits, blank, mask = self.frames(states)
        scores = (
            torch.cat([self.forbid(logits), blank[..., None]], dim=2).float().log_softmax(dim=2)
        )
        if options.ctc_beam == 1:
            tokens, lengths, log = best_path(scores, mask)
            valid = proposal.valid
        else:
            found = prefix_beam_search(scores, mask, options.ctc_beam)
            valid = found[2] > float("-inf")  # (B,W)
            tokens, lengths, total = (x.flatten(0, 1) for x in found)
            log = (total / (lengths + 1))[:, None].expand(-1, tokens.size(1) + 1)
        ends = lengths[:, None]
        tokens = nn.functional.pad(tokens, (0, 1)).scatter(1, ends, self.eos)
        said = torch.arange(tokens.size(1), device=tokens.device) <= ends
        return Decoded(tokens, log.masked_fill(~said, 0.0), said, valid)


register_sizes("nart_ctc")
