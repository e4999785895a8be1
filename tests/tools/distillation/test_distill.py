"""Distillation: resumed = uninterrupted, shards = whole, CTranslate2 = fairseq; refused inputs."""

import json
import shutil

import pytest
import torch
from fairseq.data import data_utils
from toys import (
    SMALL,
    TEACHERS,
    fairseq_generate,
    fairseq_train,
    lines_of,
    load_task,
)

from fairseq_nart.tools import distill
from fairseq_nart.tools.distillation import backends

COUNT = 31
BUILT = ["train.distilled.en", "train.de-en.en.bin", "train.de-en.en.idx"]


@pytest.fixture
def interrupted(whole, tmp_path):
    """That distillation after a kill: 20 sentences and a partial line."""
    out = tmp_path / "out"
    shutil.copytree(whole / "parts", out / "parts")
    shard = out / "parts" / "train.0-of-1.tsv"
    lines = shard.read_bytes().splitlines(keepends=True)
    assert len(lines) == COUNT
    shard.write_bytes(b"".join(lines[:20]) + lines[20][:-3])
    return out


@pytest.fixture
def translated(monkeypatch):
    """Counts the sentences that fairseq translates."""
    count, translate = [], backends.FairseqBackend.translate

    def counting(self, batches):
        for texts in translate(self, batches):
            count.append(len(texts))
            yield texts

    monkeypatch.setattr(backends.FairseqBackend, "translate", counting)
    return count


def contents(folder):
    return [(folder / name).read_bytes() for name in BUILT]


def text_of(folder):
    return (folder / "train.distilled.en").read_text("utf-8").split("\n")[:-1]


def test_translations_equal_fairseq_generate(small, whole, teacher, capsys):
    """With batches of one sentence, because fairseq's length limit applies to a batch."""
    words = ["--gen-subset", "train", "--beam", "2", "--max-len-a", "1.2", "--max-len-b", "10"]
    fairseq_generate(small, teacher, *words, "--batch-size", "1")
    expected = lines_of(capsys.readouterr().out, "H")
    lines = text_of(whole)
    assert len(lines) == COUNT and lines[7] == ""
    same = [line == expected[i][0].split("\t")[1] for i, line in enumerate(lines)]
    assert sum(same) == COUNT - 1 and not same[7], "all but the blank one"


def test_distilled_set_is_complete_and_trains(small, whole, tmp_path):
    """Targets equal the text, and all other files are copies. A student can train on it."""
    targets = data_utils.load_indexed_dataset(str(whole / "train.de-en.en"))
    dictionary = load_task(small).tgt_dict
    for tokens, line in zip(targets, text_of(whole), strict=True):
        assert tokens[-1] == dictionary.eos() and dictionary.string(tokens) == line
    for file in small.iterdir():
        if not file.name.startswith("train.de-en.en"):
            assert (whole / file.name).read_bytes() == file.read_bytes()
    words = ["--arch", "nart_tiny", *SMALL, "--max-update", "1", "--disable-validation"]
    assert fairseq_train(whole, tmp_path / "save", *words).exists()


def test_manifest(small, whole, teacher):
    manifest = json.loads((whole / "distill.json").read_text("utf-8"))
    train = manifest["splits"]["train"]
    lines, targets = text_of(whole), data_utils.load_indexed_dataset(str(whole / "train.de-en.en"))
    assert (train["sentences"], train["target_tokens"]) == (COUNT, targets.sizes.sum())
    assert train["share_empty"] == pytest.approx(1 / COUNT, abs=1e-6)
    unknown = sum("<unk>" in line.split() for line in lines)
    assert train["share_with_unknown"] == pytest.approx(unknown / COUNT, abs=1e-6)
    assert 0 < train["bleu_against_original"] < 100 and "tok:13a" in train["bleu_signature"]
    (record,) = manifest["teachers"]
    assert record["path"] == str(teacher) and record["score"] is None
    assert manifest["made_with"]["--beam"] == 2 and manifest["seconds"] > 0
    assert manifest["runs"][0]["backend"] == "fairseq"


