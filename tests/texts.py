"""Helpers for tests of segmentation."""

import itertools
import subprocess
import sys
from pathlib import Path

import grammar
import sentencepiece

SEGMENT = Path(__file__).parents[1] / "examples" / "segment.py"


def write_teacher_folder(folder: Path) -> Path:
    """Writes a teacher's folder with a sentencepiece model for the synthetic corpus."""
    folder.mkdir()
    pairs = itertools.islice(grammar.corpus(1), 300)
    lines = [side for pair in pairs for side in (pair.source, pair.shown)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(folder / "sentencepiece"), vocab_size=90
    )
    (folder / "teacher.pt").write_bytes(b"weights")
    (folder / "dict.txt").write_text("a 1\n")
    return folder


def segment(*words):
    """Runs examples/segment.py."""
    command = [sys.executable, SEGMENT, *words]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True)
