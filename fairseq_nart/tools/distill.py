"""Sequence-level distillation: the teacher's translation of a training set (arXiv 1606.07947)."""

import argparse
import shutil
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.data import indexed_dataset
from fairseq.tasks import FairseqTask
from torch import Tensor
from tqdm import tqdm

from fairseq_nart.tasks import nart_translation  # noqa: F401  (registers ours, mends fairseq)


def translate_split(
    task: FairseqTask, teacher: Any, split: str, options: argparse.Namespace
) -> list[Tensor]:
    """Token ids of the teacher's best translation of each sentence of `split`, in its order."""
    task.load_dataset(split)
    data = task.dataset(split)
    batches = task.get_batch_iterator(
        data, max_tokens=options.max_tokens, ignore_invalid_inputs=False
    ).next_epoch_itr(shuffle=False)
    generator = task.build_generator([teacher], options)
    device = next(teacher.parameters()).device
    found: dict[int, Tensor] = {}
    for sample in tqdm(batches, desc=f"distilling {split}", unit="batch"):
        sample["net_input"] = {k: v.to(device) for k, v in sample["net_input"].items()}
        hypotheses = task.inference_step(generator, [teacher], sample)
        for index, best in zip(sample["id"].tolist(), hypotheses, strict=True):
            found[index] = best[0]["tokens"].cpu().int()
    if len(found) != len(data):
        raise RuntimeError(f"{len(found)} of the {len(data)} sentences of {split} came back")
    return [found[index] for index in range(len(data))]


def distill(data: Path, out: Path, options: argparse.Namespace) -> None:
    """Makes `out` a binarised data set ready for training: `data` with the teacher's targets.

    Sources, dictionaries and all other splits are copied, so validation stays original. The targets
    also go to `out` as text, one segmented line per sentence. `options` are this tool's.
    """
    overrides = {"data": str(data), "eval_bleu": False}
    (teacher,), cfg, task = checkpoint_utils.load_model_ensemble_and_task([options.path], overrides)
    if torch.cuda.is_available():
        teacher.cuda()
    teacher.prepare_for_inference_(cfg)
    translations = translate_split(task, teacher, "train", options)
    pair = f"{task.cfg.source_lang}-{task.cfg.target_lang}"
    target = f"train.{pair}.{task.cfg.target_lang}"
    out.mkdir(parents=True, exist_ok=True)
    for file in data.iterdir():
        if not file.name.startswith(f"{target}."):
            shutil.copy(file, out)
    with open(out / f"train.distilled.{task.cfg.target_lang}", "w", encoding="utf-8") as text:
        for tokens in translations:
            text.write(task.tgt_dict.string(tokens) + "\n")
    builder = indexed_dataset.make_builder(
        str(out / f"{target}.bin"), impl="mmap", vocab_size=len(task.tgt_dict)
    )
    for tokens in translations:
        builder.add_item(tokens)
    # The index comes last: a set without one is not finished, and fairseq does not read it.
    builder.finalize(str(out / f"{target}.idx"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `fairseq-nart distill`."""
    parser.add_argument("data", type=Path, help="binarised data directory, as for fairseq-train")
    parser.add_argument("--path", required=True, help="checkpoint of the teacher")
    parser.add_argument("--out", type=Path, required=True, help="folder for the distilled data set")
    parser.add_argument("--beam", type=int, default=4, help="beam size (default: 4)")
    parser.add_argument("--lenpen", type=float, default=1.0, help="length penalty (default: 1)")
    parser.add_argument("--max-len-a", type=float, default=1.2, help="longest output: a x + b")
    parser.add_argument("--max-len-b", type=int, default=10, help="longest output: a x + b")
    parser.add_argument(
        "--max-tokens", type=int, default=4096, help="source tokens in a batch (default: 4096)"
    )


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart distill`."""
    distill(options.data, options.out, options)
