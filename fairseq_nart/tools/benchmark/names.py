"""Names of the systems of a benchmark, made from their options in the plan."""

import functools
from dataclasses import Field
from pathlib import Path
from typing import Any

OWN = ("name", "family", "checkpoint", "engine", "precision", "threads")
"""Keys of a [[system]] that are not decoding options."""

ENGINE_NAMES = {"ctranslate2": "CTranslate2", "onnx": "ONNX"}
"""In the names of systems; fairseq's are not named."""


@functools.cache
def counted(*kinds: str) -> dict[str, str]:
    """Decoding options of all systems that are counts, to what they count, such as "length".

    `kinds` are keys of the options' metadata, see `generation.options`.
    """
    options = decoding_fields().values()
    return {x.name: x.metadata[kind] for x in options for kind in kinds if kind in x.metadata}


def decoding_fields() -> dict[str, Field[Any]]:
    """The decoding options of all systems by name."""
    # Imported here, because a process that runs CTranslate2 or ONNX Runtime does not need torch.
    from fairseq_nart.models import _registry
    from fairseq_nart.tasks import nart_translation  # noqa: F401  (registers all systems)

    fields: dict[str, Field[Any]] = _registry.decoding_fields()
    return fields


def name_of(entry: dict[str, Any], lists: list[str]) -> str:
    """The family, and what distinguishes the system within it."""
    parts = [str(entry.get("family", ""))]
    counts = {**counted("candidates", "counts"), "beam": "beam"}
    for option, thing in counts.items():
        if thing != "beam" and (count := entry.get(option)):
            parts.append(f"{count} {thing}" if count == 1 else f"{count} {thing}s")
    for option, thing in counts.items():
        if thing == "beam" and (beam := entry.get(option)):
            parts.append("greedy" if beam == 1 else f"beam {beam}")
    if best := entry.get("rescore_best"):
        parts.append(f"best {best} rescored")
    if count := entry.get("crf_candidates"):
        parts.append(f"K = {count}")
    if entry.get("vocabulary_map"):
        parts.append("vocabulary map")
    named = {*OWN, *counts, "rescore_best", "crf_candidates", "vocabulary_map"}
    parts += [f"{key} {entry[key]}" for key in lists if key not in named and key in entry]
    parts += [Path(entry["checkpoint"]).stem] if "checkpoint" in lists else []
    precision = entry.get("precision", "float32")
    if entry.get("engine") in ENGINE_NAMES:
        parts.append(f"{ENGINE_NAMES[entry['engine']]} {precision}")
    elif precision != "float32":
        parts.append(precision)
    if "threads" in lists:
        parts.append(f"{entry['threads']} threads")
    return ", ".join(parts)
