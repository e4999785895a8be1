"""Averaged checkpoints: the mean, the choice of files, and use by fairseq and the plugin."""

import pytest
import torch
from toys import SMALL, build, fairseq_generate, fairseq_train, lines_of

from fairseq_nart import hub
from fairseq_nart.cli import main
from fairseq_nart.tools.average import best, mean_weights, newest


def save(file, *, maximize=False, score=None, **tensors):
    """Writes a minimal checkpoint."""
    state = {
        "args": None,
        "cfg": {"checkpoint": {"maximize_best_checkpoint_metric": maximize}},
        "model": tensors,
        "extra_state": {"val_loss": score},
        "last_optimizer_state": {"large": torch.zeros(9)},
    }
    torch.save(state, file)
    return file


def average(folder, *words, out=None):
    out = out or folder / "average.pt"
    return main(["average", str(folder), "--out", str(out), *words]), out


def test_mean_in_an_example(tmp_path):
    """In float32, because the sum of these half-precision weights would be infinite."""
    save(tmp_path / "checkpoint1.pt", w=torch.tensor([49152.0, 1]).half(), n=torch.tensor(3))
    save(tmp_path / "checkpoint2.pt", w=torch.tensor([40960.0, 2]).half(), n=torch.tensor(3))
    save(tmp_path / "checkpoint3.pt", w=torch.tensor([32768.0, 4]).half(), n=torch.tensor(3))
    status, out = average(tmp_path, "--last", "3")
    state = torch.load(out, weights_only=True)
    assert status == 0 and state["model"]["n"] == 3
    assert state["model"]["w"].dtype == torch.float32
    torch.testing.assert_close(state["model"]["w"], torch.tensor([40960.0, 7 / 3]))
    names = [f"checkpoint{number}.pt" for number in (3, 2, 1)]
    assert state["extra_state"] == {"val_loss": None, "averaged": names}
    assert "last_optimizer_state" not in state and state["cfg"]["checkpoint"]
    assert not list(tmp_path.glob("*.tmp"))


def test_newest_by_update(tmp_path):
    """The end of an epoch follows its intervals. Numbers are not compared as text."""
    order = ["checkpoint10.pt", "checkpoint_10_950.pt", "checkpoint9.pt", "checkpoint_9_900.pt"]
    order += ["checkpoint_9_95.pt", "checkpoint2.pt"]
    for name in [*order, "checkpoint_best.pt", "checkpoint_last.pt", "checkpoint.best_loss_1.0.pt"]:
        (tmp_path / name).touch()
    assert [file.name for file in newest(tmp_path, 6)] == order
    assert [file.name for file in newest(tmp_path, 2)] == order[:2]


@pytest.mark.parametrize("maximize", [True, False])
def test_best_has_the_direction_of_the_training(maximize, tmp_path):
    for score in (9.5, 10.25, 8.0):
        save(tmp_path / f"checkpoint.best_my_bleu_{score:.3f}0.pt", maximize=maximize)
    expected = ["10.2500", "9.5000"] if maximize else ["8.0000", "9.5000"]
    names = [f"checkpoint.best_my_bleu_{score}.pt" for score in expected]
    assert [file.name for file in best(tmp_path, 2)] == names


def test_best_of_two_metrics_is_refused(tmp_path):
    for metric in ("loss", "bleu"):
        save(tmp_path / f"checkpoint.best_{metric}_1.0000.pt")
    with pytest.raises(ValueError, match="by bleu and by loss cannot be compared"):
        best(tmp_path, 1)


@pytest.mark.parametrize("by_link", [False, True])
def test_training_checkpoints_are_not_overwritten(by_link, tmp_path, capsys):
    folder = tmp_path / "save"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    names = ["checkpoint2.pt", "checkpoint_1_50.pt", "checkpoint_last.pt", "checkpoint_best.pt"]
    for name in ("checkpoint1.pt", "checkpoint2.pt"):
        save(folder / name, w=torch.ones(1))
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    for name in [*names, "checkpoint.best_bleu_3.10.pt"]:
        out = tmp_path / ("link" if by_link else "save") / name
        assert average(folder, "--last", "2", out=out)[0] == 1
        error = capsys.readouterr().err
        assert f"--out {out} is a name that fairseq-train uses" in error
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert average(folder, "--last", "2", out=folder / "checkpoint.avg2.pt")[0] == 0
    assert average(folder, "--last", "2", out=tmp_path / "checkpoint_best.pt")[0] == 0


