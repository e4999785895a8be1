"""Files that try to run code, or to make a program read other files, in every place that is read.

Each payload would create a folder. None does, and each refusal names the file.
"""

import argparse
import importlib
import json
import os
import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from exported import export_model
from malicious import fields, forget, payloads
from toys import SMALL, build, fairseq_generate, fairseq_train

from fairseq_nart import hub, runtime
from fairseq_nart.cli import main
from fairseq_nart.compat.checkpoints import CheckpointError, load_checkpoint
from fairseq_nart.errors import UserError
from fairseq_nart.files import read_arrays, sha256
from fairseq_nart.runtime.folder import _checksum
from fairseq_nart.teacher.loading import load_teacher
from fairseq_nart.tools import _ctranslate2

NAMES = [
    *("os.mkdir", "os.system", "subprocess", "eval", "exec", "method of a path", "runpy"),
    *("import", "fairseq's user folder", "hydra", "pickle in a pickle"),
    *("checkpoint in a checkpoint", "another checkpoint", "another array", "partial"),
    *("methodcaller", "reduce", "state", "array of objects"),
]
STUDENT = ["--arch", "nart_dcrf_tiny", *SMALL, "--max-update", "1", "--lr", "1e-2"]


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "created"


@pytest.fixture
def evil(tmp_path, marker, monkeypatch):
    folder = tmp_path / "evil_files"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    made = payloads(folder, marker)
    assert list(made) == NAMES
    return made


@pytest.fixture
def checkpoint(student, evil, tmp_path):
    """A good checkpoint with a payload."""
    path = tmp_path / "evil.pt"
    state = {**load_checkpoint(student), "payload": evil["os.mkdir"]}
    torch.save(state, path)
    return path


def by_fairseq(path):
    return importlib.import_module("fairseq.checkpoint_utils").load_checkpoint_to_cpu(str(path))


@pytest.mark.parametrize("name", NAMES)
def test_payload_runs_in_no_field_of_a_checkpoint(name, evil, student, marker, tmp_path):
    """Every payload in every field, in torch's three formats, by our loader and by fairseq's."""
    good, tried = load_checkpoint(student), 0
    good["model"] = {"weight": torch.zeros(2)}
    good["last_optimizer_state"] = {"state": {}}
    path = tmp_path / "evil.pt"

    def write(state, form):
        if form == "pickle":
            path.write_bytes(pickle.dumps(state, protocol=4))
        else:
            torch.save(state, path, _use_new_zipfile_serialization=form == "zip")

    for place, put in fields(good).items():
        for form in ("pickle", "legacy", "zip"):
            write(put(evil[name]), form)
            for load in (load_checkpoint, by_fairseq):
                with pytest.raises(CheckpointError, match=r"evil\.pt: ") as caught:
                    load(path)
                assert form == "pickle" or "refused" in str(caught.value), (place, form)
                assert not marker.exists(), (place, form)
                tried += 1
        if place == "extra_state":  # the file would have worked
            torch.load(path, weights_only=False)
            assert forget(marker), place
    assert tried == len(fields(good)) * 6 >= 100


def test_top_level_and_pickles_of_every_protocol(evil, marker, tmp_path):
    path = tmp_path / "evil.pt"
    for name, payload in evil.items():
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            path.write_bytes(pickle.dumps(payload, protocol))
            with pytest.raises(CheckpointError, match=r"evil\.pt: "):
                load_checkpoint(path)
            assert not marker.exists(), (name, protocol)
        torch.save(payload, path)
        with pytest.raises(CheckpointError, match=r"evil\.pt: "):
            load_checkpoint(path)
        assert not marker.exists(), name


@pytest.mark.parametrize(
    "words",
    [
        "translate INPUT --path CKPT --data DATA",
        "inspect LINE --path CKPT --data DATA --out OUT.png",
        "export CKPT --data DATA --out OUT",
        "distill DATA --path CKPT --out OUT",
        "distill DATA --path TEACHER:CKPT --out OUT",
        "align DATA --teacher CKPT --splits valid",
        "average SAVED --last 1 --out OUT",
        "translate INPUT --path GOOD --data DATA --rescore-with CKPT --length-candidates 3",
    ],
)
def test_no_tool_runs_a_payload(
    words, checkpoint, data, teacher, student, marker, tmp_path, capsys
):
    (tmp_path / "input").write_text("der mann\n", "utf-8")
    saved = tmp_path / "saved"
    saved.mkdir()
    shutil.copy(checkpoint, saved / "checkpoint1.pt")
    known = {
        "CKPT": checkpoint,
        "DATA": data,
        "OUT": tmp_path / "out",
        "OUT.png": "x.png",
        "GOOD": student,
    }
    known |= {"INPUT": tmp_path / "input", "SAVED": saved, "TEACHER": teacher, "LINE": "der"}
    line = [
        ":".join(str(known.get(part, part)) for part in word.split(":")) for word in words.split()
    ]
    assert main(line) == 1
    error = capsys.readouterr().err
    assert "is refused" in error and (str(checkpoint) in error or str(saved) in error)
    assert not marker.exists()


