"""Reads the plan of a benchmark, what to measure, from a TOML file.

    binarised = "data"                      # fairseq-preprocess's folder, for its dictionaries
    sentencepiece = "sentencepiece.model"   # leave out if the text is already segmented

    [[test]]
    name = "Multi30k test2016"
    source = "text/test2016.raw.de"
    references = "text/test2016.raw.en"

    [[system]]
    family = "Transformer"
    checkpoint = "teacher.pt"
    beam = [4, 1]

    [[system]]
    family = "Transformer"
    checkpoint = "teacher.pt"
    engine = "ctranslate2"
    precision = ["float32", "int8"]
    beam = [4, 1]

    [[system]]
    family = "NART-DCRF"
    checkpoint = "nart_dcrf.pt"
    length_candidates = [1, 9, 19]
    rescore_with = "teacher.pt"

    [[system]]
    family = "NART-DCRF"
    checkpoint = "nart_dcrf.pt"
    engine = "onnx"
    precision = "int8"
    length_candidates = 9
    rescore_with = "teacher.pt"
    rescore_best = 3

    [[sweep]]
    system = "NART-DCRF, 1 length"
    parameter = "crf_candidates"
    values = [1, 4, 16, 64]

    [lengths]                               # latency by the length of the source
    systems = ["Transformer, beam 4, CTranslate2 int8", "NART-DCRF, 1 length"]
    tokens = [10, 20, 40, 80]

A list defines one system per value. All keys of a system except name, family, checkpoint, engine,
precision, threads, tuned, rescore_best and vocabulary_map are options of fairseq-generate. `tuned`
is a file with the output of `fairseq-nart tune`, whose best options are added. Paths are relative
to one folder.
"""

import ast
import itertools
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from fairseq_nart.errors import UserError
from fairseq_nart.files import sha256
from fairseq_nart.options import typed
from fairseq_nart.subwords import Subwords, subword_scheme
from fairseq_nart.text import read_lines
from fairseq_nart.tools._decoding import number_in
from fairseq_nart.tools.benchmark.names import OWN, counted, decoding_fields, name_of
from fairseq_nart.tools.benchmark.records import Parameter
from fairseq_nart.tools.benchmark.schema import build

PRECISIONS = {
    "fairseq": ("float32", "bfloat16", "float16"),
    "ctranslate2": ("float32", "bfloat16", "float16", "int8", "int8_float32", "int16"),
    "onnx": ("float32", "int8"),
}
TEACHER = ("rescore_with", "rescore_normalization", "rescore_alpha")
LANGUAGES = ("source_lang", "target_lang")
CRF_CANDIDATES = "crf_candidates"
"""Option of exports: CRF candidates per position."""
EXPORTED = (*TEACHER, CRF_CANDIDATES, *LANGUAGES)
"""Options that are fixed when a model is exported."""
RESCORING = (*TEACHER, "tuned", "rescore_best")
SEARCH = ("beam", "lenpen", "max_len_a", "max_len_b")
"""Options of fairseq-generate that also work with CTranslate2."""

VOCABULARY_MAP = "vocabulary_map"
"""CTranslate2's own option: whether the source limits the target tokens."""

Engine = Literal["fairseq", "ctranslate2", "onnx"]


@dataclass(frozen=True)
class TestSet:
    """Files of raw text, one sentence per line."""

    name: str
    source: str
    references: str


@dataclass(frozen=True)
class SystemPlan:
    """A system to measure."""

    name: str
    family: str
    checkpoint: Path
    engine: Engine = "fairseq"
    precision: str = "float32"
    threads: int | None = None
    """None: the benchmark finds the best number."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of fairseq-generate, with underscores."""

    def __post_init__(self) -> None:
        teacher = "rescore_with" in self.options
        if self.precision not in PRECISIONS[self.engine]:
            known = ", ".join(PRECISIONS[self.engine])
            able = [f'engine = "{x}"' for x, some in PRECISIONS.items() if self.precision in some]
            hint = f"; set {' or '.join(able)}" if able else ""
            raise UserError(f"precision {self.precision!r}: {self.engine} supports {known}{hint}")
        search = (*SEARCH, VOCABULARY_MAP)
        if self.engine == "ctranslate2" and (other := sorted(self.options.keys() - {*search})):
            raise UserError(f"engine ctranslate2 supports {', '.join(search)}, not {other[0]!r}")
        if self.engine != "ctranslate2" and VOCABULARY_MAP in self.options:
            raise UserError(f"{VOCABULARY_MAP} needs engine ctranslate2")
        if self.engine == "onnx":
            usable = {*EXPORTED, "rescore_best", *decoding_fields()}
            if other := sorted(self.options.keys() - usable):
                raise UserError(
                    f"engine onnx supports decoding options of our systems, not {other[0]!r}"
                )
        if "rescore_best" in self.options and (self.engine, teacher) != ("onnx", True):
            raise UserError("rescore_best needs engine onnx, rescore_with and several candidates")
        if self.threads is not None and self.threads < 1:
            raise UserError(f"threads must be at least 1, not {self.threads}")

    @property
    def words(self) -> list[str]:
        """The options as fairseq-generate's command line."""
        words = []
        for name, value in self.options.items():
            words += [typed(name)] if value is True else [typed(name), str(value)]
        return words


