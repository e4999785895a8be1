"""One forward pass of a tiny model, and the speed of threads."""

import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from fairseq_nart.tools.diagnosis.findings import FAULT, NOTE, OK, Finding

STALL = 1.5
"""A note is made if threads take this many times as long beside a busy process as alone. Two
threads with a fair share of two cores, of which another process needs one, take 1.33 times."""


def passes() -> Iterator[Finding]:
    """A tiny model with random weights, and the demo's exported model."""
    yield _tried("forward pass", _tiny_model)
    yield _tried("exported model", _demo_model)


def _tried(name: str, trial: Callable[[], str]) -> Finding:
    from fairseq_nart.errors import UserError

    try:
        return Finding(OK, name, trial())
    except (ModuleNotFoundError, UserError) as error:
        return Finding(NOTE, name, "not tried", f"{error}; see the packages above")
    except Exception as error:
        advice = "please report this, with the block below"
        return Finding(FAULT, name, f"failed: {' '.join(repr(error).split())[:300]}", advice)


def _tiny_model() -> str:
    """Loss, gradients and translation of NART-DCRF with random weights, on the device."""
    import torch
    from fairseq.data import Dictionary

    from fairseq_nart.models.nart import Nart
    from fairseq_nart.tasks._options import task_config
    from fairseq_nart.tasks.nart_translation import NartTranslationTask

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dictionary = Dictionary()
    for word in ("a", "b", "c"):
        dictionary.add_symbol(word)
    task = NartTranslationTask(
        task_config()(source_lang="de", target_lang="en"), dictionary, dictionary
    )
    config: Any = Nart.Config(
        encoder_layers=1, decoder_layers=1, embed_dim=16, ffn_embed_dim=16, attention_heads=2
    )
    config.output, config.crf_candidates = "dcrf", 4
    state = torch.random.get_rng_state()
    torch.manual_seed(1)
    model = Nart(config, task).to(device)
    torch.random.set_rng_state(state)
    tokens = torch.tensor([[4, 5, 6, 2]], device=device)
    total = torch.stack([term.weight * term.sum for term in model(tokens, tokens)]).sum()
    torch.autograd.backward(total)
    loss = total.item()
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss}")
    best = task.build_engine(model.eval())(tokens)[0][0]
    return f"NART-DCRF on {device}: loss {loss:.4f}, {len(best.tokens)} tokens"


def _demo_model() -> str:
    """A translation by ONNX Runtime."""
    from fairseq_nart import runtime

    return repr(
        runtime.load(runtime.demo_folder(), threads=1).translate(["heute muss der mann lesen ."])[0]
    )


def threads() -> Iterator[Finding]:
    """The time of a product with one thread and with all, alone and beside a busy process."""
    try:
        import torch
    except ImportError:
        return
    usable = torch.get_num_threads()
    asked = os.environ.get("OMP_NUM_THREADS", "not set")
    yield Finding(OK, "threads", f"torch uses {usable} (OMP_NUM_THREADS: {asked})")
    if usable < 2:
        return
    one, alone = _seconds(1), _seconds(usable)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            time.sleep(0.1)  # until it is busy
            beside = _seconds(usable)
        finally:
            busy.kill()
    times = ", ".join(
        f"{name} {seconds * 1e3:.1f} ms"
        for name, seconds in (
            ("one thread", one),
            (f"{usable} threads", alone),
            ("beside a busy process", beside),
        )
    )
    slower = beside > STALL * alone or alone > one
    advice = (
        "threads wait for each other when another job needs a core: set OMP_NUM_THREADS to the "
        "number of free cores, 1 on a busy machine"
    )
    yield Finding(NOTE if slower else OK, "threads", times, advice if slower else "")


def _seconds(count: int) -> float:
    """The median time of a product of matrices with `count` threads, of about 0.2 s in all."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        times: list[float] = []
        matrix, end = torch.ones(384, 384), time.perf_counter() + 0.2
        while len(times) < 5 or time.perf_counter() < end:
            begun = time.perf_counter()
            for _ in range(4):
                torch.mm(matrix, matrix)
            times.append(time.perf_counter() - begun)
    finally:
        torch.set_num_threads(before)
    return statistics.median(times)
