"""Full disks, numbers that are not finite, and trainings that are resumed."""

import contextlib

import pytest
import torch
from fairseq.trainer import Trainer
from fairseq_cli import train
from toys import SMALL, SMALL_TEACHER, fairseq_train

from fairseq_nart.compat import bf16
from fairseq_nart.compat.checkpoints import load_checkpoint
from fairseq_nart.errors import UserError

STUDENT = ["--arch", "nart_crf_tiny", *SMALL[:4], "--dropout", "0.1", "--lr", "1e-2"]
SAVING = ["--max-update", "6", "--save-interval-updates", "2", "--no-epoch-checkpoints"]


class StopError(Exception):
    """Stands for a kill."""


@pytest.fixture
def training(data, monkeypatch):
    """Trains, and stops before update `stop` if it is given; returns the losses by update."""
    step = Trainer.train_step

    def run(save, *words, stop=None):
        losses = {}

        def recorded(trainer, samples, *rest):
            if trainer.get_num_updates() + 1 == stop:
                raise StopError
            log = step(trainer, samples, *rest)
            ids = [sample["id"].tolist() for sample in samples]
            losses[trainer.get_num_updates()] = (log and log["loss"], ids)
            return log

        monkeypatch.setattr(Trainer, "train_step", recorded)
        vars(train.should_stop_early).clear()
        with contextlib.suppress(StopError):
            fairseq_train(data, save, *STUDENT, *SAVING, *words)
        return losses

    return run


def tensors_of(file):
    state = load_checkpoint(file)
    optimizer = state["last_optimizer_state"]["state"]
    return [*state["model"].values(), *(x for one in optimizer.values() for x in one.values())]


@pytest.mark.parametrize("words", [[], ["--bf16"], ["--update-freq", "2"]])
def test_resumed_training_equals_an_uninterrupted_one(words, training, tmp_path):
    """Also after the first epoch: --max-tokens gives three to four updates an epoch."""
    words = ["--max-tokens", "1000", *words]
    whole = training(tmp_path / "whole", *words)
    assert list(whole) == list(range(1, 7))
    first = training(tmp_path / "killed", *words, stop=6)
    second = training(tmp_path / "killed", *words)
    assert list(first) == [1, 2, 3, 4, 5] and list(second) == [5, 6]
    assert {**first, **second} == whole
    pair = [tensors_of(tmp_path / name / "checkpoint_last.pt") for name in ("whole", "killed")]
    torch.testing.assert_close(*pair, rtol=0, atol=0)


def test_schedule_gets_the_loss_of_the_epoch_that_was_saved(training, tmp_path):
    """Stopped between the checkpoint of epoch 1 and the next update."""
    words = ["--max-tokens", "1000", "--lr-scheduler", "reduce_lr_on_plateau"]
    words += ["--warmup-updates", "0", "--lr-patience", "0", "--lr-shrink", "0.5"]
    whole = training(tmp_path / "whole", *words)
    seen, end = set(), 0
    while len(seen) < 200:  # of the sentences in train
        end += 1
        seen.update(*whole[end][1])
    training(tmp_path / "killed", *words, stop=end + 1)
    training(tmp_path / "killed", *words)
    ends = [
        load_checkpoint(tmp_path / name / "checkpoint_last.pt")["optimizer_history"][-1]
        for name in ("whole", "killed")
    ]
    assert ends[0] == ends[1] and ends[0]["lr_scheduler_state"]["best"] is not None


def test_finished_training_is_not_continued(training, tmp_path):
    training(tmp_path / "save")
    before = (tmp_path / "save" / "checkpoint_last.pt").read_bytes()
    assert training(tmp_path / "save") == {}
    assert (tmp_path / "save" / "checkpoint_last.pt").read_bytes() == before


def test_patience_is_kept(training, tmp_path, monkeypatch):
    """Validation always finds the same loss, so patience ends at the third."""
    monkeypatch.setattr(train, "validate", lambda *_: [1.0])
    words = ["--patience", "2"]
    assert list(training(tmp_path / "whole", *words)) == [1, 2, 3, 4, 5, 6]
    words = ["--patience", "2", "--max-update", "20"]
    assert max(training(tmp_path / "more", *words, stop=6)) == 5
    assert max(training(tmp_path / "more", *words)) == 6
    assert training(tmp_path / "more", *words) == {}


def test_checkpoint_without_weights_in_fp32_is_resumed(training, tmp_path, caplog):
    """One of an earlier version: from the rounded weights."""
    training(tmp_path / "save", "--bf16", stop=3)
    file = tmp_path / "save" / "checkpoint_last.pt"
    state = load_checkpoint(file)
    assert len(state["last_optimizer_state"].pop("fp32_params")) > 3
    torch.save(state, file)
    assert 6 in training(tmp_path / "save", "--bf16")
    assert "the checkpoint has no weights in fp32" in caplog.text


