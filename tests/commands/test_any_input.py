"""Any bytes through every program that translates: one line for each, in order, unspoilt."""

import contextlib
import io
import json
import random
import re
import resource
from pathlib import Path

import pytest
import sentencepiece
from fairseq.data import indexed_dataset
from hard_lines import HARD, LONG, plain, random_lines
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served import served
from toys import binarise as toys_binarise
from toys import build, fairseq_generate, fairseq_interactive, load_task

from fairseq_nart import generation, hub, runtime
from fairseq_nart.cli import main
from fairseq_nart.errors import UserError
from fairseq_nart.export import folder as export
from fairseq_nart.subwords import load_model
from fairseq_nart.text import decode_lines, read_lines

LIMITS = {"characters": 1 << 24, "body": 1 << 28}


class Programs:
    """Ways to translate lines of bytes with one model; each returns a text per line."""

    def __init__(self, data, student, folder, work):
        self.data, self.student, self.folder, self.work = data, student, folder, work
        self.api = hub.from_pretrained(student, data)
        self.exported = runtime.load(folder, threads=1)

    def alone(self, lines):
        """Each line in a batch of its own, by the API."""
        return self.api.translate(text_of(lines), batch_size=1)

    def hub(self, lines):
        return self.api.translate(text_of(lines), batch_size=7)

    def runtime(self, lines):
        return self.exported.translate(text_of(lines), batch_size=7)

    def interactive(self, lines):
        self.file(lines)
        words = ["--buffer-size", "700", "--batch-size", "7"]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            fairseq_interactive(self.data, self.student, self.work / "lines", *words)
        return hypotheses(printed.getvalue())

    def generate(self, lines):
        binarise(lines, self.api.task.src_dict, self.data, self.work)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            fairseq_generate(self.work, self.student, "--batch-size", "7")
        return hypotheses(printed.getvalue())

    def translate(self, lines):
        self.file(lines)
        with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "ascii")) as printed:
            words = ["--threads", "1", "--batch-size", "7"]
            model = ["--model", str(self.folder)]
            assert main(["translate", *model, *words, str(self.work / "lines")]) == 0
        return printed.buffer.getvalue().decode().split("\n")[:-1]

    def server(self, lines):
        """In requests of several lines, as most clients send them."""
        result = []
        with served(self.exported, lines=500, **LIMITS) as client:
            texts = text_of(lines)
            for start in range(0, len(texts), 500):
                result += client.translate(texts[start : start + 500])
        return result

    def file(self, lines):
        (self.work / "lines").write_bytes(b"".join(line + b"\n" for line in lines))


PROGRAMS = ["hub", "runtime", "interactive", "generate", "translate", "server"]


def text_of(lines):
    return list(decode_lines((line + b"\n" for line in lines), "lines"))


def hypotheses(printed):
    """The best hypotheses that fairseq's programs print, by number."""
    found = re.findall(r"^H-(\d+)\t\S+\t(.*)$", printed, re.MULTILINE)
    texts = {int(number): text for number, text in found}
    assert len(found) == len(texts) and sorted(texts) == list(range(len(texts)))
    return [texts[number] for number in range(len(texts))]


def binarise(lines, dictionary, data, out):
    """A split `test` without targets."""
    for name in ("dict.de.txt", "dict.en.txt"):
        (out / name).write_bytes((data / name).read_bytes())
    prefix = out / "test.de-en.de"
    builder = indexed_dataset.make_builder(f"{prefix}.bin", "mmap", len(dictionary))
    for line in text_of(lines):
        builder.add_item(dictionary.encode_line(line, add_if_not_exist=False))
    builder.finalize(f"{prefix}.idx")


@pytest.fixture(scope="module")
def programs(data, student, tmp_path_factory):
    work = tmp_path_factory.mktemp("any")
    translator = hub.from_pretrained(student, data)
    (work / "model").mkdir()
    export.write(
        translator, export.Request("nart_dcrf_tiny", "float32", None, None), work / "model"
    )
    return Programs(data, student, work / "model", work)


def hard_text():
    """Every hard line between plain ones."""
    choice = random.Random(1)
    return [x for line in (*HARD.values(), LONG) for x in (plain(choice), line)] + [plain(choice)]


@pytest.mark.parametrize("program", PROGRAMS)
def test_hard_lines(program, programs):
    lines = hard_text()
    found = getattr(programs, program)(lines)
    assert found == programs.alone(lines)
    assert len(set(found)) > 10 and not any("\n" in text or "\r" in text for text in found)


