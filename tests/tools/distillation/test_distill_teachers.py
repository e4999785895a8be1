"""Distillation by several teachers, and with the best length penalty on valid."""

import json
from types import SimpleNamespace

import pytest
from toys import TEACHERS, binarise, fairseq_generate, fairseq_train, lines_of, write_text

from fairseq_nart.tools.distillation import length_penalty


def text_of(folder):
    return (folder / "train.distilled.en").read_text("utf-8").split("\n")[:-1]


@pytest.fixture(scope="module")
def ensemble(small, teacher, tmp_path_factory):
    """A Transformer, an LSTM and ConvS2S."""
    paths = [teacher]
    for kind in ("lstm", "conv"):
        words = [*TEACHERS[kind], "--max-update", "20", "--disable-validation"]
        paths.append(fairseq_train(small, tmp_path_factory.mktemp(kind), *words, "--lr", "1e-2"))
    return ":".join(map(str, paths))


def test_ensemble_equals_fairseq_generate(small, whole, ensemble, run, capsys):
    done = run(path=ensemble, backend="auto")
    assert done.status == 0 and "CTranslate2 cannot run an ensemble" in done.out
    words = ["--gen-subset", "train", "--beam", "2", "--max-len-a", "1.2", "--max-len-b", "10"]
    fairseq_generate(small, ensemble, *words, "--batch-size", "1")
    expected = lines_of(capsys.readouterr().out, "H")
    lines = text_of(done.folder)
    for number, line in enumerate(lines):
        assert number == 7 or line == expected[number][0].split("\t")[1]
    assert lines != text_of(whole), "the other members count"
    manifest = json.loads((done.folder / "distill.json").read_text("utf-8"))
    assert [record["path"] for record in manifest["teachers"]] == ensemble.split(":")
    first = run(path=ensemble.split(":")[0])
    assert first.status == 1 and "was begun with sha256 of --path" in first.err


def test_ensembles_that_cannot_work_are_refused(small, ensemble, run, tmp_path):
    done = run(path=ensemble, backend="ctranslate2")
    assert done.status == 1 and "CTranslate2 cannot run an ensemble, and --path names 3" in done.err
    write_text(tmp_path, {"train": 20}, seed=5)
    other = binarise(tmp_path, tmp_path / "bin", "--joined-dictionary")
    words = [*TEACHERS["lstm"], "--max-update", "1", "--disable-validation"]
    stranger = fairseq_train(other, tmp_path / "stranger", *words)
    done = run(path=f"{ensemble}:{stranger}", out=tmp_path / "new")
    expected = f"{stranger} was trained with another source dictionary than the data directory's"
    assert done.status == 1 and f"{expected}: entry" in done.err and done.err.count("\n") == 1


def test_best_length_penalty_on_valid(small, run, tmp_path, monkeypatch):
    """The same as that of distilling valid with each."""
    monkeypatch.setattr(length_penalty, "PENALTIES", (-3.0, 1.0, 4.0))
    words = ("--num-shards", "2", "--lenpen", "auto")
    first = run(*words, "--shard-id", "0")
    assert first.status == 0 and " is the best on valid: BLEU " in first.out
    last = run(*words, "--shard-id", "1")
    assert last.status == 0 and "is the best on valid" not in last.out, "shards share the choice"
    manifest = json.loads((first.folder / "distill.json").read_text("utf-8"))
    bleu = {}
    for penalty in ("-3.0", "1.0", "4.0"):
        alone = run("--lenpen", penalty, "--splits", "train", "valid", out=tmp_path / penalty)
        splits = json.loads((alone.folder / "distill.json").read_text("utf-8"))["splits"]
        bleu[penalty] = splits["valid"]["bleu_against_original"]
    assert manifest["lenpen"]["BLEU"] == bleu and len(set(bleu.values())) > 1
    best = max(bleu, key=bleu.get)
    assert manifest["lenpen"]["best"] == float(best)
    assert text_of(first.folder) == text_of(tmp_path / best)


def test_best_length_penalty_needs_targets():
    split = SimpleNamespace(name="valid", target=None)
    with pytest.raises(ValueError, match="needs targets of valid: give a number"):
        length_penalty.compare(split, (), None, None, 4000)
