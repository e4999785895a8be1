"""The commands that recipes run."""

import gzip
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import sentencepiece
import toys
from recipes import EXAMPLES, RECIPES, STEPS, listed_steps, parsed, run_steps, write_raw_text
from texts import write_teacher_folder

from fairseq_nart import cli
from fairseq_nart.models._registry import TASK


@pytest.mark.parametrize("variables", RECIPES, indirect=True)
def test_every_command_is_valid(variables, run_recipe):
    recipe, given = variables
    more = [name for name in listed_steps(recipe) if name not in STEPS]
    of_gu2018 = recipe in ("wmt16_en_ro", "iwslt16_en_de")
    assert len(more) == {"multi30k_de_en": 17, "wmt14_en_de": 3}.get(recipe, 4 if of_gu2018 else 2)
    commands = run_steps(run_recipe, recipe, given, (*STEPS, *more))
    kinds = [command[0] for command in commands]
    trained = {"multi30k_de_en": 54}.get(recipe, 14 if of_gu2018 else 12)
    assert kinds.count("fairseq-train") == trained
    for command in commands:
        args = parsed(command)
        if command[0] == "fairseq-train":
            assert args.task == ("translation_lev" if args.arch == "nacrf_transformer" else TASK)
        if command[0] == "fairseq-nart":
            with pytest.raises(SystemExit) as end:
                cli.main([*command[1:], "--help"])
            assert end.value.code == 0


@pytest.mark.parametrize("variables", ["multi30k_de_en"], indirect=True)
def test_students_are_trained_for_n_updates(variables, run_recipe, tmp_path):
    recipe, given = variables
    commands = run_steps(run_recipe, recipe, {**given, "N": "100"}, STEPS[:4])
    trained = [parsed(c) for c in commands if c[0] == "fairseq-train"][1:]
    assert [(a.arch, int(a.max_update)) for a in trained] == [
        ("nart_cpu", 50),
        ("nart_cpu", 50),
        ("nart_crf_cpu", 50),
        ("nart_dcrf_cpu", 50),
    ]
    assert trained[0].init_from.endswith("teacher.pt")
    assert {a.init_from for a in trained[1:]} == {str(tmp_path / "runs" / recipe / "nart.first.pt")}
    assert {int(a.total_num_update) for a in trained[1:]} == {50}


@pytest.mark.parametrize("variables", RECIPES, indirect=True)
def test_only_the_given_systems_are_trained(variables, run_recipe):
    recipe, given = variables
    commands = run_steps(run_recipe, recipe, {**given, "SYSTEMS": "nart nart_dcrf"})
    trained = [parsed(c).arch for c in commands if c[0] == "fairseq-train"]
    assert len(trained) == 4 and "dcrf" in trained[3] and not any("_crf" in x for x in trained)
    scored = [Path(word).name for c in commands if c[0] == "sacrebleu" for word in c]
    assert {"nart.1", "nart_dcrf.9", "nart_dcrf.19", "nart_dcrf.5x4"} <= set(scored)
    assert "nart.5x4" not in scored  # it has no CRF
    assert not any(name.startswith("nart_crf") for name in scored)


@pytest.mark.parametrize("variables", RECIPES, indirect=True)
def test_single_system_is_not_compared(variables, run_recipe):
    recipe, given = variables
    commands = run_steps(run_recipe, recipe, {**given, "SYSTEMS": "nart_dcrf"})
    last = [c for c in commands if c[0] == "sacrebleu"][-1]
    assert last[-1].endswith("nart_dcrf.5x4")  # sacrebleu refuses to compare a single system
    assert ("none" in last) == (recipe == "iwslt14_de_en")  # its text is tokenised


