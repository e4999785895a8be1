"""Checks the installation, and prints a block for bug reports."""

import argparse

from fairseq_nart.errors import UserError
from fairseq_nart.tools.diagnosis import environment, fixes, trials
from fairseq_nart.tools.diagnosis.findings import FAULT, OK, Finding

CHECKS = (
    environment.packages,
    environment.devices,
    fixes.fixes,
    trials.passes,
    trials.threads,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`fairseq-nart doctor` has no options."""


def report(findings: list[Finding]) -> str:
    """The advice, and then all findings as a block to paste."""
    advice = [f"{x.state:5}  {x.name}: {x.text}: {x.advice}" for x in findings if x.state != OK]
    block = [finding.line() for finding in findings]
    return "\n".join([*advice, "", "For a bug report:", "", "```text", *block, "```"])


def run(options: argparse.Namespace) -> None:
    """`fairseq-nart doctor`. UserError if there is a fault."""
    findings = [finding for check in CHECKS for finding in check()]
    print(report(findings))
    if faults := [finding.name for finding in findings if finding.state == FAULT]:
        raise UserError(
            f"{len(faults)} faults: {', '.join(faults)}; the first lines say what to do"
        )
