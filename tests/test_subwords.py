"""Segmentation of text into subwords, and its inverse."""

import random

import pytest
import sentencepiece
import torch
from fairseq.data import Dictionary, encoders
from fairseq.data.data_utils import post_process
from toys import build

from fairseq_nart import hub
from fairseq_nart.subwords import Subwords, join_pieces


def test_encode_and_decode_equal_fairseq(tmp_path, task):
    lines = ["der mann liest ein buch .", "die frau schreibt einen brief ."]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 9),
        model_prefix=str(tmp_path / "spm"),
        vocab_size=99,
        hard_vocab_limit=False,
        model_type="char",
    )
    subwords = Subwords(tmp_path / "spm.model")
    file = str(tmp_path / "spm.model")
    cfg = encoders.sentencepiece_bpe.SentencepieceConfig(sentencepiece_model=file)
    theirs = encoders.sentencepiece_bpe.SentencepieceBPE(cfg)
    api = hub.Translator(build(task, "nart_tiny"), task, file)
    for line in lines:
        pieces = subwords.encode(line)
        assert pieces == theirs.encode(line).split() != line.split()
        assert subwords.decode(pieces) == line
    ((_, source),) = api.batches(lines[:1], 1)
    assert source.size(1) == len(subwords.encode(lines[0])) + 1
    words = task.tgt_dict.string(torch.tensor([5, 6]))
    assert api.text(torch.tensor([5, 6, 2])) == theirs.decode(words) != words


def test_bpe_subwords_are_joined_as_in_fairseq():
    pieces = "ein lo@@ wer be@@".split()
    assert Subwords(None).encode(" ein lo@@ wer  be@@ ") == pieces
    assert Subwords(None).decode(pieces) == "ein lower be"


@pytest.fixture(scope="module")
def byte_fallback(tmp_path_factory):
    """A model that encodes unknown characters as bytes."""
    prefix = tmp_path_factory.mktemp("pieces") / "spm"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat on the mat", "the man reads a book"] * 9),
        model_prefix=str(prefix),
        vocab_size=300,
        byte_fallback=True,
        hard_vocab_limit=False,
    )
    return prefix.with_suffix(".model")


@pytest.mark.parametrize("line", ["Hello World \u8a9e", "\u2603the cat\U0001f600", "the mat"])
def test_byte_subwords_become_text(byte_fallback, line, monkeypatch):
    subwords = Subwords(byte_fallback)
    pieces = subwords.encode(line)
    assert "<0x" in " ".join(pieces) or line == "the mat"
    assert subwords.decode(pieces) == line == join_pieces(pieces)
    assert post_process(" ".join(pieces), "sentencepiece") == line  # --remove-bpe and --eval-bleu
    dictionary = Dictionary()
    ids = torch.tensor([*map(dictionary.add_symbol, pieces), dictionary.eos()])
    assert dictionary.string(ids, "sentencepiece") == line
    cfg = encoders.sentencepiece_bpe.SentencepieceConfig(sentencepiece_model=str(byte_fallback))
    assert encoders.sentencepiece_bpe.SentencepieceBPE(cfg).decode(" ".join(pieces)) == line


def test_byte_subwords_never_end_a_line(byte_fallback):
    pieces = ["\u2581the", "<0x0D>", "<0x0A>", "\u2581cat", "<0x0A>"]
    assert join_pieces(pieces) == Subwords(byte_fallback).decode(pieces) == "the  cat"


def test_lone_surrogates_are_unknown_characters(byte_fallback):
    subwords = Subwords(byte_fallback)
    assert subwords.encode("the \ud800") == subwords.encode("the \ufffd")
    assert Subwords(None).encode("the \udfff") == ["the", "\ufffd"]


def test_join_pieces_equals_the_model(byte_fallback):
    """Even for bytes that are not UTF-8, which a translation model can generate."""
    subwords, rng = Subwords(byte_fallback), random.Random(1)
    known = [subwords.model.id_to_piece(n) for n in range(3, subwords.model.get_piece_size())]
    tails = [f"<0x{byte:02X}>" for byte in (0xE8, 0xAF, 0xAD, 0xF0, 0x9F, 0x98, 0x80)]
    for _ in range(3000):
        pieces = rng.choices(known + 20 * tails, k=6)
        assert join_pieces(pieces) == subwords.decode(pieces), pieces


def test_unknown_words_are_decoded_as_in_fairseq(byte_fallback):
    pieces = ["\u2581the", "<unk>", "\u2581", "\u2581zz"]
    expected = post_process(" ".join(pieces), "sentencepiece")
    assert Subwords(byte_fallback).decode(pieces) == expected == "the<unk>  zz"


def test_unsegmented_text_is_refused():
    subwords = Subwords(None, "sentencepiece")
    assert subwords.encode("  ") == []
    assert subwords.decode(subwords.encode("\u2581the \u2581c at")) == "the cat"
    with pytest.raises(ValueError, match=r"'the cat' is not segmented.*--sentencepiece MODEL"):
        subwords.encode("the cat")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("spm.vocab", "\u2581the\t-1\n", r"spm.vocab is not a sentencepiece model: give spm.model"),
        ("spm.model", "", "spm.model is not a sentencepiece model"),
        ("spm.model", "version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (".", None, "Is a directory"),
        ("none", None, "No such file.*none"),
    ],
)
def test_invalid_models_are_refused(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises((ValueError, OSError), match=message):
        Subwords(tmp_path / name)
