"""NART: the decoder reads only the source and fills all positions at once (arXiv 1910.11555)."""

from dataclasses import dataclass, field

import torch
from fairseq.dataclass import ChoiceEnum
from fairseq.tasks import FairseqTask
from torch import Tensor

from fairseq_nart.generation.graph import Graph, example_targets
from fairseq_nart.generation.options import LengthDecoding
from fairseq_nart.generation.system import Request
from fairseq_nart.layers import exporting
from fairseq_nart.layers.lengths import length_mask
from fairseq_nart.layers.source_map import build_source_map
from fairseq_nart.layers.states import Decoded, EncoderStates
from fairseq_nart.losses.terms import LossTerm
from fairseq_nart.models._by_length import ByLengthConfig, ByLengthModel
from fairseq_nart.models._glancing import GlancingConfig, build_glancing
from fairseq_nart.models._heads import CrfDecoding, OutputConfig, WithHead
from fairseq_nart.models._registry import register_system


@dataclass
class NartConfig(ByLengthConfig, OutputConfig, GlancingConfig):
    """Options of systems whose decoder starts from the source only."""

    decoder_input: ChoiceEnum(["pad", "hard_uniform", "soft_uniform"]) = field(  # type: ignore[valid-type]
        default="pad",
        metadata={
            "help": "decoder input: placeholders, or uniformly copied source embeddings (of the "
            "nearest token, or a soft average)"
        },
    )


@dataclass
class CopyingConfig(NartConfig):
    """Options of systems whose decoder input is copied."""

    decoder_input: ChoiceEnum(["hard_uniform", "soft_uniform"]) = field(  # type: ignore[valid-type]
        default="hard_uniform",
        metadata={"help": "copy the nearest embedding, or a soft average of the embeddings"},
    )


@dataclass
class NartDecoding(CrfDecoding, LengthDecoding):
    """Decoding options of NART with any output layer."""


@register_system("nart", "NART")
class Nart(WithHead, ByLengthModel):
    """Translates in one pass; `--output` chooses the output layer."""

    Config = NartConfig
    Decoding = NartDecoding
    cfg: NartConfig
    runtime = "by_length"

    def __init__(self, cfg: NartConfig, task: FairseqTask) -> None:
        super().__init__(cfg, task)
        self.source_map = build_source_map(cfg.decoder_input, cfg.embed_dim)
        self.glancing = build_glancing(cfg)
        self.add_head(cfg)

    def features(self, states: EncoderStates, mask: Tensor, shown: Tensor | None = None) -> Tensor:
        """mask (BN,T) of the target -> (BN,T,D), the output of the decoder.

        `shown` (BN,T) are tokens that replace the decoder's input, padding where they do not.
        """
        x = self.decoder_input(states, mask)
        if shown is not None:
            x = torch.where(shown.ne(self.pad)[..., None], self.decoder.embed(shown), x)
        features: Tensor = self.decoder(x, mask, states)
        return features

    def decoder_input(self, states: EncoderStates, mask: Tensor) -> Tensor:
        """mask (BN,T) of the target -> (BN,T,D), without positions."""
        inputs: Tensor = self.source_map(states, mask)
        return inputs

    def run_decoder(
        self, states: EncoderStates, mask: Tensor, shown: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `features` -> features (BN,T,D) and emissions (BN,T,V), raw logits."""
        features = self.features(states, mask, shown)
        return features, self.decoder.output_projection(features)

    def start_decoding(
        self, states: EncoderStates, lengths: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """lengths (B,N) -> features (BN,T,D), `decoding_emissions`, and mask (BN,T)."""
        mask = length_mask(lengths.flatten(), int(lengths.max()))
        features = self.features(states, mask)
        return features, self.decoding_emissions(features, mask), mask

    def decode(self, request: Request) -> Decoded:
        start = self.start_decoding(request.states, request.proposal.lengths)
        return self.head.search(*start, request)

    def graphs(self) -> list[Graph]:
        """`encode` and `decode`. If the decoder's input depends on the length alone, a graph
        `start` computes from it what `decode` would compute again for each sentence."""
        encode, example = self.encoder_graph()
        mask = example_targets()
        example |= {"source_mask": encode.example["tokens"].ne(self.pad), "mask": mask}
        del example["lengths"]
        sizes = {"weights": (0, 2, 3)}
        graphs = [encode, Graph("decode", self.decoded, self, example, sizes)]
        if self.cfg.decoder_input == "pad":
            start = Graph("start", self.started, self, {"mask": mask}, sizes)
            with torch.no_grad(), exporting.activated():
                example |= start.compute(mask=mask)
            graphs.append(start)
        return graphs

    def encoded(self, tokens: Tensor) -> dict[str, Tensor]:
        """tokens (B,S) -> memory, predicted lengths (B,), and source embeddings if needed."""
        return self.outputs(self.encode(tokens))

    def outputs(self, states: EncoderStates) -> dict[str, Tensor]:
        """The outputs of `encoded`."""
        lengths = self.predict_lengths(states)
        outputs = {"memory": self.decoder.memory(states.output), "lengths": lengths}
        if self.cfg.decoder_input != "pad":
            outputs["embeddings"] = states.embeddings
        return outputs

    def started(self, mask: Tensor) -> dict[str, Tensor]:
        """mask (BN,T) of the targets -> what `Decoder.finish` takes."""
        x = self.source_map(None, mask)
        outputs = {"start": self.decoder.start(x, mask)}
        if weights := self.decoder.weights(x, mask):
            outputs["weights"] = torch.cat(weights, dim=1)
        return outputs

    def decoded(self, mask: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
        """mask (BN,T) of the targets -> what the head's search needs."""
        features = self.features_in_graph(mask, **inputs)
        return self.head.in_graph(features, self.decoding_emissions(features, mask))

    def features_in_graph(
        self,
        mask: Tensor,
        start: Tensor | None = None,
        weights: Tensor | None = None,
        **encoded: Tensor,
    ) -> Tensor:
        """mask (BN,T), the outputs of the graph `start` if there is one, and the encoded source ->
        features (BN,T,D)."""
        states = EncoderStates.in_graph(**encoded)
        if start is None:
            return self.features(states, mask)
        return self.decoder.finish(start, mask, states, weights)

    def word_loss_terms(
        self, states: EncoderStates, target: Tensor, mask: Tensor
    ) -> list[LossTerm]:
        return self.features_and_terms(states, target, mask)[1]

    def features_and_terms(
        self, states: EncoderStates, target: Tensor, mask: Tensor
    ) -> tuple[Tensor, list[LossTerm]]:
        """target and mask (B,T) -> the decoder's features (B,T,D) and the head's loss terms."""
        smoothing, glancing = self.cfg.label_smoothing, self.glancing
        shown = hidden = None
        if glancing.active:
            with glancing.first_pass(target.device):
                _, emissions = self.run_decoder(states, mask)
                # Also with a CRF: its search would take longer than the rest of the pass.
                wrong = mask & (emissions.argmax(dim=2) != target)
            revealed = glancing.reveal(wrong, mask)
            shown, hidden = target.masked_fill(~revealed, self.pad), mask & ~revealed
        features, emissions = self.run_decoder(states, mask, shown)
        terms = self.head.loss_terms(features, emissions, target, mask, smoothing, hidden)
        return features, terms
