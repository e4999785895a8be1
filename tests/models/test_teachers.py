"""Teachers of every kind: sizes, training in bf16, search and every use of a checkpoint."""

import math

import pytest
import torch
from fairseq import options
from fairseq.sequence_generator import SequenceGenerator
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from toys import (
    TEACHERS,
    batch_of,
    binarise,
    build,
    build_teacher,
    fairseq_generate,
    fairseq_interactive,
    fairseq_train,
    lines_of,
    load_task,
    write_text,
)

from fairseq_nart.cli import main
from fairseq_nart.generation.clean import Candidates
from fairseq_nart.teacher.loading import load_teacher
from fairseq_nart.teacher.rescoring import TeacherRescorer

EOS = 2
MILLIONS = {
    "nart_teacher": (0.7, 7.4, 9.2, 44.1),
    "nart_teacher_deep": (0.7, 7.4, 9.0, 42.0),
    "nart_teacher_lstm": (1.2, 8.3, 8.3, 47.8),
    "nart_teacher_conv": (1.0, 7.6, 9.5, 45.2),
}
"""Weights in tiny, cpu, small and base, without those of vocabulary and positions."""


@pytest.fixture(scope="module", params=TEACHERS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def trained(kind, data, tmp_path_factory):
    """A checkpoint of a small teacher, trained briefly in bf16."""
    words = [*TEACHERS[kind], "--bf16", "--max-update", "90", "--warmup-updates", "10"]
    words += ["--lr", "2e-2" if kind == "lstm" else "1e-2", "--dropout", "0"]
    words += ["--save-interval", "99", "--validate-interval", "99"]
    return fairseq_train(data, tmp_path_factory.mktemp(kind), *words)


@pytest.mark.parametrize("system", MILLIONS)
def test_sizes_are_as_documented(system, task):
    millions = []
    for size in ("tiny", "cpu", "small", "base"):
        words = [task.cfg.data, "--arch", f"{system}_{size}", "--max-tokens", "1"]
        args = options.parse_args_and_arch(options.get_training_parser(), words)
        plain = TranslationTask(TranslationConfig(), task.src_dict, task.tgt_dict)
        named = plain.build_model(args).named_parameters()
        counts = [p.numel() for name, p in named if "embed_" not in name and "fc3" not in name]
        millions.append(round(sum(counts) / 1e6, 1))
    assert tuple(millions) == MILLIONS[system]


def test_embeddings_are_shared_with_a_joined_dictionary(kind, task, tmp_path):
    """Both sides and the output share one matrix; in ConvS2S, the target side and the output."""
    model = build_teacher(task, kind)
    matrices = {id(p) for p in model.parameters() if len(p) == len(task.tgt_dict) and p.dim() == 2}
    assert len(matrices) == (2 if kind == "conv" else 1)
    write_text(tmp_path, {"train": 30, "test": 5})
    two = load_task(binarise(tmp_path, tmp_path / "bin"))
    assert two.src_dict != two.tgt_dict
    words = [two.cfg.data, *TEACHERS[kind], "--max-tokens", "1"]
    model = two.build_model(options.parse_args_and_arch(options.get_training_parser(), words))
    logits, _ = model(**batch_of(two, torch.device("cpu"))["net_input"])
    assert logits.size(2) == len(two.tgt_dict)
    assert len(model.encoder.embed_tokens.weight) == len(two.src_dict)


def test_training_in_bf16_lowers_the_loss(trained, task):
    """Well below log2 V bits, the loss of a uniform guess, and below that of word frequencies."""
    loss = torch.load(trained, weights_only=True)["extra_state"]["val_loss"]
    assert 0 < loss < 0.75 * math.log2(len(task.tgt_dict))


def search(model, task, batch, beam):
    """fairseq's hypotheses by the sum of log-probabilities."""
    generator = SequenceGenerator(
        [model], task.tgt_dict, beam_size=beam, normalize_scores=False, max_len_b=20
    )
    return generator.generate([], batch)


def test_beam_scores_are_teacher_forced_scores(trained, task, device):
    model, batch = load_teacher(str(trained), task).to(device), batch_of(task, device)
    rescorer = TeacherRescorer(model, EOS, "sum", 0.0)
    encoded = rescorer.encode(batch["net_input"]["src_tokens"], batch["net_input"]["src_lengths"])
    for row, hypotheses in enumerate(search(model, task, batch, beam=3)):
        for hypothesis in hypotheses:
            tokens = hypothesis["tokens"][None]
            candidates = Candidates(tokens, tokens > 0, torch.zeros(tokens.shape))
            log_probs = rescorer.log_probs(encoded, torch.tensor([row], device=device), candidates)
            expected = hypothesis["positional_scores"]
            torch.testing.assert_close(log_probs[0], expected, rtol=1e-3, atol=1e-3)
            total = rescorer.score(log_probs, candidates.mask).item()
            assert total == pytest.approx(hypothesis["score"].item(), abs=1e-2)


def test_beam_search_scores_above_greedy_search(trained, task, device):
    model, batch = load_teacher(str(trained), task).to(device), batch_of(task, device, rows=17)
    greedy, beam = (
        [best["score"].item() for best, *_ in search(model, task, batch, beam=width)]
        for width in (1, 5)
    )
    assert sum(beam) > sum(greedy)


def test_incremental_decoding_equals_full_decoding(kind, task, device):
    model, batch = build_teacher(task, kind).to(device), batch_of(task, device)
    previous = batch["net_input"]["prev_output_tokens"]
    encoded = model.encoder(
        batch["net_input"]["src_tokens"], src_lengths=batch["net_input"]["src_lengths"]
    )
    with torch.no_grad():
        whole, _ = model.decoder(previous, encoder_out=encoded)
        state = {}
        steps = [
            model.decoder(previous[:, : i + 1], encoder_out=encoded, incremental_state=state)[0]
            for i in range(previous.size(1))
        ]
    real = batch["target"].ne(task.tgt_dict.pad())
    torch.testing.assert_close(torch.cat(steps, dim=1)[real], whole[real], rtol=1e-4, atol=1e-4)


def test_max_source_positions_are_usable(kind, task):
    model = build_teacher(task, kind, "--max-source-positions", "1500")
    assert 1400 < model.max_positions()[0] <= 1500
    source = torch.randint(4, len(task.src_dict), (1, 1400))
    logits, _ = model(source, torch.tensor([1400]), torch.tensor([[EOS]]))
    assert logits.isfinite().all()


def test_generate_interactive_and_distill_agree(trained, data, task, tmp_path, capsys):
    words = ["--beam", "2", "--max-len-a", "0", "--max-len-b", "12"]
    fairseq_generate(data, trained, *words)
    generated = lines_of(capsys.readouterr().out, "H")
    texts = [generated[i][0].split("\t")[1] for i in range(17)]
    task.load_dataset("test")
    sources = [task.src_dict.string(task.dataset("test")[i]["source"]) for i in range(17)]
    (tmp_path / "input").write_text("".join(f"{line}\n" for line in sources), "utf-8")
    fairseq_interactive(data, trained, tmp_path / "input", *words)
    interactive = lines_of(capsys.readouterr().out, "H")
    assert [interactive[i][0].split("\t")[1] for i in range(17)] == texts
    line = ["distill", str(data), "--path", str(trained), "--out", str(tmp_path / "out")]
    assert main([*line, "--splits", "test", "--backend", "fairseq", *words]) == 0
    assert (tmp_path / "out/test.distilled.en").read_text("utf-8").splitlines() == texts


def test_generate_prints_the_teachers_scores(trained, data, student, capsys):
    """The score in H- lines is the teacher's: the normalized scores of P- lines."""
    words = ["--length-candidates", "5", "--rescore-with", str(trained)]
    fairseq_generate(data, student, *words, "--rescore-normalization", "mean")
    output = capsys.readouterr().out
    scores, tokens = lines_of(output, "H"), lines_of(output, "P")
    for i in range(17):
        token_scores = [float(score) for score in tokens[i][0].split()]
        mean = float(scores[i][0].split("\t")[0])
        assert mean == pytest.approx(sum(token_scores) / len(token_scores), abs=1e-3)
    fairseq_generate(data, student, "--length-candidates", "5")
    own = lines_of(capsys.readouterr().out, "P")
    assert own != tokens


def test_init_from_needs_a_transformer(kind, trained, task, caplog):
    words = ["--init-from", str(trained)]
    if kind == "transformer":
        assert build(task, "nart_tiny", *words)
    elif kind == "deep":
        with pytest.raises(
            ValueError, match=r"layer_norm\.bias exists only there, .*--normalize-before"
        ):
            build(task, "nart_tiny", *words)
        weights = torch.load(trained, weights_only=True)["model"]
        for layers, last in (("3", 2), ("4", 3), ("6", 3)):
            with caplog.at_level("INFO"):
                model = build(
                    task, "nart_tiny", "--normalize-before", "--encoder-layers", layers, *words
                )
            name = f"encoder.layers.{last}.fc1.weight"
            torch.testing.assert_close(model.state_dict()[name].float(), weights[name].float())
            assert "1 decoder layers there, 2 here" in caplog.text
        assert "4 encoder layers there, 6 here" in caplog.text
    else:
        with pytest.raises(ValueError, match="not a Transformer, because a side has no self-att"):
            build(task, "nart_tiny", *words)