LINE = st.one_of(
    st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")),
    st.text(max_size=20).map(lambda line: line.replace("\n", "").encode()),
    st.sampled_from([*HARD.values(), b"der mann muss lesen ."]),
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(LINE, max_size=9))
def test_any_lines(programs, lines):
    expected = programs.alone(lines)
    assert programs.hub(lines) == programs.runtime(lines) == expected
    assert len(expected) == len(lines)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(codec=None), max_size=9), max_size=5))
def test_any_strings(programs, lines):
    """The Python APIs take strings, also with lone surrogates and line feeds."""
    expected = programs.api.translate(lines, batch_size=1)
    assert programs.api.translate(lines) == programs.exported.translate(lines) == expected
    assert len(expected) == len(lines)


@pytest.fixture(scope="module")
def with_bytes(tmp_path_factory):
    """The API and the exported model with pieces that are bytes, and random weights."""
    folder = tmp_path_factory.mktemp("bytes")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["der mann muss lesen", "die frau muss heute lesen"] * 9),
        model_prefix=str(folder / "spm"),
        vocab_size=300,
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    model = load_model(folder / "spm.model")
    pieces = [model.id_to_piece(n) for n in range(3, model.get_piece_size())]
    for language in ("de", "en"):
        text = "".join(f"{piece} 1\n" for piece in pieces)
        (folder / f"dict.{language}.txt").write_text(text, "utf-8")
    task = load_task(folder)
    api = hub.Translator(build(task, "nart_tiny"), task, folder / "spm.model")
    (folder / "model").mkdir()
    request = export.Request("nart_tiny", "float32", folder / "spm.model", None)
    export.write(api, request, folder / "model")
    return api, runtime.load(folder / "model", threads=1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(codec=None), max_size=9), max_size=5))
def test_any_strings_in_bytes(with_bytes, lines):
    api, exported = with_bytes
    found = api.translate(lines)
    assert len(found) == len(lines) and exported.translate(lines) == found
    "".join(found).encode()
    assert not any("\n" in text or "\r" in text for text in found)


@pytest.mark.parametrize("body", ['{"lines": ["der", "\\ud800"]}', '{"lines": ["der\\nmann"]}'])
def test_lines_that_the_server_refuses(body, programs):
    """By their number; the next request is answered."""
    with served(programs.exported, **LIMITS) as client:
        headers = {"Content-Type": "application/json"}
        status, _, answer = client.send("POST", "/translate", body, headers)
        assert status == 400 and re.match(r"line \d (is not|holds)", json.loads(answer)["error"])
        assert client.translate(["der mann"]) == programs.exported.translate(["der mann"])


