"""`fairseq-nart bench` on small models: records, resuming and refused inputs."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import toys

from fairseq_nart import hub
from fairseq_nart.cli import main
from fairseq_nart.models._heads import SoftmaxHead
from fairseq_nart.tools.benchmark.plan import Plan
from fairseq_nart.tools.benchmark.records import (
    FILE,
    Latency,
    Memory,
    Operations,
    Parts,
    Sweep,
    System,
    Throughput,
    Translation,
    read,
)
from fairseq_nart.tools.benchmark.worker import Worker
from fairseq_nart.tools.report import compare

SYSTEMS = {
    "Transformer, beam 2": 'family = "Transformer"\ncheckpoint = "{teacher}"\nbeam = 2\n',
    "Transformer, greedy, CTranslate2 int8": 'family = "Transformer"\ncheckpoint = "{teacher}"\n'
    'engine = "ctranslate2"\nprecision = "int8"\nbeam = 1\n',
    "NART-DCRF, 1 length": 'family = "NART-DCRF"\ncheckpoint = "{student}"\n'
    "length_candidates = 1\n",
    "NART-DCRF, 3 lengths": 'family = "NART-DCRF"\ncheckpoint = "{student}"\n'
    'length_candidates = 3\nrescore_with = "{teacher}"\n',
}
SWEEP = '[[sweep]]\nsystem = "NART-DCRF, 1 length"\nparameter = "crf_candidates"\nvalues = [1, 3]\n'


@pytest.fixture(scope="module", autouse=True)
def _one_core():
    """Prevents trials with two threads, which stall beside other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fairseq_nart.tools.benchmark.circumstances.cores", lambda: 1)
        yield


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Seven sentences, one of them blank."""
    folder = tmp_path_factory.mktemp("text")
    toys.write_text(folder, {"train": 200, "test": 7})
    lines = (folder / "test.de").read_text("utf-8").splitlines()
    (folder / "test.de").write_text("\n".join([*lines[:3], "", *lines[4:], ""]), "utf-8")
    return folder


@pytest.fixture(scope="module")
def bench(data, text, teacher, student, tmp_path_factory):
    """Runs the tool on some of the systems; returns the exit status."""

    def run(out, names=tuple(SYSTEMS), more="", **words):
        head = f'binarised = "{data}"\n[[test]]\nname = "toy"\n'
        head += f'source = "{text}/test.de"\nreferences = "{text}/test.en"\n'
        systems = (f"[[system]]\n{SYSTEMS.get(name, name)}" for name in names)
        plan = tmp_path_factory.mktemp("plan") / "plan.toml"
        plan.write_text(head + "".join(systems).format(teacher=teacher, student=student) + more)
        words = {"sentences": 4, "repeats": 2, "max-batch-size": 2, "device": "cpu", **words}
        options = [str(w) for name, value in words.items() for w in (f"--{name}", *_list(value))]
        return main(["bench", str(plan), "--out", str(out), *options])

    return run


def _list(value):
    return value if isinstance(value, list) else [value]


@pytest.fixture(scope="module")
def ran(bench, tmp_path_factory):
    """A finished run folder."""
    out = tmp_path_factory.mktemp("bench") / "run"
    assert bench(out, more=SWEEP) == 0
    return out


def of_kind(folder, kind):
    return [record for record in read(folder) if isinstance(record, kind)]


def test_every_system_has_every_record(ran):
    assert [system.name for system in of_kind(ran, System)] == list(SYSTEMS)
    assert {(x.system, x.scope) for x in of_kind(ran, Latency)} == {
        (name, scope) for name in SYSTEMS for scope in ("text", "tokens")
    }
    assert {(x.system, x.batch) for x in of_kind(ran, Throughput)} == {
        (name, batch) for name in SYSTEMS for batch in (1, 2)
    }
    for kind in (Memory, Translation):
        assert {x.system for x in of_kind(ran, kind)} == set(SYSTEMS)
    counted = {x.system: x.flop for x in of_kind(ran, Operations)}
    closed = "Transformer, greedy, CTranslate2 int8"
    assert counted.keys() == set(SYSTEMS) - {closed}
    assert counted["NART-DCRF, 3 lengths"] > 2 * counted["NART-DCRF, 1 length"]
    engines = {x.name: (x.engine, x.lengths) for x in of_kind(ran, System)}
    assert list(engines.values()) == [
        ("fairseq", None),
        ("ctranslate2", None),
        ("fairseq_nart", 1),
        ("fairseq_nart", 3),
    ]


def test_parts_match_the_system(ran):
    parts = {x.system: set(x.seconds) for x in of_kind(ran, Parts)}
    one = {"batch", "encoder", "length", "decoder", "candidates", "transitions", "viterbi"}
    one |= {"clean", "pick"}
    assert parts == {
        "Transformer, beam 2": {"batch", "encoder", "decoder", "search"},
        "NART-DCRF, 1 length": one,
        "NART-DCRF, 3 lengths": one | {"rescoring"},
    }
    for record in of_kind(ran, Parts):
        assert 0 < sum(record.seconds.values()) <= record.total


def test_blank_lines_are_translated_but_not_timed(ran):
    for record in of_kind(ran, Latency):
        assert record.sentences == [0, 1, 4, 5]
        assert len(record.seconds) == len(record.target_tokens) == 4
    for record in of_kind(ran, Translation):
        assert len((ran / record.outputs).read_text("utf-8").splitlines()) == 7


def test_text_takes_longer_than_tokens(ran):
    """Both are measured at once, tokens inside text."""
    seconds = {(x.system, x.scope): x.seconds for x in of_kind(ran, Latency)}
    for name in SYSTEMS:
        for whole, inner in zip(seconds[name, "text"], seconds[name, "tokens"]):
            assert whole > inner


def test_exported_in_int8(bench, student, tmp_path):
    system = f'family = "NART-DCRF"\ncheckpoint = "{student}"\nengine = "onnx"\n'
    system += 'precision = "int8"\n'
    assert bench(tmp_path / "run", [system], stages="translations") == 0
    (record,) = of_kind(tmp_path / "run", Translation)
    assert (record.system, record.precision) == ("NART-DCRF, ONNX int8", "int8")
    assert len((tmp_path / "run" / record.outputs).read_text("utf-8").splitlines()) == 7


def test_refining_systems_record_iterations(bench, data, tmp_path):
    words = ["--arch", "nart_cmlm_tiny", *toys.SMALL, "--max-update", "1", "--disable-validation"]
    checkpoint = toys.fairseq_train(data, tmp_path / "cmlm", *words)
    system = f'family = "CMLM"\ncheckpoint = "{checkpoint}"\nrefinement_iterations = 3\n'
    names = [system, "NART-DCRF, 1 length"]
    assert bench(tmp_path / "run", names, stages="translations") == 0
    taken = {x.system: x.iterations for x in of_kind(tmp_path / "run", Translation)}
    assert taken == {"CMLM, 3 iterations": [3] * 7, "NART-DCRF, 1 length": None}


def test_outputs_equal_the_python_api(ran, data, text, teacher, student):
    lines = (text / "test.de").read_text("utf-8").splitlines()
    for name, more in (
        ("NART-DCRF, 1 length", {}),
        ("NART-DCRF, 3 lengths", {"length_candidates": 3, "rescore_with": str(teacher)}),
    ):
        (record,) = (x for x in of_kind(ran, Translation) if x.system == name)
        outputs = (ran / record.outputs).read_text("utf-8").splitlines()
        model = hub.from_pretrained(student, data=data, **more)
        assert outputs == model.translate(lines)
        assert len(record.predicted_lengths) == len(record.reference_lengths) == 7


def test_one_candidate_equals_argmax(ran, data, text, student):
    """A chain over one candidate per position has nothing to choose."""
    argmax = hub.from_pretrained(student, data=data)
    argmax.model.head = SoftmaxHead()
    sweeps = {x.value: x for x in of_kind(ran, Sweep)}
    assert sorted(sweeps) == [1, 3]
    outputs = (ran / sweeps[1].outputs).read_text("utf-8").splitlines()
    lines = (text / "test.de").read_text("utf-8").splitlines()
    assert outputs == argmax.translate(lines)


def test_run_can_be_reported(ran):
    of = compare([ran], "Transformer, beam 2", "Transformer, beam 2", "13a")
    for name in SYSTEMS:
        assert of.quality(name, "toy") and of.speed_up(name, "toy", "text")


def test_finished_run_is_not_measured_again(bench, ran):
    before = (ran / FILE).read_bytes()
    assert bench(ran, more=SWEEP) == 0
    assert (ran / FILE).read_bytes() == before


def test_interrupted_run_resumes(bench, tmp_path):
    """Complete rounds are kept, and an incomplete one is measured again."""
    names, out = ["NART-DCRF, 1 length"], tmp_path / "run"
    assert bench(out, names, stages=["latency"]) == 0
    file = out / "latency" / "toy.jsonl"
    rounds = file.read_text().splitlines(keepends=True)
    assert len(rounds) == 3
    whole = (out / FILE).read_text().splitlines(keepends=True)
    (out / FILE).write_text("".join(line for line in whole if '"latency"' not in line))
    file.write_text(rounds[0] + rounds[1] + rounds[2][:20])
    assert bench(out, names, stages=["latency"]) == 0
    again = file.read_text().splitlines(keepends=True)
    assert again[:2] == rounds[:2] and len(again) == 3 and again[2] != rounds[2]
    first, second = (json.loads(line)[names[0]] for line in again[1:])
    (record,) = (x for x in of_kind(out, Latency) if x.scope == "tokens")
    medians = [(a["tokens"] + b["tokens"]) / 2 for a, b in zip(first, second)]
    assert record.seconds == pytest.approx(medians)


@pytest.mark.parametrize(
    "system, message",
    [
        (
            'family = "x"\nname = "NART-DCRF, 1 length"\ncheckpoint = "{student}"\ndedup = true\n',
            "was measured with family NART-DCRF, now it is x",
        ),
        (
            SYSTEMS["NART-DCRF, 1 length"]
            + 'name = "NART-DCRF, 1 length"\nprecision = "bfloat16"\n',
            "was measured with precision float32, now it is bfloat16",
        ),
        (
            SYSTEMS["NART-DCRF, 1 length"] + 'name = "NART-DCRF, 1 length"\nthreads = 77\n',
            "now it is 77",
        ),
        (
            'family = "x"\ncheckpoint = "{student}"\nbeem = 2\n',
            "x: fairseq-generate does not understand",
        ),
        ('family = "x"\ncheckpoint = "{student}"\nengine = "ctranslate2"\n', "non-autoregressive"),
        (
            'family = "x"\ncheckpoint = "{teacher}"\nlength_candidates = 9\n',
            "--length-candidates has no effect on an autoregressive model",
        ),
    ],
)
def test_invalid_systems_are_refused(bench, ran, capfd, system, message):
    before = (ran / FILE).read_bytes()
    assert bench(ran, [system]) == 1
    assert message in capfd.readouterr().err
    assert (ran / FILE).read_bytes() == before


def test_missing_gpu_is_reported(bench, ran, capfd, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert bench(ran, device="cuda") == 1
    assert "--device cuda: torch sees no GPU" in capfd.readouterr().err


def test_systems_of_a_missing_ctranslate2_are_skipped(bench, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fairseq_nart.tools._ctranslate2.is_installed", lambda: False)
    names = ["Transformer, greedy, CTranslate2 int8", "NART-DCRF, 1 length"]
    assert bench(tmp_path / "run", names, stages=["parts"]) == 0
    assert "1 systems are left out" in capsys.readouterr().out
    assert [x.name for x in of_kind(tmp_path / "run", System)] == names[1:]


def test_systems_are_timed_in_the_recorded_layout(bench, tmp_path, monkeypatch):
    name, out = "NART-DCRF, 1 length", tmp_path / "run"
    call, used, now = Worker.call, set(), [0]

    def spy(worker, what, *arguments):
        if what == "lay_out":
            now[0] = arguments[0].threads
        elif what != "rest":
            used.add((what, now[0]))
        return call(worker, what, *arguments)

    monkeypatch.setattr(Worker, "call", spy)
    out.mkdir()
    tried = {"latency": [[1, 1, 0.1], [2, 1, 0.2]], "throughput": [[1, 1, 0.2], [2, 1, 0.1]]}
    file = out / "threads.json"
    file.write_text(json.dumps({f"{name}: {what}": trials for what, trials in tried.items()}))
    assert bench(out, [name], stages=["latency", "throughput"], repeats=3) == 0
    assert used == {("warm_up", 1), ("time", 1), ("throughput", 2)}


def test_lengths_are_recorded_by_sentence(ran, data, text, student):
    (record,) = (x for x in of_kind(ran, Translation) if x.system == "NART-DCRF, 1 length")
    sources, references = (
        (text / f"test.{side}").read_text("utf-8").splitlines() for side in ("de", "en")
    )
    model, lengths = hub.from_pretrained(student, data=data), {}
    for (place,), source in model.batches(sources, 1):
        lengths[place] = int(model.model.predict_lengths(model.model.encode(source)).clamp(min=1))
    assert record.predicted_lengths == [lengths[n] for n in range(len(sources))]
    assert len(set(lengths.values())) > 1
    assert record.reference_lengths == [len(line.split()) + 1 for line in references]


def test_gpu_run_has_every_record(bench, device, tmp_path):
    if device.type == "cpu":
        pytest.skip("for make test PYTEST='--device cuda:0'")
    names = [name for name in SYSTEMS if "CTranslate2" not in name]
    assert bench(tmp_path / "run", names, device="cuda") == 0
    for kind in (Latency, Throughput, Memory, Translation, Operations, Parts):
        assert {x.system for x in of_kind(tmp_path / "run", kind)} == set(names)


def test_other_sentences_are_refused_without_loss(bench, ran, text, capsys):
    before = {file: file.read_bytes() for file in ran.rglob("*") if file.is_file()}
    lines = (text / "test.de").read_text("utf-8")
    (text / "test.de").write_text(lines.replace("der", "die"), "utf-8")
    assert bench(ran) == 1
    (text / "test.de").write_text(lines, "utf-8")
    assert "'toy' was measured with other sentences" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in ran.rglob("*") if file.is_file()} == before


def test_more_sentences_are_timed_again(bench, tmp_path):
    names, out = ["NART-DCRF, 1 length"], tmp_path / "run"
    for sentences in (2, 4, 4):
        assert bench(out, names, stages=["latency", "parts"], sentences=sentences) == 0
    for kind in (Parts, Memory):
        assert [x.sentences for x in of_kind(out, kind)] == [[0, 4], [0, 1, 4, 5]]
    assert len(of_kind(out, Operations)) == 1  # of every fifth sentence, here the same one
    scoped = [len(x.seconds) for x in of_kind(out, Latency) if x.scope == "tokens"]
    assert scoped == [2, 4]


def test_another_vocabulary_is_refused(bench, ran, monkeypatch, capsys):
    monkeypatch.setattr(Plan, "vocabulary_sha256", "another")
    assert bench(ran) == 1
    assert "now it is another: rename the system" in capsys.readouterr().err


def test_folder_without_records_is_a_new_run(bench, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / FILE).write_text("")
    assert bench(out, ["NART-DCRF, 1 length"], stages=["translations"]) == 0
    assert of_kind(out, Translation)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_terminated_benchmarks_leave_no_process(ending, student, data, text, tmp_path):
    """Those of the systems mostly wait, so they would not notice by themselves."""
    plan = tmp_path / "plan.toml"
    test = f'name = "toy"\nsource = "{text}/test.de"\nreferences = "{text}/test.en"\n'
    system = f'family = "NART"\ncheckpoint = "{student}"\n'
    plan.write_text(f'binarised = "{data}"\n[[test]]\n{test}[[system]]\n{system}')
    words = [str(plan), "--out", str(tmp_path / "run"), "--device", "cpu", "--repeats", "1000"]
    command = [sys.executable, "-m", "fairseq_nart.cli", "bench", *words]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as program:
        while not (tmp_path / "run" / "latency").exists():
            time.sleep(0.1)
        program.send_signal(ending)
    assert program.returncode == (128 + ending if ending == signal.SIGTERM else -ending)
    for _ in range(100):
        try:
            os.killpg(program.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("processes are left")


def test_another_machine_is_refused(bench, ran, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    out.mkdir()
    (out / FILE).write_bytes((ran / FILE).read_bytes().replace(b'"cores": ', b'"cores": 1'))
    assert bench(out) == 1
    assert "give another --out" in capsys.readouterr().err
