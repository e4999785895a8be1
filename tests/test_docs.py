"""The documentation agrees with the code: commands, options, systems, modules and links."""

import argparse
import dataclasses
import importlib
import re
from collections import defaultdict
from pathlib import Path

import pytest
from fairseq import options
from fairseq.models import ARCH_MODEL_REGISTRY

from fairseq_nart import cli
from fairseq_nart.models._backbone import NartModel
from fairseq_nart.models._registry import SIZES as SIZE_NAMES
from fairseq_nart.tasks._options import RescoringConfig, decoding_config
from fairseq_nart.tasks.nart_translation import NartTranslationTask

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fairseq_nart"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SIZES = tuple(f"_{size}" for size in SIZE_NAMES)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def read(page):
    return page.read_text("utf-8")


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", read(page), re.S)


def option_name(name):
    return f"--{name.replace('_', '-')}"


def our_models():
    """{base name: model class} of the architectures of this package. Other tests may have
    registered systems of their own."""
    ours = {name: kind for name, kind in ARCH_MODEL_REGISTRY.items() if name.startswith("nart")}
    return {
        name: kind
        for name, kind in ours.items()
        if not name.endswith(SIZES) and kind.__module__.startswith("fairseq")
    }


def our_options():
    """{option: its defaults in the dataclasses}."""
    students = [kind for kind in our_models().values() if issubclass(kind, NartModel)]
    configs = [config for kind in students for config in (kind.Config, kind.Decoding)]
    defaults = {}
    for config in (*configs, RescoringConfig):
        for field in dataclasses.fields(config):
            if not field.name.startswith("_"):
                defaults.setdefault(option_name(field.name), set()).add(field.default)
    return defaults


def tool_options():
    """{tool: its options}."""
    tools = (*cli.TOOLS, "translate_checkpoint")
    parsers = {tool: argparse.ArgumentParser() for tool in tools}
    for tool, parser in parsers.items():
        module = importlib.import_module(f"fairseq_nart.tools.{tool.replace('-', '_')}")
        module.add_arguments(parser)
    return {tool: set(parser._option_string_actions) for tool, parser in parsers.items()}


@pytest.fixture(scope="module")
def known_options():
    """All options of fairseq's programs, of our models and task, and of the tools."""
    extra = options.get_parser("all")
    NartTranslationTask.add_args(extra)
    parsers = [
        options.get_training_parser(),
        options.get_interactive_generation_parser(),
        options.get_preprocessing_parser(),
        extra,
    ]
    known = {option for parser in parsers for option in parser._option_string_actions}
    return known.union({"--sentencepiece-model"}, our_options(), *tool_options().values())


@every_page
def test_commands_use_known_options(page, known_options):
    text = "\n".join(blocks(page, "bash"))
    commands = re.sub(
        r"^\s*(pip|env|make|python|git|torchrun|sbatch|PIP_).*$", "", text, flags=re.M
    )
    used = set(re.findall(r"(?<=\s)--[a-z][a-z0-9-]+", commands))
    assert used <= known_options, used - known_options


def test_python_examples_are_valid():
    examples = [example for page in PAGES for example in blocks(page, "python")]
    for example in examples:
        compile(example, "example", "exec")
    (crf,) = (example for example in examples if "LinearChainCRF" in example)
    names = {}
    exec(crf, names)
    assert names["tokens"].shape == (2, 7) and names["loss"] > 0


def test_every_option_is_listed_with_its_default():
    rows = re.findall(r"^\| `(--[a-z0-9-]+)` \|(.*)", read(ROOT / "docs/options.md"), re.M)
    listed = defaultdict(str)
    for option, row in rows:  # some systems have another default, in a row of their own
        listed[option] += row
    assert not our_options().keys() - listed.keys()
    for option, defaults in our_options().items():
        for default in defaults:
            if isinstance(default, int | float) and not isinstance(default, bool):
                by_size = "by size" in listed[option]
                assert by_size or f" {default} |" in listed[option], f"{option}: {default}"


def test_every_option_of_a_tool_is_described():
    described = set(re.findall(r"(?<=[\s`])--[a-z0-9-]+", "\n".join(map(read, PAGES))))
    fields = (option_name(field.name) for field in dataclasses.fields(decoding_config()))
    foreign = set(fields) - our_options().keys()
    for tool, names in tool_options().items():
        missing = {name for name in names if name.startswith("--")} - described - foreign
        assert not missing, f"{tool}: {missing}"


def test_every_system_is_in_the_tables():
    for page in ("README.md", "docs/options.md"):
        listed = re.findall(r"`(nart\w*)`", read(ROOT / page))
        assert not our_models().keys() - set(listed), page


def test_file_tree_matches_the_package():
    """Every file that the tree names exists, and every module is in it."""
    tree = re.search(r"```\nfairseq_nart/\n(.*?)```", read(ROOT / "docs/architecture.md"), re.S)
    assert tree, "docs/architecture.md has no file tree"
    named, folder = set(), PACKAGE
    for line in tree[1].splitlines():
        if entry := re.match(r"  ([\w/]+/)", line):
            folder = PACKAGE / entry[1]
        home = folder if line.startswith("    ") else PACKAGE
        named |= {home / name for name in re.findall(r"\S+\.py", line)}
    modules = {file for file in PACKAGE.rglob("*.py") if file.name != "__init__.py"}
    assert not named ^ modules, sorted(named ^ modules)


def test_readme_is_short():
    assert len(read(ROOT / "README.md").splitlines()) <= 160


@every_page
def test_links_resolve(page):
    text = re.sub(r"```.*?```", "", read(page), flags=re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)", read(target), re.M)
            slugs = {re.sub(r"[^\w -]", "", x.lower()).replace(" ", "-") for x in headings}
            assert anchor in slugs, link