def test_finished_distillation_is_not_changed(whole, run, monkeypatch):
    monkeypatch.setattr(distill, "open_backend", None)
    before = contents(whole)
    again = run(out=whole)
    assert again.status == 0 and "is finished: nothing to do" in again.out
    other = run("--lenpen", "0.5", out=whole)
    assert other.status == 1 and "--lenpen 1.0, and now --lenpen is 0.5" in other.err
    assert contents(whole) == before


def test_resumed_equals_uninterrupted(interrupted, whole, run, translated):
    assert run(out=interrupted).status == 0
    assert sum(translated) == COUNT - 20
    assert contents(interrupted) == contents(whole)


@pytest.mark.parametrize("lost", [BUILT, BUILT[1:], BUILT[2:], []])
def test_resumes_after_a_kill_while_building(lost, whole, run, tmp_path, monkeypatch):
    monkeypatch.setattr(distill, "open_backend", None)
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    for name in [*lost, "distill.json"]:
        (out / name).unlink()
    assert run(out=out).status == 0
    assert contents(out) == contents(whole) and (out / "distill.json").exists()


def test_shards_equal_the_whole(whole, run):
    first, last = (run("--num-shards", "3", "--shard-id", shard) for shard in "02")
    assert first.status == last.status == 0
    assert "missing: shard 1 (10 sentences), shard 2 (10 sentences)" in first.out
    assert "missing: shard 1 (10 sentences)\n" in last.out
    assert not (first.folder / "train.de-en.en.idx").exists()
    assert run("--num-shards", "3", "--shard-id", "1").status == 0
    assert contents(first.folder) == contents(whole)


def test_several_splits(run):
    out = run("--splits", "train", "valid").folder
    assert len((out / "valid.distilled.en").read_text("utf-8").splitlines()) == 5
    manifest = json.loads((out / "distill.json").read_text("utf-8"))
    assert list(manifest["splits"]) == ["train", "valid"]


def test_missing_shard_of_train_is_refused(small, run, tmp_path):
    data = shutil.copytree(small, tmp_path / "parts")
    for file in data.glob("train.*"):
        shutil.copy(file, file.with_name(file.name.replace("train", "train1")))
    result = run(data=data)
    assert result.status == 1 and "train1, which fairseq-train reads as a shard of" in result.err