@pytest.mark.parametrize(
    "given, bf16, fp16",
    [
        ({}, True, False),
        ({"PRECISION": ""}, False, False),
        ({"PRECISION": "--fp16", "GPUS": "1"}, False, True),
    ],
)
def test_precision_is_passed_on(given, bf16, fp16, run_recipe, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    _, (command, _) = run_recipe("multi30k_de_en teacher", MULTI30K="text", **given)
    assert (parsed(command).bf16, parsed(command).fp16) == (bf16, fp16)


@pytest.mark.parametrize("variables", RECIPES, indirect=True)
def test_other_teachers_have_the_options_of_the_teacher(variables, run_recipe):
    recipe, given = variables
    commands = run_steps(run_recipe, recipe, given, (*STEPS[:3], "teachers"))
    trained = [parsed(c) for c in commands if c[0] == "fairseq-train"]
    size, batches = {
        "multi30k_de_en": ("cpu", 1),
        "iwslt14_de_en": ("small", 1),
        "wmt14_en_de": ("base", 4),
        "wmt16_en_ro": ("wmt16", 8),
        "iwslt16_en_de": ("iwslt16", 1),
        "own_text": ("cpu", 1),
    }[recipe]
    kinds = ("", "_lstm", "_conv", "_deep", "_deep")
    assert [args.arch for args in trained] == [f"nart_teacher{kind}_{size}" for kind in kinds]
    assert [Path(args.data).name for args in trained] == ["data"] * 4 + ["distilled"]
    assert [args.update_freq for args in trained] == [[batches]] * 5
    often = 0 if recipe == "multi30k_de_en" else 1000
    assert {args.save_interval_updates for args in trained} == {often}
    for option in ("max_update", "max_tokens", "weight_decay", "bf16", "seed"):
        assert len({str(vars(args)[option]) for args in trained}) == 1, option
    names = [f"teacher{kind}.pt" for kind in ("", *kinds[1:4], "_deep_distilled")]
    averaged = [c[-1] for c in commands if c[:2] == ["fairseq-nart", "average"]]
    translated = [c[c.index("--path") + 1] for c in commands if c[0] == "fairseq-generate"]
    assert [Path(path).name for path in averaged] == names
    assert [Path(path).name for path in translated[:4]] == names[1:]
    again = run_recipe(f"{recipe} teachers", **given)
    assert again[0] == 0 and {command[0] for command in again[1]} == {"sacrebleu"}


@pytest.mark.parametrize("variables", ["iwslt14_de_en"], indirect=True)
def test_all_checkpoints_are_averaged_up_to_a_limit(variables, run_recipe, tmp_path):
    recipe, given = variables
    run_steps(run_recipe, recipe, given, STEPS[:3])
    for name, kept in (("nart.first", 3), ("nart", 7)):
        folder = tmp_path / "runs" / recipe / name
        folder.mkdir()
        for n in range(kept):
            (folder / f"checkpoint.best_bleu_{n}.0.pt").touch()
    _, commands = run_recipe(f"{recipe} students", **given, SYSTEMS="nart")
    means = [c for c in commands if c[:2] == ["fairseq-nart", "average"]]
    counts = {Path(c[2]).name: c[c.index("--best") + 1] for c in means}
    assert counts == {"nart.first": "3", "nart": "5"}


@pytest.mark.parametrize("variables", ["own_text"], indirect=True)
def test_target_language_without_spaces(variables, run_recipe):
    """sacreBLEU tokenizes it. --eval-bleu, which splits at spaces, is not used."""
    recipe, given = variables
    commands = run_steps(run_recipe, recipe, {**given, "TOKENIZE": "zh"})
    students = [parsed(c) for c in commands if c[0] == "fairseq-train"][1:]
    assert students and not any(args.eval_bleu for args in students)
    scored = [c for c in commands if c[0] == "sacrebleu" or c[:2] == ["fairseq-nart", "tune"]]
    assert scored and all(c[c.index("--tokenize") + 1] == "zh" for c in scored)


@pytest.mark.parametrize("variables", ["wmt14_en_de"], indirect=True)
def test_tokenised_bleu_also_splits_german_compounds(variables, run_recipe, tmp_path):
    recipe, given = variables
    run_steps(run_recipe, recipe, given)
    (tmp_path / "bin" / "sacremoses").write_text("#!/bin/sh\nsed 's/[.]/ ./'\n")
    run = tmp_path / "runs" / recipe
    (run / "out" / "teacher").write_text("eine CD-ROM-Kiste -\nzwei.\n")
    run = run.parent.rename(tmp_path / "R&D") / recipe  # & has a meaning in bash's substitutions
    given["NART_RUNS"] = "R&D"
    _, commands = run_recipe(f"{recipe} tokenised_bleu", **given, SYSTEMS="nart")
    for folder, words in (
        (run / "moses", "eine CD-ROM-Kiste -\nzwei .\n"),
        (run / "moses" / "also", "eine CD ##AT##-##AT## ROM ##AT##-##AT## Kiste -\nzwei .\n"),
    ):
        assert (folder / "teacher").read_text() == words
        command = commands.pop(0)
        files = [str(folder / name) for name in ("teacher", "nart.1", "nart.9", "nart.19")]
        assert command[command.index("-i") + 1 :] == files
        assert {"--tokenize", "none", str(folder / "test.raw.de")} <= set(command)
    assert not commands


@pytest.mark.parametrize("variables", ["multi30k_de_en"], indirect=True)
def test_table2_trains_every_system_of_the_benchmark(variables, run_recipe):
    """Every checkpoint that the plan of the benchmark names."""
    recipe, given = variables
    status, commands = run_recipe(f"{recipe} table2", **given)
    assert status == 0
    plan = tomllib.loads((EXAMPLES / "recipes" / f"{recipe}.bench.toml").read_text("utf-8"))
    named = {system["checkpoint"] for system in plan["system"]}
    named |= {path for sweep in plan["sweep"] for path in sweep.get("checkpoints", {}).values()}
    checkpoints = [c[-1] for c in commands if c[:2] == ["fairseq-nart", "average"]]
    checkpoints += [
        f"{parsed(c).save_dir}/checkpoint_best.pt" for c in commands if c[0].endswith("train")
    ]
    missing = {name for name in named if not any(path.endswith(f"/{name}") for path in checkpoints)}
    assert not missing
    assert [c[1] for c in commands if c[0] == "fairseq-nart"][-2:] == ["bench", "report"]


@pytest.mark.parametrize("variables", ["multi30k_de_en"], indirect=True)
def test_failed_step_is_repeated_and_finished_one_is_skipped(variables, run_recipe):
    recipe, given = variables
    run_steps(run_recipe, recipe, given, STEPS[:3])
    status, first = run_recipe(f"{recipe} students", **given, FAIL_AT="nart_dcrf_cpu")
    assert status != 0 and "nart_dcrf_cpu" in first[-1]
    status, second = run_recipe(f"{recipe} students", **given)
    assert status == 0 and second[0] == first[-1]
    assert run_recipe(f"{recipe} students", **given) == (0, [])


@pytest.mark.parametrize(
    "recipe, name, was, now",
    [
        ("multi30k_de_en", "N", "3000", "7"),
        ("multi30k_de_en", "SEED", "1", "7"),
        ("multi30k_de_en", "TEACHER", "", "/7"),
        ("multi30k_de_en", "PRECISION", "--bf16", "--fp16"),
        ("iwslt14_de_en", "TEACHER_UPDATES", "50000", "7"),
        ("wmt14_en_de", "SECOND_UPDATES", "100000", "7"),
    ],
)
def test_run_refuses_other_settings(recipe, name, was, now, run_recipe, tmp_path):
    given = {RECIPES[recipe][0]: "text"}
    assert run_recipe(f"{recipe} teacher", **given)[0] == 0
    status, commands = run_recipe(f"{recipe} students", **given, **{name: now})
    assert status != 0 and not commands
    error = (tmp_path / "stderr").read_text()
    before = f"{recipe} was started with {name}={was or '(nothing)'}"
    assert f"{before}, and now {name} is {now}" in error
    (other,) = given
    assert run_recipe(f"{recipe} students", **{other: "other text"}) == (1, [])
    assert run_recipe(f"{recipe} students", **given, **{name: was})[0] == 0
    settings = tmp_path / "runs" / recipe / "settings"
    settings.write_text(settings.read_text().replace(f"={tmp_path}/text", "=text"))
    status, _ = run_recipe(f"{recipe} students", **{other: f"{EXAMPLES.parent}/text"})
    assert status == 0, "older runs hold relative paths"
    settings.unlink()  # older runs have no such file
    assert run_recipe(f"{recipe} students", **given, SEED="8")[0] == 0


def test_output_of_an_interrupted_binarise_is_removed(run_recipe, tmp_path):
    """fairseq-preprocess refuses a folder that contains a dictionary."""
    given, left = {"MULTI30K": "text"}, tmp_path / "runs/multi30k_de_en/data/dict.de.txt"
    (tmp_path / "runs/multi30k_de_en/done").mkdir(parents=True)
    (tmp_path / "runs/multi30k_de_en/done/segment").touch()
    left.parent.mkdir()
    left.touch()
    assert run_recipe("multi30k_de_en prepare", **given)[0] == 0 and not left.exists()


def test_run_without_finished_steps_accepts_other_settings(run_recipe):
    given = {"MULTI30K": "text"}
    assert run_recipe("multi30k_de_en teacher", **given, N="7", FAIL_AT="nart_teacher_cpu")[0] != 0
    assert run_recipe("multi30k_de_en teacher", **given)[0] == 0


@pytest.mark.parametrize("variables", ["multi30k_de_en"], indirect=True)
def test_seeds_and_ablations_change_settings_within_a_run(variables, run_recipe):
    """These steps differ from the settings of their run on purpose."""
    given = {**variables[1], "N": "300"}
    assert run_recipe("multi30k_de_en students", **given)[0] == 0
    status, commands = run_recipe("multi30k_de_en seeds", **given)
    assert status == 0
    assert {parsed(c).seed for c in commands if c[0] == "fairseq-train"} == {2}
    status, commands = run_recipe("multi30k_de_en ablations", **given)
    assert status == 0
    trained = [parsed(c) for c in commands if c[0] == "fairseq-train" and "nart_dcrf_cpu" in c]
    assert {(int(a.max_update), int(a.total_num_update)) for a in trained} == {(50, 50), (100, 100)}


@pytest.mark.parametrize("variables", ["multi30k_de_en"], indirect=True)
def test_each_student_is_ranked_by_its_best_rule_on_valid(variables, run_recipe, tmp_path):
    recipe, given = variables
    commands = run_steps(run_recipe, recipe, given, ("evaluate",))
    names = ("nart", "nart_crf", "nart_dcrf")
    run = tmp_path / "runs" / recipe
    tuned = [c for c in commands if c[:2] == ["fairseq-nart", "tune"]]
    for command, name in zip(tuned, names, strict=True):
        given = dict(zip(command[3::2], command[4::2], strict=True))
        assert command[2] == f"{run}/text/valid.raw.de"
        assert given["--references"] == f"{run}/text/valid.raw.en"
        assert given["--path"] == f"{run}/{name}.pt" and given["--length-candidates"] == "19"
        assert given["--rescore-with"] == f"{run}/teacher.pt"
    ranked = [c for c in map(parsed, commands) if c is not None and c.rescore_with]
    rules = {(Path(c.path).stem, c.rescore_normalization, c.rescore_alpha) for c in ranked}
    alphas = {name: float(len(f"{run}/{name}.pt") % 7) for name in names}
    assert rules == {(name, "reward", alpha) for name, alpha in alphas.items()}
    assert len({alpha for _, _, alpha in rules}) > 1


@pytest.mark.parametrize(
    "gpus, tokens, batch, batches",
    [
        (0, 4096, 4096, 1),
        (1, 32768, 4096, 8),
        (2, 4096, 2048, 1),
        (2, 32768, 4096, 4),
        (6, 4096, 682, 1),
        (6, 65536, 3640, 3),
        (8, 4096, 512, 1),
        (8, 65536, 4096, 2),
    ],
)
def test_tokens_per_update_do_not_depend_on_the_gpus(gpus, tokens, batch, batches, tmp_path):
    script = f"""
        source {EXAMPLES}/inputs.sh; source {EXAMPLES}/recipe.sh; text_in TEXT
        run={tmp_path}/run max_tokens=4096 tokens_per_update={tokens} GPUS={gpus}
        begin; share"""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "TEXT": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    words = [
        "--max-tokens",
        str(batch),
        "--update-freq",
        str(batches),
        "--max-tokens-valid",
        "4096",
    ]
    assert done.stdout.split() == ["--distributed-world-size", str(max(1, gpus)), *words]
    assert max(1, gpus) * batch * batches == pytest.approx(tokens, rel=0.001)


def test_other_direction_and_existing_teacher(tmp_path, run_recipe):
    """SRC reverses the direction; TEACHER replaces the teacher and the subword model."""
    given = write_raw_text(tmp_path / "raw", "multi30k_de_en")
    given |= {"SRC": "en", "TEACHER": str(write_teacher_folder(tmp_path / "teacher"))}
    commands = run_steps(run_recipe, "multi30k_de_en", given, STEPS[:3])
    assert [c[0] for c in commands] == ["fairseq-preprocess", "fairseq-nart"]
    args = parsed(commands[0])
    assert (args.source_lang, args.target_lang) == ("en", "de")
    assert args.srcdict.endswith("teacher/dict.txt")
    assert [Path(x).name for x in args.testpref.split(",")] == ["test2016", "test2017"]
    run = tmp_path / "runs" / "multi30k_en_de"
    assert (run / "teacher.pt").read_bytes() == b"weights"


def test_translation_of_an_existing_teacher_is_binarised(tmp_path, run_recipe):
    """With the real fairseq-preprocess. Only the targets of train change."""
    given = write_raw_text(tmp_path / "raw", "multi30k_de_en")
    teacher = write_teacher_folder(tmp_path / "teacher")
    given["TEACHER"] = str(teacher)
    run = tmp_path / "runs" / "multi30k_de_en"
    (tmp_path / "bin" / "fairseq-preprocess").unlink()
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(teacher / "sentencepiece.model"))
    symbols = [pieces.id_to_piece(i) for i in range(3, 90)]
    (teacher / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in symbols))
    with gzip.open(teacher / "train.distilled.sp.en.gz", "wt", encoding="utf-8") as file:
        file.write(f"{symbols[0]} {symbols[1]}\n" * 300)
    assert run_steps(run_recipe, "multi30k_de_en", given, STEPS[:2]) == []
    whole = (teacher / "train.distilled.sp.en.gz").read_bytes()
    (teacher / "train.distilled.sp.en.gz").write_bytes(gzip.compress(b"a line\n"))
    assert run_recipe("multi30k_de_en distill", **given)[0] == 1
    assert "en.gz does not have as many lines as train" in (tmp_path / "stderr").read_text()
    (teacher / "train.distilled.sp.en.gz").write_bytes(whole)
    assert run_steps(run_recipe, "multi30k_de_en", given, ["distill"]) == []
    task = toys.load_task(run / "distilled")
    for split, size in (("train", 300), ("valid", 2), ("test", 2), ("test1", 2)):
        task.load_dataset(split)
        assert len(task.dataset(split)) == size
    target = task.dataset("train")[7]["target"]
    assert task.tgt_dict.string(target) == f"{symbols[0]} {symbols[1]}"


