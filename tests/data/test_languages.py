"""The language pair of a data folder."""

import shutil

import pytest
import torch
from toys import binarise, write_text

from fairseq_nart.data.languages import choose, in_folder, require_folder
from fairseq_nart.errors import UserError
from fairseq_nart.tasks._options import task_config
from fairseq_nart.tasks.nart_translation import NartTranslationTask
from fairseq_nart.tools._teacher import Teacher
from fairseq_nart.tools.benchmark.fairseq_engine import FairseqEngine
from fairseq_nart.tools.benchmark.plan import SystemPlan


def folder_of(tmp_path, *names):
    for name in names:
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["train.de-en.de.idx", "dict.de.txt", "dict.en.txt"], [("de", "en")]),
        (["test.pt-br-en.pt-br.idx", "dict.pt-br.txt", "dict.en.txt"], [("pt-br", "en")]),
        (["test.en-tok.de.en.idx", "dict.tok.de.txt", "dict.en.txt"], [("en", "tok.de")]),
        (["dict.de.txt", "dict.en.txt", "train.de-en.fertilities.json"], []),
    ],
)
def test_language_pairs_of_a_folder(names, pairs, tmp_path):
    assert in_folder(folder_of(tmp_path, *names)) == pairs


def test_one_pair_of_several_must_be_chosen(tmp_path):
    names = ("train.de-en.de.idx", "train.fr-en.fr.idx", "dict.de.txt", "dict.en.txt")
    folder = folder_of(tmp_path, *names, "dict.fr.txt")
    with pytest.raises(ValueError, match=r"several language pairs \(de-en, fr-en\): choose .* -s"):
        choose(folder)
    assert choose(folder, ("fr", None)) == ("fr", "en")
    assert choose(folder, (None, None), ("en", "de")) == ("en", "de")
    assert choose(folder, ("cs", None), ("en", "de")) == ("cs", "de")
    with pytest.raises(ValueError, match=r"holds no binarised translation data.* by -s and -t"):
        choose(folder, ("cs", None))
    with pytest.raises(ValueError, match="several language pairs"):
        NartTranslationTask.setup_task(task_config()(data=str(folder)))


def test_unreadable_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no data folder .*gone: .*--data.*data="):
        require_folder(tmp_path / "gone")
    (tmp_path / "a:b").mkdir()
    with pytest.raises(ValueError, match="a colon in a path"):
        require_folder(tmp_path / "a:b")
    require_folder(f"{tmp_path}:{tmp_path}")


def test_languages_with_a_hyphen(tmp_path):
    write_text(tmp_path, {"train": 4})
    for language, other in (("de", "pt-br"), ("en", "en")):
        (tmp_path / f"train.{language}").rename(tmp_path / f"train.{other}")
    (tmp_path / "train.de").touch()  # required by `binarise`
    words = ("-s", "pt-br", "--joined-dictionary")
    data = binarise(tmp_path, tmp_path / "bin", *words)
    task = NartTranslationTask.setup_task(task_config()(data=str(data)))
    assert (task.cfg.source_lang, task.cfg.target_lang) == ("pt-br", "en")
    assert task.state_dict()["languages"] == ["pt-br", "en"]


def test_tools_take_the_pair_of_the_checkpoint(data, teacher, student, tmp_path):
    """Although the data folder holds another pair too, or dictionaries alone."""
    two, none = tmp_path / "two", tmp_path / "none"
    for folder in (two, none):
        folder.mkdir()
        shutil.copy(data / "dict.de.txt", folder / "dict.aa.txt")
        for file in data.glob("dict.*"):
            shutil.copy(file, folder)
    for file in data.glob("*.de-en.*"):
        shutil.copy(file, two)
        shutil.copy(file, two / file.name.replace("de", "aa"))
    for folder in (two, none):
        assert Teacher.load(teacher, folder).languages == ("de", "en")
        task = FairseqEngine(SystemPlan("x", "x", student), folder, "cpu").task
        assert (task.cfg.source_lang, task.cfg.target_lang) == ("de", "en")
    state = torch.load(teacher, weights_only=True)
    del state["task_state"]["languages"]  # as in checkpoints of fairseq
    torch.save(state, tmp_path / "old.pt")
    with pytest.raises(UserError, match="several language pairs"):
        Teacher.load(tmp_path / "old.pt", two)
    assert Teacher.load(tmp_path / "old.pt", two, ("de", "en")).languages == ("de", "en")