@dataclass(frozen=True)
class SweepPlan:
    """A system with one parameter varied, in decoding or in training."""

    system: str
    parameter: Parameter
    values: list[int] = field(default_factory=list)
    """Values set in decoding."""
    checkpoints: dict[str, str] = field(default_factory=dict)
    """Value, as text, to the checkpoint trained with it."""

    def __post_init__(self) -> None:
        needed = "values" if self.parameter == "crf_candidates" else "checkpoints"
        if bool(self.values) == bool(self.checkpoints) or not getattr(self, needed):
            raise UserError(f"{self.parameter} needs {needed}, and nothing else")
        for value in self.checkpoints:
            if not value.isdecimal():
                raise UserError(f"checkpoints: {value!r} is not a number")


@dataclass(frozen=True)
class LengthsPlan:
    """Systems that are also timed on sentences of given lengths."""

    systems: list[str]
    tokens: list[int] = field(default_factory=lambda: [10, 20, 40, 80])
    """Subwords of the sources."""

    def __post_init__(self) -> None:
        if any(count < 1 for count in self.tokens):
            raise UserError("tokens must be at least 1")


@dataclass(frozen=True)
class Plan:
    """Everything that a benchmark measures."""

    binarised: Path
    sentencepiece: Path | None
    tests: list[TestSet]
    systems: list[SystemPlan]
    sweeps: list[SweepPlan]
    lengths: LengthsPlan | None = None

    @property
    def vocabulary_sha256(self) -> str:
        """Digest of the dictionaries and the sentencepiece model."""
        dictionaries = sorted(self.binarised.glob("dict.*.txt"))
        return sha256(*dictionaries, *([self.sentencepiece] if self.sentencepiece else []))

    def subwords(self) -> Subwords:
        """Segments text into subwords and joins them."""
        dictionaries = self.binarised.glob("dict.*.txt")
        symbols = (line.rpartition(" ")[0] for file in dictionaries for line in read_lines(file))
        return Subwords(self.sentencepiece, subword_scheme(symbols))

    def swept(self, sweep: SweepPlan) -> Iterator[tuple[int, SystemPlan]]:
        """Each value, with the system that uses it."""
        base = next(system for system in self.systems if system.name == sweep.system)
        own = ast.literal_eval(str(base.options.get("model_overrides", "{}")))
        for value in sweep.values:
            overrides = repr({**own, sweep.parameter: value})
            yield value, replace(base, options={**base.options, "model_overrides": overrides})
        for number, checkpoint in sweep.checkpoints.items():
            yield int(number), replace(base, checkpoint=Path(checkpoint))


def read_plan(file: Path, root: Path, skip_missing: bool = False) -> Plan:
    """The plan in `file`, its paths relative to `root`; UserError says what is wrong with it.

    With `skip_missing`, systems and values without a checkpoint are left out, with a message.
    """
    try:
        content = tomllib.loads(file.read_text("utf-8"))
        return _Reader(root, skip_missing).plan(content)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from error