def peak():
    """Most memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.long
def test_ten_thousand_lines(programs, capsys):
    """The first round takes nearly all the memory that five rounds need: how much one needs depends
    on which long lines share a batch."""
    count, rounds, peaks, differing = 2000, 5, [], dict.fromkeys(PROGRAMS, 0)
    for seed in range(rounds):
        lines = random_lines(seed, count)
        expected = programs.alone(lines)
        for program in PROGRAMS:
            found = getattr(programs, program)(lines)
            assert len(found) == count
            differing[program] += sum(x != y for x, y in zip(found, expected, strict=True))
        peaks.append(round(peak()))
    with capsys.disabled():
        print(f"\n{rounds * count} lines through each of {', '.join(PROGRAMS)}; translations that")
        print(f"differ from those of each line alone: {differing}; peak MiB by round: {peaks}")
    assert not any(differing.values())
    assert peaks[-1] < 1.25 * peaks[0]


@pytest.fixture
def little_room(monkeypatch):
    """Sentences of more than ten tokens need too much memory."""

    def require(self, length, source):
        if source > 10:
            raise UserError(f"a sentence of {source} tokens needs too much")

    for engine in (generation.engine.Engine, runtime.engine.Engine):
        monkeypatch.setattr(engine, "_require_room", require)


MIXED = [b"der mann", b"der mann muss lesen " * 9, b"die frau .", b"heute " * 30, b"lesen"]


@pytest.mark.usefixtures("little_room")
def test_apis_name_the_line_that_needs_too_much_memory(programs):
    for model in (programs.api, programs.exported):
        with pytest.raises(UserError, match=r"^line 12: a sentence of 37 tokens"):
            model.translate(text_of([b"mann"] * 3 + MIXED[:3]), first_line=8)
        with pytest.raises(UserError, match=r"^line 1: "):
            model.translate(text_of(MIXED[1:2]))


@pytest.mark.usefixtures("little_room")
@pytest.mark.parametrize("program", ["generate", "interactive"])
def test_programs_leave_lines_empty_that_need_too_much_memory(program, programs, caplog):
    found = getattr(programs, program)(MIXED)
    assert [not text for text in found] == [False, True, False, True, False]
    assert found[::2] == programs.api.translate(text_of(MIXED[::2]))
    errors = [x.getMessage() for x in caplog.records if x.name.endswith("generator")]
    assert sorted(errors) == [
        f"H-{number}: a sentence of {tokens} tokens needs too much. Its translation is left empty"
        for number, tokens in ((1, 37), (3, 31))
    ]


@pytest.mark.usefixtures("little_room")
def test_translate_continues_after_bad_lines(programs, capfdbinary, monkeypatch):
    """They are empty and counted. If no line works, it stops at once."""
    monkeypatch.setattr("fairseq_nart.tools._lines.CHUNK", 4)
    command = ["translate", "--model", str(programs.folder), str(programs.work / "lines")]
    programs.file(MIXED)
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "ascii")) as printed:
        assert main(command) == 1
    found = printed.buffer.getvalue().decode().split("\n")[:-1]
    assert [not text for text in found] == [False, True, False, True, False]
    assert found[::2] == programs.exported.translate(text_of(MIXED[::2]))
    errors = capfdbinary.readouterr().err.decode()
    assert (
        "lines: line 2: a sentence of 37" in errors and "lines: line 4: a sentence of 31" in errors
    )
    assert "lines: 2 lines have no translation" in errors
    programs.file([b"", MIXED[1], b" "])
    assert main(command) == 1
    printed = capfdbinary.readouterr()
    assert b"lines: line 2: a sentence of 37" in printed.err and not printed.out


def test_distillation_of_hard_lines(data, teacher, tmp_path, programs):
    """Each has its line, and the others have the translation that they have without it."""
    plain_lines = [line for line in hard_text() if line not in HARD.values() and line != LONG]
    texts = {}
    for name, lines in (("all", hard_text()), ("plain", plain_lines)):
        (tmp_path / name).mkdir()
        lines = [line for line in lines if line != HARD["special tokens"]]
        binarise(lines, programs.api.task.src_dict, data, tmp_path / name)
        for file in tmp_path.glob(f"{name}/test.*"):
            file.rename(file.with_name(file.name.replace("test", "train")))
        out = tmp_path / f"{name}.out"
        command = ["distill", tmp_path / name, "--path", teacher, "--out", out, "--beam", "1"]
        assert main([*map(str, command), "--backend", "fairseq"]) == 0
        found = (out / "train.distilled.en").read_bytes().decode().split("\n")[:-1]
        assert len(found) == len(lines)
        texts[name] = [x for x, line in zip(found, lines) if line in plain_lines]
    assert texts["all"] == texts["plain"]


def test_segmented_text_keeps_its_lines(tmp_path, monkeypatch):
    """Also after fairseq-preprocess. A line that is not UTF-8 is named."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "examples")
    import segment

    (tmp_path / "raw").mkdir()
    lines = []
    for line in hard_text()[:-2]:
        with contextlib.suppress(UserError):
            (tmp_path / "line").write_bytes(line + b"\n")
            read_lines(tmp_path / "line")
            lines.append(line)
    for language in ("de", "en"):
        (tmp_path / "raw" / f"train.{language}").write_bytes(b"".join(x + b"\n" for x in lines))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["der mann muss lesen", "die frau muss heute lesen"] * 9),
        model_prefix=str(tmp_path / "spm"),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    out = tmp_path / "out"
    words = ["segment.py", tmp_path / "raw", out, "--languages", "de", "en", "--splits", "train"]
    monkeypatch.setattr("sys.argv", [*map(str, words), "--model", str(tmp_path / "spm.model")])
    segment.main()
    found = (out / "train.de").read_bytes().split(b"\n")[:-1]
    assert len(found) == len(lines)
    model = load_model(tmp_path / "spm.model")
    for ours, line in zip(found, lines):
        if line not in HARD.values():
            assert ours.decode().split(" ") == model.encode(line.decode(), out_type=str)
    binary = toys_binarise(out, tmp_path / "bin", "--joined-dictionary")
    assert len(indexed_dataset.make_dataset(str(binary / "train.de-en.de"), "mmap")) == len(lines)
    with open(tmp_path / "raw" / "train.de", "ab") as stream:
        stream.write(b"\xff\n")
    with pytest.raises(SystemExit):
        segment.main()
