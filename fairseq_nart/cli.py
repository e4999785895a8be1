"""`fairseq-nart TOOL`: the tools around the models."""

import argparse
import importlib
import logging
import sys

from fairseq_nart import extensions
from fairseq_nart.errors import UserError

TOOLS = {
    "distill": "replaces a training set's targets with the teacher's translations",
    "export": "exports a model that translates without torch and fairseq",
    "align": "computes the fertilities of a data set's source tokens, for nart_fertility",
    "phrase-table": "extracts a phrase table from word alignments, for nart_enat_p",
    "translate": "translates text",
    "serve": "serves an exported model over HTTP, with a page to try it",
    "inspect": "draws how the CRF decodes one sentence",
    "average": "averages the weights of several checkpoints",
    "tune": "finds the decoding options with the best BLEU on a validation set",
    "bench": "compares systems by quality, latency, throughput and memory",
    "report": "turns benchmark records into a table, figures and a page",
    "doctor": "checks the installation, and prints a block for bug reports",
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one tool and returns its exit code. A user error is printed in one line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="fairseq-nart", description=__doc__)
    commands = parser.add_subparsers(dest="tool", required=True, metavar="TOOL")
    logging.getLogger("fairseq").setLevel(logging.WARNING)  # its info messages concern training
    tool = "".join(arguments[:1])
    try:
        for name, line in TOOLS.items():
            command = commands.add_parser(name, help=line)
            # Import only the requested tool: `report` needs no torch.
            if tool == name:
                extensions.load(_user_dir(arguments))  # before its systems' options are added
                module = importlib.import_module(f"fairseq_nart.tools.{_module(name, arguments)}")
                command.description = module.__doc__
                module.add_arguments(command)
                command.add_argument("--user-dir", help="folder of a package with your own systems")
        options = parser.parse_args(arguments)
        del options.user_dir
        module.run(options)
    except ModuleNotFoundError as error:
        return _lacking(tool, error)
    except (OSError, UserError) as error:
        print(f"fairseq-nart {tool}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _user_dir(arguments: list[str]) -> str | None:
    """The value of --user-dir."""
    parser = argparse.ArgumentParser(prog="fairseq-nart", add_help=False)
    parser.add_argument("--user-dir")
    folder: str | None = parser.parse_known_args(arguments)[0].user_dir
    return folder


def _lacking(tool: str, error: ModuleNotFoundError) -> int:
    """Prints that a tool needs more than exported models do. Other errors are raised again."""
    package = (error.name or "").split(".")[0]
    if package not in ("torch", "fairseq"):
        raise error
    print(
        f"fairseq-nart {tool} needs {package}, which is not installed: install the whole package "
        "(README.md), or translate with an exported model (--model)",
        file=sys.stderr,
    )
    return 1


def _module(tool: str, arguments: list[str]) -> str:
    """The module of a tool. Only a checkpoint needs torch, which takes seconds to import."""
    paths = [word for word in arguments if word.split("=")[0] == "--path"]
    return "translate_checkpoint" if tool == "translate" and paths else tool.replace("-", "_")


if __name__ == "__main__":
    sys.exit(main())