class _Reader:
    def __init__(self, root: Path, skip_missing: bool) -> None:
        self.root = root
        self.skip_missing = skip_missing

    def plan(self, content: dict[str, Any]) -> Plan:
        known = ("binarised", "sentencepiece", "test", "system", "sweep", "lengths")
        if unknown := sorted(content.keys() - set(known)):
            raise UserError(f"unknown key {unknown[0]!r}: use one of {', '.join(known)}")
        for needed in ("binarised", "test", "system"):
            if not content.get(needed):
                raise UserError(f"{needed} is missing")
        for kind in ("test", "system", "sweep"):
            entries = content.get(kind, [])
            if not isinstance(entries, list) or not all(isinstance(x, dict) for x in entries):
                raise UserError(f"write [[{kind}]], in double brackets, before each {kind}")
        systems = [one for entry in content["system"] for one in self.expanded(entry)]
        if not systems:
            raise UserError(f"no system below {self.root} can be measured: all lack a checkpoint")
        tests = [self.test(entry) for entry in content["test"]]
        names = [system.name for system in systems]
        for kind, used in (("system", names), ("test", [test.name for test in tests])):
            if twice := [name for name in used if used.count(name) > 1]:
                raise UserError(f"two [[{kind}]] are called {twice[0]!r}: rename one of them")
        subwords = content.get("sentencepiece")
        return Plan(
            binarised=self.path("binarised", content["binarised"]),
            sentencepiece=self.path("sentencepiece", subwords) if subwords else None,
            tests=tests,
            systems=systems,
            sweeps=list(self.sweeps(content, {system.name: system for system in systems})),
            lengths=self.lengths(content.get("lengths"), names),
        )

    def lengths(self, entry: Any, names: list[str]) -> LengthsPlan | None:
        """The table [lengths]; with `skip_missing`, of the existing systems."""
        if entry is None:
            return None
        if not isinstance(entry, dict):
            raise UserError("write [lengths], in single brackets")
        plan: LengthsPlan = _built("lengths", LengthsPlan, entry)
        unknown = [name for name in plan.systems if name not in names]
        if unknown and not self.skip_missing:
            raise UserError(f"[lengths]: no system is called {unknown[0]!r}, only {names}")
        return replace(plan, systems=[name for name in plan.systems if name in names])

    def path(self, key: str, name: Any) -> Path:
        path = self.root / str(name)
        if not path.exists():
            raise UserError(f"{key}: {path} does not exist")
        return path

    def test(self, entry: dict[str, Any]) -> TestSet:
        test: TestSet = _built("test", TestSet, entry)
        files = {key: str(self.path(key, getattr(test, key))) for key in ("source", "references")}
        return replace(test, **files)

    def sweeps(
        self, content: dict[str, Any], systems: dict[str, SystemPlan]
    ) -> Iterator[SweepPlan]:
        """The sweeps of known systems; with `skip_missing`, the existing checkpoints only."""
        for entry in content.get("sweep", []):
            sweep: SweepPlan = _built("sweep", SweepPlan, entry)
            known, trained = sweep.system in systems, sweep.checkpoints  # value to checkpoint
            if self.skip_missing:
                trained = {x: name for x, name in trained.items() if (self.root / name).exists()}
                if not known or not (sweep.values or trained):
                    continue
            if not known:
                names = list(systems)
                raise UserError(f"[[sweep]]: no system is called {sweep.system!r}, only {names}")
            if sweep.values and (engine := systems[sweep.system].engine) != "fairseq":
                raise UserError(
                    f"[[sweep]]: engine {engine} cannot vary {sweep.parameter}: take a system with "
                    "engine fairseq"
                )
            files = {value: str(self.path("checkpoints", name)) for value, name in trained.items()}
            yield replace(sweep, checkpoints=files)

    def expanded(self, entry: dict[str, Any]) -> list[SystemPlan]:
        """One system per combination of the values of lists."""
        lists = [key for key, value in entry.items() if isinstance(value, list)]
        if "name" in entry and lists:
            raise UserError(
                f"[[system]] {entry['name']!r}: leave out name, because {lists[0]} is a list"
            )
        systems: list[SystemPlan] = []
        for values in itertools.product(*(entry[key] for key in lists)):
            one = {**entry, **dict(zip(lists, values))}
            files = (one.get(key) for key in ("checkpoint", "rescore_with", "tuned"))
            lacking = [name for name in files if name and not (self.root / name).exists()]
            if self.skip_missing and lacking:
                print(f"{name_of(one, lists)} is left out: {self.root / lacking[0]} does not exist")
            elif (system := self.system(one, lists)) not in systems:  # one candidate is not ranked
                systems.append(system)
        return systems

    def system(self, entry: dict[str, Any], lists: list[str]) -> SystemPlan:
        entry = {key: value for key, value in entry.items() if value is not False}
        if {entry[option] for option in counted("candidates") if option in entry} == {1}:
            entry = {key: value for key, value in entry.items() if key not in RESCORING}
        if "tuned" in entry:
            entry = {**entry, **_best_options(self.path("tuned", entry["tuned"]))}
            del entry["tuned"]
        own = {key: value for key, value in entry.items() if key in OWN}
        options = {key: value for key, value in entry.items() if key not in OWN}
        if "rescore_with" in options:
            options["rescore_with"] = str(self.path("rescore_with", options["rescore_with"]))
        own.setdefault("name", name_of(entry, lists))
        if "checkpoint" not in own:
            raise UserError(f"[[system]] {own['name']}: checkpoint is missing")
        own["checkpoint"] = self.path("checkpoint", own["checkpoint"])
        system: SystemPlan = _built("system", SystemPlan, {**own, "options": options})
        return system


def _built(kind: str, as_class: type, entry: dict[str, Any]) -> Any:
    try:
        return build(as_class, entry)
    except ValueError as error:
        which = entry.get("name") or entry.get("system") or ""
        raise UserError(f"[[{kind}]] {which}: {error}") from error


def _best_options(file: Path) -> dict[str, int | float | str]:
    """The best options in the output of `fairseq-nart tune`."""
    best = re.search(r"^best: (--.*) \(BLEU", file.read_text("utf-8"), re.MULTILINE)
    if best is None:
        raise UserError(f"tuned: {file} is not the output of `fairseq-nart tune`")
    words = best[1].split()
    return {
        option.removeprefix("--").replace("-", "_"): number_in(value)
        for option, value in zip(words[::2], words[1::2], strict=True)
    }
