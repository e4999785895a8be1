"""The stage that times sentences of given lengths, made of the sentences of the test sets."""

import random
import statistics
from collections.abc import Sequence
from itertools import chain, islice

from tqdm import tqdm

from fairseq_nart.subwords import Subwords
from fairseq_nart.tools.benchmark import circumstances
from fairseq_nart.tools.benchmark.records import SourceLength
from fairseq_nart.tools.benchmark.session import Session, Text
from fairseq_nart.tools.benchmark.worker import Worker

SENTENCES = 20
"""Sentences of each length."""


def lengths(session: Session, workers: Sequence[Worker], repeats: int) -> None:
    """Times single sentences of each of the plan's lengths, from text to text, in interleaved
    trials of the systems; the median of `repeats` counts."""
    plan = session.plan.lengths
    if plan is None:
        return
    chosen = [worker for worker in workers if worker.plan.name in plan.systems]
    for text in session.texts if chosen else ():
        for tokens in tqdm(plan.tokens, desc=f"lengths, {text.name}", unit="length"):
            about = [
                {"system": one.plan.name, "data": text.name, "tokens": tokens} for one in chosen
            ]
            known = [session.known(SourceLength, **one) for one in about]
            # All in the same trials, else they cannot be compared.
            if len({one and one.begun for one in known}) == 1 and known[0]:
                continue
            lines = of_length(text, session.subwords, tokens)
            begun, timed = circumstances.now(), _trials(chosen, lines, repeats)
            for worker, one in zip(chosen, about, strict=True):
                session.write(
                    SourceLength,
                    worker,
                    session.layout(worker.plan, "latency"),
                    **one,
                    data_sha256=text.sha256,
                    seconds=timed[worker.plan.name],
                    repeats=repeats,
                    begun=begun,
                )


def of_length(text: Text, subwords: Subwords, tokens: int) -> list[str]:
    """Lines of `tokens` subwords: consecutive sentences of the test set, joined and cut."""
    pieces = [subwords.encode(line) for line in text.timed]
    lines = []
    for number in range(SENTENCES):
        start = number * len(pieces) // SENTENCES
        # Enough, because each sentence has at least one subword.
        following = (pieces[(start + n) % len(pieces)] for n in range(tokens))
        some = list(islice(chain.from_iterable(following), tokens))
        lines.append(subwords.decode(some) if subwords.takes_text else " ".join(some))
    return lines


def _trials(workers: Sequence[Worker], lines: list[str], repeats: int) -> dict[str, list[float]]:
    """The median seconds of each line by system."""
    for worker in workers:
        worker.call("warm_up", lines)
    trials: dict[str, list[list[float]]] = {worker.plan.name: [] for worker in workers}
    for number in range(repeats):
        for worker in random.Random(number).sample(workers, len(workers)):
            timed = worker.call("time", lines)
            trials[worker.plan.name].append([one.text for one in timed])
    for worker in workers:
        worker.call("rest")
    return {
        name: [statistics.median(seconds) for seconds in zip(*rounds, strict=True)]
        for name, rounds in trials.items()
    }
