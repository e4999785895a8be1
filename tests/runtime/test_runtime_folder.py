"""Folders that are damaged or that do not fit, and options that a model does not have."""

import json
import shutil

import pytest
from exported import export_model
from toys import build, build_teacher

from fairseq_nart import runtime
from fairseq_nart.cli import main
from fairseq_nart.errors import UserError
from fairseq_nart.files import sha256
from fairseq_nart.runtime import folder as folders

LINE = "heute muss der mann lesen ."


@pytest.fixture(scope="module")
def exported(task, tmp_path_factory):
    """A refinement model with a teacher."""
    folder = tmp_path_factory.mktemp("export") / "model"
    model = build(task, "nart_refinement_tiny", "--output", "crf")
    return export_model(folder, task, model, build_teacher(task, "transformer"))


@pytest.fixture
def folder(exported, tmp_path):
    """A copy to damage."""
    return shutil.copytree(exported, tmp_path / "copy")


def change(folder, **values):
    """Replaces entries of the manifest."""
    file = folder / "manifest.json"
    content = {**json.loads(file.read_text("utf-8")), **values}
    write(file, content)


def write(file, content):
    """Writes a manifest with its checksum."""
    content.pop("checksum", None)
    file.write_text(json.dumps({**content, "checksum": folders._checksum(content)}), "utf-8")


def refusal(folder, **options):
    """The message, in one line."""
    with pytest.raises(UserError) as caught:
        runtime.load(folder, threads=1, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    return message


def test_folder_without_manifest_is_refused(folder):
    (folder / "manifest.json").unlink()
    assert "copy is not an exported model, because it has no manifest.json" in refusal(folder)
    assert "is not an exported model" in refusal(folder / "none")
    assert "is not an exported model" in refusal(folder / "README.md")


def test_other_format_version_is_refused(folder):
    change(folder, format=2)
    message = refusal(folder)
    assert "format version 2, but this fairseq_nart reads 1" in message
    assert "install the version that exported it" in message


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"3", b"null", b'"text"', b"\xff\xfe", b"{}", b"[" * 100_000),
    ],
)
def test_damaged_manifest_is_refused(content, folder):
    (folder / "manifest.json").write_bytes(content)
    assert "manifest.json is damaged" in refusal(folder)


def test_changed_manifest_is_refused(folder):
    """Each entry alone; another order and layout are the same manifest."""
    file = folder / "manifest.json"
    content = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(dict(reversed(content.items()))), "utf-8")
    assert runtime.load(folder, threads=1)
    for name in content.keys() - {"format"}:
        for changed in (
            {**content, name: "changed"},
            {x: content[x] for x in content if x != name},
        ):
            file.write_text(json.dumps(changed), "utf-8")
            assert "manifest.json was changed or damaged" in refusal(folder)
    content["decoding"]["length_candidates"]["value"] = 9
    file.write_text(json.dumps(content), "utf-8")
    assert "Decoding options are set when the model is loaded" in refusal(folder)


def test_shipped_model_is_complete():
    assert runtime.load(runtime.demo_folder(), threads=1).translate([LINE]) != [""]


@pytest.mark.parametrize("value", [None, 3, "text", [1], [[]], {"encode": []}])
@pytest.mark.parametrize("name", ["files", "model", "vocabularies", "languages", "decoding"])
def test_manifest_with_a_wrong_entry_is_refused(name, value, folder):
    change(folder, **{name: value})
    harmless = name == "languages" and value not in (None, 3)
    if not harmless:
        assert "export the model again" in refusal(folder) or "copy" in refusal(folder)


@pytest.mark.parametrize("name", ["unknown", "model", "ffn_dim", "heads", "scorer"])
def test_manifest_with_an_unknown_or_missing_entry_is_refused(name, folder):
    file = folder / "manifest.json"
    content = json.loads(file.read_text("utf-8"))
    if name == "unknown":
        content[name] = 1
    else:
        del content[name]
    write(file, content)
    assert "is damaged" in refusal(folder)


def files_of(folder):
    return sorted(json.loads((folder / "manifest.json").read_text("utf-8"))["files"])


def test_every_file_but_the_manifest_has_a_checksum(exported):
    names = sorted(file.name for file in exported.iterdir())
    assert names == sorted([*files_of(exported), "manifest.json"])
    assert len(names) >= 4  # graphs, vocabulary, card and manifest


def test_missing_file_is_refused(folder):
    for name in files_of(folder):
        moved = (folder / name).rename(folder.with_name("moved"))
        assert f"has no file {name}: copy the whole folder again" in refusal(folder)
        moved.rename(folder / name)
    assert runtime.load(folder)


