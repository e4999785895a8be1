"""A run folder in the format of a benchmark, with plausible but invented figures."""

import dataclasses
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fairseq_nart.files import sha256_of_test
from fairseq_nart.tools.benchmark.records import (
    Latency,
    Machine,
    Memory,
    Operations,
    Parts,
    Record,
    SourceLength,
    Sweep,
    System,
    Throughput,
    Translation,
    write,
)

MACHINE = Machine(cpu="Synthetic CPU", cores=2, memory_gib=24.0, device="cpu")
DATA = "Synthetic De-En"
TEACHER = "Transformer, beam 4"
REFINING = "Refinement, adaptive"

COMMON = {
    "machine": MACHINE,
    "threads": 2,
    "precision": "float32",
    "versions": {"torch": "2.13.0", "fairseq-fixed": "0.12.3.1"},
    "commit": "0123abc",
    "time": "2026-01-31T12:00:00+00:00",
}
WORDS = "the a child woman dog reads writes sees book letter red blue old on in at house".split()


@dataclasses.dataclass(frozen=True)
class Profile:
    """The quality and the speed of a synthetic system."""

    family: str
    lengths: int | None
    mistakes: float
    """Probability that a word is wrong."""
    fixed: float
    """Milliseconds per sentence."""
    per_token: float
    """Milliseconds per target token."""
    engine: str = "fairseq_nart"
    threads: int = 2


SYSTEMS = {
    TEACHER: Profile("Transformer", None, 0.12, 4, 9, "fairseq"),
    "Transformer, greedy": Profile("Transformer", None, 0.13, 4, 6, "fairseq"),
    "Transformer, beam 4, CTranslate2": Profile(
        "Transformer", None, 0.12, 2, 1.9, "ctranslate2", 1
    ),
    "fairseq NAT-CRF": Profile("fairseq NAT-CRF", 1, 0.42, 15, 0.3, "fairseq"),
    REFINING: Profile("Refinement", None, 0.25, 22, 0.1),
    "NART, 1 length": Profile("NART", 1, 0.34, 7, 0.1),
    "NART, 9 lengths": Profile("NART", 9, 0.29, 16, 0.7),
    "NART, 19 lengths": Profile("NART", 19, 0.30, 25, 1.4),
    "NART-CRF, 1 length": Profile("NART-CRF", 1, 0.28, 9, 0.2),
    "NART-CRF, 9 lengths": Profile("NART-CRF", 9, 0.22, 22, 1.1),
    "NART-CRF, 19 lengths": Profile("NART-CRF", 19, 0.21, 35, 2.2),
    "NART-DCRF, 1 length": Profile("NART-DCRF", 1, 0.22, 10, 0.25),
    "NART-DCRF, 9 lengths": Profile("NART-DCRF", 9, 0.16, 25, 1.3),
    "NART-DCRF, 19 lengths": Profile("NART-DCRF", 19, 0.15, 39, 2.6),
}


def make_run(
    folder: Path,
    *,
    data: Sequence[str] = (DATA,),
    sentences: int = 60,
    systems: Sequence[str] = tuple(SYSTEMS),
    scopes: Sequence[str] = ("text",),
    seed: int = 1,
) -> Path:
    """Writes a run folder in which every kind of record occurs."""
    folder.mkdir(parents=True)
    rng = random.Random(seed)
    for name in systems:
        write(folder, system(name))
    for number, test_set in enumerate(data):
        references = [_sentence(rng) for _ in range(sentences)]
        _write_lines(folder / f"references.{number}.txt", references)
        _write_lines(folder / f"sources.{number}.txt", references)
        for name in systems:
            for record in _measurements(folder, name, test_set, number, references, scopes, rng):
                write(folder, record)
    return folder


def system(profile_name: str, **changes: Any) -> System:
    """The record of a synthetic system, with some fields changed."""
    profile = SYSTEMS[profile_name]
    about: dict[str, Any] = {
        "name": profile_name,
        "family": profile.family,
        "lengths": profile.lengths,
        "engine": profile.engine,
    }
    about |= {"checkpoint": f"{profile.family}.pt", "checkpoint_sha256": f"{profile.family:0<64}"}
    about["vocabulary_sha256"] = f"{0:064}"
    return System(**{**COMMON, **about, "options": {}, **changes})


def translation(folder: Path, name: str, outputs: Sequence[str], **changes: Any) -> Translation:
    """Writes outputs beside the references of the first test set; returns their record."""
    file = f"{'_'.join(name.split())}.{changes.get('data', DATA)}.txt".replace(" ", "_")
    _write_lines(folder / file, outputs)
    about = {"system": name, "data": DATA, "sources": "sources.0.txt"}
    about |= {"references": "references.0.txt", "outputs": file, **changes}
    texts = ((folder / str(about[side])).read_text("utf-8") for side in ("sources", "references"))
    about.setdefault("data_sha256", sha256_of_test(*(text.splitlines() for text in texts)))
    return Translation(**{**COMMON, **about})


