"""The Python API: deployed models, copies, logging, warnings and options."""

import copy
import logging
import pickle
import shutil
import subprocess
import sys

import pytest
import torch
from fairseq import checkpoint_utils
from toys import build, fairseq_interactive

from fairseq_nart import hub
from fairseq_nart.cli import main
from fairseq_nart.errors import UserError

SOURCE = "heute muss der mann lesen ."


@pytest.fixture
def deployed(data, student, tmp_path):
    """A folder with a checkpoint and its dictionaries alone."""
    folder = tmp_path / "deployed"
    folder.mkdir()
    for file in (student, *data.glob("dict.*.txt")):
        shutil.copy(file, folder)
    return folder


def remove_languages(checkpoint):
    """Removes the languages, which fairseq and our first release do not store."""
    changed(checkpoint, lambda state: state["task_state"].pop("languages"))


def test_deployed_model_has_its_languages(deployed, data, student, capsys):
    expected = hub.from_pretrained(student, data).translate([SOURCE])
    checkpoint = deployed / student.name
    assert hub.from_pretrained(checkpoint, deployed).translate([SOURCE]) == expected
    given = ["--path", str(checkpoint), "--data", str(deployed)]
    (deployed / "input").write_text(f"{SOURCE}\n")
    assert main(["translate", str(deployed / "input"), *given]) == 0
    assert capsys.readouterr().out.splitlines() == expected
    fairseq_interactive(deployed, checkpoint, deployed / "input")
    assert capsys.readouterr().out.splitlines()[-3].split("\t")[2] == expected[0]


def changed(checkpoint, change):
    """Applies `change` to the state in a checkpoint."""
    state = torch.load(checkpoint, weights_only=True)
    change(state)
    torch.save(state, checkpoint)


def test_checkpoints_of_an_earlier_release_load(deployed, data, student):
    """They store no version, and lack the options that were added since."""

    def change(state):
        del state["task_state"]["version"]
        for part in ("model", "task", "criterion"):
            options = state["cfg"][part]
            options = options if isinstance(options, dict) else vars(options)
            for name in ("dag_search", "length_offset", "ctc_blank_bias", "latent_samples"):
                options.pop(name, None)

    expected = hub.from_pretrained(student, data).translate([SOURCE])
    changed(deployed / student.name, change)
    assert hub.from_pretrained(deployed / student.name, deployed).translate([SOURCE]) == expected


def set_version(state):
    state["task_state"]["version"] = "7.1.0"


def set_system(state):
    options = state["cfg"]["model"]
    options.arch = options._name = "nart_future"


@pytest.mark.parametrize(
    "change, message",
    [
        (set_version, r"written by fairseq_nart 7\.1\.0; 0\..* because the first digit differs"),
        (set_system, r"holds nart_future, which fairseq_nart 0\..* does not have: install"),
    ],
)
def test_checkpoints_of_other_releases_say_why_not(change, message, deployed, student):
    changed(deployed / student.name, change)
    with pytest.raises(UserError, match=message):
        hub.from_pretrained(deployed / student.name, deployed)


def test_languages_can_be_given_explicitly(deployed, data, student, capsys):
    expected = hub.from_pretrained(student, data).translate([SOURCE])
    checkpoint = deployed / student.name
    remove_languages(checkpoint)
    with pytest.raises(ValueError, match=r"give them by -s and -t .*source_lang= and target_lang="):
        hub.from_pretrained(checkpoint, deployed)
    languages = {"source_lang": "de", "target_lang": "en"}
    assert hub.from_pretrained(checkpoint, deployed, **languages).translate([SOURCE]) == expected
    (deployed / "input").write_text(f"{SOURCE}\n")
    words = ["translate", str(deployed / "input"), "--path", str(checkpoint)]
    words += ["--data", str(deployed)]
    assert main(words) == 1
    assert "-s and -t" in capsys.readouterr().err
    assert main([*words, "-s", "de", "-t", "en"]) == 0
    assert capsys.readouterr().out.splitlines() == expected


def test_missing_data_folder_error_names_the_option(student, tmp_path, capsys):
    words = ["--path", str(student), "--data", str(tmp_path / "gone")]
    assert main(["translate", str(student), *words]) == 1
    assert "no data folder" in (error := capsys.readouterr().err) and "--data" in error


def test_translators_can_be_copied_and_pickled(deployed, student, teacher, monkeypatch):
    monkeypatch.chdir(deployed)
    words = {"length_candidates": 3, "rescore_with": str(teacher)}
    translator = hub.from_pretrained(student.name, ".", **words)
    monkeypatch.chdir("/")
    for other in (copy.deepcopy(translator), pickle.loads(pickle.dumps(translator))):
        assert other.model is not translator.model and other.device == translator.device
        assert other.translate_n_best([SOURCE]) == translator.translate_n_best([SOURCE])


def test_translator_without_files_cannot_be_copied(task):
    with pytest.raises(TypeError, match="of from_pretrained"):
        copy.copy(hub.Translator(build(task, "nart_tiny"), task))


@pytest.mark.parametrize("before", ["", "logging.basicConfig(level=logging.ERROR)"])
def test_api_import_does_not_change_logging(before):
    code = f"""import logging
root = logging.getLogger()
{before}
was = root.level, list(root.handlers)
from fairseq_nart import hub
assert (root.level, root.handlers) == was, (root.level, root.handlers)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_warnings_give_line_numbers_of_the_text(data, student, tmp_path, caplog, monkeypatch):
    """Not positions in a batch, with the tool, fairseq-interactive and the Python API."""
    monkeypatch.setattr("fairseq_nart.tools._lines.CHUNK", 2)
    monkeypatch.setattr("sys.stdin", None)
    file, long = tmp_path / "input", "der " * 2000
    file.write_text(f"{SOURCE}\n" * 4 + f"{long}\n", "utf-8")
    cut = "line 5 has 2001 tokens: only the first 1024"
    with caplog.at_level(logging.WARNING):
        assert main(["translate", str(file), "--path", str(student), "--data", str(data)]) == 0
        assert cut in caplog.text
        caplog.clear()
        fairseq_interactive(data, student, file, "--buffer-size", "2")
        assert cut in caplog.text
        caplog.clear()
        api = hub.from_pretrained(student, data)
        for _ in range(2):
            api.translate([SOURCE, long])
    numbers = [record.args[0] for record in caplog.records if "only the first" in record.msg]
    assert numbers == [2, 2]


def test_alpha_without_teacher_is_refused(student, data):
    with pytest.raises(UserError, match="--rescore-alpha must be a finite number"):
        hub.from_pretrained(student, data, rescore_alpha=float("nan"))
    with pytest.raises(UserError, match="--rescore-alpha needs a teacher"):
        hub.from_pretrained(student, data, rescore_alpha=1.0)


def test_checkpoint_of_an_earlier_release(deployed, data, student):
    """Options that it lacks apply. Its ranking rule does not, nor does an option removed since."""
    checkpoint = deployed / student.name
    state = torch.load(checkpoint, weights_only=True)
    del state["cfg"]["task"]["length_candidates"]
    state["cfg"]["task"] |= {"rescore_normalization": "gnmt", "int8": False}
    torch.save(state, checkpoint)
    actual = hub.from_pretrained(checkpoint, deployed, length_candidates=9)
    expected = hub.from_pretrained(student, data, length_candidates=9)
    assert actual.translate_n_best([SOURCE]) == expected.translate_n_best([SOURCE])
    assert len(actual.translate_n_best([SOURCE])[0]) > 1
    assert checkpoint_utils.load_model_ensemble_and_task([str(checkpoint)])