def test_data_without_targets(small, run, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(small, data)
    for file in data.glob("train.de-en.en.*"):
        file.unlink()
    done = run(data=data)
    assert done.status == 0 and "31 sentences\n" in done.out
    manifest = json.loads((done.folder / "distill.json").read_text("utf-8"))
    assert manifest["splits"]["train"]["bleu_against_original"] is None


def test_distilled_set_can_be_distilled_again(whole, run, monkeypatch):
    """A kill before its manifest is written does not leave a copy of the data's."""

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(distill, "figures", interrupt)
        cut = run(data=whole)
    assert cut.status == 130 and not (cut.folder / "distill.json").exists()
    done = run(data=whole)
    assert done.status == 0 and "31 sentences, BLEU 100.0 against" in done.out
    assert contents(done.folder) == contents(whole)


@pytest.mark.parametrize(("which", "distinct"), [("teacher", 50), ("deep", 20)])
def test_ctranslate2_equals_fairseq(which, distinct, data, run, tmp_path, request):
    """In float32. Rounding can decide between two translations with equal scores."""
    pytest.importorskip("ctranslate2")
    path, texts = request.getfixturevalue(which), []
    for backend in ("fairseq", "ctranslate2"):
        done = run(data=data, path=path, out=tmp_path / backend, backend=backend)
        assert done.status == 0 and f"backend: {backend}" in done.out
        texts.append(text_of(done.folder))
        assert not list(done.folder.glob("parts/ctranslate2*")), "the converted model is gone"
    same = sum(one == other for one, other in zip(*texts, strict=True))
    assert len(set(texts[0])) > distinct and same >= 196, same


def test_ctranslate2_with_unusual_sources(whole, run):
    pytest.importorskip("ctranslate2")
    done = run("--compute-type", "float32", backend="auto")
    assert done.status == 0 and "backend: ctranslate2" in done.out
    same = [one == other for one, other in zip(text_of(done.folder), text_of(whole), strict=True)]
    assert same[7] and same[11] and sum(same) >= COUNT - 1


def test_padding_is_never_chosen(small, run, teacher, tmp_path):
    """Even by a teacher that prefers it to a full stop."""
    pytest.importorskip("ctranslate2")
    state, dictionary = torch.load(teacher, weights_only=True), load_task(small).tgt_dict
    for name, weight in state["model"].items():
        if name.endswith(("embed_tokens.weight", "output_projection.weight")):
            weight[dictionary.pad()] = 1.5 * weight[dictionary.index(".")]
    torch.save(state, tmp_path / "padding.pt")
    for backend in ("fairseq", "ctranslate2"):
        done = run(path=tmp_path / "padding.pt", out=tmp_path / backend, backend=backend)
        words = " ".join(text_of(done.folder)).split(" ")
        assert done.status == 0 and not {"<pad>", "<blank>"} & set(words)


def test_missing_ctranslate2(run, monkeypatch):
    monkeypatch.setattr("fairseq_nart.tools._ctranslate2.is_installed", lambda: False)
    required = run(backend="ctranslate2")
    assert required.status == 1 and "pip install ctranslate2" in required.err
    with_option = run("--compute-type", "int8", backend="auto")
    assert (
        with_option.status == 1
        and "--compute-type int8 is for --backend ctranslate2" in with_option.err
    )
    done = run(backend="auto")
    assert done.status == 0 and "backend: fairseq" in done.out and "is not installed" in done.out


@pytest.mark.parametrize(("kind", "model"), [("lstm", "lstm"), ("conv", "fconv")])
def test_teacher_that_ctranslate2_does_not_support(kind, model, small, run, tmp_path):
    pytest.importorskip("ctranslate2")
    words = [*TEACHERS[kind], "--max-update", "1", "--disable-validation"]
    other = fairseq_train(small, tmp_path / kind, *words)
    required = run(path=other, backend="ctranslate2")
    assert required.status == 1 and f"Model '{model}' used by" in required.err
    done = run(path=other, backend="auto")
    assert done.status == 0 and "backend: fairseq" in done.out
    assert len(text_of(done.folder)) == COUNT


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--beam", "3"], "--beam 2, and now --beam is 3"),
        (["--lenpen", "auto"], "--lenpen 1.0, and now --lenpen is auto"),
        (["--max-len-a", "2"], "--max-len-a 1.2, and now"),
        (["--num-shards", "2"], "--num-shards 1, and now"),
        (["--splits", "valid"], "--splits"),
        (["--backend", "ctranslate2"], "--backend fairseq, and now --backend is ctranslate2"),
        (["--path", "other"], "sha256 of --path"),
        (["--data", "other"], "sentences of train 31, and now sentences of train is 200"),
    ],
)
def test_resuming_with_other_options_is_refused(
    words, message, interrupted, data, run, teacher, tmp_path
):
    """Existing translations are kept. --max-tokens does not affect them, so it can differ."""
    before = (interrupted / "parts" / "train.0-of-1.tsv").read_bytes()
    others = {"data": data} if words[0] == "--data" else {}
    if words[0] == "--path":
        state = torch.load(teacher, weights_only=True)
        torch.save({**state, "last_optimizer_state": None}, tmp_path / "other.pt")
        others = {"path": tmp_path / "other.pt"}
    done = run(*([] if others else words), out=interrupted, **others)
    assert done.status == 1 and message in done.err and "another --out" in done.err
    assert done.err.count("\n") == 1
    assert (interrupted / "parts" / "train.0-of-1.tsv").read_bytes() == before
    assert run("--max-tokens", "50", out=interrupted).status == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num-shards", "2", "--shard-id", "2"], "--shard-id must be 0 to 1"),
        (["--shard-id", "-1"], "--shard-id must be 0 to 0"),
        (["--beam", "0"], "--beam must be at least 1, not 0"),
        (["--max-tokens", "0"], "--max-tokens must be at least 1, not 0"),
        (["--max-len-a", "0", "--max-len-b", "0"], "leave no room"),
        (["--max-len-a", "inf"], "--max-len-a must be a finite number at least 0, not inf"),
        (["--max-len-a", "-1"], "--max-len-a must be at least 0, not -1"),
        (["--lenpen", "nan"], "--lenpen must be a number or auto, not 'nan'"),
        (["--lenpen", "best"], "--lenpen must be a number or auto, not 'best'"),
        (["--splits", "train", "train"], "--splits must name each split once"),
        (["--splits", "test"], "has no split 'test': there is no test.de-en.de.bin"),
        (["--compute-type", "int8"], "--compute-type is for --backend ctranslate2"),
    ],
)
def test_invalid_options_are_refused(words, message, run):
    done = run(*words)
    assert done.status == 1 and message in done.err and done.err.count("\n") == 1
    assert not done.folder.exists()


