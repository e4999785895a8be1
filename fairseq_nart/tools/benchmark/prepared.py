"""What an engine reads besides the checkpoint; made once and kept in the run folder."""

import importlib.util
import os
from pathlib import Path

from fairseq_nart.errors import UserError
from fairseq_nart.files import replacing, sha256
from fairseq_nart.tools import _ctranslate2
from fairseq_nart.tools.benchmark import products
from fairseq_nart.tools.benchmark.plan import (
    CRF_CANDIDATES,
    TEACHER,
    VOCABULARY_MAP,
    Plan,
    SystemPlan,
)


def lacking() -> dict[str, str]:
    """Engines whose packages are not installed, and how to install them."""
    found = {}
    if not _ctranslate2.is_installed():
        found["ctranslate2"] = f"CTranslate2 is not installed: {_ctranslate2.INSTALL}"
    if not all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
        found["onnx"] = "ONNX Runtime is not installed: pip install onnx onnxruntime"
    return found


def model(system: SystemPlan, plan: Plan, run: Path) -> Path:
    """The folder of dictionaries, CTranslate2's converted model or the exported model."""
    match system.engine:
        case "ctranslate2":
            return _converted(system, plan, run / "ctranslate2")
        case "onnx":
            return _exported(system, plan, run / "onnx")
    return plan.binarised


def _converted(system: SystemPlan, plan: Plan, cache: Path) -> Path:
    mapped = bool(system.options.get(VOCABULARY_MAP))
    folder = cache / f"{sha256(system.checkpoint)[:12]}{'-map' if mapped else ''}"
    if not folder.exists():
        # Imported here, because without a conversion torch is not needed.
        from fairseq_nart.tools._teacher import Teacher

        unfinished = folder.with_name(f"{folder.name}.tmp")
        cache.mkdir(parents=True, exist_ok=True)
        teacher = Teacher.load(system.checkpoint, plan.binarised)
        file = None
        if mapped:
            from fairseq_nart.tools.benchmark import vocabulary_map

            file = folder.with_name(f"{folder.name}.txt")
            vocabulary_map.write(file, teacher)
        try:
            _ctranslate2.convert(teacher, unfinished, file)
        except Exception as error:
            raise UserError(f"CTranslate2 cannot convert {system.checkpoint}: {error}") from error
        os.replace(unfinished, folder)
    return folder


def _exported(system: SystemPlan, plan: Plan, cache: Path) -> Path:
    """Exports the checkpoint and, if it rescores, the teacher; see `OnnxEngine` for the options."""
    options = system.options
    teacher = {name: options[name] for name in TEACHER if name in options}
    parts = [sha256(system.checkpoint)[:12]]
    if "rescore_with" in teacher:
        rule = (str(options[name]) for name in TEACHER[1:] if name in options)
        parts += [sha256(Path(teacher["rescore_with"]))[:12], *rule]
    count = options.get(CRF_CANDIDATES)
    parts += [] if count is None else [f"k{count}"]
    folder = cache / "-".join([*parts, system.precision])
    product = cache / products.FILE.format(system.precision)
    if not product.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with replacing(product) as temporary:
            products.write(temporary, system.precision)
    if not folder.exists():
        from fairseq_nart import hub
        from fairseq_nart.export import check
        from fairseq_nart.export import folder as export

        languages = (options.get("source_lang"), options.get("target_lang"))
        try:
            translator = hub.from_pretrained(
                system.checkpoint, plan.binarised, plan.sentencepiece, *languages, **teacher
            )
            if count is not None:
                export.limit_candidates(translator.model, count)
        except UserError as error:
            raise UserError(f"{system.name}: {error}") from error
        request = export.Request(
            arch=translator.arch,
            precision=system.precision,
            sentencepiece=plan.sentencepiece,
            teacher=teacher.get("rescore_with"),
        )
        with export.new_folder(folder) as unfinished:
            export.write(translator, request, unfinished)
            check.check(translator, unfinished, system.precision)
    return folder
