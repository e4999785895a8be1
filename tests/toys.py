"""Small data and models for tests: a synthetic corpus, tiny models, fairseq in this process."""

import argparse
import itertools
from pathlib import Path
from typing import Any

import grammar
import numpy as np
import torch
from fairseq import checkpoint_utils, options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import BaseFairseqModel
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from fairseq_cli import generate, interactive, preprocess, train

from fairseq_nart.criterions.nart import NartCriterion
from fairseq_nart.data.phrase_tables import Sides, write
from fairseq_nart.models._backbone import NartModel
from fairseq_nart.tasks._options import task_config
from fairseq_nart.tasks.nart_translation import NartTranslationTask

SMALL = ["--embed-dim", "16", "--ffn-embed-dim", "32", "--dropout", "0"]
"""Makes any student architecture small; `nart_*_tiny` has two layers."""

IN_PROCESS = ["--cpu", "--num-workers", "0"]
"""No workers for data loading: ending one takes five seconds."""

SMALL_TEACHER = [
    word
    for side in ("encoder", "decoder")
    for word in (f"--{side}-embed-dim", "16", f"--{side}-ffn-embed-dim", "32")
]

_NARROW = [f"--{part}-embed-dim=16" for part in ("encoder", "decoder", "decoder-out")]

TEACHERS = {
    "transformer": ["--arch", "nart_teacher_tiny", *SMALL_TEACHER],
    "deep": ["--arch", "nart_teacher_deep_tiny", *SMALL_TEACHER],
    "lstm": [
        *("--arch", "nart_teacher_lstm_tiny", *_NARROW),
        *("--encoder-hidden-size", "32", "--decoder-hidden-size", "64"),
    ],
    "conv": [
        *("--arch", "nart_teacher_conv_tiny", *_NARROW),
        *("--encoder-layers", "[(16, 3)] * 3", "--decoder-layers", "[(16, 3)] * 3"),
    ],
}
"""Small teachers of every kind."""


def write_text(folder: Path, sizes: dict[str, int], seed: int = 1) -> None:
    """Plain text `SPLIT.de` and `SPLIT.en` from the demo's grammar."""
    pairs = grammar.corpus(seed)
    for split, size in sizes.items():
        part = list(itertools.islice(pairs, size))
        (folder / f"{split}.de").write_text("".join(f"{p.source}\n" for p in part), "utf-8")
        (folder / f"{split}.en").write_text("".join(f"{p.shown}\n" for p in part), "utf-8")


def binarise(text: Path, out: Path, *words: str) -> Path:
    """fairseq-preprocess on the splits found in `text`."""
    splits = [f for f in ("train", "valid", "test") if (text / f"{f}.de").exists()]
    prefixes = [word for split in splits for word in (f"--{split}pref", str(text / split))]
    parser = options.get_preprocessing_parser()
    command = ["-s", "de", "-t", "en", "--destdir", str(out), *prefixes, *words]
    preprocess.main(parser.parse_args(command))
    return out


def load_task(data: Path, **decoding: object) -> NartTranslationTask:
    """Our task over a binarised set."""
    cfg = task_config()(data=str(data), source_lang="de", target_lang="en", **decoding)
    cfg.train_subset, cfg.dataset_impl, cfg.required_seq_len_multiple = "train", "mmap", 1
    return NartTranslationTask.setup_task(cfg)


def phrase_table(task: NartTranslationTask) -> Path:
    """A file of random phrases that sentences of `test` contain, beside the data."""
    file = Path(task.cfg.data) / "phrases.tsv"
    if not file.exists():
        task.load_dataset("test")
        random = np.random.default_rng(1)
        sides = Sides((task.cfg.source_lang, task.cfg.target_lang), (task.src_dict, task.tgt_dict))
        pairs = []
        for item in task.dataset("test"):
            source, start = item["source"].tolist()[:-1], random.integers(2)
            while start < len(source):
                phrase = source[start : start + random.integers(1, 4)]
                size = random.integers(1, 5)
                target = random.integers(task.tgt_dict.nspecial, len(task.tgt_dict), size)
                if min(phrase) >= task.src_dict.nspecial:
                    pairs.append((phrase, target.tolist(), 0.5, 2))
                start += len(phrase) + random.integers(3)
        write(file, sides, pairs)
    return file


