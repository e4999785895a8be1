"""`fairseq-nart TOOL`: the tools around the models."""

import argparse
import importlib
import logging
import sys

TOOLS = {
    "distill": "a training set with the teacher's translations as targets",
    "align": "fertilities of a data set's source tokens, for nart_fertility",
    "translate": "text in, text out",
    "inspect": "what the CRF does to one sentence, as a picture",
    "average": "one checkpoint with the mean of the weights of several",
    "tune": "how a teacher's scores best rank candidates",
    "bench": "quality, latency, throughput and memory of systems, side by side",
    "report": "a benchmark's records as a table, figures and a page",
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one tool; errors a user can mend are one line, without a traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="fairseq-nart", description=__doc__)
    commands = parser.add_subparsers(dest="tool", required=True, metavar="TOOL")
    for name, line in TOOLS.items():
        command = commands.add_parser(name, help=line)
        # Only the tool that is asked for is loaded: a report needs no torch.
        if arguments[:1] == [name]:
            module = importlib.import_module(f"fairseq_nart.tools.{name}")
            command.description = module.__doc__
            module.add_arguments(command)
    options = parser.parse_args(arguments)
    logging.getLogger("fairseq").setLevel(logging.WARNING)  # its remarks are for trainings
    try:
        importlib.import_module(f"fairseq_nart.tools.{options.tool}").run(options)
    except (OSError, ValueError) as error:
        print(f"fairseq-nart {options.tool}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
