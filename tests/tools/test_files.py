"""Files that are written completely or not at all, and locks on folders."""

import multiprocessing
import os

import pytest
from synthetic_run import TEACHER, make_run

from fairseq_nart.cli import main
from fairseq_nart.files import exclusive, replacing


def hold(manager, path, ready, end):
    with manager(path):
        ready.set()
        end.wait()


@pytest.fixture
def lock_in_another_process():
    """Starts a process that stays in the block of `manager(path)`."""
    context, end = (
        multiprocessing.get_context("spawn"),
        multiprocessing.get_context("spawn").Event(),
    )
    processes = []

    def start(manager, path):
        ready = context.Event()
        process = context.Process(target=hold, args=(manager, path, ready, end))
        process.start()
        processes.append(process)
        assert ready.wait(60)

    yield start
    end.set()
    for process in processes:
        process.join()


def test_file_is_written_by_one_process(lock_in_another_process, tmp_path):
    file = tmp_path / "file"
    with replacing(file) as temporary:
        temporary.write_text("ours")
    lock_in_another_process(replacing, file)
    with (
        pytest.raises(ValueError, match=r"file\.tmp: another process is writing"),
        replacing(file) as temporary,
    ):
        temporary.write_text("theirs")
    assert file.read_text() == "ours"


def test_failed_write_keeps_the_old_file(tmp_path):
    file = tmp_path / "file"
    file.write_text("old")
    with pytest.raises(OSError, match="full"), replacing(file) as temporary:
        temporary.write_text("half")
        raise OSError("full")
    assert [x.name for x in tmp_path.iterdir()] == ["file"] and file.read_text() == "old"


def test_finished_write_leaves_the_file_of_the_next_writer(tmp_path, monkeypatch):
    file, move = tmp_path / "file", os.replace

    def replace(source, target):
        move(source, target)
        source.write_text("of another process, which starts now")

    monkeypatch.setattr("os.replace", replace)
    with replacing(file) as temporary:
        temporary.write_text("ours")
    assert file.read_text() == "ours" and temporary.exists()


def test_benchmarks_do_not_share_a_folder(lock_in_another_process, data, student, tmp_path, capsys):
    for language in ("de", "en"):
        (tmp_path / f"test.{language}").write_text("der mann\n")
    plan, run = tmp_path / "plan.toml", tmp_path / "run"
    plan.write_text(
        f'binarised = "{data}"\n[[test]]\nname = "toy"\nsource = "test.de"\n'
        f'references = "test.en"\n[[system]]\nfamily = "NART"\ncheckpoint = "{student}"\n'
    )
    run.mkdir()
    lock_in_another_process(exclusive, run)
    assert main(["bench", str(plan), "--out", str(run)]) == 1
    assert "run: another process is writing to this folder" in capsys.readouterr().err
    assert not list(run.iterdir())


def test_reports_do_not_share_a_folder(lock_in_another_process, tmp_path, capsys):
    run, out = make_run(tmp_path / "run", systems=[TEACHER]), tmp_path / "report"
    out.mkdir()
    lock_in_another_process(exclusive, out)
    words = ["report", str(run), "--out", str(out), "--baseline", TEACHER, "--teacher", TEACHER]
    assert main(words) == 1
    assert "report: another process is writing to this folder" in capsys.readouterr().err
    assert not list(out.iterdir())


def test_alignments_do_not_share_a_folder(lock_in_another_process, data, teacher, capsys):
    lock_in_another_process(exclusive, data)
    assert main(["align", str(data), "--teacher", str(teacher)]) == 1
    assert "another process is writing to this folder" in capsys.readouterr().err