def arguments(task: NartTranslationTask, arch: str, *words: str) -> argparse.Namespace:
    """The options of fairseq-train for a small student."""
    if arch.startswith("nart_enat_p"):
        words = ("--phrase-table", str(phrase_table(task)), *words)
    command = [task.cfg.data, "--arch", arch, "--max-tokens", "1", *SMALL, *words]
    return options.parse_args_and_arch(options.get_training_parser(), command)


def build(task: NartTranslationTask, arch: str, *words: str, seed: int = 0) -> NartModel:
    """A small student with random weights and transitions of the CRF, and small fertilities."""
    torch.manual_seed(seed)
    model = task.build_model(arguments(task, arch, *words))
    for name, parameter in model.named_parameters():
        if name in ("crf.transitions.target.weight", "crf.transitions.f.2.weight"):
            torch.nn.init.normal_(parameter)  # otherwise the CRF has no effect
        if name == "fertility.projection.bias":  # mostly 0 to 2, not uniform over 0 to 49
            parameter.data = -(torch.arange(len(parameter)) - 1.0).square()
    return model.eval()


def build_teacher(
    task: NartTranslationTask, kind: str, *words: str, seed: int = 1
) -> BaseFairseqModel:
    """A small teacher with random weights, built by fairseq's own translation task."""
    torch.manual_seed(seed)
    command = [task.cfg.data, *TEACHERS[kind], "--max-tokens", "1", *words]
    args = options.parse_args_and_arch(options.get_training_parser(), command)
    if task.src_dict != task.tgt_dict:
        args.share_all_embeddings = False
    plain = TranslationTask(TranslationConfig(), task.src_dict, task.tgt_dict)
    return plain.build_model(args).eval()


def batch_of(
    task: NartTranslationTask, device: torch.device, rows: int = 5, split: str = "test"
) -> dict[str, Any]:
    """The first sentences of a split, collated by fairseq."""
    task.load_dataset(split)
    data = task.dataset(split)
    batch = data.collater([data[i] for i in range(rows)])
    moved = {key: batch[key].to(device) for key in ("id", "target")}
    return {**batch, **moved, "net_input": {k: v.to(device) for k, v in batch["net_input"].items()}}


def overfit(
    task: NartTranslationTask, model: NartModel, batch: dict[str, Any], updates: int, lr: float
) -> list[list[int]]:
    """Trains on one batch only; returns its targets, which the model should then predict."""
    optimizer, criterion = torch.optim.Adam(model.train().parameters(), lr), NartCriterion(task)
    for _ in range(updates):
        loss, tokens, _ = criterion(model, batch)
        optimizer.zero_grad()
        (loss / tokens).backward()
        optimizer.step()
    model.eval()
    return [row[row != task.tgt_dict.pad()].tolist() for row in batch["target"].cpu()]


def fairseq_train(data: Path, save: Path, *words: str) -> Path:
    """fairseq-train in this process, on the CPU; returns the last checkpoint."""
    command = [str(data), "--save-dir", str(save), "--max-tokens", "400", *IN_PROCESS, *words]
    args = options.parse_args_and_arch(options.get_training_parser(), command)
    # fairseq keeps the best score, here of an earlier test, as an attribute of this function.
    vars(checkpoint_utils.save_checkpoint).pop("best", None)
    train.main(convert_namespace_to_omegaconf(args))
    return save / "checkpoint_last.pt"


def fairseq_generate(data: Path, checkpoint: Path, *words: str) -> None:
    """fairseq-generate in this process."""
    parser = options.get_generation_parser()
    command = [str(data), "--path", str(checkpoint), *IN_PROCESS, *words]
    generate.main(options.parse_args_and_arch(parser, command))


def fairseq_interactive(data: Path, checkpoint: Path, file: Path, *words: str) -> None:
    """fairseq-interactive in this process on the lines of `file`."""
    parser = options.get_interactive_generation_parser()
    command = [str(data), "--path", str(checkpoint), "--input", str(file), *IN_PROCESS, *words]
    args = options.parse_args_and_arch(parser, command)
    interactive.main(convert_namespace_to_omegaconf(args))


def lines_of(output: str, kind: str) -> dict[int, list[str]]:
    """{sentence number: lines of a kind such as H, without the number} from fairseq's output."""
    lines: dict[int, list[str]] = {}
    for line in output.splitlines():
        if line.startswith(f"{kind}-"):
            number, _, rest = line[len(kind) + 1 :].partition("\t")
            lines.setdefault(int(number), []).append(rest)
    return lines
