"""Alignment: repaired fertilities, links from files, a teacher and eflomal; refused inputs."""

import json
import random
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import TEACHERS, binarise, build, build_teacher, load_task

from fairseq_nart.cli import main
from fairseq_nart.data.fertilities import fertilities_file
from fairseq_nart.data.splits import Split
from fairseq_nart.tools.alignment.attention import AttentionAligner
from fairseq_nart.tools.alignment.repair import Links, fertilities


def repaired(*sentences):
    """[(source words, target words, [(i, j), ...]), ...] -> fertilities of each, and counts."""
    pairs = [(k, i, j) for k, (_, _, links) in enumerate(sentences) for i, j in links]
    columns = np.array(pairs, dtype=np.int64).reshape(-1, 3).T
    sources, targets = (np.array([s[side] + 1 for s in sentences]) for side in (0, 1))
    flat, counts = fertilities(Links(*columns), sources, targets)
    return [x.tolist() for x in np.split(flat, np.cumsum(sources)[:-1])], counts


def test_repair_in_an_example():
    actual, counts = repaired(
        (3, 4, [(0, 0), (2, 1), (1, 3)]),  # target 2 goes with target 1
        (3, 3, [(0, 1), (1, 1), (2, 1), (2, 2)]),  # the link near the diagonal; 0 follows it
        (2, 5, []),  # spread
        (0, 2, []),  # an empty source
        (2, 0, []),  # an empty target
        (2, 2, [(0, 0), (1, 1), (1, 1)]),  # the same link twice is one
    )
    assert actual == [[1, 1, 2, 1], [0, 2, 1, 1], [3, 2, 1], [3], [0, 0, 1], [1, 1, 1]]
    assert counts["target_words"] == 16
    assert counts["unaligned_target_words"] == 1 + 1 + 5 + 2
    assert counts["target_words_with_several_links"] == 1
    assert counts["sentences_without_links"] == 2


def test_excess_fertility_goes_to_neighbours():
    actual, counts = repaired(
        (3, 120, [(1, j) for j in range(120)]), (1, 120, [(0, j) for j in range(120)])
    )
    assert actual[0] == [49, 49, 22, 1]
    assert actual[1] == [72, 49] and counts["fertilities_clamped_in_training"] == 1
    assert counts["sentences_with_fertilities_beyond_49"] == 2


@st.composite
def any_sentence(draw):
    source, target = draw(st.integers(0, 5)), draw(st.integers(0, 70))
    some = st.tuples(st.integers(0, max(source - 1, 0)), st.integers(0, max(target - 1, 0)))
    return source, target, draw(st.lists(some, max_size=80)) if source and target else []


@given(st.lists(any_sentence(), min_size=1, max_size=4))
def test_repaired_fertilities_are_consistent(sentences):
    """They sum to the targets, do not depend on other sentences, and EOS produces EOS."""
    actual, _ = repaired(*sentences)
    for one, (source, target, links) in zip(actual, sentences):
        assert len(one) == source + 1 and sum(one) == target + 1
        assert max(one) <= 49 or min(one) >= 49
        assert repaired((source, target, links))[0] == [one]
        if target <= 48:
            assert one[-1] == 1 or not source


@pytest.fixture
def small(data, tmp_path):
    """A copy of the data to which tests can write."""
    return shutil.copytree(data, tmp_path / "bin")


@pytest.fixture
def run(small, capsys):
    def command(*words):
        status = main(["align", str(small), *map(str, words)])
        return SimpleNamespace(status=status, **capsys.readouterr()._asdict())

    return command


def split_of(data, name="valid"):
    return Split.open(data, name, ("de", "en"))


def diagonal(split, file):
    """Links along the diagonal as an aligner writes them."""
    lines = []
    for source, target in zip(split.source.sizes, split.target.sizes):
        lines.append(" ".join(f"{min(j, source - 2)}-{j}" for j in range(target - 1)))
    file.write_text("".join(f"{line}\n" for line in lines))
    return lines