def test_one_changed_byte_is_noticed(folder):
    for name in files_of(folder):
        file = folder / name
        content = file.read_bytes()
        for place in {0, len(content) // 2, len(content) - 1}:
            changed = bytearray(content)
            changed[place] ^= 1
            file.write_bytes(changed)
            assert f"{name} was changed or damaged" in refusal(folder)
        file.write_bytes(content)
    assert runtime.load(folder)


def test_extra_files_are_ignored(folder):
    (folder / "notes.txt").write_text("mine")
    (folder / "more").mkdir()
    assert runtime.load(folder, threads=1).translate([LINE])


@pytest.mark.parametrize("absolute", [False, True])
def test_files_outside_the_folder_are_refused(absolute, folder):
    """A folder from elsewhere must not read other files."""
    outside = folder.with_name("outside.onnx")
    shutil.copy(folder / "model.onnx", outside)
    name = str(outside) if absolute else f"../{outside.name}"
    content = json.loads((folder / "manifest.json").read_text("utf-8"))
    change(folder, model=name)
    assert "no checksum of" in refusal(folder)
    change(folder, files={**content["files"], name: sha256(outside)})
    assert f"has no file {name}" in refusal(folder)


def test_file_that_is_no_graph_is_refused(folder):
    file = folder / "model.onnx"
    file.write_bytes(b"no graph")
    files = json.loads((folder / "manifest.json").read_text("utf-8"))["files"]
    change(folder, files={**files, file.name: sha256(file)})
    assert "model.onnx cannot be loaded" in refusal(folder)


def test_system_of_a_later_version_is_refused(folder):
    change(folder, runtime="later", system="nart_later")
    assert "holds a nart_later, which this fairseq_nart cannot decode" in refusal(folder)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"beam": 4}, "no decoding option 'beam': it has dedup, length_candidates"),
        ({"ctc_beam": 4}, "nart_tiny has no decoding option 'ctc_beam'"),
        ({"length_candidates": 2}, "--length-candidates must be odd and positive"),
        ({"length_candidates": 0}, "--length-candidates must be odd and positive"),
        ({"crf_paths": 0}, "--crf-paths must be at least 1, not 0"),
        ({"crf_paths": "3"}, "--crf-paths must be of type int, not '3'"),
        ({"crf_paths": True}, "--crf-paths must be of type int, not True"),
        ({"crf_paths": 2.0}, "--crf-paths must be of type int"),
        ({"dedup": 1}, "--dedup must be of type bool, not 1"),
        ({"refinement_stop": "soon"}, "--refinement-stop must be one of none, equality"),
        ({"refinement_stop": "equality", "refinement_iterations": 3}, "compares 5 passes"),
        ({"refinement_iterations": 0}, "--refinement-iterations must be at least 1, not 0"),
        ({"threads": 0}, "threads must be a number from 1 to 256, not 0"),
        ({"threads": 257}, "threads must be a number from 1 to 256, not 257"),
        ({"threads": "4"}, "threads must be a number from 1 to 256, not '4'"),
        ({"rescore": "maybe"}, "rescore must be true or false, not 'maybe'"),
        ({"rescore": 1}, "rescore must be true or false, not 1"),
        ({"rescore_best": True, "rescore": True}, "rescore_best must be at least 1"),
        ({"rescore_best": 0, "rescore": True}, "rescore_best must be at least 1"),
        ({"rescore_best": "2", "rescore": True}, "rescore_best must be at least 1"),
        ({"rescore_best": 2, "rescore": False}, "rescore_best must be at least 1, with a teacher"),
        ({"rescore_best": 2}, "with a teacher and several candidates"),
    ],
)
def test_invalid_options_are_refused(options, message, exported):
    with pytest.raises(UserError) as caught:
        runtime.load(exported, **options)
    assert message in str(caught.value)


def test_option_without_a_value_is_the_folders(exported):
    expected = runtime.load(exported).translate_n_best([LINE])
    options = {"length_candidates": None, "refinement_iterations": None, "rescore_best": None}
    assert runtime.load(exported, **options).translate_n_best([LINE]) == expected


def test_idle_options_are_refused(task, tmp_path):
    folder = export_model(tmp_path / "model", task, build(task, "nart_tiny"))
    assert "has no decoding option 'crf_paths'" in refusal(folder, crf_paths=1)


def test_rescoring_without_a_teacher_is_refused(task, tmp_path):
    folder = export_model(tmp_path / "model", task, build(task, "nart_tiny"))
    message = "has no teacher, so it cannot rescore: export it with --teacher"
    assert message in refusal(folder, rescore=True)
    with pytest.raises(UserError, match="with a teacher"):
        runtime.load(folder, rescore_best=1, length_candidates=3)


def test_program_reports_a_folder_in_one_line(folder, capsys):
    (folder / "model.onnx").write_bytes(b"")
    assert main(["translate", "--model", str(folder)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("fairseq-nart translate: ") and error.count("\n") == 1
    assert "model.onnx was changed or damaged" in error
