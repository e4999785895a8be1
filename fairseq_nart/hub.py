"""The Python API: a trained model that translates a list of strings.

>>> from fairseq_nart import hub
>>> model = hub.from_pretrained("checkpoint_best.pt", sentencepiece="spm.model")
>>> model.translate(["Ein Mann liest ein Buch."])
['A man is reading a book.']
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from fairseq_nart.compat.quiet import keeping_root_logger
from fairseq_nart.errors import UserError, decode_each, name_line
from fairseq_nart.options import require_allowed
from fairseq_nart.subwords import Subwords, subword_scheme

with keeping_root_logger():
    from fairseq import checkpoint_utils, tasks

    from fairseq_nart.compat.checkpoints import options_of
    from fairseq_nart.data import languages
    from fairseq_nart.generation.engine import Hypothesis
    from fairseq_nart.models._backbone import NartModel
    from fairseq_nart.models._registry import TASK
    from fairseq_nart.tasks._options import decoding_config
    from fairseq_nart.tasks.nart_translation import NartTranslationTask

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Translation:
    """One translation of a line and the score that ranked it (nats; see `Hypothesis.score`)."""

    text: str
    score: float


class Translator:
    """Translates text with the engine that fairseq-generate uses.

    A translator from `from_pretrained` can be pickled and copied: the copy loads the same files.
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
        self.arch = ""
        """The architecture in the checkpoint, such as nart_dcrf_cpu."""
        self.loaded_by: Callable[[], Translator] | None = None
        """Loads an equal translator on the CPU."""

    def __reduce__(self) -> tuple[Any, ...]:
        if self.loaded_by is None:
            raise TypeError("only a Translator of from_pretrained can be pickled or copied")
        return _load_again, (self.loaded_by, str(self.device))

    @property
    def device(self) -> torch.device:
        """The model's device."""
        device: torch.device = next(self.model.parameters()).device
        return device

    def to(self, device: str | torch.device) -> "Translator":
        """Moves the model to a device; the teacher follows with the next batch."""
        self.model.to(device)
        return self

    def translate(
        self, lines: Sequence[str], batch_size: int = 64, first_line: int = 1
    ) -> list[str]:
        """The best translation of each line, in order. An empty line gives an empty string.

        Warnings and errors number the lines starting with `first_line`.
        """
        return [best.text for (best,) in self._translate(lines, batch_size, first_line, most=1)]

    def translate_n_best(
        self, lines: Sequence[str], batch_size: int = 64, first_line: int = 1
    ) -> list[list[Translation]]:
        """All distinct candidates of each line, best first."""
        return self._translate(lines, batch_size, first_line, most=None)

    def _translate(
        self, lines: Sequence[str], batch_size: int, first_line: int, most: int | None
    ) -> list[list[Translation]]:
        """The `most` best translations of each line, or all if it is None."""
        if isinstance(lines, str):
            raise TypeError("translate takes a list of lines: wrap a single line in [ ]")
        result: list[list[Translation]] = [[] for _ in lines]
        for index, hypotheses in self.hypotheses(lines, batch_size, most, first_line):
            result[index] = [Translation(self.text(h.tokens), h.score) for h in hypotheses]
        return result

    def text(self, tokens: torch.Tensor) -> str:
        """Target token ids (L,) as text, without the EOS."""
        return self.subwords.decode(self.task.target_dictionary.string(tokens).split(" "))

    def batches(
        self, lines: Sequence[str], batch_size: int, first_line: int = 1
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Yields, per batch, the indices of its lines in `lines` and their token ids (B,S).

        The tokens are on the model's device.
        """
        require_allowed("batch_size", batch_size, (), {"at least": 1})
        tokens, lengths = self.task.get_interactive_tokens_and_lengths(
            [self._pieces(number, line) for number, line in enumerate(lines, first_line)],
            lambda pieces: pieces,
        )
        self.task.first_line = first_line
        data = self.task.build_dataset_for_inference(tokens, lengths)
        # Batching lines of similar length saves padding; the indices restore the order.
        order = sorted(range(len(data)), key=data.num_tokens)
        for start in range(0, len(order), batch_size):
            batch = data.collater([data[i] for i in order[start : start + batch_size]])
            yield batch["id"].tolist(), batch["net_input"]["src_tokens"].to(self.device)

    def _pieces(self, number: int, line: str) -> str:
        try:
            return " ".join(self.subwords.encode(line.strip()))
        except UserError as error:
            name_line(number, error)

    def hypotheses(
        self,
        lines: Sequence[str],
        batch_size: int = 64,
        most: int | None = None,
        first_line: int = 1,
    ) -> Iterator[tuple[int, list[Hypothesis]]]:
        """The index of each line, in any order, and its `most` best hypotheses, or all."""
        for places, source in self.batches(lines, batch_size, first_line):
            numbers = [first_line + place for place in places]
            found = decode_each(lambda some, _: self.engine(some, most), source, numbers, name_line)
            yield from zip(places, found, strict=True)


def _load_again(load: Callable[[], Translator], device: str) -> Translator:
    return load().to(device)


def decoding_options() -> dict[str, Any]:
    """The `options` of `from_pretrained` and their defaults."""
    names = {f.name: f.default for f in dataclasses.fields(decoding_config())}
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

    `data` is the folder with the dictionaries (default: the binarised training data);
    `sentencepiece` is the model that segments text (default: lines are already segmented).
    `source_lang` and `target_lang` are needed only if neither the checkpoint nor the files in
    `data` name the languages. `options` are the task's decoding options, such as
    length_candidates, fertility_samples, dedup or rescore_with. UserError for an autoregressive
    model or an unknown option.
    """
    ours = decoding_options()
    if unknown := sorted(options.keys() - ours.keys()):
        raise UserError(f"unknown option {unknown[0]!r}: one of {', '.join(sorted(ours))}")
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
    pair: tuple[str | None, str | None],
    options: dict[str, Any],
) -> Translator:
    # A checkpoint stores the decoding options of its validation. Use the caller's instead.
    overrides = {**decoding_options(), "eval_bleu": False, **options}
    if data is not None:
        overrides["data"] = str(data)
    state = checkpoint_utils.load_checkpoint_to_cpu(str(checkpoint), overrides)
    cfg = options_of(state).task
    name = cfg if isinstance(cfg, str) else getattr(cfg, "_name", None)
    if not issubclass(tasks.TASK_REGISTRY.get(name, object), NartTranslationTask):
        raise UserError(
            f"{checkpoint} holds a model of the task {name}, not a non-autoregressive model of "
            f"{TASK}"
        )
    if data is None:
        logger.warning(
            "%s: the dictionaries are read from %s, the data folder that the checkpoint names; "
            "--data (in Python data=) gives another folder",
            *(checkpoint, cfg.data),
        )
    for name, value in overrides.items():  # options newer than the checkpoint included
        setattr(cfg, name, value)
    cfg.source_lang, cfg.target_lang = languages.choose(
        cfg.data,
        pair,
        languages.of_checkpoint(state),
        how="-s and -t (in Python source_lang= and target_lang=)",
    )
    task = tasks.setup_task(cfg, from_checkpoint=True)
    (model,), _ = checkpoint_utils.load_model_ensemble([str(checkpoint)], task=task, state=state)
    if not isinstance(model, NartModel):
        raise UserError(
            f"{checkpoint} holds {type(model).__name__}, not a non-autoregressive model"
        )
    translator = Translator(model, task, sentencepiece)
    saved = options_of(state).model
    translator.arch = getattr(saved, "arch", None) or saved._name
    return translator