@pytest.mark.parametrize("recipe", RECIPES)
def test_help_and_errors_list_the_steps(recipe, run_recipe, tmp_path):
    assert listed_steps(recipe)[:6] == [*STEPS, "teachers"]
    assert run_recipe(f"{recipe} prepare nope") == (1, [])
    first, *rest = (tmp_path / "stderr").read_text().splitlines()
    assert first == f"{recipe} has no step nope; its steps are:"
    assert [line.split()[0] for line in rest] == listed_steps(recipe)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("variables", ["multi30k_de_en"], indirect=True)
def test_steps_of_one_call_do_not_affect_each_other(variables, run_recipe, tmp_path):
    """Some steps set N, SEED or the options of BLEU locally."""
    recipe, given = variables
    named = ["students", "ablations", "seeds", "sweep", "ctc", "evaluate"]
    apart = run_steps(run_recipe, recipe, given, named)
    (tmp_path / "runs" / recipe).rename(tmp_path / "apart")
    (tmp_path / "runs" / recipe / "done").mkdir(parents=True)
    (tmp_path / "apart" / "text").rename(tmp_path / "runs" / recipe / "text")
    status, together = run_recipe(f"{recipe} {' '.join(named)}", **given)
    assert status == 0 and together == apart


@pytest.mark.parametrize("words", [[], ["nope"]])
def test_error_without_a_recipe_names_them(words):
    done = subprocess.run([EXAMPLES / "run.sh", *words], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"choose one of {' '.join(sorted(RECIPES))}\n" in done.stderr
    assert all(f"there is no recipe {word}: " in done.stderr for word in words)


def test_help_names_the_recipes():
    done = subprocess.run([EXAMPLES / "run.sh", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "examples/run.sh RECIPE [STEP ...]\n" in done.stdout
    assert f"Recipes: {' '.join(sorted(RECIPES))}\n" in done.stdout
