"""xray-registration demo | view | register | train | evaluate | simulate | info | check-geometry.

Exit codes: 0 done (register: accepted), 2 bad input or arguments, 3 the registration was rejected,
1 anything else that went wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

import xray_registration
from xray_registration.commands import (
    check_geometry,
    demo,
    evaluate,
    info,
    register,
    simulate,
    train,
    view,
)
from xray_registration.errors import InputError, XrayRegistrationError
from xray_registration.memory import keep_freed_memory

BAD_INPUT = 2
FAILED = 1
INTERRUPTED = 130


def make_parser() -> argparse.ArgumentParser:
    """The parser with all verbs; each sets ``run``, a function of the arguments to an exit code."""
    parser = argparse.ArgumentParser(
        prog="xray-registration",
        description="2D/3D registration of C-arm X-ray images to a CT.",
        epilog="Exit codes: 0 done (register: accepted), 2 bad input, 3 rejected, 1 other errors.",
    )
    parser.add_argument("--version", action="version", version=xray_registration.__version__)
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="log what the library does, to stderr"
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for command in (demo, view, register, simulate, train, info, check_geometry, evaluate):
        command.add_parser(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Console entry; see the module for the exit codes."""
    arguments = make_parser().parse_args(argv)
    # Read when torch is first imported, which no command has done yet. Threads that spin while they
    # wait make two threads many times slower than one as soon as another process wants the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )
    for noisy in ("numba", "matplotlib", "PIL"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        return int(arguments.run(arguments))
    except InputError as error:
        print(f"xray-registration {arguments.verb}: {error}", file=sys.stderr)
        return BAD_INPUT
    except XrayRegistrationError as error:
        print(f"xray-registration {arguments.verb}: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"xray-registration {arguments.verb}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader (head, less) has closed: nothing is left to say, and nobody to say it to
        sys.stderr.close()
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
