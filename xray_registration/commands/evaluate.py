"""xray-registration evaluate: figures from a bag, a folder or a protocol."""

from __future__ import annotations

import argparse
from typing import Any

from xray_registration.commands import evaluate_bag, evaluate_protocol
from xray_registration.errors import InputError


def add_parser(verbs: Any) -> None:
    """Add ``evaluate`` to the verbs."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "evaluate",
        help="register a bag, a folder or a protocol's cases and give figures",
        description=f"{evaluate_bag.DESCRIPTION}\n{evaluate_protocol.DESCRIPTION}",
        epilog=f"SOURCE: {evaluate_bag.EPILOG}\n--protocol: {evaluate_protocol.EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", metavar="DIR", help="folder to write to")
    evaluate_bag.add_arguments(parser)
    evaluate_protocol.add_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate what was named."""
    if evaluate_protocol.accepts(arguments):
        if arguments.source is not None:
            raise InputError(
                f"both a SOURCE ({arguments.source}) and --protocol; expected one of them."
            )
        return evaluate_protocol.run(arguments)
    if arguments.source is None:
        raise InputError("nothing to evaluate: give a bag or folder, or --protocol NAME.")
    misplaced = evaluate_protocol.misplaced(arguments)
    if misplaced:
        raise InputError(f"{', '.join(misplaced)} belong to --protocol, not to a bag or folder.")
    return evaluate_bag.run(arguments)
