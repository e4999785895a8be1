"""`fairseq-nart tune`: its BLEU equals that of decoding with the same options."""

import pytest
import sacrebleu
from toys import SMALL, build, fairseq_train, load_task

from fairseq_nart import hub
from fairseq_nart.cli import main
from fairseq_nart.errors import UserError
from fairseq_nart.tools.reporting import quality
from fairseq_nart.tools.tune import RULES, Tuning


@pytest.fixture(scope="module")
def text(data, tmp_path_factory):
    """The test set as text, source and references."""
    task = load_task(data)
    task.load_dataset("test")
    test, folder = task.dataset("test"), tmp_path_factory.mktemp("text")
    for side, name in (("source", "de"), ("target", "en")):
        lines = [task.src_dict.string(test[i][side]) for i in range(len(test))]
        (folder / f"test.{name}").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return folder


@pytest.fixture(scope="module")
def ctc(data, tmp_path_factory):
    """A small CTC system after some training."""
    words = ["--arch", "nart_ctc_tiny", *SMALL, "--max-update", "250", "--lr", "1e-2"]
    words += ["--warmup-updates", "20", "--ctc-split", "2"]
    return fairseq_train(data, tmp_path_factory.mktemp("ctc"), *words, "--disable-validation")


@pytest.fixture
def tune(text, capsys):
    """Runs the command; returns its rows, its last line and its errors."""

    def run(path, *words, references="test.en"):
        line = ["tune", str(text / "test.de"), "--references", str(text / references)]
        status = main([*line, "--tokenize", "none", "--path", str(path), *words])
        printed = capsys.readouterr()
        if status:
            return printed.err
        *table, best = printed.out.splitlines()
        rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table[2:]]
        return rows, best

    return run


def quality_of(path, text, **options):
    """BLEU and brevity penalty of the Python API, as `tune` prints them."""
    sources, references = (
        (text / f"test.{side}").read_text("utf-8").splitlines() for side in ("de", "en")
    )
    translations = hub.from_pretrained(path, **options).translate(sources)
    score = sacrebleu.corpus_bleu(translations, [references], tokenize="none", force=True)
    return [f"{score.score:.2f}", f"{score.bp:.3f}"]


def number_of(words):
    return float(words.split()[-1])


def test_bleu_of_each_rule_equals_decoding(student, teacher, text, tune):
    rows, best = tune(student, "--rescore-with", str(teacher), "--length-candidates", "9")
    assert len(rows) == len(RULES) and len({row[1] for row in rows}) > 3
    for place in (0, 1, 4, -1):
        rule, alpha = RULES[place]
        ranking = {"rescore_normalization": rule, "rescore_alpha": alpha}
        expected = quality_of(
            student, text, length_candidates=9, rescore_with=str(teacher), **ranking
        )
        assert rows[place][1:] == expected
    winner = max(rows, key=lambda row: float(row[1]))
    assert best == f"best: {winner[0]} (BLEU {winner[1]})"


def test_bleu_of_each_blank_bias_equals_decoding(ctc, text, tune):
    rows, best = tune(ctc)
    biases = [number_of(words) for words, *_ in rows]
    assert 0 in biases and min(biases) < 0 and biases == sorted(biases)
    brevity = [float(row[2]) for row in rows]
    assert brevity == sorted(brevity) and brevity[0] < brevity[-1], "outputs get longer"
    for row, bias in zip(rows, biases):
        if bias in (0, 4):
            assert row[1:] == quality_of(ctc, text, ctc_blank_bias=bias)
    assert best.startswith("best: --ctc-blank-bias ")


def test_best_length_offset_is_found(student, text, tune):
    rows, _ = tune(student, "--length-candidates", "3")
    assert [row[0] for row in rows] == [f"--length-offset {n}" for n in range(-2, 5)]
    for place in (0, 6):
        offset = place - 2
        expected = quality_of(student, text, length_candidates=3, length_offset=offset)
        assert rows[place][1:] == expected
    assert rows[0][1:] != rows[6][1:]


@pytest.mark.parametrize(
    ("words", "references", "message"),
    [
        (["--rescore-with"], "test.en", "a teacher has nothing to rank: type an option for"),
        ([], "short.en", "test.de has 17 lines but"),
        ([], "latin1.en", "latin1.en, line 1 is not UTF-8"),
        ([], "none.en", "No such file"),
    ],
)
def test_bad_input_is_refused(words, references, message, student, teacher, text, tune):
    (text / "short.en").write_text("a\n")
    (text / "latin1.en").write_bytes(b"\xe4\n")
    words = [*words, str(teacher)] if words else words
    printed = tune(student, *words, references=references)
    assert message in printed and printed.count("\n") == 1


def test_system_without_options_of_length_is_refused(task):
    translator = hub.Translator(build(task, "nart_fertility_tiny"), task)
    with pytest.raises(UserError, match="NartFertility has no options of length: give --rescore"):
        list(Tuning(translator, ["a"], ["a"], sacrebleu.BLEU()).scores())


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
    words = ["tune", "a", "--references", "b", "--path", "c", "--tokenize", "ja-mecab"]
    assert main(words) == 1
    printed = capsys.readouterr().err
    assert (
        f"--tokenize ja-mecab: {'run `' if 'pip' in message else 'sacreBLEU '}{message}" in printed
    )
    assert printed.count("\n") == 1


def test_empty_validation_set_is_refused(student, tmp_path, capsys):
    (tmp_path / "empty").write_text("")
    words = ["tune", str(tmp_path / "empty"), "--references", str(tmp_path / "empty")]
    assert main([*words, "--path", str(student)]) == 1
    assert "empty holds no sentences: give the source" in capsys.readouterr().err