def test_invalid_files_are_refused(small, run, student, tmp_path):
    (tmp_path / "link").symlink_to(small)
    refused = {
        "is the data set itself": run(out=small),
        "link is the data set itself": run(out=tmp_path / "link"),
        "gone.pt: the checkpoint cannot be opened": run(path=tmp_path / "gone.pt"),
        "holds a non-autoregressive model": run(path=student),
        "there is no data folder": run(data=tmp_path / "gone"),
    }
    data = tmp_path / "data"
    shutil.copytree(small, data)
    (data / "train.de-en.de.idx").unlink()
    refused["train.de-en.de.idx is missing, so the data set is incomplete"] = run(data=data)
    shutil.copy(small / "train.de-en.de.idx", data)
    for ending in ("bin", "idx"):
        shutil.copy(small / f"valid.de-en.en.{ending}", data / f"train.de-en.en.{ending}")
    refused["31 sources but 5 targets"] = run(data=data)
    with open(data / "dict.de.txt", "a") as dictionary:
        dictionary.write("further 1\n")
    refused["another source dictionary"] = run(data=data)
    for message, done in refused.items():
        assert done.status == 1 and message in done.err and done.err.count("\n") == 1, done.err


def test_sources_too_long_for_the_teacher_keep_their_targets(small, run, teacher, tmp_path):
    state = torch.load(teacher, weights_only=True)
    state["cfg"]["model"].max_source_positions = 12
    torch.save(state, tmp_path / "short.pt")
    done = run(path=tmp_path / "short.pt")
    source, target = (
        data_utils.load_indexed_dataset(str(small / f"train.de-en.{x}")) for x in ("de", "en")
    )
    long = [i for i in range(COUNT) if source.sizes[i] > 12]
    assert 0 < len(long) < COUNT
    assert done.status == 0
    assert f"{len(long)} of train keep their targets: too long for the teacher\n" in done.out
    targets = data_utils.load_indexed_dataset(str(done.folder / "train.de-en.en"))
    assert [i for i in range(COUNT) if torch.equal(targets[i], target[i])] == long
    manifest = json.loads((done.folder / "distill.json").read_text("utf-8"))
    assert manifest["splits"]["train"]["kept_original"] == len(long)
    words = ["--arch", "nart_tiny", *SMALL, "--max-update", "1", "--disable-validation"]
    words += ["--max-source-positions", "12"]
    assert fairseq_train(done.folder, tmp_path / "save", *words).exists()
