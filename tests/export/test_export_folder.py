"""What an export writes, and what it leaves alone."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from exported import by_plugin, by_runtime, export_model, require_equal, sources_of
from toys import build, build_teacher

from fairseq_nart import hub, runtime
from fairseq_nart.errors import UserError
from fairseq_nart.export import folder
from fairseq_nart.models.nart import Nart
from fairseq_nart.runtime.folder import read


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def put(path):
    """Replaces `path` by a new exported folder, of which only the manifest counts here."""
    with folder.new_folder(path) as temporary:
        manifest = {"format": 1, "files": {"encode.onnx": "0"}}
        (temporary / "manifest.json").write_text(json.dumps(manifest))
        (temporary / "encode.onnx").write_bytes(b"new")


def test_new_folder_appears_when_it_is_complete(tmp_path):
    out = tmp_path / "above" / "model"
    with folder.new_folder(out) as temporary:
        assert temporary.parent == out.parent and not out.exists()
        (temporary / "file").write_text("1")
    assert contents(out) == {"file": b"1"} and list(out.parent.iterdir()) == [out]
    assert out.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [UserError("no"), KeyboardInterrupt(), ValueError()])
@pytest.mark.parametrize("before", [False, True])
def test_failed_export_leaves_what_was_there(error, before, tmp_path):
    out = tmp_path / "model"
    if before:
        put(out)
    with pytest.raises(type(error)), folder.new_folder(out) as temporary:
        (temporary / "file").write_text("1")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["model"] * before
    assert not before or contents(out)["encode.onnx"] == b"new"


def test_exported_folder_is_replaced(tmp_path):
    out = tmp_path / "model"
    put(out)
    (out / "encode.onnx").write_bytes(b"old")
    put(out)
    assert contents(out)["encode.onnx"] == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_linked_folder_is_replaced(tmp_path, monkeypatch):
    """Also if it is the current one."""
    (tmp_path / "model").mkdir()
    (tmp_path / "link").symlink_to("model")
    put(tmp_path / "link")
    put(tmp_path / "link")
    assert contents(tmp_path / "model")["encode.onnx"] == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "model"]
    monkeypatch.chdir(tmp_path / "model")
    put(Path("."))
    assert sorted(contents(tmp_path / "model")) == ["encode.onnx", "manifest.json"]


def test_empty_folder_is_replaced(tmp_path):
    (tmp_path / "model").mkdir()
    put(tmp_path / "model")
    assert (tmp_path / "model" / "encode.onnx").exists()


@pytest.mark.parametrize(
    "manifest",
    [
        *(None, "", "[]", "{}", "3", '{"name": "a web page", "icons": []}'),
        '{"files": {"notes.txt": ""}}',  # of another program
        '{"format": 1, "files": {"encode.onnx": ""}}',  # ours, but the notes are the user's
    ],
)
def test_files_of_the_user_are_never_deleted(manifest, tmp_path):
    out = tmp_path / "model"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    if manifest is not None:
        (out / "manifest.json").write_text(manifest)
    before = contents(out)
    with pytest.raises(
        UserError, match=r"holds other files, such as (notes|mani)[a-z.]+: give another --out"
    ):
        put(out)
    assert contents(out) == before and list(tmp_path.iterdir()) == [out]


def test_folder_that_appears_during_an_export(tmp_path):
    """An exported model is replaced, a folder with files of the user is not."""
    out = tmp_path / "model"
    put(tmp_path / "other")
    with folder.new_folder(out) as temporary:
        (tmp_path / "other").rename(out)
        (temporary / "last").write_text("1")
    assert contents(out) == {"last": b"1"}
    shutil.rmtree(out)
    with pytest.raises(UserError, match="holds other files"), folder.new_folder(out):
        out.mkdir()
        (out / "mine").write_text("mine")
    assert contents(out) == {"mine": b"mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_second_export_at_the_same_time_is_refused(tmp_path):
    out = tmp_path / "model"
    with folder.new_folder(out) as temporary:
        (temporary / "first").write_text("1")
        with pytest.raises(UserError, match="another process is writing to this folder"):
            put(out)
    assert contents(out) == {"first": b"1"}


@pytest.mark.parametrize("lost", [False, True])
def test_what_a_killed_export_has_left_is_removed(lost, tmp_path):
    """If it was killed between moving the old model away and the new one in, the old comes back."""
    out, old, new = (tmp_path / name for name in ("model", ".model.old", ".model.new"))
    put(out)
    before = contents(out)
    new.mkdir()
    (new / "half").write_text("x")
    (new / "folder").mkdir()
    if lost:
        out.rename(old)
    else:
        shutil.copytree(out, old)
    with pytest.raises(RuntimeError), folder.new_folder(out) as temporary:
        assert temporary == new and not list(new.iterdir())
        raise RuntimeError
    assert contents(out) == before and list(tmp_path.iterdir()) == [out]


def test_model_stays_if_the_new_one_cannot_be_moved(tmp_path, monkeypatch):
    out, move = tmp_path / "model", os.replace
    put(out)
    (out / "encode.onnx").write_bytes(b"old")

    def replace(source, target):
        if source.name == ".model.new":
            raise OSError("no")
        move(source, target)

    monkeypatch.setattr("os.replace", replace)
    with pytest.raises(OSError, match="no"):
        put(out)
    assert contents(out)["encode.onnx"] == b"old" and list(tmp_path.iterdir()) == [out]


def test_file_is_not_replaced(tmp_path):
    (tmp_path / "model").write_text("mine")
    with pytest.raises(UserError, match="model is a file"):
        put(tmp_path / "model")
    assert (tmp_path / "model").read_text() == "mine"


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_same_model_gives_the_same_bytes(precision, task, tmp_path):
    one, other = (
        export_model(
            tmp_path / name,
            task,
            build(task, "nart_dcrf_tiny"),
            build_teacher(task, "transformer"),
            precision,
        )
        for name in ("one", "other")
    )
    assert contents(one) == contents(other)


def test_manifest_and_card_describe_the_model(task, tmp_path):
    model, teacher = build(task, "nart_dcrf_tiny"), build_teacher(task, "transformer")
    out = export_model(tmp_path / "model", task, model, teacher)
    manifest, text = read(out), (out / "README.md").read_text("utf-8")
    assert manifest.languages == ("de", "en") and manifest.precision == "float32"
    assert manifest.vocab_size == len(task.target_dictionary)
    assert manifest.vocabularies == ("vocabulary.json",) * 2
    assert json.loads((out / "vocabulary.json").read_text()) == task.target_dictionary.symbols
    assert set(manifest.decoding) == {"dedup", "length_candidates", "length_offset", "crf_paths"}
    assert manifest.decoding["crf_paths"].candidates and not manifest.decoding["dedup"].candidates
    for word in ("de to en", "float32", "`crf_paths`", "`length_candidates`", "rescore=True"):
        assert word in text
    assert "`refinement_iterations`" not in text


def test_idle_options_are_not_on_the_card(task, tmp_path):
    out = export_model(tmp_path / "model", task, build(task, "nart_tiny"))
    assert read(out).decoding["crf_paths"].idle
    assert "crf_paths" not in (out / "README.md").read_text("utf-8")


def test_options_of_the_export_are_the_defaults_of_the_folder(data, task, tmp_path):
    model = build(task, "nart_tiny")
    translator = hub.Translator(model, task)
    translator.engine.options.length_candidates = 5
    (tmp_path / "model").mkdir()
    folder.write(translator, folder.Request("nart_tiny", "float32", None, None), tmp_path / "model")
    sources = sources_of(task)
    ours = runtime.load(tmp_path / "model", threads=1)
    for hypotheses in by_runtime(ours, sources):
        require_equal(hypotheses, by_plugin(model, sources, length_candidates=5))


@pytest.mark.parametrize("arch", ["nart_dcrf", "nart_ctc", "nart_fertility", "nart_refinement"])
def test_int8_is_smaller_and_decodes(arch, task, tmp_path):
    model, teacher = build(task, f"{arch}_tiny"), build_teacher(task, "transformer")
    plain = export_model(tmp_path / "plain", task, model, teacher)
    small = export_model(tmp_path / "small", task, model, teacher, "int8")
    sizes = [(path / read(path).model).stat().st_size for path in (plain, small)]
    assert sizes[1] < sizes[0]
    ours, exact = runtime.load(small, rescore=True), runtime.load(plain, rescore=True)
    found = ours.engine(sources_of(task))
    assert all(found) and found[1][0].tokens == [2]
    tokens = np.array([[5, 6, 7, 8, 2], [9, 2, 1, 1, 1]])
    arrays, expected = (one.engine.system.encode(tokens).encoded for one in (ours, exact))
    name = "log_probs" if arch == "nart_ctc" else "memory"
    kept = np.isfinite(expected[name])
    differences = np.abs(arrays[name][kept] - expected[name][kept])
    assert 0 < differences.max() < 0.3 * np.abs(expected[name][kept]).max()


class Changed(Nart):
    """Decodes differently from NART, so NART's graphs are not its own."""


def test_system_without_a_runtime_of_its_own_is_refused(task, tmp_path):
    model = build(task, "nart_tiny")
    model.__class__ = Changed
    with pytest.raises(UserError, match="Changed names no `runtime`, so it cannot be exported"):
        export_model(tmp_path / "model", task, model)


def test_shared_folder_can_be_moved(task, tmp_path):
    """Nothing in it names where it was written."""
    out = export_model(tmp_path / "model", task, build(task, "nart_tiny"))
    moved = shutil.copytree(out, tmp_path / "moved")
    shutil.rmtree(out)
    assert runtime.load(moved).translate(["mann"])
    assert not any(str(tmp_path).encode() in content for content in contents(moved).values())