@pytest.mark.parametrize("option", ["--restore-file", "--init-from", "--finetune-from-model"])
def test_training_runs_no_payload(option, checkpoint, data, marker, tmp_path):
    with pytest.raises(CheckpointError, match=r"evil\.pt.*refused"):
        fairseq_train(data, tmp_path / "save", *STUDENT, option, str(checkpoint))
    assert not marker.exists()


def test_resuming_and_generating_run_no_payload(checkpoint, data, teacher, marker, tmp_path):
    save = tmp_path / "save"
    save.mkdir()
    shutil.copy(checkpoint, save / "checkpoint_last.pt")
    with pytest.raises(CheckpointError, match=r"save/checkpoint_last\.pt.*refused"):
        fairseq_train(data, save, *STUDENT)
    with pytest.raises(CheckpointError, match=r"evil\.pt.*refused"):
        fairseq_generate(data, checkpoint)
    assert not marker.exists()


# Plain data that would make a program run code or read other files


def with_options(student, path, **changes):
    """A copy of a checkpoint whose options differ: `model={...}`, `task={...}`, `common={...}`."""
    state = load_checkpoint(student)
    for part, values in changes.items():
        own = state["cfg"][part]
        for name, value in values.items():
            if isinstance(own, argparse.Namespace):
                setattr(own, name, value)
            else:
                own[name] = value
    torch.save(state, path)
    return path


def test_options_that_hold_code_are_values(evil, teacher, data, task, marker, tmp_path):
    path, code = tmp_path / "evil.pt", f"[__import__('os').mkdir({str(marker)!r})]"
    with_options(teacher, path, model={"adaptive_softmax_cutoff": code})
    with pytest.raises(UserError, match="may not hold code"):
        load_teacher(str(path), task)
    assert not marker.exists()


def test_paths_of_the_maker_are_not_followed(
    evil, student, teacher, data, task, marker, tmp_path, caplog
):
    """A package that runs code when it is imported, and checkpoints that are not there."""
    package, path = str(tmp_path / "evil_files" / "evil_package"), tmp_path / "evil.pt"
    nowhere = "/maker/teacher.pt"
    options = {"user_dir": package, "init_from": nowhere, "finetune_with": nowhere}
    with_options(
        student,
        path,
        common={"user_dir": package},
        model=options,
        task={"rescore_with": nowhere, "user_dir": package, "data": "/maker/data"},
        checkpoint={"restore_file": nowhere, "finetune_from_model": nowhere},
    )
    expected = hub.from_pretrained(student, data).translate(["der mann"])
    assert hub.from_pretrained(path, data).translate(["der mann"]) == expected
    fairseq_generate(data, path)
    assert not marker.exists()
    with pytest.raises(UserError, match="no data folder /maker/data"):
        hub.from_pretrained(path)
    assert f"{path}: the dictionaries are read from /maker/data" in caplog.text
    for name in ("encoder", "decoder"):
        with_options(teacher, path, model={f"{name}_embed_path": "/maker/vectors.txt"})
        load_teacher(str(path), task)
        assert f"{path} names the file /maker/vectors.txt ({name}_embed_path): it is not" in (
            caplog.text
        )
        # CTranslate2's converter would read it.
        with pytest.raises(UserError, match=r"would read /maker/vectors\.txt, which .*evil\.pt"):
            _ctranslate2.convert(SimpleNamespace(path=path), tmp_path / "converted")
    with_options(teacher, path, model={"pretrained_checkpoint": nowhere})
    with pytest.raises(CheckpointError, match=r"evil\.pt needs another checkpoint.*/maker/teacher"):
        load_teacher(str(path), task)


def test_values_of_this_machine_are_not_looked_up(student, data, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "secret")
    for text in ("${oc.env:SECRET}", "x${ oc.env : SECRET }", "${hydra:runtime.cwd}"):
        for part in ("task", "model"):
            path = with_options(student, tmp_path / "evil.pt", **{part: {"data": text}})
            with pytest.raises(CheckpointError, match=r"evil\.pt.*refused.*its options hold \$\{"):
                hub.from_pretrained(path, data)


def test_other_tasks_are_not_set_up(student, data, tmp_path):
    """One of fairseq's tasks calls a script that its options name."""
    task = {"_name": "audio_pretraining", "post_save_script": "mkdir created"}
    path = with_options(student, tmp_path / "evil.pt", task=task)
    with pytest.raises(UserError, match=r"evil\.pt holds a model of the task audio_pretraining"):
        hub.from_pretrained(path, data)


# Side files


def test_arrays_of_objects_are_refused(evil, marker, tmp_path):
    for name, payload in evil.items():
        file = tmp_path / "fertilities.npy"
        array = np.empty(3, dtype=object)
        array[:] = [payload] * 3
        np.save(file, array)
        with pytest.raises(UserError, match=r"fertilities\.npy is refused"):
            read_arrays(file, mmap_mode="r")
        file.write_bytes(pickle.dumps(payload))
        with pytest.raises(UserError, match=r"fertilities\.npy is refused"):
            read_arrays(file)
        assert not marker.exists(), name


