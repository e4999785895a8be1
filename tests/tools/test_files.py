"""Files that are whole or absent, and folders that one process at a time writes to."""

import multiprocessing

import pytest
from made_run import TEACHER, make_run

from fairseq_nart.cli import main
from fairseq_nart.files import exclusive, replacing


def hold(how, path, ready, over):
    with how(path):
        ready.set()
        over.wait()


@pytest.fixture
def held():
    """Another process is in the block of `how(path)` from then on."""
    context, over = (
        multiprocessing.get_context("spawn"),
        multiprocessing.get_context("spawn").Event(),
    )
    processes = []

    def start(how, path):
        ready = context.Event()
        process = context.Process(target=hold, args=(how, path, ready, over))
        process.start()
        processes.append(process)
        assert ready.wait(60)

    yield start
    over.set()
    for process in processes:
        process.join()


def test_a_file_is_written_by_one_process(held, tmp_path):
    file = tmp_path / "file"
    with replacing(file) as temporary:
        temporary.write_text("ours")
    held(replacing, file)
    with (
        pytest.raises(ValueError, match=r"file\.tmp: another process is writing"),
        replacing(file) as temporary,
    ):
        temporary.write_text("theirs")
    assert file.read_text() == "ours"


def test_a_file_that_fails_leaves_the_old_one(tmp_path):
    file = tmp_path / "file"
    file.write_text("old")
    with pytest.raises(OSError, match="full"), replacing(file) as temporary:
        temporary.write_text("half")
        raise OSError("full")
    assert [x.name for x in tmp_path.iterdir()] == ["file"] and file.read_text() == "old"


def test_benchmarks_share_no_folder(held, data, student, tmp_path, capsys):
    for language in ("de", "en"):
        (tmp_path / f"test.{language}").write_text("der mann\n")
    plan, run = tmp_path / "plan.toml", tmp_path / "run"
    plan.write_text(
        f'binarised = "{data}"\n[[test]]\nname = "made"\nsource = "test.de"\n'
        f'references = "test.en"\n[[system]]\nfamily = "NART"\ncheckpoint = "{student}"\n'
    )
    run.mkdir()
    held(exclusive, run)
    assert main(["bench", str(plan), "--out", str(run)]) == 1
    assert "run: another process is writing to this folder" in capsys.readouterr().err
    assert not list(run.iterdir())


def test_reports_share_no_folder(held, tmp_path, capsys):
    run, out = make_run(tmp_path / "run", systems=[TEACHER]), tmp_path / "report"
    out.mkdir()
    held(exclusive, out)
    words = ["report", str(run), "--out", str(out), "--baseline", TEACHER, "--teacher", TEACHER]
    assert main(words) == 1
    assert "report: another process is writing to this folder" in capsys.readouterr().err
    assert not list(out.iterdir())


def test_alignments_share_no_folder(held, data, teacher, capsys):
    held(exclusive, data)
    assert main(["align", str(data), "--teacher", str(teacher)]) == 1
    assert "another process is writing to this folder" in capsys.readouterr().err
