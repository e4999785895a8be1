"""Options and checkpoints on which fairseq's programs fail without the plugin."""

import itertools
import logging

import pytest
import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import validate
from toys import (
    IN_PROCESS,
    SMALL,
    build,
    fairseq_generate,
    fairseq_interactive,
    fairseq_train,
    lines_of,
    load_task,
)

from fairseq_nart import hub
from fairseq_nart.cli import main
from fairseq_nart.teacher.loading import load_teacher

TINY = ["--arch", "nart_dcrf_tiny", *SMALL, "--lr", "1e-2"]


def sentences(capsys):
    return list(lines_of(capsys.readouterr().out, "H"))


@pytest.mark.parametrize(
    ("model", "more"), [("student", ()), ("teacher", ("--beam", "1", "--max-len-b", "9"))]
)
def test_shards_cover_all_sentences(model, more, data, request, capsys, caplog):
    """There are three batches for four shards."""
    path, numbers = request.getfixturevalue(model), []
    for shard in "0123":
        words = ("--num-shards", "4", "--shard-id", shard, "--batch-size", "8", *more)
        fairseq_generate(data, path, *words)
        numbers.append(sentences(capsys))
    assert sorted(map(len, numbers)) == [0, 1, 8, 8]
    assert sorted(itertools.chain(*numbers)) == list(range(17))
    assert caplog.text.count("no speed and no BLEU: no sentences") == 1


def test_invalid_shard_is_refused(data, student):
    with pytest.raises(ValueError, match="--shard-id must be 0 to 1 with --num-shards 2, not 2"):
        fairseq_generate(data, student, "--num-shards", "2", "--shard-id", "2")


@pytest.fixture(autouse=True)
def keep_logging(monkeypatch):
    """fairseq-validate would close it."""
    monkeypatch.setattr(validate, "reset_logging", lambda: None)


def run_validate(data, path, *words):
    """fairseq-validate in this process."""
    command = [str(data), "--path", str(path), *IN_PROCESS, *words]
    args = options.parse_args_and_arch(options.get_validation_parser(), command)
    overrides = options.parse_args_and_arch(
        options.get_validation_parser(), command, suppress_defaults=True
    )
    validate.main(convert_namespace_to_omegaconf(args), override_args=overrides)


@pytest.mark.parametrize(("model", "term"), [("student", "crf_loss"), ("teacher", "nll_loss")])
def test_validate_sets_its_options(model, term, data, request, caplog):
    with caplog.at_level(logging.INFO), caplog.at_level(logging.INFO, "fairseq"):
        run_validate(data, request.getfixturevalue(model))
    assert f"| {term} " in caplog.text


def test_unused_options_are_refused(data, student, tmp_path):
    """Even with their default values."""
    for option, run in (
        (["--valid-subset", "valid"], fairseq_generate),
        (["--bf16"], fairseq_generate),
        (["--gen-subset=test"], run_validate),
        (["--results-path", "here"], run_validate),
    ):
        with pytest.raises(ValueError, match=f"does not read {option[0].partition('=')[0]}: leave"):
            run(data, student, *option)
    with pytest.raises(ValueError, match="fairseq-interactive does not read --num-shards: leave"):
        fairseq_interactive(data, student, tmp_path / "text", "--num-shards", "2")


@pytest.mark.parametrize("option", ["--fp16", "--memory-efficient-fp16"])
@pytest.mark.parametrize("cuda", [True, False])
def test_fp16_on_a_cpu_is_refused(option, cuda, data, student, tmp_path, monkeypatch):
    """All commands have --cpu."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    with pytest.raises(
        ValueError, match=f"{option} needs a GPU: type {option.replace('fp', 'bf')}"
    ):
        fairseq_train(data, tmp_path, *TINY, option)
    for run, files in (
        (fairseq_generate, ()),
        (run_validate, ()),
        (fairseq_interactive, (tmp_path / "text",)),
    ):
        with pytest.raises(ValueError, match=f"^{option} needs a GPU: leave it out$"):
            run(data, student, *files, option)


def test_batches_in_buckets(data, student, tmp_path, capsys):
    words = ("--num-batch-buckets", "4")
    offset = ("--length-predictor", "offset", "--max-update", "1")
    plain, bucketed = (
        torch.load(fairseq_train(data, tmp_path / name, *TINY, *offset, *more), weights_only=True)
        for name, more in (("plain", ()), ("bucketed", words))
    )
    assert plain["model"]["lengths.offset"] == bucketed["model"]["lengths.offset"]
    assert fairseq_train(data, tmp_path, *TINY, *words, "--max-update", "3").exists()
    fairseq_generate(data, student, *words)
    assert sorted(sentences(capsys)) == list(range(17))


def test_best_checkpoint_by_bleu_needs_eval_bleu(data, tmp_path):
    with pytest.raises(ValueError, match=r"metric bleu: .* --eval-bleu too"):
        fairseq_train(data, tmp_path, *TINY, "--best-checkpoint-metric", "bleu")


def test_best_checkpoint_by_an_unknown_metric_is_refused(data, tmp_path):
    """The epoch is not lost: with a known metric the same command continues."""
    words = [*TINY, "--max-tokens", "4000", "--max-epoch", "2"]
    message = r"metric blue: validation does not compute it, only .*, loss, "
    with pytest.raises(ValueError, match=message):
        fairseq_train(data, tmp_path, *words, "--best-checkpoint-metric", "blue")
    saved = torch.load(tmp_path / "checkpoint_last.pt", weights_only=True)
    assert saved["extra_state"]["train_iterator"]["epoch"] == 2
    assert saved["optimizer_history"][-1]["num_updates"] == 2
    last = fairseq_train(data, tmp_path, *words)
    assert torch.load(last, weights_only=True)["optimizer_history"][-1]["num_updates"] == 4


@pytest.fixture(params=["weights", "no optimizer"])
def slim(request, student, teacher, tmp_path):
    """Checkpoints of a student and a teacher without the state of training."""
    files = []
    for path in (student, teacher):
        state = torch.load(path, weights_only=True)
        if request.param == "weights":
            state = {name: state[name] for name in ("cfg", "args", "model")}
        state.pop("last_optimizer_state", None)
        files.append(tmp_path / f"{path.parent.name}.pt")
        torch.save(state, files[-1])
    return files


def test_slim_checkpoint_can_do_everything_but_resume(slim, data, task, tmp_path, capsys):
    student, teacher = slim
    fairseq_generate(data, student, "--rescore-with", str(teacher), "--length-candidates", "3")
    assert sorted(sentences(capsys)) == list(range(17))
    assert hub.from_pretrained(student, data).translate(["der mann"])
    assert load_teacher(str(teacher), load_task(data))
    build(task, "nart_tiny", "--init-from", str(teacher))
    student.rename(tmp_path / "checkpoint1.pt")
    assert main(["average", str(tmp_path), "--last", "1", "--out", str(tmp_path / "mean.pt")]) == 0
    fairseq_generate(data, tmp_path / "mean.pt")
    words = (*TINY, "--restore-file", str(tmp_path / "mean.pt"), "--max-update", "2")
    with pytest.raises(ValueError, match=r"mean\.pt .* no optimizer state, .*add --reset-opt"):
        fairseq_train(data, tmp_path / "more", *words)
    assert not (tmp_path / "more" / "checkpoint_last.pt").exists()
    more = ("--reset-optimizer", "--reset-dataloader", "--disable-validation")
    assert fairseq_train(data, tmp_path / "more", *words, *more).exists()
