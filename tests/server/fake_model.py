"""A model whose translations are known without it, and a program that serves it.

`python fake_model.py OPTIONS` is `fairseq-nart serve OPTIONS` with this model.
"""

import sys
import threading
import time

import numpy as np

from fairseq_nart import cli, runtime
from fairseq_nart.errors import UserError
from fairseq_nart.runtime import Lattice, Translation
from fairseq_nart.runtime.lattice import Path

POISON = "POISON"
"""A line with it is a mistake of the user; one with BUG is a fault of the program."""
BUG = "BUG"


def expected(line: str) -> str:
    """The translation of a line: its words from last to first, so that markup stays markup."""
    return " ".join(reversed(line.split()))


class FakeModel:
    """Takes `seconds` for a batch. Two threads must not use it at once."""

    name, system, source_lang, target_lang = "fake", "nart_dcrf", "de", "en"

    def __init__(self, seconds: float = 0.0, has_crf: bool = True) -> None:
        self.seconds, self.has_crf = seconds, has_crf
        self.batches: list[list[str]] = []
        self._lock = threading.Lock()

    def translate_n_best(self, lines, most=None):
        assert self._lock.acquire(blocking=False), "two threads use the model"
        try:
            self.batches.append(list(lines))
            time.sleep(self.seconds)
            if any(BUG in line for line in lines):
                raise ZeroDivisionError
            if bad := next((line for line in lines if POISON in line), None):
                raise UserError(f"{bad!r} is bad")
            return [
                [
                    Translation(expected(line), -0.5, 3),
                    Translation(expected(line).upper(), -1.25, 3),
                    Translation("impossible", -np.inf, 3),
                ]
                if line.strip()
                else [Translation("", 0.0, 1)]
                for line in lines
            ]
        finally:
            self._lock.release()

    def lattice(self, line, shown=6):
        assert self._lock.acquire(blocking=False), "two threads use the model"
        try:
            if not line.strip():
                raise UserError("the line is empty")
            return _lattice(line, shown)
        finally:
            self._lock.release()


def _lattice(line: str, shown: int) -> Lattice:
    words = [*expected(line).split(), "</s>"]
    tokens = [[f"▁{word}{'+' * c}" for c in range(shown)] for word in words]
    random = np.random.default_rng(len(words))
    emissions = np.sort(np.log(random.dirichlet([0.4] * shown, len(words))))[:, ::-1].copy()
    emissions[0, -1] = -np.inf
    viterbi = [min(t % 3, 1) for t in range(len(words))]
    return Lattice(
        source=line,
        candidates=64,
        tokens=tokens,
        ranks=[list(range(shown))] * len(words),
        emissions=emissions,
        transitions=random.normal(scale=3, size=(len(words) - 1, shown, shown)),
        argmax=Path("argmax", [0] * len(words), expected(line) + " argmax", -4.5),
        viterbi=Path("Viterbi", viterbi, expected(line), -2.25),
    )


def patch(module) -> None:
    """Makes `runtime` load this model, whatever the folder."""
    module.load = lambda folder, threads=None, **decoding: FakeModel(seconds=0.005)
    module.demo_folder = lambda: "demo"


if __name__ == "__main__":
    patch(runtime)
    sys.exit(cli.main(["serve", *sys.argv[1:]]))