def test_full_disk_while_training(training, tmp_path):
    """The next save goes to a device that is always full."""
    save = tmp_path / "save"
    whole = training(tmp_path / "whole")
    first = training(save, stop=4)
    before = (save / "checkpoint_last.pt").read_bytes()
    for place, name in ((4, "checkpoint_1_4.pt"), (4, "checkpoint_last.pt")):
        full = save / f"{name}.tmp"
        saved = Trainer.save_checkpoint

        def fill(self, *rest, full=full, saved=saved):
            full.symlink_to("/dev/full")
            return saved(self, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "save_checkpoint", fill)
            with pytest.raises(OSError, match=rf"{name}: the checkpoint cannot be written.*full"):
                training(save)
        assert (save / "checkpoint_last.pt").read_bytes() == before, place
        assert not full.is_symlink() and not list(save.glob("*.tmp"))
    assert {**first, **training(save)} == whole


def test_parts_of_checkpoints_are_never_read_and_are_removed(training, tmp_path):
    save = tmp_path / "save"
    training(save, stop=4)
    for name in ("checkpoint_last.pt.tmp", "checkpoint_1_4.pt.tmp", "checkpoint.best_x_1.pt.tmp"):
        (save / name).write_bytes((save / "checkpoint_last.pt").read_bytes()[:1000])
    assert list(training(save)) == [3, 4, 5, 6]
    assert not list(save.glob("*.tmp"))


def test_asynchronous_saving_is_refused(data, tmp_path):
    with pytest.raises(UserError, match="an interruption can leave a part of a checkpoint"):
        fairseq_train(data, tmp_path, *STUDENT, "--write-checkpoints-asynchronously")


# Numbers that are not finite


def poison(monkeypatch, value, update):
    """Makes the embeddings `value` before an update."""
    step = Trainer.train_step

    def poisoned(trainer, samples, *rest):
        if trainer.get_num_updates() + 1 == update:
            with torch.no_grad():
                trainer.get_model().encoder.embed_tokens.weight[4:] = value
        return step(trainer, samples, *rest)

    monkeypatch.setattr(Trainer, "train_step", poisoned)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("arch", "term"),
    [
        ("nart_crf_tiny", "nar_loss"),
        ("nart_ctc_tiny", "ctc_loss"),
        ("nart_teacher_tiny", "nll_loss"),
    ],
)
def test_loss_that_is_not_finite_stops_training(value, arch, term, data, tmp_path, monkeypatch):
    """It names term, batch and update, and the last checkpoint stays."""
    size = SMALL_TEACHER if "teacher" in arch else SMALL
    words = ["--arch", arch, *size, "--lr", "1e-2", "--disable-validation", *SAVING]
    poison(monkeypatch, value, 4)
    error = rf"update 4: .*{term}.* is not a finite number on the batch of sentences \[\d+, .*\]"
    with pytest.raises(FloatingPointError, match=error):
        fairseq_train(data, tmp_path, *words)
    state = load_checkpoint(tmp_path / "checkpoint_last.pt")
    assert state["optimizer_history"][-1]["num_updates"] == 2
    assert all(x.isfinite().all() for x in state["model"].values())


def test_gradients_that_are_not_finite_stop_training(data, tmp_path, monkeypatch):
    def explode(self, *_):
        return torch.tensor(float("inf"))

    monkeypatch.setattr(Trainer, "clip_grad_norm", explode)
    with pytest.raises(FloatingPointError, match=r"update 1: the gradients are not .* \[\d+, "):
        fairseq_train(data, tmp_path, *STUDENT, *SAVING)


def test_fp16_skips_what_is_not_finite(data, tmp_path, monkeypatch):
    """fairseq lowers its loss scale and takes the next batch. It needs a GPU; here a CPU does."""
    monkeypatch.setattr(bf16, "refuse_what_fails", lambda *_: None)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    scales, step = [], Trainer.train_step

    def recorded(trainer, samples, *rest):
        log = step(trainer, samples, *rest)
        scales.append((trainer.get_num_updates(), trainer.optimizer.scaler.loss_scale, bool(log)))
        return log

    monkeypatch.setattr(Trainer, "train_step", recorded)
    words = ["--fp16", "--fp16-no-flatten-grads", "--fp16-init-scale", str(2**24)]
    fairseq_train(data, tmp_path, *STUDENT, *words, "--max-update", "3", "--disable-validation")
    skipped = [scale for updates, scale, _ in scales if updates == 0]
    assert len(skipped) > 2 and skipped == sorted(skipped, reverse=True)
    assert scales[-1][0] == 3
