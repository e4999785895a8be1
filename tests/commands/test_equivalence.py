"""generate = interactive = Python API; own teacher score = --score-reference; nothing is lost."""

import pytest
import torch
from toys import (
    SMALL,
    binarise,
    fairseq_generate,
    fairseq_interactive,
    fairseq_train,
    lines_of,
    write_text,
)

from fairseq_nart import hub


@pytest.fixture(scope="module")
def sources(data):
    """The test set's sources, by number."""
    from toys import load_task

    task = load_task(data)
    task.load_dataset("test")
    test = task.dataset("test")
    return {i: task.src_dict.string(test[i]["source"]) for i in range(len(test))}


def options_of(decoding, teacher):
    if decoding == "plain":
        return [], {}
    words = ["--length-candidates", "5", "--rescore-with", str(teacher), "--dedup"]
    keywords = {"length_candidates": 5, "rescore_with": str(teacher), "dedup": True}
    return words, keywords


@pytest.mark.parametrize("decoding", ["plain", "rescored"])
def test_generate_interactive_and_api_agree(
    decoding, data, student, teacher, sources, tmp_path, capsys
):
    words, keywords = options_of(decoding, teacher)
    fairseq_generate(data, student, *words, "--nbest", "3", "--batch-size", "4")
    generated = lines_of(capsys.readouterr().out, "H")
    assert sorted(generated) == list(range(17)), "every sentence exactly once"

    file = tmp_path / "input.txt"
    file.write_text("".join(f"{sources[i]}\n" for i in range(17)), "utf-8")
    fairseq_interactive(data, student, file, *words, "--nbest", "3")
    interactive = lines_of(capsys.readouterr().out, "H")
    api = hub.from_pretrained(student, data, **keywords)
    translations = api.translate_n_best([sources[i] for i in range(17)], batch_size=4)
    for i in range(17):
        assert len(generated[i]) == len(interactive[i]) == min(3, len(translations[i]))
        for mine, theirs, ours in zip(generated[i], interactive[i], translations[i]):
            score, text = mine.split("\t")
            assert text == theirs.split("\t")[1] == ours.text
            assert float(score) == pytest.approx(float(theirs.split("\t")[0]), abs=1e-4)
            assert float(score) == pytest.approx(ours.score / 0.693147, abs=1e-4)


def test_teacher_score_equals_score_reference(data, student, teacher, sources, tmp_path, capsys):
    """The mean score in our H- lines, against fairseq scoring our output as the reference."""
    words = ["--rescore-with", str(teacher), "--rescore-normalization", "mean"]
    fairseq_generate(data, student, *words, "--length-candidates", "5")
    ours = lines_of(capsys.readouterr().out, "H")
    (tmp_path / "test.de").write_text("".join(f"{sources[i]}\n" for i in range(17)), "utf-8")
    outputs = [ours[i][0].split("\t")[1] for i in range(17)]
    (tmp_path / "test.en").write_text("".join(f"{o}\n" for o in outputs), "utf-8")
    dictionary = str(data / "dict.de.txt")
    binarise(tmp_path, tmp_path / "bin", "--srcdict", dictionary, "--joined-dictionary")
    fairseq_generate(tmp_path / "bin", teacher, "--score-reference")
    theirs = lines_of(capsys.readouterr().out, "H")
    for i in range(17):
        expected = float(theirs[i][0].split("\t")[0])
        assert float(ours[i][0].split("\t")[0]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("size", range(1, 18))
def test_all_sentences_are_translated(size, data, student, tmp_path, capsys):
    write_text(tmp_path, {"test": size}, seed=5)
    dictionary = str(data / "dict.de.txt")
    binarise(tmp_path, tmp_path / "bin", "--srcdict", dictionary, "--joined-dictionary")
    fairseq_generate(tmp_path / "bin", student)
    assert sorted(lines_of(capsys.readouterr().out, "H")) == list(range(size))


def test_unusual_input_gives_one_line_each_in_order(data, student, sources, tmp_path, capsys):
    """Empty, blank, invalid UTF-8, unknown characters, too long; then an ordinary line."""
    file = tmp_path / "input.txt"
    good = sources[0].encode()
    lines = [b"", b"   ", b"\xff\xfe der", "漢字 ☃".encode(), b"der " * 3000, good]
    file.write_bytes(b"\n".join(lines) + b"\n")
    fairseq_interactive(data, student, file, "--buffer-size", "4", "--batch-size", "2")
    output = capsys.readouterr().out
    numbers = [int(x[2:].split("\t")[0]) for x in output.splitlines() if x.startswith("H-")]
    assert numbers == list(range(6))
    hypotheses = lines_of(output, "H")
    assert hypotheses[0][0].split("\t")[1] == hypotheses[1][0].split("\t")[1] == ""
    expected = hub.from_pretrained(student, data).translate([sources[0]])
    assert [hypotheses[5][0].split("\t")[1]] == expected


def test_api_translates_unusual_input(data, student, sources):
    api = hub.from_pretrained(student, data)
    outputs = api.translate(["", sources[0], "  ", "☃"])
    assert outputs[0] == outputs[2] == "" and outputs[1] == api.translate([sources[0]])[0]
    assert api.translate([]) == []
    with pytest.raises(TypeError, match="list of lines"):
        api.translate("one line")
    with pytest.raises(ValueError, match="unknown option 'beam'"):
        hub.from_pretrained(student, data, beam=5)


def test_autoregressive_checkpoint_is_refused(data, teacher):
    with pytest.raises(ValueError, match="not a non-autoregressive model"):
        hub.from_pretrained(teacher, data)


def test_training_resumes_and_validates_with_the_real_generator(data, tmp_path, capsys):
    """Validation BLEU and the best checkpoint; a resumed run equals an uninterrupted one."""
    words = ["--arch", "nart_crf_tiny", *SMALL, "--eval-bleu", "--warmup-updates", "1"]
    words += ["--length-candidates", "3", "--no-epoch-checkpoints", "--lr", "1e-2"]
    board = tmp_path / "board"
    logged = ["--tensorboard-logdir", str(board), "--log-interval", "1"]
    interrupted = fairseq_train(data, tmp_path / "cut", *words, "--max-update", "3", *logged)
    events = b"".join(file.read_bytes() for file in board.rglob("events*"))
    assert b"crf_loss" in events and b"nar_loss" in events and b"length_loss" in events
    assert (tmp_path / "cut" / "checkpoint_best.pt").exists()
    state = torch.load(interrupted, weights_only=True)
    assert state["extra_state"]["val_loss"] == state["extra_state"]["best"] >= 0
    fairseq_train(data, tmp_path / "cut", *words, "--max-update", "6")
    fairseq_train(data, tmp_path / "whole", *words, "--max-update", "6")
    resumed, whole = (
        torch.load(tmp_path / run / "checkpoint_last.pt", weights_only=True)["model"]
        for run in ("cut", "whole")
    )
    for name, weight in whole.items():
        torch.testing.assert_close(resumed[name], weight, rtol=1e-4, atol=1e-5)
    before = state["model"]  # the best checkpoint may be the last one
    assert any((whole[n] - before[n]).abs().max() > 1e-3 for n in whole), "nothing was learned"
