#!/usr/bin/env python3
"""xray-registration train, for torchrun: one process per GPU (NCCL) or several on CPUs (gloo).

torchrun --standalone --nproc-per-node 2 training/train_regressor.py CT --out DIR
"""

from __future__ import annotations

import argparse
import sys

from xray_registration.commands.train import add_options, run
from xray_registration.errors import XrayRegistrationError


def main() -> int:
    parser = argparse.ArgumentParser(description="Train a pose regressor; see docs/learning.md.")
    add_options(parser)
    try:
        return run(parser.parse_args())
    except XrayRegistrationError as error:
        print(f"train_regressor: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
