"""Measures the training speed of several systems on the same batches, in one process.

    python examples/training_speed.py DATA --size cpu [--updates 30] [--max-tokens 4096]

DATA is a folder of binarised data. Every system is trained on a batch before the next batch, so
that other load on the machine affects all equally. Prints target tokens, without padding, per
second, and the ratio to fairseq's own NAT-CRF of the same size. bf16 on the CPU, fp16 on a GPU.
"""

import argparse
import copy
import logging
import tempfile
import time
from typing import Any

import torch
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.trainer import Trainer
from tqdm import tqdm

from fairseq_nart.models._registry import SIZES
from fairseq_nart.tasks.nart_translation import TASK  # importing it registers all our systems

PEER = "nacrf_transformer"
WARM_UP = 8  # untimed updates, because the first ones allocate memory


def arguments(system: str, size: str) -> list[str]:
    """The command-line arguments that select a system. Ours have presets for all other options."""
    if system != PEER:
        return ["--task", TASK, "--arch", f"{system}_{size}"]
    numbers = SIZES[size]
    words = ["--task", "translation_lev", "--arch", PEER, "--criterion", "nat_loss"]
    words += ["--noise", "full_mask", "--pred-length-offset", "--length-loss-factor", "0.1"]
    words += ["--apply-bert-init", "--share-all-embeddings", "--label-smoothing", "0.1"]
    words += ["--optimizer", "adam", "--lr-scheduler", "inverse_sqrt", "--lr", "1e-3"]
    for side in ("encoder", "decoder"):
        words += [f"--{side}-layers", numbers.layers, f"--{side}-attention-heads", numbers.heads]
        words += [f"--{side}-embed-dim", numbers.dim, f"--{side}-ffn-embed-dim", numbers.ffn_dim]
        words += [f"--{side}-learned-pos"]
    return [str(word) for word in words]


def trainer(data: str, words: list[str], save_dir: str) -> Trainer:
    """The trainer that fairseq-train would create."""
    device = ["--fp16"] if torch.cuda.is_available() else ["--cpu", "--bf16"]
    words = [data, "--save-dir", save_dir, *device, *words]
    args = options.parse_args_and_arch(options.get_training_parser(), words)
    cfg = convert_namespace_to_omegaconf(args)
    torch.manual_seed(1)
    task = tasks.setup_task(cfg.task)
    model, criterion = task.build_model(cfg.model), task.build_criterion(cfg.criterion)
    task.load_dataset("train")  # after the model, which can require side inputs
    return Trainer(cfg, task, model, criterion)


def first_batches(source: Trainer, count: int) -> list[dict[str, Any]]:
    """The first `count` shuffled batches of an epoch; exits if it has fewer."""
    epoch = source.get_train_iterator(epoch=1, load_dataset=False).next_epoch_itr(shuffle=True)
    batches = [batch for batch, _ in zip(epoch, range(count))]
    if len(batches) < count:
        raise SystemExit(
            f"an epoch has {len(batches)} batches, but --updates and warm-up need {count}"
        )
    return batches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--size", choices=SIZES, default="cpu")
    parser.add_argument(
        "--systems", nargs="+", default=["nart_teacher", "nart", "nart_crf", "nart_dcrf", PEER]
    )
    parser.add_argument("--updates", type=int, default=30)
    parser.add_argument("--max-tokens", default="4096")
    given = parser.parse_args()
    logging.disable(logging.INFO)
    seconds: dict[str, float] = dict.fromkeys(given.systems, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        common = ["--max-tokens", given.max_tokens]
        trainers = {
            x: trainer(given.data, [*arguments(x, given.size), *common], folder) for x in seconds
        }
        batches = first_batches(trainers[given.systems[0]], WARM_UP + given.updates)
        for number, batch in enumerate(tqdm(batches, unit="batch")):
            for system, each in trainers.items():
                own = copy.deepcopy(batch)
                start = time.perf_counter()
                each.train_step([own])
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                if number >= WARM_UP:
                    seconds[system] += time.perf_counter() - start
    tokens = sum(batch["ntokens"] for batch in batches[WARM_UP:])
    for system, total in seconds.items():
        ratio = f", {seconds[PEER] / total:.2f} x {PEER}" if PEER in seconds else ""
        print(f"{system}: {tokens / total:.0f} target tokens/s{ratio}")


if __name__ == "__main__":
    main()
