"""The task: options, dictionaries, teachers, lengths from the data, long lines."""

import logging
from argparse import Namespace

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.logging import metrics
from toys import (
    binarise,
    build,
    build_teacher,
    fairseq_generate,
    load_task,
    write_text,
)

from fairseq_nart.compat.checkpoints import CheckpointError
from fairseq_nart.criterions.nart import NartCriterion
from fairseq_nart.data.dictionaries import DictionaryError, first_difference
from fairseq_nart.subwords import subword_scheme
from fairseq_nart.teacher.loading import load_teacher


@pytest.fixture(scope="module")
def other_data(tmp_path_factory):
    """Data with other dictionaries, from another seed of the grammar."""
    text = tmp_path_factory.mktemp("other_text")
    write_text(text, {"train": 30, "valid": 5, "test": 5}, seed=9)
    return binarise(text, tmp_path_factory.mktemp("other") / "bin", "--joined-dictionary")


def test_option_values_are_checked_at_setup(data):
    """Not at the first validation of a training."""
    with pytest.raises(ValueError, match="--length-candidates must be odd"):
        load_task(data, length_candidates=2)


def test_alpha_for_a_rule_without_alpha_is_refused(data):
    options = {"rescore_with": "any.pt", "rescore_alpha": 1.0}
    with pytest.raises(
        ValueError, match=r"--rescore-alpha has no effect with .* mean: leave it out"
    ):
        load_task(data, rescore_normalization="mean", **options)
    load_task(data, rescore_normalization="reward", **options)


@pytest.mark.parametrize("alpha", ["nan", "inf"])
def test_alpha_that_is_not_finite_is_refused(alpha, data):
    with pytest.raises(ValueError, match=f"--rescore-alpha must be a finite number, not {alpha}"):
        load_task(data, rescore_with="any.pt", rescore_alpha=float(alpha))


@pytest.mark.parametrize("option", [{"rescore_normalization": "mean"}, {"rescore_alpha": 1.0}])
def test_rescoring_options_without_teacher_are_refused(option, data):
    with pytest.raises(ValueError, match=r"--rescore-\w+ needs a teacher: give"):
        load_task(data, **option)


def test_left_padded_targets_are_refused(data):
    with pytest.raises(ValueError, match="leave --left-pad-target out"):
        load_task(data, left_pad_target=True)


def test_parallel_decoding_refuses_beam_search_options(task):
    model = build(task, "nart_tiny")
    task.build_generator([model], Namespace(beam=1, nbest=3, lenpen=1.0, max_len_b=200))
    refused = {"beam": 4, "sampling": True, "lenpen": 2.0, "iter_decode_with_beam": 9}
    for name, value in (refused | {"retain_iter_history": True, "temperature": 0.5}).items():
        option = name.replace("_", "-")
        with pytest.raises(ValueError, match=f"--{option} is not for a non-autoregressive model"):
            task.build_generator([model], Namespace(**{name: value}))
    models = [model, build_teacher(task, "lstm")]
    for several in ([model, model], models, models[::-1]):
        with pytest.raises(ValueError, match="--path names 2 checkpoints: give one"):
            task.build_generator(several, Namespace())


def test_autoregressive_model_refuses_parallel_options(data, teacher):
    for option in (["--length-candidates", "3"], ["--dedup"], ["--rescore-with", str(teacher)]):
        with pytest.raises(ValueError, match=f"{option[0]} has no effect on an autoregressive"):
            fairseq_generate(data, teacher, *option)


def test_student_as_teacher_is_refused(data, student):
    with pytest.raises(ValueError, match=r"checkpoint_last\.pt holds a non-autoregressive model"):
        load_teacher(str(student), load_task(data))


def test_teacher_of_the_other_direction_is_refused(data, teacher, tmp_path):
    state = torch.load(teacher, weights_only=True)
    state["task_state"]["languages"] = ["en", "de"]
    torch.save(state, tmp_path / "back.pt")
    with pytest.raises(ValueError, match=r"back\.pt translates en to de, not de to en"):
        load_teacher(str(tmp_path / "back.pt"), load_task(data))


@pytest.mark.parametrize("which", ["teacher", "student"])
def test_other_dictionary_error_names_the_first_difference(which, other_data, request):
    checkpoint = request.getfixturevalue(which)
    with pytest.raises(DictionaryError, match=r"another source dictionary .* entry \d+ is '"):
        if which == "teacher":
            load_teacher(str(checkpoint), load_task(other_data))
        else:
            fairseq_generate(other_data, checkpoint)


