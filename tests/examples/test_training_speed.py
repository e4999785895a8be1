"""The training-speed script runs every system and reports a ratio."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import toys

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import training_speed


@pytest.fixture
def data(tmp_path):
    toys.write_text(tmp_path, {"train": 60})
    return toys.binarise(tmp_path, tmp_path / "bin", "--joined-dictionary")


def measure(data, monkeypatch, *words):
    command = ["training_speed.py", str(data), "--size", "tiny", "--max-tokens", "200", *words]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr(training_speed, "WARM_UP", 1)
    training_speed.main()


def test_every_system_is_compared_with_nat_crf(data, monkeypatch, capsys):
    measure(data, monkeypatch, "--updates", "1")
    output = capsys.readouterr().out
    rows = re.findall(r"^(\w+): (\d+) target tokens/s, ([\d.]+) x nacrf_transformer$", output, re.M)
    assert [name for name, *_ in rows] == [
        "nart_teacher",
        "nart",
        "nart_crf",
        "nart_dcrf",
        "nacrf_transformer",
    ]
    assert float(rows[-1][2]) == 1 and all(int(speed) > 0 for _, speed, _ in rows)


def test_more_updates_than_an_epoch_has_are_refused(data):
    """As a command, in a process that has not registered our systems yet."""
    words = [training_speed.__file__, str(data), "--size", "tiny", "--updates", "1000"]
    environment = {**os.environ, "PYTHONPATH": str(Path(training_speed.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, *words, "--systems", "nart_teacher"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "but --updates and warm-up need 1008" in done.stderr
