"""The one task: data, decoding options, generator, validation BLEU; students and teachers."""

import logging
from argparse import Namespace
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Optional

import torch
from fairseq import checkpoint_utils, models, utils
from fairseq.criterions import FairseqCriterion
from fairseq.data import Dictionary, LanguagePairDataset
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.dataclass.configs import GenerationConfig
from fairseq.models import BaseFairseqModel
from fairseq.models.nat import FairseqNATModel
from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask

from fairseq_nart import compat
from fairseq_nart.compat import allocator
from fairseq_nart.compat.checkpoints import options_of
from fairseq_nart.criterions.nart import CRITERION
from fairseq_nart.generation.engine import Engine
from fairseq_nart.generation.generator import NartGenerator
from fairseq_nart.generation.options import (
    DecodingOptions,
    require_in_range,
    require_understood,
    typed,
)
from fairseq_nart.generation.rescore import DEFAULT_ALPHA, TeacherRescorer, alpha_of
from fairseq_nart.layers.attention import without_cudnn
from fairseq_nart.models import _backbone, _warm_start
from fairseq_nart.models._presets import TASK
from fairseq_nart.subwords import subword_scheme
from fairseq_nart.tasks import (
    _batching,
    _cpu_decoding,
    _cpu_training,
    _defaults,
    _dictionaries,
    _fertilities,
    _languages,
    _sentences,
)

logger = logging.getLogger(__name__)

compat.apply()
_defaults.install()
# fairseq scans models/ itself for --user-dir, but not when this package was imported before.
models.import_models(str(Path(_backbone.__file__).parent), "fairseq_nart.models")

HARMLESS = ("nbest", "print_step", "sacrebleu", "no_seed_provided", "no_early_stop", "_name")
"""Options of fairseq-generate that do what they say, or have long done nothing, in parallel too."""


@dataclass
class DecodingConfig(DecodingOptions, FairseqDataclass):
    """The options of parallel decoding."""

    rescore_with: Optional[str] = field(
        default=None,
        metadata={"help": "checkpoint of an autoregressive teacher that picks among candidates"},
    )
    rescore_normalization: ChoiceEnum(list(DEFAULT_ALPHA)) = field(  # type: ignore[valid-type]
        default="gnmt",
        metadata={
            "help": "teacher score: sum / ((5+L)/6)^alpha, sum / L, the sum of log-probs, or sum + "
            "alpha L"
        },
    )
    rescore_alpha: Optional[float] = field(
        default=None,
        metadata={
            "help": "alpha of gnmt (default 0.6) or reward (default 2); `fairseq-nart tune` finds "
            "the best on valid"
        },
    )
    int8: bool = field(
        default=False,
        metadata={"help": "decode with linear layers in 8-bit integers: faster, on a CPU alone"},
    )


@dataclass
class NartTranslationConfig(DecodingConfig, TranslationConfig):
    """fairseq's translation options and those of parallel decoding."""


