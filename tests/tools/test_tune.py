"""`fairseq-nart tune`: what it promises is what decoding then does."""

import pytest
import sacrebleu
from toys import fairseq_generate, lines_of, load_task

from fairseq_nart.cli import main
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


@pytest.fixture
def generate(data, student, teacher, capsys):
    """What fairseq-generate prints."""

    def run(*words):
        lengths = ["--length-candidates", "9", "--rescore-with", str(teacher)]
        fairseq_generate(data, student, *lengths, *words)
        return capsys.readouterr().out

    return run


def test_each_rule_does_in_decoding_what_is_promised(generate, references, tmp_path, capsys):
    log = tmp_path / "log"
    log.write_text(generate("--nbest", "9"), "utf-8")
    rows = tune(log, references, "none")
    assert [row[:2] for row in rows] == RULES
    lines = references.read_text("utf-8").splitlines()
    for rule, alpha, bleu, brevity in (rows[0], rows[1], rows[4], rows[-1]):
        words = [] if alpha is None else ["--rescore-alpha", str(alpha)]
        output = generate("--rescore-normalization", rule, *words)
        found = lines_of(output, "H")
        texts = [found[i][0].split("\t")[1] for i in range(len(lines))]
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
    log.write_text("".join(blocks))
    references.write_text("a\n\n")
    assert len(tune(log, references, "none")) == len(RULES)


def test_candidates_are_read_in_nats_and_in_order(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        "noise\nS-1\tx\nH-1\t-1.0\tb\nD-1\t-1.0\tb\nP-1\t-1.0 -2.0\nH-1\t-2.0\t\nP-1\t-4.0\n"
        "H-0\t-1.0\ta - a\nP-0\t-1.0\n"
    )
    first, second = read_candidates(log)
    assert first.texts == ["a - a"] and second.texts == ["b", ""]
    assert second.totals == pytest.approx([-3 * 0.693147, -4 * 0.693147])
    assert second.lengths == [2, 1]
    assert second.best("sum", None) == "b" and second.best("mean", None) == "b"
    assert second.best("reward", -2.0) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not the whole of what fairseq-generate prints"),
        (2 * "H-0\t-1\ta\nP-0\t-1\n" + "H-0\t-1\ta\n", "is not the whole"),
        ("H-0\t-1\ta\nP-0\t-1\nH-1", "is not the whole of what fairseq-generate prints"),
        ("H-0\t-1\ta\nP-", "is not the whole of what fairseq-generate prints"),
        ("H-1\t-1\ta\nP-1\t-1\n", "is not the whole of what fairseq-generate prints"),
        ("H-0\t-1\ta\nP-0\t-1\n", "holds one candidate a sentence: decode with --nbest"),
        (2 * "H-0\t-1\ta\nP-0\t-1\n", "has 1 sentences but"),
    ],
)
def test_refusals(text, said, references, tmp_path, capsys):
    log = tmp_path / "log"
    log.write_text(text)
    assert main(["tune", str(log), "--references", str(references)]) == 1
    assert said in capsys.readouterr().err