def test_links_from_a_file(small, run, tmp_path):
    split, file = split_of(small), tmp_path / "valid.links"
    diagonal(split, file)
    result = run("--pharaoh", file, "--splits", "valid")
    assert result.status == 0 and "20 sentences; 0.0% of the target words" in result.out
    output = fertilities_file(small, "valid", "de", "en")
    flat, start = np.load(output), 0
    for source, target in zip(split.source.sizes, split.target.sizes):
        one = flat[start : start + source].tolist()
        words, ones = source - 1, min(source - 1, target - 1)
        rest = max(0, target - source)
        assert one == [*[1] * (ones - 1), 1 + rest, *[0] * (words - ones), 1]
        start += source
    manifest = json.loads(output.with_suffix(".json").read_text())
    assert manifest["sentences"] == 20 and manifest["made_with"]["method"] == "pharaoh"
    before = output.stat().st_mtime_ns
    assert "nothing to do" in run("--pharaoh", file, "--splits", "valid").out
    assert output.stat().st_mtime_ns == before
    file.write_text(file.read_text().replace("0-0 ", "", 1))
    assert "nothing to do" not in run("--pharaoh", file, "--splits", "valid").out
    assert not list(small.glob("*.tmp"))


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda lines: lines[:-1], "valid.links ends after line 19, before the data"),
        (lambda lines: [*lines, "0-0"], "valid.links has more lines than valid has sentences (20)"),
        (
            lambda lines: ["0-0", "7-99", *lines[2:]],
            "valid.links, line 2: the link 7-99 is outside",
        ),
        (lambda lines: ["0-0", "0-0 x", *lines[2:]], "line 2: '0-0 x' is not a list of links i-j"),
        (lambda lines: ["-1-0", *lines[1:]], "valid.links, line 1: '-1-0' is not a list"),
    ],
)
def test_invalid_links_are_reported(change, expected, small, run, tmp_path):
    file = tmp_path / "valid.links"
    lines = change(diagonal(split_of(small), file))
    file.write_text("".join(f"{line}\n" for line in lines))
    result = run("--pharaoh", file, "--splits", "valid")
    assert result.status == 1 and expected in result.err and result.err.count("\n") == 1
    assert not list(small.glob("*fertilities*"))


def test_invalid_arguments_are_refused(run, teacher, student, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "eflomal", None)
    for words, expected in (
        (["--eflomal"], "pip install eflomal"),
        (["--pharaoh", "a"], "--pharaoh names 1 files and --splits 2 splits"),
        (["--pharaoh", "a", "b", "--layer", "1"], "--layer is for --teacher"),
        (["--pharaoh", tmp_path / "a", tmp_path / "b"], "No such file"),
        (["--teacher", student], "non-autoregressive"),
        (
            ["--teacher", teacher, "--layer", "3"],
            "--layer must be 1 to 2, the teacher's layers, not 3",
        ),
        (["--teacher", teacher, "--splits", "nowhere"], "has no split 'nowhere'"),
        (
            ["--teacher", teacher, "--splits", "valid", "valid"],
            "--splits must name each split once, not 'valid valid'",
        ),
        (["--teacher", teacher, "--max-tokens", "0"], "--max-tokens must be at least 1, not 0"),
    ):
        result = run(*words)
        assert result.status == 1 and expected in result.err and result.err.count("\n") == 1


def test_data_without_targets_are_refused(small, run, tmp_path):
    for file in small.glob("valid.de-en.en.*"):
        file.unlink()
    result = run("--pharaoh", tmp_path / "links", "--splits", "valid")
    assert result.status == 1 and f"{small}: valid has no targets to align" in result.err


def test_missing_shard_and_other_direction_are_refused(small, run, teacher):
    result = run("--teacher", teacher, "-s", "en", "-t", "de")
    assert result.status == 1 and "translates de to en, not en to de" in result.err
    for file in small.glob("train.*"):
        shutil.copy(file, file.with_name(file.name.replace("train", "train1")))
    result = run("--teacher", teacher)
    assert result.status == 1 and "train1, which fairseq-train reads as a shard of" in result.err
    assert run("--teacher", teacher, "--splits", "train", "train1").status == 0


def test_sentences_too_long_for_the_teacher_have_no_links(task, data):
    model = build_teacher(task, "conv")
    model.max_positions = lambda: (9, 8)
    teacher = SimpleNamespace(model=model, target=task.tgt_dict, record={}, path="teacher.pt")
    split = split_of(data)
    (links,) = AttentionAligner(teacher, None, 4096).links(split)
    fit = (split.source.sizes <= 9) & (split.target.sizes <= 8)
    assert set(links.sentence.tolist()) == set(np.flatnonzero(fit).tolist()) != set(range(20))


