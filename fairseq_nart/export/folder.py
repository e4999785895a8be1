"""Writes an exported model as a folder: graphs, vocabularies, subword model, manifest and card."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import Field, dataclass, fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from fairseq_nart import __version__
from fairseq_nart.errors import UserError
from fairseq_nart.export import card, onnx
from fairseq_nart.files import exclusive, sha256, write_json
from fairseq_nart.generation.graph import Graph
from fairseq_nart.hub import Translator
from fairseq_nart.models._registry import system_of
from fairseq_nart.options import bounds_of, choices_of
from fairseq_nart.runtime.folder import MANIFEST, Manifest, Option, Scorer
from fairseq_nart.tasks._options import alpha
from fairseq_nart.teacher.graphs import TeacherGraphs

MODEL = "model.onnx"
SUBWORDS = "sentencepiece.model"
ARRAYS = "arrays.npz"


@dataclass(frozen=True)
class Request:
    """What to export besides the model."""

    arch: str
    precision: str
    sentencepiece: Path | None
    teacher: str | None
    bleu: float | None = None


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yields a temporary folder that becomes `out` if the block succeeds.

    UserError if `out` exists, unless it is empty or an exported model, which is replaced. So
    files of the user are never deleted. What an interrupted call has left beside `out` is removed.
    """
    out = out.resolve()  # not a link to the folder, nor "."
    new, old = (out.with_name(f".{out.name}.{which}") for which in ("new", "old"))
    if out.exists():
        _require_replaceable(out)
    new.mkdir(parents=True, exist_ok=True)
    with exclusive(new):
        _put_back(old, out)
        _empty(new)
        try:
            yield new
            if out.exists():
                _require_replaceable(out)  # again, because an export takes a while
                os.replace(out, old)
            os.replace(new, out)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        finally:
            _put_back(old, out)


def _put_back(old: Path, out: Path) -> None:
    """Undoes the first of the two moves if the second failed, and removes `old` otherwise."""
    if old.exists() and not out.exists():
        os.replace(old, out)
    shutil.rmtree(old, ignore_errors=True)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _require_replaceable(out: Path) -> None:
    if not out.is_dir():
        raise UserError(f"{out} is a file: give another --out")
    known: set[str] = set()
    with suppress(OSError, ValueError, KeyError, TypeError):
        manifest = json.loads((out / MANIFEST).read_text("utf-8"))
        known = {MANIFEST, *manifest["files"]} if "format" in manifest else known
    if others := sorted({file.name for file in out.iterdir()} - known):
        raise UserError(f"{out} holds other files, such as {others[0]}: give another --out")


def limit_candidates(model: Any, count: int) -> None:
    """Sets the CRF candidates per position. UserError if the model has no CRF, or not so many."""
    if getattr(model, "crf", None) is None:
        raise UserError("--crf-candidates is for models with a CRF: leave it out")
    if not 1 <= count <= model.vocab_size:
        raise UserError(f"--crf-candidates must be 1 to {model.vocab_size}, not {count}")
    model.crf.candidates = count


def write(translator: Translator, request: Request, folder: Path) -> Manifest:
    """Writes all files into an empty `folder`. UserError for a model without `runtime`."""
    model, task = translator.model, translator.task
    if model.runtime is None:
        raise UserError(
            f"{type(model).__name__} names no `runtime`, so it cannot be exported: "
            "docs/adding-a-system.md describes what an export needs"
        )
    graphs: list[Graph] = model.graphs()
    scorer = None
    if request.teacher is not None:
        rescorer: Any = translator.engine.rescorer
        target = task.target_dictionary
        graphs += TeacherGraphs(request.teacher, rescorer.teacher, target.pad()).graphs()
        widest = rescorer.teacher.cfg.encoder, rescorer.teacher.cfg.decoder
        scorer = Scorer(
            normalization=str(task.cfg.rescore_normalization),
            alpha=alpha(task.cfg),
            vocab_size=len(target),
            ffn_dim=max(side.ffn_embed_dim for side in widest),
            heads=max(side.attention_heads for side in widest),
        )
    onnx.write(graphs, folder / MODEL, request.precision)
    vocabularies = _write_vocabularies(task, folder)
    if request.sentencepiece is not None:
        shutil.copyfile(request.sentencepiece, folder / SUBWORDS)
    arrays: dict[str, Any] = {name: x.cpu().numpy() for name, x in model.arrays().items()}
    if arrays:
        np.savez(folder / ARRAYS, **arrays)
    system, dictionary = system_of(request.arch), task.target_dictionary
    options = translator.engine.options
    manifest = Manifest(
        system=request.arch,
        title=system.title if system else type(model).__name__,
        runtime=model.runtime,
        precision=request.precision,
        languages=(task.cfg.source_lang, task.cfg.target_lang),
        longest_source=model.longest_source,
        longest_target=model.longest_target,
        vocab_size=model.vocab_size,
        ffn_dim=model.cfg.ffn_embed_dim,
        heads=model.cfg.attention_heads,
        pad=dictionary.pad(),
        eos=dictionary.eos(),
        unk=dictionary.unk(),
        bos=dictionary.bos(),
        own_score=model.own_score,
        model=MODEL,
        vocabularies=vocabularies,
        subwords=SUBWORDS if request.sentencepiece is not None else None,
        constants=model.constants(),
        decoding={x.name: _option(x, options, model.idle_options) for x in fields(options)},
        arrays=ARRAYS if arrays else None,
        scorer=scorer,
        about=_about(request),
    )
    (folder / card.FILE).write_text(card.card(manifest), "utf-8")
    files_of = {file.name: sha256(file) for file in sorted(folder.iterdir())}
    manifest = replace(manifest, files=files_of)
    write_json(folder / MANIFEST, manifest.as_json())
    return manifest


def _write_vocabularies(task: Any, folder: Path) -> tuple[str, str]:
    """One file if both sides have the same symbols."""
    source, target = task.source_dictionary.symbols, task.target_dictionary.symbols
    names = ("vocabulary.json",) * 2
    if source != target:
        names = ("vocabulary.source.json", "vocabulary.target.json")
    for name, symbols in zip(names, (source, target)):
        text = json.dumps(symbols, ensure_ascii=False, indent=0)
        (folder / name).write_text(f"{text}\n", "utf-8")
    return names[0], names[1]


def _option(option: Field[Any], options: Any, idle: tuple[str, ...]) -> Option:
    value, choices = getattr(options, option.name), list(map(str, choices_of(option)))
    kinds = (kind for kind in ("bool", "float", "int") if kind in str(option.type))
    return Option(
        value=str(value) if choices else value,
        kind="str" if choices else next(kinds),
        help=option.metadata["help"],
        choices=choices,
        bounds=bounds_of(option),
        candidates="candidates" in option.metadata,
        idle=option.name in idle,
    )


def _about(request: Request) -> dict[str, Any]:
    names = ("torch", "onnx", "onnxruntime")
    versions = {"fairseq_nart": __version__, **{name: metadata.version(name) for name in names}}
    return {"versions": versions, **({"bleu": request.bleu} if request.bleu is not None else {})}
