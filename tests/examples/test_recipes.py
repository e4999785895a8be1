"""The commands that recipes give."""

import gzip
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import sentencepiece
import toys
from fairseq import options
from recipes import EXAMPLES, RECIPES, STEPS, listed, raw_text, steps
from texts import small_pieces

from fairseq_nart import cli
from fairseq_nart.models._registry import TASK


def parsed(command):
    """The command line as its program understands it."""
    program, *words = command
    if program == "fairseq-train":
        return options.parse_args_and_arch(options.get_training_parser(), words)
    if program == "fairseq-generate":
        return options.parse_args_and_arch(options.get_generation_parser(), words)
    if program == "fairseq-preprocess":
        return options.get_preprocessing_parser().parse_args(words)
    return None


@pytest.mark.parametrize("variables", RECIPES, indirect=True)
def test_every_command_is_one_that_its_program_understands(variables, play):
    recipe, given = variables
    more = [name for name in listed(recipe) if name not in STEPS]
    assert len(more) == {"multi30k_de_en": 10, "wmt14_en_de": 2}.get(recipe, 1)
    commands = steps(play, recipe, given, (*STEPS, *more))
    kinds = [command[0] for command in commands]
    assert kinds.count("fairseq-train") == (31 if recipe.startswith("multi30k") else 9)
    for command in commands:
        args = parsed(command)
        if command[0] == "fairseq-train":
            assert args.task == ("translation_lev" if args.arch == "nacrf_transformer" else TASK)
        if command[0] == "fairseq-nart":
            with pytest.raises(SystemExit) as end:
                cli.main([*command[1:], "--help"])
            assert end.value.code == 0


@pytest.mark.parametrize("variables", ["multi30k_de_en"], indirect=True)
def test_students_have_the_updates_that_were_asked_for(variables, play, tmp_path):
    recipe, given = variables
    commands = steps(play, recipe, {**given, "N": "100"}, STEPS[:4])
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
def test_only_the_systems_that_were_asked_for(variables, play):
    recipe, given = variables
    commands = steps(play, recipe, {**given, "SYSTEMS": "nart nart_dcrf"})
    trained = [parsed(c).arch for c in commands if c[0] == "fairseq-train"]
    assert len(trained) == 4 and "dcrf" in trained[3] and not any("_crf" in x for x in trained)
    scored = [Path(word).name for c in commands if c[0] == "sacrebleu" for word in c]
    assert {"nart.1", "nart_dcrf.9", "nart_dcrf.19", "nart_dcrf.5x4"} <= set(scored)
    assert "nart.5x4" not in scored  # it has no CRF
    assert not any(name.startswith("nart_crf") for name in scored)


@pytest.mark.parametrize("variables", RECIPES, indirect=True)
def test_one_system_alone(variables, play):
    recipe, given = variables
    commands = steps(play, recipe, {**given, "SYSTEMS": "nart_dcrf"})
    last = [c for c in commands if c[0] == "sacrebleu"][-1]
    assert last[-1].endswith("nart_dcrf.5x4")  # and sacrebleu did not refuse
    assert ("none" in last) == (recipe == "iwslt14_de_en")  # its text is tokenised