def test_side_files_of_data_run_nothing(evil, data, teacher, marker, tmp_path):
    """Dictionaries, indices, tokens, fertilities and phrase tables that are pickles."""
    pickled = pickle.dumps(evil["os.mkdir"])
    train = ["--max-update", "1", "--lr", "1e-2", *SMALL]
    for name, arch in {
        "dict.de.txt": ["nart_tiny"],
        "train.de-en.de.idx": ["nart_tiny"],
        "train.de-en.fertilities.npy": ["nart_fertility_tiny"],
        "phrases.tsv": ["nart_enat_p_tiny", "--phrase-table", "PHRASES"],
    }.items():
        copy = tmp_path / f"data_{arch[0]}_{name}"
        shutil.copytree(data, copy)
        (copy / name).write_bytes(pickled)
        words = [str(copy / name) if word == "PHRASES" else word for word in arch]
        with pytest.raises(Exception, match=name):  # of fairseq, or ours
            fairseq_train(copy, tmp_path / "save", "--arch", *words, *train)
        assert not marker.exists(), name


@pytest.fixture
def folder(task, tmp_path):
    folder = export_model(tmp_path / "model", task, build(task, "nart_ctc_tiny"))
    assert runtime.load(folder, threads=1)
    return folder


def renew(folder, **entries):
    """Makes the manifest fit changed files, as the maker of a malicious folder would."""
    file = folder / "manifest.json"
    content = {**json.loads(file.read_text("utf-8")), **entries}
    content.pop("checksum")
    names = {*content["files"], *filter(None, (content["arrays"], content["subwords"]))}
    content["files"] = {name: sha256(folder / name) for name in names}
    file.write_text(json.dumps({**content, "checksum": _checksum(content)}), "utf-8")


def test_files_of_an_exported_folder_run_nothing(evil, folder, marker, tmp_path):
    whole = {file.name: file.read_bytes() for file in folder.iterdir()}
    for payload in ("os.mkdir", "eval", "import", "pickle in a pickle"):
        pickled = pickle.dumps(evil[payload])
        objects = tmp_path / "objects.npz"
        np.savez(objects, a=np.array([evil[payload]] * 2, dtype=object))
        for name, content, entries in (
            ("vocabulary.json", pickled, {}),
            ("model.onnx", pickled, {}),
            ("sentencepiece.model", pickled, {"subwords": "sentencepiece.model"}),
            ("arrays.npz", pickled, {"arrays": "arrays.npz"}),
            ("arrays.npz", objects.read_bytes(), {"arrays": "arrays.npz"}),
        ):
            (folder / name).write_bytes(content)
            renew(folder, **entries)
            with pytest.raises(UserError, match=name):
                runtime.load(folder, threads=1)
            assert not marker.exists(), (payload, name)
            for kept, content in whole.items():
                (folder / kept).write_bytes(content)
        (folder / "manifest.json").write_bytes(pickled)
        with pytest.raises(UserError, match=r"manifest\.json is damaged"):
            runtime.load(folder, threads=1)
        (folder / "manifest.json").write_bytes(whole["manifest.json"])


@pytest.mark.parametrize("name", ["os", "..tools.cli", "engine", "demo", "", "evil_package"])
def test_folder_cannot_name_other_code(name, evil, folder, marker):
    renew(folder, runtime=name)
    with pytest.raises(UserError, match="which this fairseq_nart cannot decode"):
        runtime.load(folder, threads=1)
    assert not marker.exists()


@pytest.mark.parametrize("branch", ["initializer", "constant", "sparse", "nested"])
@pytest.mark.parametrize("place", ["../secret.bin", "/etc/hostname", "inside.bin", "link.bin"])
def test_onnx_with_weights_in_other_files_is_refused(place, branch, folder, tmp_path):
    onnx = pytest.importorskip("onnx")
    np.arange(64, dtype=np.float32).tofile(tmp_path / "secret.bin")
    shutil.copy(tmp_path / "secret.bin", folder / "inside.bin")
    os.symlink("../secret.bin", folder / "link.bin")
    model = onnx.load(folder / "model.onnx")
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=1)
    tensor.external_data.add(key="length", value="16")
    tensor.external_data.add(key="location", value=place)
    constant = onnx.helper.make_node("Constant", [], ["w"], value=tensor)
    if branch == "initializer":
        model.graph.initializer.append(tensor)
    elif branch == "constant":
        model.graph.node.insert(0, constant)
    elif branch == "sparse":
        model.graph.sparse_initializer.add().values.CopyFrom(tensor)
    else:
        next(x for x in model.graph.node if x.op_type == "If").attribute[0].g.node.append(constant)
    onnx.save(model, tmp_path / "changed.onnx")
    shutil.move(tmp_path / "changed.onnx", folder / "model.onnx")
    renew(folder)
    with pytest.raises(UserError, match=rf"model\.onnx is refused: it names the file '{place}'"):
        runtime.load(folder, threads=1)