def test_links_from_a_teacher(small, run, teacher):
    result = run("--teacher", teacher)
    assert result.status == 0, result.err
    manifest = json.loads(
        fertilities_file(small, "train", "de", "en").with_suffix(".json").read_text()
    )
    assert manifest["made_with"]["--layer"] == 1 and manifest["unaligned_target_words"] == 0


@pytest.mark.parametrize("kind", TEACHERS)
def test_attention_does_not_depend_on_the_batch(kind, task, data):
    """Nor on padding; no word is linked to EOS."""
    model = build_teacher(task, kind)
    teacher = SimpleNamespace(model=model, target=task.tgt_dict, record={}, path="teacher.pt")
    split = split_of(data)
    (together,) = AttentionAligner(teacher, None, 4096).links(split)
    (alone,) = AttentionAligner(teacher, None, 1).links(split)
    for links in (together, alone):
        assert (links.source < split.source.sizes[links.sentence] - 1).all()
        assert len(links.target) == sum(split.target.sizes - 1)
    tables = [sorted(zip(*(x.tolist() for x in vars(f).values()))) for f in (together, alone)]
    assert tables[0] == tables[1]
    # The third word of a sentence, computed separately.
    model.cpu()
    source, target = split.source[4][None].long(), split.target[4][None].long()
    previous = torch.tensor([[task.tgt_dict.eos(), *target[0, :2].tolist()]])
    with torch.no_grad():
        encoded = model.encoder(source, src_lengths=torch.tensor([source.size(1)]))
        more = {"alignment_layer": 0} if kind in ("transformer", "deep") else {}
        attention = model.decoder(previous, encoder_out=encoded, **more)[1]
    attention = attention["attn"][0] if more else attention
    expected = int(attention[0, 2, :-1].argmax())
    assert (4, expected, 2) in tables[0]


def test_eflomal_reads_token_ids_of_all_splits(small, run, monkeypatch):
    """With a stand-in that has eflomal's interface."""
    seen = []

    class Aligner:
        def align(self, src_input, trg_input, links_filename_fwd=None, quiet=True):
            pairs = list(zip(src_input, trg_input, strict=True))
            seen.append(pairs)
            with open(links_filename_fwd, "w") as file:
                for source, target in pairs:
                    last = len(source.split()) - 1
                    file.write(" ".join(f"{last}-{j}" for j in range(len(target.split()))) + "\n")

    monkeypatch.setitem(sys.modules, "eflomal", SimpleNamespace(Aligner=Aligner))
    result = run("--eflomal")
    assert result.status == 0, result.err
    (corpus,) = seen
    assert len(corpus) == 220
    train, valid = split_of(small, "train"), split_of(small, "valid")
    assert corpus[0][0] == " ".join(map(str, train.source[0].tolist()[:-1]))
    start = 0
    flat = np.load(fertilities_file(small, "valid", "de", "en"))
    for source, target in zip(valid.source.sizes, valid.target.sizes):
        assert flat[start : start + source].tolist()[-2:] == [target - 1, 1]
        start += source
    assert run("--eflomal").out.count("nothing to do") == 2 and len(seen) == 1


def test_eflomal_aligns_a_synthetic_language(tmp_path, capsys):
    pytest.importorskip("eflomal", reason="needs pip install eflomal")
    rng = random.Random(1)
    for split, size in (("train", 2000), ("valid", 20)):
        pairs = [rng.sample(range(100), rng.randint(3, 8)) for _ in range(size)]
        source = [" ".join(f"s{word}" for word in words) for words in pairs]
        # Reversed, and every odd word becomes two.
        parts = [[f"t{w} u{w}" if w % 2 else f"t{w}" for w in reversed(ws)] for ws in pairs]
        (tmp_path / f"{split}.de").write_text("\n".join(source) + "\n")
        (tmp_path / f"{split}.en").write_text("\n".join(map(" ".join, parts)) + "\n")
    data = binarise(tmp_path, tmp_path / "bin", "--joined-dictionary")
    assert main(["align", str(data), "--eflomal"]) == 0, capsys.readouterr().err
    flat = np.load(fertilities_file(data, "valid", "de", "en"))
    expected = [[1 + w % 2 for w in words] + [1] for words in pairs]
    assert np.mean(flat == np.concatenate(expected)) > 0.95


