"""Recipes with the settings of Gu et al. 2018, and BLEU of Moses' tokens."""

from pathlib import Path

import pytest
from recipes import STEPS, parsed, run_steps
from texts import segment, write_teacher_folder


@pytest.mark.parametrize("variables", ["wmt16_en_ro"], indirect=True)
@pytest.mark.parametrize("target", ["ro", "en"])
def test_tokenised_bleu_of_both_directions(variables, target, run_recipe, tmp_path):
    """Of Romanian, also without diacritics; of English, once."""
    recipe, given = variables
    source = "en" if target == "ro" else "ro"
    given["SRC"], run = source, tmp_path / "runs" / f"wmt16_{source}_{target}"
    if source == "ro":
        (tmp_path / "runs" / recipe).rename(run)
    (tmp_path / "bin" / "sacremoses").write_text("#!/bin/sh\ncat\n")
    run_steps(run_recipe, recipe, {**given, "SYSTEMS": "nart"}, (*STEPS, "fertility"))
    (run / "out" / "nart.1").write_text("Şi ţară, în Brăila.\nă\n", "utf-8")
    status, commands = run_recipe(f"{recipe} tokenised_bleu", **given, SYSTEMS="nart")
    assert status == 0 and len(commands) == (2 if target == "ro" else 1)
    names = [Path(file).name for file in commands[0][commands[0].index("-i") + 1 :]]
    fertility = [f"nart_fertility.{x}" for x in ("average", "1", "10", "100")]
    tuned = [name.replace("ty.", "ty.finetuned.") for name in fertility]
    assert names == ["teacher", "nart.1", "nart.9", "nart.19", *fertility, *tuned]
    assert (run / "moses/nart.1").read_text("utf-8").startswith("Şi ţară, în")
    plain = run / "moses/also/nart.1"
    assert plain.exists() == (target == "ro")
    if target == "ro":
        assert plain.read_text("utf-8") == "Si tara, in Braila.\na\n"


@pytest.mark.parametrize(
    "change, letters", [("keep", "şţ s\u0327"), ("normalise", "șț ș"), ("remove", "st s")]
)
def test_romanian_letters(change, letters, tmp_path, run_recipe):
    """They change in the text of all later steps, on the Romanian side."""
    for language in ("en", "ro"):
        (tmp_path / f"test.{language}").write_text("şţ s\u0327\n", "utf-8")
    model = write_teacher_folder(tmp_path / "teacher") / "sentencepiece.model"
    done = segment(
        *(tmp_path, tmp_path / "out", "--languages", "en", "ro", "--splits", "test"),
        *("--model", model, "--romanian", change),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/test.raw.ro").read_text("utf-8") == f"{letters}\n"
    assert (tmp_path / "out/test.raw.en").read_text("utf-8") == "şţ s\u0327\n"
    run_recipe("wmt16_en_ro prepare", WMT16="text", DIACRITICS=change)
    (first, *_) = (tmp_path / "stderr").read_text().splitlines()
    assert first.startswith("== segment: ") and first.endswith(f"--romanian {change}")


@pytest.mark.parametrize("variables", ["iwslt16_en_de", "wmt16_en_ro"], indirect=True)
def test_fertilities_have_the_published_settings(variables, run_recipe):
    recipe, given = variables
    commands = run_steps(run_recipe, recipe, given, ("fertility",))
    first, second = (parsed(c) for c in commands if c[0] == "fairseq-train")
    small = recipe == "iwslt16_en_de"
    for args in (first, second):
        sizes = (args.encoder_layers, args.embed_dim, args.ffn_embed_dim, args.attention_heads)
        assert sizes == ((5, 278, 507, 2) if small else (6, 512, 512, 8))
        assert getattr(args, "dropout", 0.1) == (0.079 if small else 0.1)
    assert first.lr_scheduler == "inverse_sqrt"
    assert first.warmup_updates == (746 if small else 16000)
    dim = first.embed_dim
    assert first.lr[0] == pytest.approx((dim * first.warmup_updates) ** -0.5, rel=0.01)
    assert (second.lr_scheduler, second.lr) == ("fixed", [2e-5])
    assert second.finetune_weight == (0.25 if small else 0.1)
    assert (first.max_tokens, second.max_tokens) == (2048, 1600 if small else 1024)
    assert first.update_freq == second.update_freq == [1 if small else 8]
    assert second.finetune_with == first.init_from and second.init_from.endswith("fertility.pt")
