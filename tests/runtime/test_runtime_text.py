"""Exported models read and write text as the plugin's Python API does."""

import copy
import logging
import os
import pickle

import pytest
import sentencepiece
from exported import export_model
from toys import binarise, build, load_task, write_text

from fairseq_nart import hub, runtime
from fairseq_nart.errors import UserError
from fairseq_nart.export import folder as export

LINES = [
    "heute muss der mann lesen .",
    "",
    "  der\tmann \N{NO-BREAK SPACE} lesen  ",
    "</s> <pad> <s> <unk> mann",
    "\N{SNOWMAN} \N{SNOWMAN}",
    "mann " * 60,
]


@pytest.fixture(scope="module")
def both(data, tmp_path_factory):
    """The plugin's translator and the exported model; sources have at most 20 tokens."""
    task = load_task(data, max_source_positions=20, max_target_positions=25)
    model = build(task, "nart_crf_tiny", "--length-predictor", "offset")
    folder = export_model(tmp_path_factory.mktemp("words") / "model", task, model)
    return hub.Translator(model, task), runtime.load(folder, threads=1)


@pytest.mark.parametrize("size", [1, 3, 64])
def test_translations_equal_the_plugins(size, both):
    plugin, exported = both
    assert exported.translate(LINES, size) == plugin.translate(LINES, size)
    assert exported.translate([]) == []
    found, expected = exported.translate_n_best(LINES), plugin.translate_n_best(LINES)
    for ours, theirs in zip(found, expected, strict=True):
        assert [x.text for x in ours] == [x.text for x in theirs]
        assert [x.score for x in ours] == pytest.approx([x.score for x in theirs], abs=1e-4)
    lengths = [len(one.text.split()) + 1 for (one, *_) in found]
    assert [one.length for (one, *_) in found] == lengths


def test_special_symbols_in_the_text_are_unknown_words(both):
    _, exported = both
    unk, eos = exported.manifest.unk, exported.manifest.eos
    encoded = exported.text.encode("</s> <pad> <s> <unk> \N{SNOWMAN} mann", 1)
    mann = exported.text.ids["mann"]
    assert encoded == [unk] * 5 + [mann, eos]


def test_long_lines_are_cut_with_a_warning(both, caplog):
    plugin, exported = both
    lines = ["mann", "mann " * 19, "mann " * 20]
    with caplog.at_level(logging.WARNING):
        cut = exported.translate(lines, first_line=7)
    assert [record.message for record in caplog.records] == [
        "line 9 has 21 tokens: only the first 20 are translated"
    ]
    assert cut == plugin.translate(lines)
    assert len(exported.text.encode(lines[2], 1)) == exported.longest_source == 20


def test_a_single_string_is_refused(both):
    with pytest.raises(TypeError, match=r"wrap a single line in \[ \]"):
        both[1].translate("mann")


@pytest.mark.parametrize("size", [0, -3])
def test_batches_have_at_least_one_sentence(size, both):
    for model in both:
        with pytest.raises(UserError, match="--batch-size must be at least 1"):
            model.translate(["mann"], batch_size=size)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_models_can_be_copied_and_pickled(copied, both, monkeypatch):
    _, exported = both
    model = runtime.load(os.path.relpath(exported.folder), threads=1, crf_paths=3)
    monkeypatch.chdir("/")
    other = copied(model)
    assert other.engine is not model.engine
    assert other.translate_n_best(LINES) == model.translate_n_best(LINES)


def test_model_describes_itself(both):
    _, exported = both
    assert (exported.source_lang, exported.target_lang) == ("de", "en")
    assert exported.has_crf and exported.longest_source == 20


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A task over sentencepiece's pieces, and the model that segments text."""
    text = tmp_path_factory.mktemp("text")
    write_text(text, {"train": 200, "test": 17})
    plain = (text / "train.de").read_text("utf-8") + (text / "train.en").read_text("utf-8")
    (text / "plain").write_text(plain, "utf-8")
    words = {"vocab_size": 120, "minloglevel": 2, "hard_vocab_limit": False}
    sentencepiece.SentencePieceTrainer.train(
        input=str(text / "plain"), model_prefix=str(text / "spm"), **words
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(text / "spm.model"))
    for file in text.glob("t*.??"):
        lines = file.read_text("utf-8").splitlines()
        segmented = (" ".join(model.encode(line, out_type=str)) for line in lines)
        file.write_text("".join(f"{line}\n" for line in segmented), "utf-8")
    data = binarise(text, tmp_path_factory.mktemp("data") / "bin", "--joined-dictionary")
    return load_task(data), text / "spm.model"


def test_text_of_a_sentencepiece_model_equals_the_plugins(pieces, tmp_path):
    task, file = pieces
    plugin = hub.Translator(build(task, "nart_tiny"), task, file)
    (tmp_path / "model").mkdir()
    export.write(plugin, export.Request("nart_tiny", "float32", file, None), tmp_path / "model")
    exported = runtime.load(tmp_path / "model", threads=1)
    found = exported.translate(LINES)
    assert found == plugin.translate(LINES) and "\u2581" not in "".join(found)


def test_text_without_its_sentencepiece_model_must_be_segmented(pieces, tmp_path):
    task, _ = pieces
    folder = export_model(tmp_path / "model", task, build(task, "nart_tiny"))
    exported = runtime.load(folder, threads=1)
    message = "line 2: 'der mann' is not segmented, .*: export the model with --sentencepiece"
    with pytest.raises(UserError, match=message):
        exported.translate(["\u2581der", "der mann"])
    assert "\u2581" not in exported.translate(["\u2581der \u2581mann"])[0]