def _measurements(
    folder: Path,
    name: str,
    data: str,
    number: int,
    references: list[str],
    scopes: Sequence[str],
    rng: random.Random,
) -> Iterator[Record]:
    profile = SYSTEMS[name]
    about: dict[str, Any] = {**COMMON, "threads": profile.threads, "system": name, "data": data}
    outputs = [_corrupt(line, profile.mistakes, rng) for line in references]
    lengths = [len(line.split()) + 2 for line in references]
    predicted = None if profile.lengths is None else [max(1, n + _offset(rng)) for n in lengths]
    translated = translation(
        folder,
        name,
        outputs,
        data=data,
        sources=f"sources.{number}.txt",
        references=f"references.{number}.txt",
        threads=profile.threads,
        predicted_lengths=predicted,
        reference_lengths=predicted and lengths,
        iterations=[1 + n % 3 for n in range(len(outputs))] if name == REFINING else None,
    )
    yield translated
    about["data_sha256"] = translated.data_sha256
    tokens = [len(line.split()) + 2 for line in outputs]
    numbers = list(range(len(tokens)))
    for scope in scopes:
        more = 1.2 if scope == "text" else 0
        seconds = [_milliseconds(profile, n, more, rng) / 1000 for n in tokens]
        yield Latency(
            **about,
            scope=scope,
            seconds=seconds,
            target_tokens=tokens,
            sentences=numbers,
            repeats=3,
            begun=COMMON["time"],
        )
    mean = profile.fixed + profile.per_token * sum(tokens) / len(tokens)
    for batch in (1, 4, 16, 64):
        gain = batch / (1 + batch * (0.02 if profile.lengths is None else 0.01 * profile.lengths))
        rate = 1000 / mean * gain
        yield Throughput(
            **about, batch=batch, sentences_per_second=rate, tokens_per_second=rate * 12
        )
    yield _parts({**about, "sentences": numbers}, profile, mean / 1000)
    yield Memory(**about, peak_bytes=2**29 + 10**7 * (profile.lengths or 4), sentences=numbers)
    # One measured it in a slow moment, which does not count.
    slow = 5 if name == "NART, 1 length" else 1
    rate = 1e11 / slow if profile.engine == "fairseq_nart" else None
    flop = 1e8 * (profile.lengths or 4)
    yield Operations(**about, flop=flop, sentences=numbers[::5], rate=rate)
    for length in (10, 20, 40):
        seconds = [(profile.fixed + profile.per_token * length) / 1000] * 3
        yield SourceLength(**about, tokens=length, seconds=seconds, repeats=3, begun=COMMON["time"])
    if profile.family in ("NART-CRF", "NART-DCRF") and profile.lengths == 1:
        for parameter, values in (("crf_candidates", (1, 4, 16, 64, 256)), ("crf_rank", (8, 32))):
            for value in values:
                worse = [_corrupt(line, profile.mistakes + 0.3 / value, rng) for line in references]
                file = f"{profile.family}.{number}.{parameter}.{value}.txt"
                _write_lines(folder / file, worse)
                about["checkpoint_sha256"] = f"{profile.family:0<64}"
                yield Sweep(**about, parameter=parameter, value=value, outputs=file)


def _parts(about: dict[str, Any], profile: Profile, total: float) -> Parts:
    if profile.lengths is None:
        shares = {"encoder": 0.1, "decoder": 0.8}
    else:
        shares = {"encoder": 0.25, "length": 0.03, "decoder": 0.4, "clean": 0.02}
        if "CRF" in profile.family:
            shares |= {"decoder": 0.25, "candidates": 0.05, "viterbi": 0.1}
        if profile.lengths > 1:
            shares = {**{name: share / 2 for name, share in shares.items()}, "rescoring": 0.4}
    return Parts(**about, seconds={x: share * total for x, share in shares.items()}, total=total)


def _sentence(rng: random.Random) -> str:
    """Random words without immediate repetition, and a full stop without a space before it."""
    words = [rng.choice(WORDS)]
    for _ in range(max(2, round(rng.lognormvariate(2.4, 0.45)))):
        words.append(rng.choice([word for word in WORDS if word != words[-1]]))
    return " ".join(words) + "."


def _corrupt(line: str, mistakes: float, rng: random.Random) -> str:
    """The line with some words replaced, dropped or repeated."""
    words = []
    for word in line.split():
        chance = rng.random() / mistakes
        if chance > 1:
            words.append(word)
        elif chance > 0.3:
            words.append(rng.choice(WORDS))
        elif chance > 0.2:
            words += [word, word]
    return " ".join(words)


def _offset(rng: random.Random) -> int:
    return round(rng.gauss(-0.3, 1.8))


def _milliseconds(profile: Profile, tokens: int, more: float, rng: random.Random) -> float:
    return (profile.fixed + more + profile.per_token * tokens) * rng.lognormvariate(0, 0.07)


def _write_lines(file: Path, lines: Sequence[str]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
