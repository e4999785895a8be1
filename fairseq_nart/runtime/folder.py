"""The folder of an exported model: its manifest and files.

`manifest.json` describes the rest. `export` writes it last, so a folder without one is not
complete.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fairseq_nart.errors import UserError
from fairseq_nart.files import read_arrays, sha256
from fairseq_nart.options import require_allowed, typed

FORMAT = 1
"""The version of the format, which changes when an older runtime cannot read a newer folder."""

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Scorer:
    """An exported teacher."""

    normalization: str
    alpha: float
    vocab_size: int
    ffn_dim: int
    heads: int


@dataclass(frozen=True)
class Option:
    """A decoding option."""

    value: Any
    """Applies unless the user sets another."""
    kind: str
    """int, float, bool or str"""
    help: str
    choices: list[str]
    """The only values, unless empty."""
    bounds: dict[str, float]
    """See `fairseq_nart.options`."""
    candidates: bool
    """Whether it multiplies the candidates of a sentence."""
    idle: bool
    """Whether it has no effect on this model."""


@dataclass(frozen=True)
class Manifest:
    """What the runtime must know besides the graphs."""

    system: str
    """The architecture, such as nart_dcrf."""
    title: str
    """Its name in tables."""
    runtime: str
    """The module of `fairseq_nart.runtime` that decodes."""
    precision: str
    """float32 or int8"""
    languages: tuple[str, str]
    longest_source: int
    """Most source tokens, the EOS included."""
    longest_target: int
    vocab_size: int
    ffn_dim: int
    """Width of the feed-forward layers."""
    heads: int
    """Attention heads of a layer."""
    pad: int
    eos: int
    unk: int
    bos: int
    own_score: str
    """The normalization rule that ranks candidates without a teacher."""
    model: str
    """File name of the graphs."""
    vocabularies: tuple[str, str]
    """File names of the source's and the target's symbols, lists in JSON."""
    subwords: str | None
    """File name of the sentencepiece model."""
    constants: dict[str, Any]
    """Numbers that the `runtime` module needs."""
    decoding: dict[str, Option]
    """The decoding options by name."""
    arrays: str | None = None
    """File name of the system's arrays, in NumPy's format, for its `runtime` module."""
    scorer: Scorer | None = None
    about: dict[str, Any] = field(default_factory=dict)
    """For readers: version, BLEU, and so on."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file."""

    def as_json(self) -> dict[str, Any]:
        """The content of the file."""
        content = {"format": FORMAT, **asdict(self)}
        return {**content, "checksum": _checksum(content)}


def _checksum(content: dict[str, Any]) -> str:
    """SHA-256 of the other entries of a manifest, whatever their order and layout."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read(folder: Path) -> Manifest:
    """The manifest of `folder`, after checking all its files.

    UserError if it is not an exported model, has another format version, or a file, the manifest
    included, was changed.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise UserError(
            f"{folder} is not an exported model, because it has no {MANIFEST}: "
            "fairseq-nart export writes one"
        )
    try:
        content = json.loads(file.read_text("utf-8"))
        checksum, version = content.pop("checksum", None), content["format"]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({error!r}): export the model again") from error
    if version != FORMAT:
        raise UserError(
            f"{file} has format version {version}, but this fairseq_nart reads {FORMAT}: export "
            "the model again, or install the version that exported it"
        )
    if checksum != _checksum(content):
        raise UserError(
            f"{file} was changed or damaged: copy it again, or export again. Decoding options are "
            "set when the model is loaded"
        )
    del content["format"]
    try:
        scorer = content.pop("scorer")
        for name in ("languages", "vocabularies"):
            content[name] = tuple(content[name])
        content["decoding"] = {x: Option(**y) for x, y in content["decoding"].items()}
        manifest = Manifest(**content, scorer=Scorer(**scorer) if scorer else None)
        digests = dict(manifest.files)
        optional = (manifest.subwords, manifest.arrays)
        used = {str(manifest.model), *manifest.vocabularies, *filter(None, optional)}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{file} is damaged ({error!r}): export the model again") from error
    for name, digest in digests.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise UserError(f"{folder} has no file {name}: copy the whole folder again")
        if sha256(path) != digest:
            raise UserError(f"{path} was changed or damaged: copy it again, or export again")
    for missing in used - digests.keys():
        raise UserError(f"{file} is damaged (no checksum of {missing}): export the model again")
    return manifest


def arrays(folder: Path, manifest: Manifest) -> dict[str, NDArray[Any]]:
    """The system's arrays by name, none if it has no file of them. UserError for Python objects."""
    if manifest.arrays is None:
        return {}
    file = folder / manifest.arrays
    with read_arrays(file) as members:
        try:
            return dict(members)  # each is read now
        except ValueError as error:
            raise UserError(
                f"{file} is refused, because it holds Python objects: {error}"
            ) from error


def decoding_values(manifest: Manifest, options: dict[str, Any]) -> dict[str, Any]:
    """The decoding options: the manifest's, replaced by `options` that are not None.

    UserError for an option that the model does not have, or for a value that it cannot have.
    """
    known = {name: option for name, option in manifest.decoding.items() if not option.idle}
    given = {name: value for name, value in options.items() if value is not None}
    for name in options:
        if name not in known:
            names = f"it has {', '.join(known)}" if known else "it has none"
            raise UserError(f"{manifest.system} has no decoding option {name!r}: {names}")
    for name, value in given.items():
        option = known[name]
        kinds = {"int", "float"} if option.kind == "float" else {option.kind}
        if type(value).__name__ not in kinds:
            raise UserError(f"{typed(name)} must be of type {option.kind}, not {value!r}")
        require_allowed(name, value, option.choices, option.bounds)
    return {**{name: option.value for name, option in manifest.decoding.items()}, **given}
