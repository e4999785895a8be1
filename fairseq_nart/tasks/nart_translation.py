"""The task of students and teachers: data, models, checkpoints and decoding."""

import logging
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from fairseq import models, utils
from fairseq.criterions import FairseqCriterion
from fairseq.data import Dictionary, LanguagePairDataset
from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.models import BaseFairseqModel
from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationTask

from fairseq_nart import compat
from fairseq_nart.compat import allocator
from fairseq_nart.criterions.nart import NartCriterion, require_finite
from fairseq_nart.data import batching, languages, sentences
from fairseq_nart.data.side_inputs import SplitLocation
from fairseq_nart.errors import UserError
from fairseq_nart.generation.engine import Engine
from fairseq_nart.layers.attention import without_cudnn
from fairseq_nart.models import _backbone, _warm_start
from fairseq_nart.models._registry import TASK
from fairseq_nart.tasks import _checkpoints, _cpu_training, _decoding, _defaults, _options

logger = logging.getLogger(__name__)

compat.apply()
_defaults.install()
# fairseq scans models/ itself for --user-dir, but not when this package was imported before.
models.import_models(str(Path(_backbone.__file__).parent), "fairseq_nart.models")


@register_task(TASK, dataclass=_options.task_config())
class NartTranslationTask(TranslationTask):
    """Translation with parallel decoding. Autoregressive models train and decode as in fairseq."""

    def __init__(self, cfg: Any, src_dict: Dictionary, tgt_dict: Dictionary):
        super().__init__(cfg, src_dict, tgt_dict)
        _options.check(cfg)
        _options.complete(cfg, tgt_dict)
        self.model: BaseFairseqModel | None = None  # the last one built
        self.learning = False  # whether a criterion was built: decoding needs no side inputs
        self.first_line = 1
        """The line number of the first sentence of the next `build_dataset_for_inference`."""
        self.interactive_ids: torch.Tensor | None = None
        """The numbers of the sentences of a batch of fairseq-interactive, which names none."""

    @classmethod
    def add_args(cls, parser: Any) -> None:
        """Adds fairseq's options and those of all systems, also if registered after the task."""
        gen_parser_from_dataclass(parser, _options.task_config()())

    @classmethod
    def setup_task(cls, cfg: Any, **kwargs: Any) -> "NartTranslationTask":
        """Sets the language pair and loads the dictionaries. UserError if one is not found."""
        pair = languages.choose(cfg.data, (cfg.source_lang, cfg.target_lang))
        cfg.source_lang, cfg.target_lang = pair
        return super().setup_task(cfg, **kwargs)

    # Data

    def load_dataset(
        self, split: str, epoch: int = 1, combine: bool = False, **kwargs: Any
    ) -> None:
        """Loads a split, in training ordered by target length and with the model's side inputs.

        UserError if a split has no sentences, if side inputs are missing, and in training if a line
        holds a special symbol. In decoding, a source has the unknown word instead, and sources that
        are too long are cut.
        """
        training = split == self.cfg.train_subset
        shards = utils.split_paths(self.cfg.data)
        folder = Path(shards[(epoch - 1) % len(shards) if training else 0])
        where = SplitLocation(folder, split, (self.cfg.source_lang, self.cfg.target_lang), combine)
        special = sentences.check(where, (self.src_dict, self.tgt_dict))
        if special and self.learning:
            raise UserError(f"{special}: spell the word differently and binarise the text again")
        super().load_dataset(split, epoch, combine, **kwargs)
        data = self.datasets[split]
        if special:
            logger.warning("%s: it is translated as an unknown word", special)
        if not (self.learning or training) and data.buckets is None:
            sentences.make_readable(data, self._positions())
        if data.tgt_sizes is None:
            return
        for side in getattr(self.model, "side_inputs", ()) if self.learning else ():
            data = side.attach(data, where)
        if training and data.buckets is None:
            data = batching.ByTargetLength(data)
        self.datasets[split] = data

    # Models

    def build_model(self, cfg: Namespace, from_checkpoint: bool = False) -> BaseFairseqModel:
        """Builds a model. A new student starts from `--init-from` and gets its teacher.

        UserError if a checkpoint holds a system that does not exist here.
        """
        if from_checkpoint:
            _checkpoints.require_known(cfg)
        _options.share_embeddings(cfg, self.src_dict == self.tgt_dict)
        self.model = model = super().build_model(cfg, from_checkpoint)
        if not isinstance(model, _backbone.NartModel):
            _cpu_training.use_fast_dropout(model)
            return model
        _options.decoding_of(self.cfg, model)  # raises errors now, not at the first validation
        if from_checkpoint:
            return model
        model.prepare_training(self)
        _decoding.add_teacher(self, model)
        if model.cfg.init_from:
            _warm_start.init_from(model, model.cfg.init_from, self)
        return model

    def build_criterion(self, cfg: Any, from_checkpoint: bool = False) -> FairseqCriterion:
        """Builds the criterion. UserError if it does not fit the model."""
        _options.require_fitting(cfg._name, isinstance(self.model, _backbone.NartModel))
        self.learning = True
        allocator.keep_freed_memory()
        criterion = super().build_criterion(cfg, from_checkpoint)
        _cpu_training.use_fast_loss(criterion)
        return criterion

    def train_step(
        self, sample: Any, model: Any, criterion: Any, optimizer: Any, update_num: int, **more: Any
    ) -> Any:
        """One training step, without attention kernels that are slow for short sentences.

        FloatingPointError if a loss is not finite; on a GPU the trainer checks the gradients.
        """
        target = sample["target"]
        on_cpu = target.device.type == "cpu"
        criterion.update = update_num + 1
        with _cpu_training.plain_attention() if on_cpu else without_cudnn(target):
            step = super().train_step(sample, model, criterion, optimizer, update_num, **more)
        if on_cpu and not isinstance(criterion, NartCriterion):
            require_finite(step[2], sample["id"], criterion.update)
        return step

    def reduce_metrics(self, logging_outputs: list[dict[str, Any]], criterion: Any) -> None:
        """Logs metrics, also a BLEU of 0."""
        super().reduce_metrics(_decoding.with_bleu(logging_outputs), criterion)

    def begin_epoch(self, epoch: int, model: Any) -> None:
        """Before the first epoch, fits the model's statistics to the data or its first shard."""
        super().begin_epoch(epoch, model)
        allocator.return_free_memory()
        model = getattr(model, "module", model)
        if isinstance(model, _backbone.NartModel) and epoch == 1:
            sizes = batching.true_sizes(self.datasets[self.cfg.train_subset])
            if message := model.fit(*map(torch.as_tensor, sizes)):
                logger.info(message)

    # Checkpoints

    def state_dict(self) -> dict[str, Any]:
        """The state in checkpoints: fairseq's and ours."""
        return {**super().state_dict(), **_checkpoints.state(self)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """UserError if the checkpoint has other dictionaries, or a version that does not fit."""
        super().load_state_dict(_checkpoints.without_ours(self, state_dict))

    # Decoding

    def build_generator(self, models: Any, args: Any, *rest: Any, **kwargs: Any) -> Any:
        """A parallel generator for a non-autoregressive model, fairseq's beam search for others."""
        if generator := _decoding.generator(self, models, args):
            return generator
        return super().build_generator(models, args, *rest, **kwargs)

    def inference_step(self, generator: Any, models: Any, sample: Any, **kwargs: Any) -> Any:
        """Decodes a batch. Error messages give the numbers of its sentences."""
        if self.interactive_ids is not None:
            sample = {"id": self.interactive_ids, **sample}
        return super().inference_step(generator, models, sample, **kwargs)

    def build_engine(self, model: _backbone.NartModel) -> Engine:
        """The decoding engine for `model`, configured by the task's options."""
        return _decoding.engine(self, model)

    def build_dataset_for_inference(
        self, src_tokens: list[torch.Tensor], src_lengths: list[int], **kwargs: Any
    ) -> LanguagePairDataset:
        """A data set of sources. Sources that are too long are cut, see `sentences.readable`."""
        most, _ = self._positions()
        lines = enumerate(src_tokens, self.first_line)
        read = [sentences.readable(ids, self.src_dict, most, line) for line, ids in lines]
        return super().build_dataset_for_inference(read, list(map(len, read)), **kwargs)

    def _positions(self) -> tuple[int, int]:
        """Most tokens of a source and a target that the options and the last model allow."""
        ours = (self.cfg.max_source_positions, self.cfg.max_target_positions)
        theirs = self.model.max_positions() if self.model is not None else ours
        source, target = map(min, ours, theirs)
        return source, target