@register_task(TASK, dataclass=NartTranslationConfig)
class NartTranslationTask(TranslationTask):
    """Translation in parallel; autoregressive models train and decode in it as ever."""

    cfg: NartTranslationConfig

    def __init__(self, cfg: NartTranslationConfig, src_dict: Dictionary, tgt_dict: Dictionary):
        super().__init__(cfg, src_dict, tgt_dict)
        self._decoding()  # refuses now what it would refuse after an epoch of training
        require_in_range(cfg, DecodingConfig)
        self._alpha()
        for name in () if cfg.rescore_with else ("rescore_normalization", "rescore_alpha"):
            if getattr(cfg, name) != getattr(NartTranslationConfig, name):
                raise ValueError(
                    f"{typed(name)} is about a teacher: name it by --rescore-with, or leave it out"
                )
        if cfg.int8 and cfg.eval_bleu:
            raise ValueError("--int8 is for decoding, --eval-bleu for training: leave one out")
        if cfg.left_pad_target:
            raise ValueError("targets are padded on the right: leave --left-pad-target out")
        # fairseq's own default, -1, is no number of times that the first of several parts is read.
        cfg.upsample_primary = max(1, cfg.upsample_primary)
        if cfg.eval_bleu and cfg.eval_bleu_remove_bpe is None:
            cfg.eval_bleu_remove_bpe = subword_scheme(tgt_dict.symbols)
        self.parallel = False
        """Whether the model is a non-autoregressive one."""
        self.side_inputs: tuple[str, ...] = ()
        """What the model learns from beside source and target."""
        self.learning = False
        """Whether there is a criterion: decoding needs no side inputs."""
        self.first_line = 1
        """The number of the first line of the next batch of `build_dataset_for_inference`."""

    @classmethod
    def setup_task(cls, cfg: NartTranslationConfig, **kwargs: Any) -> "NartTranslationTask":
        """As fairseq's; ValueError where the data folder or its language pair cannot be known."""
        _languages.require_folder(cfg.data)
        given = (cfg.source_lang, cfg.target_lang)
        cfg.source_lang, cfg.target_lang = _languages.choose(cfg.data, given)
        task: NartTranslationTask = super().setup_task(cfg, **kwargs)
        return task

    # Data

    def load_dataset(
        self, split: str, epoch: int = 1, combine: bool = False, **kwargs: Any
    ) -> None:
        """As fairseq's; training batches are made by target length.

        With the fertilities of its sentences where the model learns from them; ValueError where
        they are missing or of other data, where a split has no sentences, and in training where a
        line holds a special symbol. A source to translate has an unknown word in its place.
        """
        shards = utils.split_paths(self.cfg.data)
        folder = Path(shards[(epoch - 1) % len(shards) if split == self.cfg.train_subset else 0])
        languages = (self.cfg.source_lang, self.cfg.target_lang)
        special = self._special_symbol(folder, split, combine)
        if special and self.learning:
            raise ValueError(
                f"{special}: write the word in another way, and binarise the text again"
            )
        super().load_dataset(split, epoch, combine, **kwargs)
        data = self.datasets[split]
        if special and data.buckets is None:
            logger.warning("%s: in a source it is translated as an unknown word", special)
            data.src = _sentences.WithoutSpecial(data.src, self.src_dict)
        if self.learning and "fertilities" in self.side_inputs and data.tgt_sizes is not None:
            data = _fertilities.WithFertilities(data, folder, split, languages, combine)
            self.datasets[split] = data
        if split == self.cfg.train_subset and data.tgt_sizes is not None and data.buckets is None:
            self.datasets[split] = _batching.ByTargetLength(data)

    def _special_symbol(self, folder: Path, split: str, combine: bool) -> str | None:
        """The first line of a split with a special symbol, in words; ValueError without lines."""
        languages = (self.cfg.source_lang, self.cfg.target_lang)
        for files in _sentences.files_of(folder, split, languages, combine):
            for file, dictionary in zip(files, (self.src_dict, self.tgt_dict)):
                _sentences.require_sentences(file)
                if special := _sentences.special_symbol(file, dictionary):
                    return special
        return None

    # Models

    def build_model(self, cfg: Namespace, from_checkpoint: bool = False) -> BaseFairseqModel:
        """As fairseq's; warm-starts a new student from `--init-from`."""
        if getattr(cfg, "share_all_embeddings", False) and self.src_dict != self.tgt_dict:
            logger.info("two dictionaries: embeddings of source and target are not shared")
            cfg.share_all_embeddings = False
        model = super().build_model(cfg, from_checkpoint)
        self.parallel = isinstance(model, _backbone.NartModel)
        self.side_inputs = model.side_inputs if self.parallel else ()
        if not self.parallel:
            _cpu_training.use_fast_dropout(model)
        if self.parallel and not from_checkpoint and (teacher := model.teacher_path()):
            model.teacher = self._rescorer(teacher)
            room, ours = model.teacher.teacher.max_positions(), model.max_positions()
            if any(theirs < own for theirs, own in zip(room, ours)):
                raise ValueError(
                    f"--finetune-with {teacher}: it knows {room[0]} source and {room[1]} target "
                    f"positions, the student {ours[0]} and {ours[1]}: type --max-source-positions "
                    f"{min(room[0], ours[0])} --max-target-positions {min(room[1], ours[1])}"
                )
        if self.parallel and model.cfg.init_from and not from_checkpoint:
            state = checkpoint_utils.load_checkpoint_to_cpu(model.cfg.init_from)
            _dictionaries.require_agreement(model.cfg.init_from, state, self._sides())
            theirs = options_of(state).model
            _warm_start.require_as_many_heads(model, theirs, model.cfg.init_from)
            logger.info(_warm_start.warm_start(model, state["model"], model.cfg.init_from))
        return model

    def build_criterion(self, cfg: Any, from_checkpoint: bool = False) -> FairseqCriterion:
        """As fairseq's; ValueError where model and criterion cannot work together."""
        name = cfg._name
        if self.parallel and name != CRITERION:
            raise ValueError(
                f"--criterion {name} cannot train a non-autoregressive model: type --criterion "
                f"{CRITERION}, or leave --criterion out"
            )
        if not self.parallel and name == CRITERION:
            raise ValueError(
                f"--criterion {CRITERION} trains non-autoregressive models only: type --criterion "
                "label_smoothed_cross_entropy --label-smoothing 0.1 for an autoregressive one"
            )
        if self.cfg.int8:
            raise ValueError("--int8 is for decoding: leave it out of a training")
        self.learning = True
        allocator.keep_freed_memory()
        criterion = super().build_criterion(cfg, from_checkpoint)
        _cpu_training.use_fast_loss(criterion)
        return criterion

    def train_step(self, sample: dict[str, Any], *rest: Any, **kwargs: Any) -> Any:
        """As fairseq's, without kernels that are slow for sentences."""
        target = sample["target"]
        on_cpu = target.device.type == "cpu"
        with _cpu_training.plain_attention() if on_cpu else without_cudnn(target):
            return super().train_step(sample, *rest, **kwargs)

    def reduce_metrics(self, logging_outputs: list[dict[str, Any]], criterion: Any) -> None:
        """As fairseq's; BLEU of nothing but empty outputs is 0, which fairseq does not log and then
        misses."""
        counted = [log["_bleu_totals_0"] for log in logging_outputs if "_bleu_totals_0" in log]
        if counted and not any(counted):
            logging_outputs = [{**log, "_bleu_totals_0": 1e-9} for log in logging_outputs]
        super().reduce_metrics(logging_outputs, criterion)

    def begin_epoch(self, epoch: int, model: Any) -> None:
        """At first fits the length rule to the training data, or the first shard of them."""
        super().begin_epoch(epoch, model)
        allocator.return_free_memory()
        model = getattr(model, "module", model)
        if isinstance(model, _backbone.NartModel) and epoch == 1:
            data = self.datasets[self.cfg.train_subset]
            source, target = (torch.as_tensor(x) for x in (data.src_sizes, data.tgt_sizes))
            if said := model.fit(source, target):
                logger.info(said)

    # Dictionaries

    def _sides(self) -> dict[str, tuple[str, Dictionary]]:
        return {
            "source": (self.cfg.source_lang, self.src_dict),
            "target": (self.cfg.target_lang, self.tgt_dict),
        }

    def state_dict(self) -> dict[str, Any]:
        """What every checkpoint carries of the task: its languages and dictionaries' symbols."""
        symbols = {side: dictionary.symbols for side, (_, dictionary) in self._sides().items()}
        languages = [self.cfg.source_lang, self.cfg.target_lang]
        return {**super().state_dict(), "symbols": symbols, "languages": languages}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """DictionaryError where the checkpoint's symbols are not the data directory's."""
        for side, (_, dictionary) in self._sides().items():
            theirs = state_dict.get("symbols", {}).get(side, dictionary.symbols)
            _dictionaries.require_equal("the checkpoint", side, theirs, dictionary.symbols)
        ours = ("symbols", "languages")
        super().load_state_dict({k: v for k, v in state_dict.items() if k not in ours})

    # Decoding

    def build_generator(self, models: Any, args: Any, *rest: Any, **kwargs: Any) -> Any:
        """The parallel engine for a non-autoregressive model, fairseq's beam search for others."""
        allocator.keep_freed_memory()
        if not any(isinstance(each, _backbone.NartModel) for each in models):
            model = "an autoregressive model"
            require_understood(self._decoding(), (), model)
            if self.cfg.rescore_with:
                raise ValueError(f"--rescore-with means nothing to {model}: leave it out")
            for each in models if not self.cfg.eval_bleu else ():
                _cpu_decoding.pack(each, self.cfg.int8)
            return super().build_generator(models, args, *rest, **kwargs)
        if len(models) != 1:
            raise ValueError(
                f"a non-autoregressive model decodes alone, and --path names {len(models)}"
            )
        for option in fields(GenerationConfig):
            value = getattr(args, option.name, option.default)
            fits = (option.default, 1) if option.name == "beam" else (option.default,)
            if option.name not in HARMLESS and value not in fits:
                raise ValueError(
                    f"{typed(option.name)} is not for a non-autoregressive model: "
                    "leave it out (README lists its own, such as --length-candidates, --ctc-beam)"
                )
        models[0].eval()
        return NartGenerator(self.build_engine(models[0]))

    def build_engine(self, model: _backbone.NartModel) -> Engine:
        """The engine that all ways of decoding share, set by the task's options."""
        path = self.cfg.rescore_with
        rescorer = self._rescorer(path) if path else None
        if not self.cfg.eval_bleu:  # else the model is in training
            _cpu_decoding.pack(model, self.cfg.int8)
            if rescorer:
                rescorer.follow(next(model.parameters()))
                _cpu_decoding.pack(rescorer.teacher, self.cfg.int8)
        return Engine(
            model,
            eos=self.tgt_dict.eos(),
            pad=self.tgt_dict.pad(),
            options=self._decoding(),
            rescorer=rescorer,
        )

    def _rescorer(self, path: str) -> TeacherRescorer:
        return TeacherRescorer(
            self.load_teacher(path),
            eos=self.tgt_dict.eos(),
            normalization=str(self.cfg.rescore_normalization),
            alpha=self._alpha(),
        )

    def _alpha(self) -> float:
        return alpha_of(str(self.cfg.rescore_normalization), self.cfg.rescore_alpha)

    def _decoding(self) -> DecodingOptions:
        names = (option.name for option in fields(DecodingOptions))
        return DecodingOptions(**{name: getattr(self.cfg, name) for name in names})

    def load_teacher(self, path: str) -> BaseFairseqModel:
        """Any autoregressive fairseq encoder-decoder over this task's dictionaries, in fp32.

        ValueError for a non-autoregressive one and for one of the other direction, DictionaryError
        for other dictionaries.
        """
        state = checkpoint_utils.load_checkpoint_to_cpu(path)
        cfg = options_of(state)
        arch = getattr(cfg.model, "arch", None) or cfg.model._name
        kind = models.ARCH_MODEL_REGISTRY.get(arch, models.MODEL_REGISTRY.get(arch, object))
        if issubclass(kind, (_backbone.NartModel, FairseqNATModel)):
            raise ValueError(
                f"{path} holds a non-autoregressive model ({arch}): a teacher must be "
                "autoregressive, such as nart_teacher_cpu"
            )
        theirs = _languages.of_checkpoint(state)
        ours = (self.cfg.source_lang, self.cfg.target_lang)
        if theirs == ours[::-1] != ours:
            raise ValueError(
                f"{path} translates {' to '.join(theirs)}, not {' to '.join(ours)}: give a teacher "
                "of the same direction"
            )
        _dictionaries.require_agreement(path, state, self._sides())
        state.pop("task_state", None)
        plain = TranslationTask(TranslationConfig(), self.src_dict, self.tgt_dict)
        (teacher,), _ = checkpoint_utils.load_model_ensemble([path], task=plain, state=state)
        return teacher.float().eval()

    def build_dataset_for_inference(
        self, src_tokens: list[torch.Tensor], src_lengths: list[int], **kwargs: Any
    ) -> LanguagePairDataset:
        """As fairseq's, but every line has its output.

        A line beyond --max-source-positions is cut, with a warning; special symbols among its words
        are unknown words.
        """
        longest = self.cfg.max_source_positions
        cut = []
        for line, tokens in enumerate(src_tokens, self.first_line):
            if len(tokens) > longest:
                logger.warning(
                    "line %d has %d tokens: only the first %d are translated "
                    "(--max-source-positions)",
                    line,
                    len(tokens),
                    longest,
                )
                tokens = torch.cat([tokens[: longest - 1], tokens[-1:]])
            cut.append(_sentences.without_special(tokens, self.src_dict))
        lengths = torch.tensor([len(tokens) for tokens in cut])
        return super().build_dataset_for_inference(cut, lengths, **kwargs)
