"""xray-registration evaluate: figures from a bag or folder."""

from __future__ import annotations

import argparse
from typing import Any

from xray_registration.commands import evaluate_bag
from xray_registration.errors import InputError


def add_parser(verbs: Any) -> None:
    """Add ``evaluate`` to the verbs."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "evaluate",
        help="register a bag or folder and give figures",
        description=evaluate_bag.DESCRIPTION,
        epilog=evaluate_bag.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", metavar="DIR", help="folder to write to")
    evaluate_bag.add_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate what was named."""
    if arguments.source is None:
        raise InputError("nothing to evaluate: give a bag or folder.")
    return evaluate_bag.run(arguments)