def test_too_few_checkpoints_are_refused(tmp_path, capsys):
    save(tmp_path / "checkpoint4.pt")
    assert average(tmp_path, "--last", "2")[0] == 1
    error = capsys.readouterr().err
    assert "holds 1 of the 2 checkpoints asked for (checkpoint4.pt)" in error
    assert "--keep-last-epochs" in error and error.count("\n") == 1
    assert average(tmp_path, "--best", "2")[0] == 1
    error = capsys.readouterr().err
    assert "holds 0 of the 2" in error and "--keep-best-checkpoints 2" in error
    assert average(tmp_path, "--last", "0")[0] == 1
    assert "must be at least 1, not 0" in capsys.readouterr().err
    assert average(tmp_path / "gone", "--last", "1")[0] == 1
    assert "gone" in capsys.readouterr().err


def test_unwritable_output_is_reported(tmp_path, capsys):
    save(tmp_path / "checkpoint1.pt", w=torch.ones(9))
    (tmp_path / "full.pt.tmp").symlink_to("/dev/full")
    for name, reason in (
        ("gone/out.pt", "No such file or directory"),
        ("full.pt", "the disk is full: free space on it"),
    ):
        out = tmp_path / name
        assert average(tmp_path, "--last", "1", out=out)[0] == 1
        error = capsys.readouterr().err
        assert f"{out}: the checkpoint cannot be written ({reason})" in error
        assert error.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint1.pt"]


def test_incompatible_checkpoints_are_refused(tmp_path):
    weights = {"a": torch.ones(2), "n": torch.tensor(3)}
    one = save(tmp_path / "one.pt", **weights)
    for change, message in (
        ({"a": torch.ones(3)}, r"two\.pt: a has shape \(3,\)"),
        ({"n": torch.tensor(4)}, r"two\.pt: n differs"),
        ({"b": torch.ones(1)}, r"two\.pt: .* b is only in .*two\.pt"),
    ):
        two = save(tmp_path / "two.pt", **{**weights, **change})
        with pytest.raises(ValueError, match=message):
            mean_weights([one, two])
    two = save(tmp_path / "two.pt", n=weights["n"])
    with pytest.raises(ValueError, match=r"a is only in .*one\.pt"):
        mean_weights([one, two])


def test_average_can_be_used_like_other_checkpoints(data, task, tmp_path, capsys):
    """By fairseq-generate, the Python API and --init-from."""
    words = ["--arch", "nart_dcrf_tiny", *SMALL, "--max-tokens", "4000", "--max-epoch", "3"]
    words += ["--lr", "1e-2", "--warmup-updates", "1", "--bf16", "--keep-best-checkpoints", "2"]
    run = tmp_path / "run"
    fairseq_train(data, run, *words)
    assert average(run, "--best", "2", out=tmp_path / "best.pt")[0] == 0
    capsys.readouterr()
    status, out = average(run, "--last", "2")
    assert status == 0 and "mean of checkpoint3.pt, checkpoint2.pt" in capsys.readouterr().out
    averaged = torch.load(out, weights_only=True)["model"]
    two, three = (torch.load(run / f"checkpoint{n}.pt", weights_only=True)["model"] for n in (2, 3))
    name = "encoder.embed_tokens.weight"
    assert not torch.equal(two[name], three[name])
    torch.testing.assert_close(averaged[name], (two[name] + three[name]) / 2)
    fairseq_generate(data, out)
    assert sorted(lines_of(capsys.readouterr().out, "H")) == list(range(17))
    assert hub.from_pretrained(out, data).translate(["der mann"])
    model = build(task, "nart_dcrf_tiny", "--init-from", str(out))
    torch.testing.assert_close(model.state_dict()[name], averaged[name])
