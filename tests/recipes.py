"""Helpers for tests of the recipes: their names, their text and stand-ins for their programs."""

import gzip
import re
import subprocess
from pathlib import Path

import grammar
from fairseq import options

EXAMPLES = Path(__file__).parents[1] / "examples"
RECIPES = {
    "multi30k_de_en": ("MULTI30K", ("train", "valid", "test2016", "test2017"), ("de", "en")),
    "iwslt14_de_en": ("IWSLT14", ("train", "valid", "test"), ("de", "en")),
    "wmt14_en_de": ("WMT14", ("train", "valid", "test"), ("en", "de")),
    "wmt16_en_ro": ("WMT16", ("train", "valid", "test"), ("en", "ro")),
    "iwslt16_en_de": ("IWSLT16", ("train", "valid", "test"), ("en", "de")),
    "own_text": ("TEXT", ("train", "valid", "test"), ("de", "en")),
}
STAND_IN = """#!{python} -IS
import os, shlex, sys
with open(os.environ["COMMAND_LOG"], "a") as log:
    print(shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]]), file=log)
if os.environ.get("FAIL_AT", "-") in sys.argv:
    sys.exit(1)
if "--paired-bs" in sys.argv and len(sys.argv[sys.argv.index("-i") :]) < 3:
    sys.exit("sacreBLEU: Paired tests require multiple input systems.")
if sys.argv[0].endswith("generate"):
    print("H-1\\t-0.1\\tb\\nH-0\\t-0.1\\ta")
if "tune" in sys.argv:
    path = sys.argv[sys.argv.index("--path") + 1]
    print(f"best: --rescore-normalization reward --rescore-alpha {{len(path) % 7}} (BLEU 1)")
"""

SETTINGS = "TEXT MULTI30K IWSLT14 WMT14 IWSLT16 WMT16 TEACHER SRC TGT SIZE N TEACHER_UPDATES"
SETTINGS += " FIRST_UPDATES SECOND_UPDATES PIECES TOKENS TOKENIZE SEED OTHER_SEED SYSTEMS PRECISION"
SETTINGS += " GPUS DIACRITICS"


def write_raw_text(folder: Path, recipe: str) -> dict[str, str]:
    """Writes a small corpus in the layout that the recipe reads; returns variables for it."""
    variable, splits, (source, target) = RECIPES[recipe]
    folder.mkdir()
    pairs = grammar.corpus(1)
    for split in splits:
        part = [next(pairs) for _ in range(300 if split == "train" else 2)]
        for language in (source, target):
            lines = (pair.shown if language == "en" else pair.source for pair in part)
            text = "".join(f"{line}\n" for line in lines)
            with gzip.open(folder / f"{split}.{language}.gz", "wt", encoding="utf-8") as file:
                file.write(text)
    return {variable: str(folder), "SRC": source, "TGT": target}


STEPS = ("prepare", "teacher", "distill", "students", "evaluate")


def run_steps(run_recipe, recipe, variables, names=STEPS):
    """Runs steps of a recipe, all of which must succeed; returns the commands that they run."""
    commands = []
    for name in names:
        status, given = run_recipe(f"{recipe} {name}", **variables)
        assert status == 0, name
        commands += given
    return commands


def listed_steps(recipe: str) -> list[str]:
    """The steps in the help of a recipe, without any variable set."""
    command = [EXAMPLES / "run.sh", recipe, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return re.findall(r"^  (\w+) +\w.*", done.stdout[done.stdout.index("\nSteps") :], re.M)


def parsed(command):
    """The command line, parsed by its program."""
    program, *words = command
    if program == "fairseq-train":
        return options.parse_args_and_arch(options.get_training_parser(), words)
    if program == "fairseq-generate":
        return options.parse_args_and_arch(options.get_generation_parser(), words)
    if program == "fairseq-preprocess":
        return options.get_preprocessing_parser().parse_args(words)
    return None
