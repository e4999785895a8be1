"""`fairseq-nart tune`: its BLEU equals that of decoding with the same rule."""

import logging
import sys

import pytest
import sacrebleu
from toys import fairseq_generate, lines_of, load_task

from fairseq_nart.cli import main
from fairseq_nart.tools.reporting import quality
from fairseq_nart.tools.tune import RULES, read_candidates, tune


@pytest.fixture(scope="module")
def references(data, tmp_path_factory):
    task = load_task(data)
    task.load_dataset("test")
    test = task.dataset("test")
    lines = [task.tgt_dict.string(test[i]["target"]) for i in range(len(test))]
    file = tmp_path_factory.mktemp("references") / "test.en"
    file.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return file


SETTINGS = "INFO | fairseq_cli.generate | {'task': {'rescore_with': 'teacher.pt'}}\n"
"""The part of a log's first line that is read."""


@pytest.fixture
def generate(data, student, teacher, capsys):
    """Runs fairseq-generate; returns its output."""

    def run(*words):
        lengths = ["--length-candidates", "9", "--rescore-with", str(teacher)]
        logger, handler = (
            logging.getLogger("fairseq_cli.generate"),
            logging.StreamHandler(sys.stdout),
        )
        logger.addHandler(handler)
        fairseq_generate(data, student, *lengths, *words)
        logger.removeHandler(handler)
        return capsys.readouterr().out

    return run


def test_bleu_of_each_rule_equals_decoding(generate, references, tmp_path, capsys):
    log = tmp_path / "log"
    log.write_text(generate("--nbest", "9"), "utf-8")
    rows = tune(log, references, "none")
    assert [row[:2] for row in rows] == RULES
    lines = references.read_text("utf-8").splitlines()
    for rule, alpha, bleu, brevity in (rows[0], rows[1], rows[4], rows[-1]):
        words = [] if alpha is None else ["--rescore-alpha", str(alpha)]
        output = generate("--rescore-normalization", rule, *words)
        hypotheses = lines_of(output, "H")
        texts = [hypotheses[i][0].split("\t")[1] for i in range(len(lines))]
        score = sacrebleu.corpus_bleu(texts, [lines], tokenize="none", force=True)
        assert (bleu, brevity) == pytest.approx((score.score, score.bp))
    assert len({row[2] for row in rows}) > 3
    words = ["tune", str(log), "--references", str(references), "--tokenize", "none"]
    assert main(words) == 0
    best = max(rows, key=lambda row: row.bleu)
    printed = capsys.readouterr().out
    assert f"best: {best.options()} (BLEU {best.bleu:.2f})" in printed


def test_references_may_end_in_an_empty_line(tmp_path):
    log, references = tmp_path / "log", tmp_path / "references"
    blocks = (f"H-{n}\t-1\ta\nP-{n}\t-1\nH-{n}\t-2\tb\nP-{n}\t-2\n" for n in range(2))
    log.write_text(SETTINGS + "".join(blocks))
    references.write_text("a\n\n")
    assert len(tune(log, references, "none")) == len(RULES)


def test_candidates_are_read_in_nats_and_in_order(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        f"{SETTINGS}noise\nS-1\tx\n"
        "H-1\t-1.0\tb\nD-1\t-1.0\tb\nP-1\t-1.0 -2.0\nH-1\t-2.0\t\nP-1\t-4.0\n"
        "H-0\t-1.0\ta - a\nP-0\t-1.0\n"
    )
    first, second = read_candidates(log)
    assert first.texts == ["a - a"] and second.texts == ["b", ""]
    assert second.totals == pytest.approx([-3 * 0.693147, -4 * 0.693147])
    assert second.lengths == [2, 1]
    assert second.best("sum", None) == "b" and second.best("mean", None) == "b"
    assert second.best("reward", -2.0) == ""


def test_lines_end_only_at_line_feeds(tmp_path):
    log = tmp_path / "log"
    text = "a\u2028b \x85 \0 \v c"
    log.write_text(SETTINGS + 2 * f"H-0\t-1\t{text}\nP-0\t-1\n", "utf-8")
    assert read_candidates(log)[0].texts == [text, text]


TWO = "H-0\t-1\t{0}\nP-0\t-1\nH-0\t-2\t{1}\nP-0\t-2\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not the complete output of fairseq-generate"),
        (2 * "H-0\t-1\ta\nP-0\t-1\n" + "H-0\t-1\ta\n", "is not the complete"),
        (TWO.format("a", "b"), "lacks the settings that fairseq-generate logs first"),
        (
            SETTINGS.replace("'teacher.pt'", "None") + TWO.format("a", "b"),
            "has no scores of a teacher: decode with --rescore-with TEACHER",
        ),
        (
            SETTINGS + TWO.format("\u2581a b", "\u2581b"),
            "is segmented: decode with --remove-bpe sentencepiece",
        ),
        (SETTINGS + TWO.format("a@@ b", "b@@ a"), "is segmented: decode with --remove-bpe\n"),
        ("H-0\t-1\ta\nP-0\t-1\nH-1", "is not the complete output of fairseq-generate"),
        ("H-0\t-1\ta\nP-", "is not the complete output of fairseq-generate"),
        ("H-1\t-1\ta\nP-1\t-1\n", "is not the complete output of fairseq-generate"),
        (
            f"{SETTINGS}H-0\t-1\ta\nP-0\t-1\n",
            "holds one candidate per sentence: ",
        ),
        (SETTINGS + TWO.format("a", "\u2581b"), "has 1 sentences but"),
    ],
)
def test_invalid_logs_are_refused(text, message, references, tmp_path, capsys):
    log = tmp_path / "log"
    log.write_text(text, "utf-8")
    assert main(["tune", str(log), "--references", str(references)]) == 1
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1


def test_references_that_are_not_utf8_are_refused(tmp_path, capsys):
    log, references = tmp_path / "log", tmp_path / "references"
    log.write_text(SETTINGS + TWO.format("a", "b"))
    references.write_bytes(b"\xe4\n")
    assert main(["tune", str(log), "--references", str(references)]) == 1
    assert f"{references}, line 1 is not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError("\nPlease install.\n\n    pip install sacrebleu[ja]\n"),
            "pip install sacrebleu[ja]",
        ),
        (OSError("no network"), "cannot load it (no network); it downloads a missing model"),
    ],
)
def test_unavailable_tokenizer_is_reported(error, message, tmp_path, capsys, monkeypatch):
    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(quality, "BLEU", fail)
    words = ["tune", str(tmp_path), "--references", str(tmp_path), "--tokenize", "ja-mecab"]
    assert main(words) == 1
    printed = capsys.readouterr().err
    assert (
        f"--tokenize ja-mecab: {'run `' if 'pip' in message else 'sacreBLEU '}{message}" in printed
    )
    assert printed.count("\n") == 1