def learning_task(data, **options):
    """A task whose model learns from fertilities."""
    task = load_task(data, **options)
    build(task, "nart_fertility_tiny")
    task.learning = True
    return task


@pytest.mark.parametrize("numbers", [np.ones(3), np.ones((3, 1), dtype=np.int64)])
def test_other_numbers_are_refused(numbers, small):
    np.save(fertilities_file(small, "train", "de", "en"), numbers)
    with pytest.raises(
        ValueError, match=r"train\.de-en\.fertilities\.npy holds .*, not fertilities"
    ):
        learning_task(small).load_dataset("train")


@pytest.mark.parametrize("left", [True, False])
def test_fertilities_are_padded_like_the_source(left, small, run, tmp_path):
    task = learning_task(small, left_pad_source=left)
    with pytest.raises(ValueError, match=r"fertilities\.npy is missing: .*fairseq-nart align"):
        task.load_dataset("train")
    split = split_of(small, "train")
    diagonal(split, tmp_path / "links")
    run("--pharaoh", tmp_path / "links", "--splits", "train")
    task.load_dataset("train", combine=True)
    data = task.dataset("train")
    batch = data.collater([data[i] for i in (7, 3, 30, 12)])
    counts, source = batch["side_inputs"]["fertilities"], batch["net_input"]["src_tokens"]
    pad = task.src_dict.pad()
    assert counts.shape == source.shape and not counts[source == pad].any()
    assert (source == pad).any() and counts.sum(1).tolist() == batch["target"].ne(pad).sum(
        1
    ).tolist()
    flat, sizes = np.load(fertilities_file(small, "train", "de", "en")), split.source.sizes
    for row, number in enumerate(batch["id"].tolist()):
        start = int(sizes[:number].sum())
        expected = flat[start : start + sizes[number]].tolist()
        assert counts[row][source[row] != pad].tolist() == expected


@pytest.mark.parametrize("times", [-1, 2])
def test_several_training_sets(times, small, run, tmp_path):
    """train1 comes after train, which --upsample-primary repeats; fairseq's default is -1."""
    for file in small.glob("valid.de-en.*"):
        shutil.copy(file, small / file.name.replace("valid", "train1"))
    names = ("train", "train1")
    links = [tmp_path / name for name in names]
    for name, file in zip(names, links):
        diagonal(split_of(small, name), file)
    assert run("--pharaoh", *links, "--splits", *names).status == 0
    task = learning_task(small, upsample_primary=times)
    task.load_dataset("train", combine=True)
    data = task.dataset("train")
    first, second = (len(split_of(small, name).source) for name in names)
    assert len(data) == max(1, times) * first + second
    assert all(
        int(data[i]["fertilities"].sum()) == len(data[i]["target"]) for i in range(len(data))
    )


@pytest.mark.parametrize(
    "option", [{"truncate_source": True, "max_source_positions": 6}, {"num_batch_buckets": 2}]
)
def test_options_that_change_the_sources_are_refused(option, small, run, tmp_path):
    diagonal(split_of(small), tmp_path / "links")
    run("--pharaoh", tmp_path / "links", "--splits", "valid")
    name = next(iter(option)).replace("_", "-")
    with pytest.raises(ValueError, match=f"--{name} cannot be used with fertilities: leave it out"):
        learning_task(small, **option).load_dataset("valid")


def test_fertilities_of_other_data_are_refused(small, run, tmp_path):
    diagonal(split_of(small), tmp_path / "links")
    run("--pharaoh", tmp_path / "links", "--splits", "valid")
    file, task = fertilities_file(small, "valid", "de", "en"), learning_task(small)
    flat = np.load(file)
    flat[0] += 1
    np.save(file, flat)
    with pytest.raises(ValueError, match=r"of 1 sentences do not sum .* the first is sentence 0"):
        task.load_dataset("valid")
    np.save(file, flat[:-1])
    with pytest.raises(ValueError, match=r"fertilities of \d+ source tokens, but the data have"):
        task.load_dataset("valid")
    decoding = load_task(small)
    build(decoding, "nart_fertility_tiny")
    decoding.load_dataset("valid")  # decoding needs no fertilities
