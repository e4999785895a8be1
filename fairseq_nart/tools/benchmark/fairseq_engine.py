"""Runs any checkpoint as fairseq-generate does, with fairseq's generators or ours."""

import ast
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from fairseq import checkpoint_utils, options, tasks, utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fairseq_nart.data import languages
from fairseq_nart.errors import UserError
from fairseq_nart.generation import engine as generation
from fairseq_nart.generation.generator import NartGenerator
from fairseq_nart.generation.ranking import Ranking
from fairseq_nart.layers.states import EncoderStates
from fairseq_nart.tasks import nart_translation  # noqa: F401  (registers all systems)
from fairseq_nart.teacher.rescoring import TeacherRescorer
from fairseq_nart.tools.benchmark.clock import Part
from fairseq_nart.tools.benchmark.engines import Layout
from fairseq_nart.tools.benchmark.plan import SystemPlan

_ENGINE_PARTS: list[Part] = [
    (EncoderStates, "select", "decoder"),
    (generation, "finish", "clean"),
    *((TeacherRescorer, name, "rescoring") for name in ("encode", "log_probs", "score")),
    (Ranking, "_hypotheses", "pick"),
]


class Target(NamedTuple):
    """A hypothesis without its scores."""

    tokens: list[int]
    iterations: int


class FairseqEngine:
    """A checkpoint with its generator. UserError where fairseq-generate would exit."""

    libraries = ("fairseq-fixed", "torch", "numpy")
    can_stream = False

    def __init__(self, plan: SystemPlan, data: Path, device: str) -> None:
        words = [str(data), "--path", str(plan.checkpoint), *plan.words]
        words += [] if device == "cuda" else ["--cpu"]
        try:
            args = options.parse_args_and_arch(options.get_generation_parser(), words)
        except SystemExit as error:
            raise UserError(f"fairseq-generate does not understand {' '.join(words)}") from error
        cfg = convert_namespace_to_omegaconf(args)
        overrides = ast.literal_eval(cfg.common_eval.model_overrides)
        state = checkpoint_utils.load_checkpoint_to_cpu(str(plan.checkpoint), overrides)
        cfg.task.source_lang, cfg.task.target_lang = languages.choose(
            data,
            (cfg.task.source_lang, cfg.task.target_lang),
            languages.of_checkpoint(state),
            how="source_lang and target_lang in the [[system]]",
        )
        self.task = tasks.setup_task(cfg.task)
        (self.model,), _ = checkpoint_utils.load_model_ensemble(
            [str(plan.checkpoint)], task=self.task, state=state
        )
        self.model.prepare_for_inference_(cfg)
        self.model.to(device=device, dtype=getattr(torch, plan.precision)).eval()
        self.device = device
        self.generator = self.task.build_generator([self.model], cfg.generation)
        self.parallel = isinstance(self.generator, NartGenerator)
        self.name = "fairseq_nart" if self.parallel else "fairseq"
        decoding = self.generator.engine.options if self.parallel else None
        self.refines = hasattr(decoding, "refinement_iterations")
        self.lengths = getattr(decoding, "length_candidates", None)
        target = self.task.target_dictionary
        self.special_tokens = {target.bos(), target.eos(), target.pad()}

    def lay_out(self, layout: Layout) -> None:
        torch.set_num_threads(layout.threads)

    def encode(self, pieces: list[str]) -> Tensor:
        dictionary = self.task.source_dictionary
        return torch.tensor([*map(dictionary.index, pieces), dictionary.eos()])

    def decode(self, target: Target) -> list[str]:
        dictionary = self.task.target_dictionary
        return [dictionary[token] for token in target.tokens if token not in self.special_tokens]

    def iterations(self, target: Target) -> int:
        return target.iterations if self.refines else 0

    def translate(self, batches: Iterable[Sequence[Tensor]]) -> list[list[Target]]:
        translated = []
        for batch in batches:
            sample = self._sample(batch)
            best = self.task.inference_step(self.generator, [self.model], sample)
            targets = {
                index: Target(hypotheses[0]["tokens"].tolist(), hypotheses[0].get("steps", 0))
                for index, hypotheses in zip(sample["id"].tolist(), best, strict=True)
            }
            translated.append([targets[index] for index in range(len(batch))])
        return translated

    @torch.no_grad()
    def predicted_lengths(self, batch: Sequence[Tensor]) -> list[int]:
        sample = self._sample(batch)
        predicted = self.model.predict_lengths(self.model.encode(sample["net_input"]["src_tokens"]))
        lengths = dict(zip(sample["id"].tolist(), predicted.clamp(min=1).tolist(), strict=True))
        return [lengths[index] for index in range(len(batch))]

    def parts(self) -> list[Part]:
        own: Part = (self, "_sample", "batch")
        if self.parallel:
            return [own, *self.model.timed_parts(), *_ENGINE_PARTS]
        if not hasattr(self.generator, "search"):  # iterative refinement
            return []
        model = self.generator.model
        return [
            own,
            (self.generator, "_generate", "search"),
            (model, "forward_encoder", "encoder"),
            (model, "forward_decoder", "decoder"),
        ]

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def operations(self, work: Callable[[], object]) -> int | None:
        counter = FlopCounterMode(display=False, custom_mapping=_fused_products())
        # Without fused attention and cuDNN's LSTM, whose operations torch does not count.
        with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False), counter:
            work()
        return counter.get_total_flops()

    def rate(self) -> float | None:
        return None

    def peak_bytes(self, work: Callable[[], object]) -> int | None:
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated() if self.device == "cuda" else None

    def _sample(self, batch: Sequence[Tensor]) -> dict[str, Any]:
        """A batch as fairseq-interactive makes it."""
        sizes = [len(tokens) for tokens in batch]
        data = self.task.build_dataset_for_inference(list(batch), sizes)
        sample: dict[str, Any] = data.collater([data[index] for index in range(len(batch))])
        return utils.move_to_cuda(sample) if self.device == "cuda" else sample


def _fused_products() -> dict[Any, Callable[..., int]]:
    """Counts the operations that torch does not: kernels of `layers.linear`, and the CPU's LSTM.

    Kernels that this torch version lacks are left out.
    """

    def linear(x: Sequence[int], *_: object, out_shape: Sequence[int], **__: object) -> int:
        return 2 * math.prod(x) * out_shape[-1]

    def lstm(x: Sequence[int], *weights: Sequence[int], **_: object) -> int:
        return 2 * math.prod(x[:2]) * sum(map(math.prod, weights[:2]))

    names = (
        ("mkldnn", "_linear_pointwise", linear),
        ("aten", "mkldnn_rnn_layer", lstm),
    )
    kernels = (
        (getattr(getattr(torch.ops, space), name, None), count) for space, name, count in names
    )
    return {kernel: count for kernel, count in kernels if kernel}