def test_teacher_without_symbols_and_other_dictionary_is_refused(other_data, teacher, tmp_path):
    """Its data folder is compared instead of its symbols, or else the sizes of its embeddings."""
    state = torch.load(teacher, weights_only=True)
    state.pop("task_state")
    bare = tmp_path / "bare.pt"
    torch.save(state, bare)
    with pytest.raises(DictionaryError, match=r"entry \d+ is '"):
        load_teacher(str(bare), load_task(other_data))
    state["cfg"]["task"]["data"] = "gone"
    torch.save(state, bare)
    with pytest.raises(DictionaryError, match=r"bare\.pt has \d+ source embeddings"):
        load_teacher(str(bare), load_task(other_data))


def test_missing_teacher_is_reported(data, tmp_path):
    with pytest.raises((CheckpointError, OSError), match=r"nowhere\.pt"):
        load_teacher(str(tmp_path / "nowhere.pt"), load_task(data))


def test_first_difference():
    assert first_difference(["a", "b"], ["a", "b"]) is None
    assert first_difference(["a", "x"], ["a", "b"]) == "entry 1 is 'x' there and 'b' here"
    assert "entry 2, 'c', is only here" in first_difference(["a", "b"], ["a", "b", "c"])


def test_length_offset_is_estimated_from_training_data(data, task):
    task.load_dataset("train")
    pairs = task.dataset("train")
    differences = [len(pair["target"]) - len(pair["source"]) for pair in pairs]
    model = build(task, "nart_tiny", "--length-predictor", "offset")
    task.begin_epoch(1, model)
    assert model.lengths.offset.item() == round(sum(differences) / len(differences))
    model.lengths.offset.fill_(7)
    task.begin_epoch(2, model)  # perhaps of another shard
    assert model.lengths.offset == 7


@pytest.mark.parametrize("totals, bleu", [([0, 0], 0.0), ([0, 4], 100.0)])
def test_bleu_of_empty_outputs(totals, bleu, data):
    task = load_task(data, eval_bleu=True)
    logs = [{"ntokens": 1, "nsentences": 1} for _ in totals]
    for log, total in zip(logs, totals):
        names = [f"_bleu_{what}_{n}" for what in ("counts", "totals") for n in range(4)]
        log |= dict.fromkeys([*names, "_bleu_sys_len", "_bleu_ref_len"], total)
    with metrics.aggregate() as aggregate:
        task.reduce_metrics(logs, NartCriterion(task))
    assert aggregate.get_smoothed_values()["bleu"] == bleu
    with metrics.aggregate() as aggregate:  # logs of training
        task.reduce_metrics([{"ntokens": 1, "nsentences": 1}], NartCriterion(task))
    assert "bleu" not in aggregate.get_smoothed_values()


def test_separate_dictionaries_are_not_shared(tmp_path):
    write_text(tmp_path, {"train": 30})
    task = load_task(binarise(tmp_path, tmp_path / "bin"))
    model = build(task, "nart_tiny")
    assert model.encoder.embed_tokens.weight is not model.decoder.output_projection.weight
    assert task.src_dict != task.tgt_dict
    assert len(model.decoder.output_projection.weight) == len(task.tgt_dict)


def test_long_lines_are_truncated_with_a_warning(data, caplog):
    task = load_task(data, max_source_positions=6)
    line = torch.arange(4, 14)
    line[-1] = task.src_dict.eos()
    with caplog.at_level(logging.WARNING):
        dataset = task.build_dataset_for_inference([line[-3:], line], [3, 10])
    assert dataset[1]["source"].tolist() == [4, 5, 6, 7, 8, 2]
    assert dataset[0]["source"].tolist() == line[-3:].tolist()
    assert "line 2 has 10 tokens: only the first 6" in caplog.text


def test_subword_scheme():
    def scheme(*symbols):
        return subword_scheme(symbols)

    assert scheme("\N{LOWER ONE EIGHTH BLOCK}a", "b") == "sentencepiece"
    assert scheme("a@@", "b") == "@@ "
    assert scheme("a", "b") is None


def test_init_from_other_dictionary_is_refused(other_data, student):
    task = load_task(other_data)
    with pytest.raises(DictionaryError, match="another source dictionary"):
        build(task, "nart_dcrf_tiny", "--init-from", str(student))


def test_init_from_teacher(task, teacher):
    model = build(task, "nart_tiny", "--init-from", str(teacher))
    weights = checkpoint_utils.load_checkpoint_to_cpu(str(teacher))["model"]
    for name in ("encoder.embed_tokens.weight", "decoder.layers.1.encoder_attn.q_proj.weight"):
        torch.testing.assert_close(model.state_dict()[name], weights[name])
    heads = model.cfg.attention_heads
    words = ("--init-from", str(teacher), "--attention-heads", str(2 * heads))
    with pytest.raises(ValueError, match=f"{heads} attention heads there, {2 * heads} here: type"):
        build(task, "nart_tiny", *words)
