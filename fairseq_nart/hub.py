"""The Python API: a trained model that translates a list of strings.

>>> from fairseq_nart import hub
>>> model = hub.from_pretrained("checkpoint_best.pt", sentencepiece="spm.model")
>>> model.translate(["Ein Mann liest ein Buch."])
['A man is reading a book.']
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils

from fairseq_nart.generation.engine import Hypothesis
from fairseq_nart.models._backbone import NartModel
from fairseq_nart.subwords import Subwords
from fairseq_nart.tasks.nart_translation import DecodingConfig, NartTranslationTask


@dataclasses.dataclass(frozen=True)
class Translation:
    """One translation of a line, with what it was ranked by (nats; see `Hypothesis.score`)."""

    text: str
    score: float


class Translator:
    """Text in, text out, through the engine that fairseq-generate uses."""

    def __init__(
        self, model: NartModel, task: NartTranslationTask, subwords: Subwords | None = None
    ) -> None:
        self.model = model
        self.task = task
        self.subwords = subwords or Subwords(None)
        self.engine = task.build_engine(model.eval())

    def to(self, device: str | torch.device) -> "Translator":
        """Moves the model (and with the next batch the teacher) to a device.

        ValueError where it decodes in integers, which are for a CPU.
        """
        if self.task.cfg.int8 and torch.device(device).type != "cpu":
            raise ValueError(f"int8 is for a CPU: leave it out to decode on {device}")
        self.model.to(device)
        return self

    def translate(self, lines: Sequence[str], batch_size: int = 64) -> list[str]:
        """The best translation of each line, in order; an empty line gives an empty string."""
        return [best[0].text for best in self.translate_n_best(lines, batch_size)]

    def translate_n_best(
        self, lines: Sequence[str], batch_size: int = 64
    ) -> list[list[Translation]]:
        """All distinct candidates of each line, best first."""
        if isinstance(lines, str):
            raise TypeError("translate takes a list of lines: wrap a single line in [ ]")
        found: list[list[Translation]] = [[] for _ in lines]
        for index, hypotheses in self._decode(lines, batch_size):
            found[index] = [Translation(self.text(h.tokens), h.score) for h in hypotheses]
        return found

    def text(self, tokens: torch.Tensor) -> str:
        """Target token ids (L,) as text, without their end of sentence."""
        return self.subwords.decode(self.task.target_dictionary.string(tokens).split())

    def batches(
        self, lines: Sequence[str], batch_size: int
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """The places of lines among `lines` and their token ids (B,S), on the model's device."""
        tokens, lengths = self.task.get_interactive_tokens_and_lengths(
            [line.strip() for line in lines], lambda line: " ".join(self.subwords.encode(line))
        )
        data = self.task.build_dataset_for_inference(tokens, lengths)
        # Neighbours in length share a batch: less padding. The places restore the order.
        order = sorted(range(len(data)), key=data.num_tokens)
        device = next(self.model.parameters()).device
        for start in range(0, len(order), batch_size):
            batch = data.collater([data[i] for i in order[start : start + batch_size]])
            yield batch["id"].tolist(), batch["net_input"]["src_tokens"].to(device)

    def _decode(
        self, lines: Sequence[str], batch_size: int
    ) -> Iterator[tuple[int, list[Hypothesis]]]:
        for places, source in self.batches(lines, batch_size):
            yield from zip(places, self.engine(source), strict=True)


def decoding_options() -> dict[str, Any]:
    """What `from_pretrained` takes as `options`, with its defaults."""
    names = {f.name: f.default for f in dataclasses.fields(DecodingConfig)}
    return {name: value for name, value in names.items() if not name.startswith("_")}


def from_pretrained(
    checkpoint: str | Path,
    data: str | Path | None = None,
    sentencepiece: str | Path | None = None,
    **options: Any,
) -> Translator:
    """Loads a non-autoregressive model.

    `data` is the binarised data directory that holds its dictionaries (default: the one it was
    trained on); `sentencepiece` the model that segments text (default: lines come segmented);
    `options` are the task's decoding options, such as length_candidates, fertility_samples, dedup
    or rescore_with. ValueError for an autoregressive model or other options.
    """
    ours = decoding_options()
    if unknown := sorted(options.keys() - ours.keys()):
        raise ValueError(f"unknown option {unknown[0]!r}: one of {', '.join(sorted(ours))}")
    # A checkpoint remembers how its validation decoded; here only what the caller says counts.
    overrides = {**ours, "eval_bleu": False, **options}
    if data is not None:
        overrides["data"] = str(data)
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(checkpoint)], overrides)
    if not isinstance(model, NartModel):
        raise ValueError(
            f"{checkpoint} holds {type(model).__name__}, not a non-autoregressive model"
        )
    return Translator(model, task, Subwords(sentencepiece))
