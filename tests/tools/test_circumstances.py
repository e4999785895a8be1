"""The commit that a record names."""

import shutil
import subprocess
from pathlib import Path

import fairseq_nart
from fairseq_nart.tools.benchmark import circumstances


def test_commit_is_that_of_this_package(tmp_path, monkeypatch):
    """Not that of a repository in which it is installed."""

    def git(*words):
        who = ("-c", "user.name=x", "-c", "user.email=x@y")
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    package = tmp_path / "site-packages" / "fairseq_nart"
    package.mkdir(parents=True)
    shutil.copy(fairseq_nart.__file__, package)
    monkeypatch.setattr(fairseq_nart, "__file__", str(package / "__init__.py"))
    version = f"fairseq_nart {fairseq_nart.__version__}"
    git("init", "-q")
    (tmp_path / "other").write_text("x")
    git("add", "other")
    git("commit", "-q", "-m", "x")
    assert circumstances.commit() == version
    git("add", "site-packages")
    assert circumstances.commit().endswith("-dirty")
    git("commit", "-q", "-m", "x")
    assert len(circumstances.commit()) == 7
    monkeypatch.setattr(fairseq_nart, "__file__", str(Path("/") / "__init__.py"))
    assert circumstances.commit() == version
