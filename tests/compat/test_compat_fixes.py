"""NumPy names, --bf16, and starting several processes."""

import importlib
import io
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fairseq_nart.compat import distributed, encoding


def test_dynamic_crf_layer_trains() -> None:
    layer: Any = importlib.import_module("fairseq.modules.dynamic_crf_layer")
    crf = layer.DynamicCRF(num_embedding=6, low_rank=2, beam_size=3)
    tokens = torch.tensor([[1, 2, 3], [4, 5, 0]])
    mask = torch.ones_like(tokens, dtype=torch.bool)
    assert torch.isfinite(crf(torch.randn(2, 3, 6), tokens, mask)).all()


def test_old_integer_name_in_data_utils() -> None:
    data_utils: Any = importlib.import_module("fairseq.data.data_utils")
    assert data_utils.np.fromiter(iter("12"), data_utils.np.int).tolist() == [1, 2]


def test_numpy_itself_is_not_changed() -> None:
    assert not hasattr(np, "float") and not hasattr(np, "int")


@pytest.mark.parametrize(
    ("flags", "tpu"),
    [("--bf16", False), ("--memory-efficient-bf16", False), ("--bf16 --tpu", True), ("", False)],
)
def test_bf16_does_not_select_a_tpu(flags: str, tpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fairseq-train"])
    options: Any = importlib.import_module("fairseq.options")
    arguments = ["bin", "--arch", "transformer", *flags.split()]
    args = options.parse_args_and_arch(options.get_training_parser(), arguments)
    assert (args.tpu, args.bf16) == (tpu, "bf16" in flags)
    parser = options.get_training_parser()
    known, _ = options.parse_args_and_arch(parser, arguments, parse_known=True)
    assert known.tpu == tpu


def test_bf16_on_a_gpu_has_one_flat_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    """It learns the same as separate parameters. fairseq places it by the number of the GPU."""
    monkeypatch.setattr(sys, "argv", ["fairseq-train"])
    options: Any = importlib.import_module("fairseq.options")
    convert: Any = importlib.import_module("fairseq.dataclass.utils").convert_namespace_to_omegaconf
    words = ["bin", "--arch", "transformer", "--bf16", "--optimizer", "adam", "--lr", "0.1"]
    cfg = convert(options.parse_args_and_arch(options.get_training_parser(), words))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: None)
    learned = []
    for is_cuda in (True, False):
        monkeypatch.setattr(torch.nn.Parameter, "is_cuda", is_cuda, raising=False)
        torch.manual_seed(1)
        model = torch.nn.Linear(3, 2).bfloat16()
        optimizer = importlib.import_module("fairseq.optim").FP16Optimizer.build_optimizer(
            cfg, model.parameters()
        )
        assert optimizer.has_flat_params == is_cuda and optimizer.scaler is None
        for _ in range(3):
            optimizer.zero_grad()
            optimizer.backward(model(torch.ones(1, 3).bfloat16()).square().sum())
            optimizer.clip_grad_norm(1.0)
            optimizer.step()
        learned.append([p.tolist() for p in model.parameters()])
    assert learned[0] == learned[1]


def _launch(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], cpu: bool = True, **options: Any
) -> Any:
    """Start a program that only reports the options it was started with."""
    for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    utils: Any = importlib.import_module("fairseq.distributed.utils")
    configs: Any = importlib.import_module("fairseq.dataclass.configs")
    monkeypatch.setattr(utils, "distributed_init", lambda cfg: 0)
    training = configs.DistributedTrainingConfig(**{"distributed_world_size": 1, **options})
    cfg = types.SimpleNamespace(
        common=types.SimpleNamespace(cpu=cpu, tpu=False), distributed_training=training
    )
    started: list[int] = []
    utils.call_main(cfg, lambda cfg: started.append(cfg.distributed_training.distributed_rank))
    assert len(started) == 1
    return training


TORCHRUN = {"MASTER_ADDR": "h", "MASTER_PORT": "1", "WORLD_SIZE": "2", "RANK": "1"}
BY_HAND: dict[str, Any] = {
    "distributed_world_size": 2,
    "distributed_no_spawn": True,
    "distributed_init_method": "tcp://127.0.0.1:1",
}


def test_one_process_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _launch(monkeypatch, {}).distributed_init_method is None
    # Some clusters set WORLD_SIZE for every program.
    assert _launch(monkeypatch, {"WORLD_SIZE": "2"}).distributed_init_method is None


def test_torchrun_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    training = _launch(monkeypatch, TORCHRUN)
    assert training.distributed_world_size == 2
    assert training.distributed_init_method == "env://"
    assert training.distributed_backend == "gloo"
    assert training.distributed_no_spawn


def test_torchrun_with_one_gpu_in_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("is_available", True), ("device_count", 1)):
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    training = _launch(monkeypatch, TORCHRUN, cpu=False)
    assert training.distributed_world_size == 2
    assert training.distributed_backend == "nccl"


def test_processes_started_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    training = _launch(monkeypatch, {}, **BY_HAND)
    assert training.distributed_init_method == BY_HAND["distributed_init_method"]
    assert training.distributed_backend == "gloo"


@pytest.mark.parametrize(
    ("environment", "options"),
    [
        ({}, {"distributed_world_size": 2}),
        ({}, {"distributed_world_size": 2, "distributed_port": 1}),
        ({}, {**BY_HAND, "distributed_no_spawn": False}),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "0"}, {}),
        ({**TORCHRUN, "WORLD_SIZE": "1"}, {"distributed_world_size": 2}),
    ],
)
def test_silent_failures_are_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], options: dict[str, Any]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fairseq-train", "--distributed-world-size", "2"])
    with pytest.raises(ValueError, match=r"torchrun --nproc_per_node(.|\n)*--distributed-rank R"):
        _launch(monkeypatch, environment, **options)


def test_default_world_size_of_a_gpu_machine_is_one_process_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["fairseq-train", "bin", "--cpu"])
    assert _launch(monkeypatch, {}, distributed_world_size=8).distributed_world_size == 1


def test_pytorch_ddp_gets_no_device_numbers_on_the_cpu() -> None:
    given: dict[str, Any] = {}
    distributed._data_parallel(
        lambda **kwargs: given.update(kwargs), torch.nn.Linear(1, 1), device_ids=[0]
    )
    assert given["device_ids"] is None and given["output_device"] is None


def test_undecodable_input_keeps_every_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = types.ModuleType("fairseq_cli.interactive")
    program.__dict__.update(buffered_read=None, make_batches=None)
    monkeypatch.setitem(sys.modules, "fairseq_cli.interactive", program)
    encoding.fix_interactive_input()
    raw = b"ein\n\n  \n\xff haus\r\nmann"
    lines = [["ein", ""], ["", "\ufffd haus"], ["mann"]]
    (tmp_path / "input").write_bytes(raw)
    assert list(program.buffered_read(str(tmp_path / "input"), 2)) == lines
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="ascii"))
    assert list(program.buffered_read("-", 2)) == lines
    monkeypatch.setattr(sys, "stdin", io.StringIO("ein\nmann"))
    assert list(program.buffered_read("-", 2)) == [["ein", "mann"]]
