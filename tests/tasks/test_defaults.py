"""Options set by architectures, explicit options, and combinations that are refused."""

import pytest
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import generate, interactive, train
from toys import SMALL, SMALL_TEACHER, build, load_task

from fairseq_nart.tasks.nart_translation import TASK


def parse(data, *words):
    return options.parse_args_and_arch(options.get_training_parser(), [str(data), *words])


def test_student_architecture_sets_all_options(data):
    args = parse(data, "--arch", "nart_dcrf_cpu", "--max-tokens", "9")
    assert (args.task, args.criterion, args.optimizer) == (TASK, "nart", "adam")
    assert (args.lr_scheduler, args.adam_betas) == ("inverse_sqrt", "(0.9, 0.98)")
    assert (args.encoder_layers, args.embed_dim, args.ffn_embed_dim) == (4, 256, 1024)


@pytest.mark.parametrize(("kind", "clip"), [("", 0), ("_deep", 0), ("_lstm", 1), ("_conv", 1)])
def test_teacher_architecture_sets_all_options(kind, clip, data):
    args = parse(data, "--arch", f"nart_teacher{kind}_cpu", "--max-tokens", "9")
    assert (args.task, args.criterion) == (TASK, "label_smoothed_cross_entropy")
    assert (args.label_smoothing, args.dropout) == (0.1, 0.3)
    assert (args.optimizer, args.lr, args.warmup_updates) == ("adam", [2e-3], 500)
    assert args.clip_norm == clip
    assert args.share_input_output_embed if kind == "_conv" else args.share_all_embeddings


def test_explicit_options_override_the_architecture(data):
    words = ["--lr", "0.5", "--optimizer", "sgd", "--lr-scheduler=fixed", "--embed-dim", "24"]
    args = parse(data, "--arch=nart_tiny", *words, "--encoder-layers", "1", "--seed", "7")
    assert (args.lr, args.optimizer, args.lr_scheduler) == ([0.5], "sgd", "fixed")
    assert (args.embed_dim, args.encoder_layers, args.decoder_layers) == (24, 1, 2)
    assert not hasattr(args, "adam_betas") and args.warmup_updates == 0


def test_single_options_can_be_overridden(data):
    args = parse(data, "--arch", "nart_tiny", "--warmup-updates", "7", "--adam-betas", "(0.8, 0.9)")
    assert (args.warmup_updates, args.adam_betas) == (7, "(0.8, 0.9)")
    assert (args.lr_scheduler, args.optimizer) == ("inverse_sqrt", "adam")


def test_eval_bleu_chooses_the_best_checkpoint(data):
    args = parse(data, "--arch", "nart_tiny", "--eval-bleu")
    assert args.best_checkpoint_metric == "bleu" and args.maximize_best_checkpoint_metric
    args = parse(data, "--arch", "nart_tiny", "--eval-bleu", "--best-checkpoint-metric", "loss")
    assert not args.maximize_best_checkpoint_metric


def test_best_bleu_needs_bleu(data):
    words = ["--arch", "nart_tiny", "--best-checkpoint-metric", "bleu"]
    with pytest.raises(ValueError, match="metric bleu: validation needs --eval-bleu too"):
        parse(data, *words)
    assert not parse(data, *words, "--disable-validation").eval_bleu


def test_other_tasks_are_not_changed(data):
    args = parse(data, "--arch", "transformer", "--task", "translation", "--optimizer", "adam")
    assert (args.task, args.criterion) == ("translation", "cross_entropy")


def test_generation_uses_our_task(data):
    parser = options.get_generation_parser()
    args = options.parse_args_and_arch(parser, [str(data), "--length-candidates", "9"])
    assert (args.task, args.length_candidates) == (TASK, 9)


@pytest.mark.parametrize(
    ("program", "words", "expected"),
    [
        (
            train,
            ["DATA", "--arch", "nart_dcrf_cpu"],
            ["--crf-rank", "--length-candidates", "--warmup-updates", "--save-dir"],
        ),
        (train, [], ["--arch"]),
        (generate, [], ["--length-candidates", "--rescore-with", "--beam"]),
        (interactive, ["DATA"], ["--length-candidates", "--rescore-with", "--input"]),
    ],
)
@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_shows_our_options(program, words, expected, word, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["fairseq", *words, word])
    with pytest.raises(SystemExit) as end:
        program.cli_main()
    output = capsys.readouterr().out
    assert end.value.code == 0 and all(f"  {option} " in output for option in expected)


def criterion_for(data, *words, **options):
    cfg = convert_namespace_to_omegaconf(parse(data, *words, "--max-tokens", "9"))
    task = load_task(data, **options)
    task.build_model(cfg.model)
    return task.build_criterion(cfg.criterion)


def test_student_with_another_criterion_is_refused(data):
    with pytest.raises(ValueError, match="type --criterion nart, or leave"):
        criterion_for(data, "--arch", "nart_tiny", *SMALL, "--criterion", "cross_entropy")


def test_teacher_with_our_criterion_is_refused(data):
    with pytest.raises(ValueError, match="type --criterion label_smoothed_cross_entropy"):
        words = [*SMALL_TEACHER, "--criterion", "nart"]
        criterion_for(data, "--arch", "nart_teacher_tiny", *words)


def test_student_in_another_task_is_refused(data):
    from fairseq import tasks

    cfg = convert_namespace_to_omegaconf(
        parse(data, "--arch", "nart_tiny", *SMALL, "--task", "translation", "--max-tokens", "9")
    )
    with pytest.raises(ValueError, match=f"type --task {TASK}, or leave --task out"):
        tasks.setup_task(cfg.task).build_model(cfg.model)


@pytest.mark.parametrize(
    ("arch", "flag"),
    [
        ("nart_fertility_tiny", "mask_self_attention_diagonal"),
        ("nart_teacher_tiny", "share_all_embeddings"),
        ("nart_teacher_deep_tiny", "encoder_normalize_before"),
        ("nart_teacher_lstm_tiny", "encoder_bidirectional"),
    ],
)
def test_flags_of_an_architecture_can_be_switched_off(arch, flag, data, capsys):
    words = ["--arch", arch, "--max-tokens", "9"]
    off = f"--no-{flag.replace('_', '-')}"
    assert getattr(parse(data, *words), flag) is True
    assert getattr(parse(data, *words, off), flag) is False
    with pytest.raises(SystemExit):
        parse(data, *words, "--help")
    assert off in capsys.readouterr().out
    with pytest.raises(SystemExit):
        parse(data, "--arch", "nart_tiny", "--max-tokens", "9", off)


def test_switched_off_flag_reaches_the_model(data, task):
    model = build(task, "nart_fertility_tiny", "--no-mask-self-attention-diagonal")
    assert model.cfg.mask_self_attention_diagonal is False
