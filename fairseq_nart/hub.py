"""The Python API: a trained model that translates a list of strings.

>>> from fairseq_nart import hub
>>> model = hub.from_pretrained("checkpoint_best.pt", sentencepiece="spm.model")
>>> model.translate(["Ein Mann liest ein Buch."])
['A man is reading a book.']
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from fairseq_nart.compat.quiet import keeping_root_logger
from fairseq_nart.subwords import Subwords, subword_scheme

with keeping_root_logger():
    from fairseq import checkpoint_utils, tasks

    from fairseq_nart.compat.checkpoints import options_of
    from fairseq_nart.generation.engine import Hypothesis
    from fairseq_nart.models._backbone import NartModel
    from fairseq_nart.tasks import _languages
    from fairseq_nart.tasks.nart_translation import DecodingConfig, NartTranslationTask


@dataclasses.dataclass(frozen=True)
class Translation:
    """One translation of a line, with what it was ranked by (nats; see `Hypothesis.score`)."""

    text: str
    score: float


class Translator:
    """Text in, text out, through the engine that fairseq-generate uses.

    One that `from_pretrained` returned can be pickled and copied: the copy loads the same files.
    """

    def __init__(
        self, model: NartModel, task: NartTranslationTask, sentencepiece: str | Path | None = None
    ) -> None:
        self.model = model
        self.task = task
        dictionaries = (task.source_dictionary, task.target_dictionary)
        schemes = {subword_scheme(dictionary.symbols) for dictionary in dictionaries}
        self.subwords = Subwords(sentencepiece, schemes.pop() if len(schemes) == 1 else None)
        self.engine = task.build_engine(model.eval())
        self.loaded_by: Callable[[], Translator] | None = None
        """Loads another such translator, on the CPU."""

    def __reduce__(self) -> tuple[Any, ...]:
        if self.loaded_by is None:
            raise TypeError("only a Translator of from_pretrained can be pickled or copied")
        return _load_again, (self.loaded_by, str(self.device))

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = next(self.model.parameters()).device
        return device

    def to(self, device: str | torch.device) -> "Translator":
        """Moves the model (and with the next batch the teacher) to a device.

        ValueError where it decodes in integers, which are for a CPU.
        """
        if self.task.cfg.int8 and torch.device(device).type != "cpu":
            raise ValueError(f"int8 is for a CPU: leave it out to decode on {device}")
        self.model.to(device)
        return self

    def translate(
        self, lines: Sequence[str], batch_size: int = 64, first_line: int = 1
    ) -> list[str]:
        """The best translation of each line, in order; an empty line gives an empty string.

        Warnings and errors number the lines from `first_line` on.
        """
        return [best[0].text for best in self.translate_n_best(lines, batch_size, first_line)]

    def translate_n_best(
        self, lines: Sequence[str], batch_size: int = 64, first_line: int = 1
    ) -> list[list[Translation]]:
        """All distinct candidates of each line, best first."""
        if isinstance(lines, str):
            raise TypeError("translate takes a list of lines: wrap a single line in [ ]")
        self.task.first_line = first_line
        found: list[list[Translation]] = [[] for _ in lines]
        for index, hypotheses in self._decode(lines, batch_size):
            found[index] = [Translation(self.text(h.tokens), h.score) for h in hypotheses]
        return found

    def text(self, tokens: torch.Tensor) -> str:
        """Target token ids (L,) as text, without their end of sentence."""
        return self.subwords.decode(self.task.target_dictionary.string(tokens).split(" "))

    def batches(
        self, lines: Sequence[str], batch_size: int
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """The places of lines among `lines` and their token ids (B,S), on the model's device."""
        tokens, lengths = self.task.get_interactive_tokens_and_lengths(
            [self._pieces(number, line) for number, line in enumerate(lines, self.task.first_line)],
            lambda pieces: pieces,
        )
        data = self.task.build_dataset_for_inference(tokens, lengths)
        # Neighbours in length share a batch: less padding. The places restore the order.
        order = sorted(range(len(data)), key=data.num_tokens)
        for start in range(0, len(order), batch_size):
            batch = data.collater([data[i] for i in order[start : start + batch_size]])
            yield batch["id"].tolist(), batch["net_input"]["src_tokens"].to(self.device)

    def _pieces(self, number: int, line: str) -> str:
        try:
            return " ".join(self.subwords.encode(line.strip()))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error

    def _decode(
        self, lines: Sequence[str], batch_size: int
    ) -> Iterator[tuple[int, list[Hypothesis]]]:
        for places, source in self.batches(lines, batch_size):
            yield from zip(places, self.engine(source), strict=True)


def _load_again(load: Callable[[], Translator], device: str) -> Translator:
    return load().to(device)


def decoding_options() -> dict[str, Any]:
    """What `from_pretrained` takes as `options`, with its defaults."""
    names = {f.name: f.default for f in dataclasses.fields(DecodingConfig)}
    return {name: value for name, value in names.items() if not name.startswith("_")}


def from_pretrained(
    checkpoint: str | Path,
    data: str | Path | None = None,
    sentencepiece: str | Path | None = None,
    source_lang: str | None = None,
    target_lang: str | None = None,
    **options: Any,
) -> Translator:
    """Loads a non-autoregressive model.

    `data` is the folder with its dictionaries (default: the binarised data it was trained on);
    `sentencepiece` the model that segments text (default: lines come segmented); `source_lang` and
    `target_lang` are for checkpoints that do not say them, in a folder without binarised text;
    `options` are the task's decoding options, such as length_candidates, fertility_samples, dedup
    or rescore_with. ValueError for an autoregressive model or other options.
    """
    ours = decoding_options()
    if unknown := sorted(options.keys() - ours.keys()):
        raise ValueError(f"unknown option {unknown[0]!r}: one of {', '.join(sorted(ours))}")
    if options.get("rescore_with"):
        options["rescore_with"] = str(Path(options["rescore_with"]).resolve())
    load = functools.partial(
        _load,
        Path(checkpoint).resolve(),
        Path(data).resolve() if data else None,
        Path(sentencepiece).resolve() if sentencepiece else None,
        (source_lang, target_lang),
        options,
    )
    translator = load()
    translator.loaded_by = load
    return translator


def _load(
    checkpoint: Path,
    data: Path | None,
    sentencepiece: Path | None,
    languages: tuple[str | None, str | None],
    options: dict[str, Any],
) -> Translator:
    # A checkpoint remembers how its validation decoded; here only what the caller says counts.
    overrides = {**decoding_options(), "eval_bleu": False, **options}
    if data is not None:
        overrides["data"] = str(data)
    state = checkpoint_utils.load_checkpoint_to_cpu(str(checkpoint), overrides)
    cfg = options_of(state).task
    _languages.require_folder(cfg.data)
    cfg.source_lang, cfg.target_lang = _languages.choose(
        cfg.data,
        languages,
        _languages.of_checkpoint(state),
        how="-s and -t (in Python source_lang= and target_lang=)",
    )
    task = tasks.setup_task(cfg, from_checkpoint=True)
    (model,), _ = checkpoint_utils.load_model_ensemble([str(checkpoint)], task=task, state=state)
    if not isinstance(model, NartModel):
        raise ValueError(
            f"{checkpoint} holds {type(model).__name__}, not a non-autoregressive model"
        )
    return Translator(model, task, sentencepiece)
