"""Text, pieces, and text again."""

import sentencepiece
import torch
from fairseq.data import encoders
from toys import build

from fairseq_nart import hub
from fairseq_nart.subwords import Subwords


def test_text_becomes_pieces_and_text_again(tmp_path, task):
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
    api = hub.Translator(build(task, "nart_tiny"), task, subwords)
    for line in lines:
        pieces = subwords.encode(line)
        assert pieces == theirs.encode(line).split() != line.split()
        assert subwords.decode(pieces) == line
    ((_, source),) = api.batches(lines[:1], 1)
    assert source.size(1) == len(subwords.encode(lines[0])) + 1
    words = task.tgt_dict.string(torch.tensor([5, 6]))
    assert api.text(torch.tensor([5, 6, 2])) == theirs.decode(words) != words


def test_without_a_model_pieces_of_bpe_are_joined_as_fairseq_joins_them():
    pieces = "ein lo@@ wer be@@".split()
    assert Subwords(None).encode(" ein lo@@ wer  be@@ ") == pieces
    assert Subwords(None).decode(pieces) == "ein lower be"