@pytest.mark.parametrize(
    "given, bf16, fp16",
    [
        ({}, True, False),
        ({"PRECISION": ""}, False, False),
        ({"PRECISION": "--fp16", "GPUS": "1"}, False, True),
    ],
)
def test_precision_of_trainings(given, bf16, fp16, play, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    _, (command, _) = play("multi30k_de_en teacher", MULTI30K="text", **given)
    assert (parsed(command).bf16, parsed(command).fp16) == (bf16, fp16)


@pytest.mark.parametrize("variables", RECIPES, indirect=True)
def test_other_teachers_are_trained_as_the_teacher_is(variables, play):
    recipe, given = variables
    commands = steps(play, recipe, given, (*STEPS[:3], "teachers"))
    trained = [parsed(c) for c in commands if c[0] == "fairseq-train"]
    size, batches = {
        "multi30k_de_en": ("cpu", 1),
        "iwslt14_de_en": ("small", 1),
        "wmt14_en_de": ("base", 4),
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
    again = play(f"{recipe} teachers", **given)
    assert again[0] == 0 and {command[0] for command in again[1]} == {"sacrebleu"}


@pytest.mark.parametrize("variables", ["iwslt14_de_en"], indirect=True)
def test_as_many_checkpoints_are_averaged_as_there_are(variables, play, tmp_path):
    recipe, given = variables
    steps(play, recipe, given, STEPS[:3])
    for name, kept in (("nart.first", 3), ("nart", 7)):
        folder = tmp_path / "runs" / recipe / name
        folder.mkdir()
        for n in range(kept):
            (folder / f"checkpoint.best_bleu_{n}.0.pt").touch()
    _, commands = play(f"{recipe} students", **given, SYSTEMS="nart")
    means = [c for c in commands if c[:2] == ["fairseq-nart", "average"]]
    found = {Path(c[2]).name: c[c.index("--best") + 1] for c in means}
    assert found == {"nart.first": "3", "nart": "5"}


@pytest.mark.parametrize("variables", ["own_text"], indirect=True)
def test_a_target_without_spaces(variables, play):
    """Its words are sacreBLEU's, and valid's BLEU, which cuts at spaces, chooses nothing."""
    recipe, given = variables
    commands = steps(play, recipe, {**given, "TOKENIZE": "zh"})
    students = [parsed(c) for c in commands if c[0] == "fairseq-train"][1:]
    assert students and not any(args.eval_bleu for args in students)
    scored = [c for c in commands if c[0] == "sacrebleu" or c[:2] == ["fairseq-nart", "tune"]]
    assert scored and all(c[c.index("--tokenize") + 1] == "zh" for c in scored)


@pytest.mark.parametrize("variables", ["wmt14_en_de"], indirect=True)
def test_bleu_of_tokens_with_compounds_split(variables, play, tmp_path):
    recipe, given = variables
    steps(play, recipe, given)
    (tmp_path / "bin" / "sacremoses").write_text("#!/bin/sh\nsed 's/[.]/ ./'\n")
    run = tmp_path / "runs" / recipe
    (run / "out" / "teacher").write_text("eine CD-ROM-Kiste -\nzwei.\n")
    run = run.parent.rename(tmp_path / "R&D") / recipe  # & has a meaning in bash's substitutions
    given["NART_RUNS"] = "R&D"
    _, commands = play(f"{recipe} tokenised_bleu", **given, SYSTEMS="nart")
    for folder, words in (
        (run / "moses", "eine CD-ROM-Kiste -\nzwei .\n"),
        (run / "moses" / "split", "eine CD ##AT##-##AT## ROM ##AT##-##AT## Kiste -\nzwei .\n"),
    ):
        assert (folder / "teacher").read_text() == words
        command = commands.pop(0)
        files = [str(folder / name) for name in ("teacher", "nart.1", "nart.9", "nart.19")]
        assert command[command.index("-i") + 1 :] == files
        assert {"--tokenize", "none", str(folder / "test.raw.de")} <= set(command)
    assert not commands


@pytest.mark.parametrize("variables", ["multi30k_de_en"], indirect=True)
def test_one_command_trains_what_the_table_shows(variables, play):
    """Every checkpoint that the plan of the benchmark names."""
    recipe, given = variables
    status, commands = play(f"{recipe} table2", **given)
    assert status == 0
    plan = tomllib.loads((EXAMPLES / "recipes" / f"{recipe}.bench.toml").read_text("utf-8"))
    named = {system["checkpoint"] for system in plan["system"]}
    named |= {path for sweep in plan["sweep"] for path in sweep.get("checkpoints", {}).values()}
    made = [c[-1] for c in commands if c[:2] == ["fairseq-nart", "average"]]
    made += [f"{parsed(c).save_dir}/checkpoint_best.pt" for c in commands if c[0].endswith("train")]
    lacking = {name for name in named if not any(path.endswith(f"/{name}") for path in made)}
    assert not lacking
    assert [c[1] for c in commands if c[0] == "fairseq-nart"][-2:] == ["bench", "report"]


@pytest.mark.parametrize("variables", ["multi30k_de_en"], indirect=True)
def test_a_cut_step_is_done_again_and_a_finished_one_is_not(variables, play):
    recipe, given = variables
    steps(play, recipe, given, STEPS[:3])
    status, first = play(f"{recipe} students", **given, FAIL_AT="nart_dcrf_cpu")
    assert status != 0 and "nart_dcrf_cpu" in first[-1]
    status, second = play(f"{recipe} students", **given)
    assert status == 0 and second[0] == first[-1]
    assert play(f"{recipe} students", **given) == (0, [])


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
def test_a_run_does_not_go_on_with_other_settings(recipe, name, was, now, play, tmp_path):
    given = {RECIPES[recipe][0]: "text"}
    assert play(f"{recipe} teacher", **given)[0] == 0
    status, commands = play(f"{recipe} students", **given, **{name: now})
    assert status != 0 and not commands
    said = (tmp_path / "said").read_text()
    assert f"{recipe} was begun with {name}={was or '(nothing)'}, and now {name} is {now}" in said
    (other,) = given
    assert play(f"{recipe} students", **{other: "other text"}) == (1, [])
    assert play(f"{recipe} students", **given, **{name: was})[0] == 0
    settings = tmp_path / "runs" / recipe / "settings"
    settings.write_text(settings.read_text().replace(f"={tmp_path}/text", "=text"))
    status, _ = play(f"{recipe} students", **{other: f"{EXAMPLES.parent}/text"})
    assert status == 0, "older runs have paths as they were given"
    settings.unlink()  # as before there was one
    assert play(f"{recipe} students", **given, SEED="8")[0] == 0


def test_what_a_cut_binarise_has_left_does_not_stop_it(play, tmp_path):
    """fairseq-preprocess refuses a folder with a dictionary in it."""
    given, left = {"MULTI30K": "text"}, tmp_path / "runs/multi30k_de_en/data/dict.de.txt"
    (tmp_path / "runs/multi30k_de_en/done").mkdir(parents=True)
    (tmp_path / "runs/multi30k_de_en/done/segment").touch()
    left.parent.mkdir()
    left.touch()
    assert play("multi30k_de_en prepare", **given)[0] == 0 and not left.exists()


def test_a_run_of_which_nothing_is_done_takes_any_settings(play):
    given = {"MULTI30K": "text"}
    assert play("multi30k_de_en teacher", **given, N="7", FAIL_AT="nart_teacher_cpu")[0] != 0
    assert play("multi30k_de_en teacher", **given)[0] == 0


@pytest.mark.parametrize("variables", ["multi30k_de_en"], indirect=True)
def test_another_seed_and_fewer_updates_within_a_run(variables, play):
    """The steps seeds and ablations differ from their run on purpose."""
    given = {**variables[1], "N": "300"}
    assert play("multi30k_de_en students", **given)[0] == 0
    status, commands = play("multi30k_de_en seeds", **given)
    assert status == 0
    assert {parsed(c).seed for c in commands if c[0] == "fairseq-train"} == {2}
    status, commands = play("multi30k_de_en ablations", **given)
    assert status == 0
    trained = [parsed(c) for c in commands if c[0] == "fairseq-train" and "nart_dcrf_cpu" in c]
    assert {(int(a.max_update), int(a.total_num_update)) for a in trained} == {(50, 50), (100, 100)}


@pytest.mark.parametrize("variables", ["multi30k_de_en"], indirect=True)
def test_each_student_is_ranked_by_what_is_best_for_it_on_valid(variables, play, tmp_path):
    recipe, given = variables
    commands = steps(play, recipe, given, ("evaluate",))
    ranked = [c for c in map(parsed, commands) if c is not None and c.rescore_with]
    tuned = [c for c in ranked if c.nbest > 1]
    assert [Path(c.path).stem for c in tuned] == ["nart", "nart_crf", "nart_dcrf"]
    assert {(c.gen_subset, c.length_candidates) for c in tuned} == {("valid", 19)}
    log = f"{tmp_path}/runs/{recipe}/tune/"
    rules = {
        (Path(c.path).stem, c.rescore_normalization, c.rescore_alpha)
        for c in ranked
        if c.nbest == 1
    }
    assert rules == {
        (name, "reward", float(len(f"{log}{name}.log") % 7))
        for name in ("nart", "nart_crf", "nart_dcrf")
    }
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
    said = subprocess.run(
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
    assert said.stdout.split() == ["--distributed-world-size", str(max(1, gpus)), *words]
    assert max(1, gpus) * batch * batches == pytest.approx(tokens, rel=0.001)


def test_other_direction_and_ready_teacher(tmp_path, play):
    """SRC turns the direction round; TEACHER replaces training and the making of pieces."""
    given = raw_text(tmp_path / "raw", "multi30k_de_en")
    given |= {"SRC": "en", "TEACHER": str(small_pieces(tmp_path / "teacher"))}
    commands = steps(play, "multi30k_de_en", given, STEPS[:3])
    assert [c[0] for c in commands] == ["fairseq-preprocess", "fairseq-nart"]
    args = parsed(commands[0])
    assert (args.source_lang, args.target_lang) == ("en", "de")
    assert args.srcdict.endswith("teacher/dict.txt")
    assert [Path(x).name for x in args.testpref.split(",")] == ["test2016", "test2017"]
    run = tmp_path / "runs" / "multi30k_en_de"
    assert (run / "teacher.pt").read_bytes() == b"weights"


def test_a_translation_that_comes_with_the_teacher_is_binarised(tmp_path, play):
    """With the real fairseq-preprocess: of train only the targets change."""
    given = raw_text(tmp_path / "raw", "multi30k_de_en")
    teacher = small_pieces(tmp_path / "teacher")
    given["TEACHER"] = str(teacher)
    run = tmp_path / "runs" / "multi30k_de_en"
    (tmp_path / "bin" / "fairseq-preprocess").unlink()
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(teacher / "sentencepiece.model"))
    symbols = [pieces.id_to_piece(i) for i in range(3, 90)]
    (teacher / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in symbols))
    with gzip.open(teacher / "train.distilled.sp.en.gz", "wt", encoding="utf-8") as file:
        file.write(f"{symbols[0]} {symbols[1]}\n" * 300)
    assert steps(play, "multi30k_de_en", given, STEPS[:2]) == []
    whole = (teacher / "train.distilled.sp.en.gz").read_bytes()
    (teacher / "train.distilled.sp.en.gz").write_bytes(gzip.compress(b"a line\n"))
    assert play("multi30k_de_en distill", **given)[0] == 1
    assert "en.gz does not have as many lines as train" in (tmp_path / "said").read_text()
    (teacher / "train.distilled.sp.en.gz").write_bytes(whole)
    assert steps(play, "multi30k_de_en", given, ["distill"]) == []
    task = toys.load_task(run / "distilled")
    for split, size in (("train", 300), ("valid", 2), ("test", 2), ("test1", 2)):
        task.load_dataset(split)
        assert len(task.dataset(split)) == size
    said = task.dataset("train")[7]["target"]
    assert task.tgt_dict.string(said) == f"{symbols[0]} {symbols[1]}"


@pytest.mark.parametrize("recipe", RECIPES)
def test_steps_are_listed_for_who_asks_and_for_who_errs(recipe, play, tmp_path):
    assert listed(recipe)[:6] == [*STEPS, "teachers"]
    assert play(f"{recipe} prepare nope") == (1, [])
    first, *rest = (tmp_path / "said").read_text().splitlines()
    assert first == f"{recipe} has no step nope; it has:"
    assert [line.split()[0] for line in rest] == listed(recipe)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("variables", ["multi30k_de_en"], indirect=True)
def test_steps_of_one_call_do_not_change_each_other(variables, play, tmp_path):
    """Some steps set N, SEED or the options of BLEU for themselves."""
    recipe, given = variables
    named = ["students", "ablations", "seeds", "sweep", "ctc", "evaluate"]
    apart = steps(play, recipe, given, named)
    (tmp_path / "runs" / recipe).rename(tmp_path / "apart")
    (tmp_path / "runs" / recipe / "done").mkdir(parents=True)
    (tmp_path / "apart" / "text").rename(tmp_path / "runs" / recipe / "text")
    status, together = play(f"{recipe} {' '.join(named)}", **given)
    assert status == 0 and together == apart


@pytest.mark.parametrize("words", [[], ["nope"]])
def test_recipes_are_named_where_none_is_given(words):
    done = subprocess.run([EXAMPLES / "run.sh", *words], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"name one of {' '.join(sorted(RECIPES))}\n" in done.stderr
    assert all(f"there is no recipe {word}: " in done.stderr for word in words)


def test_help_names_the_recipes():
    done = subprocess.run([EXAMPLES / "run.sh", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "examples/run.sh RECIPE [STEP ...]\n" in done.stdout
    assert f"Recipes: {' '.join(sorted(RECIPES))}\n" in done.stdout
