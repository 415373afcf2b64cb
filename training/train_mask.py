#!/usr/bin/env python3
"""Train the network that finds metal and blades in pictures (see docs/learning.md).

python training/train_mask.py example --isocentre 2.6 86.9 -175.1 --out DIR --minutes 11
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from xray_registration.commands.inputs import load_named_ct
from xray_registration.errors import XrayRegistrationError
from xray_registration.learning.checkpoint import AGNOSTIC, save_checkpoint
from xray_registration.learning.config import OptimiserConfig, PoseRangeConfig
from xray_registration.learning.mask_network import MaskNetworkConfig
from xray_registration.learning.mask_task import MaskTask, mask_facts
from xray_registration.learning.patients import VariantConfig
from xray_registration.learning.reporting import Console
from xray_registration.learning.stream import Subject
from xray_registration.learning.trainer import Schedule, Trainer

CHECKPOINT = "picture_mask.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ct", help="a CT file, or 'example'")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=11.0)
    parser.add_argument("--steps", type=int, help="a number of steps instead")
    parser.add_argument("--isocentre", type=float, nargs=3, metavar=("X", "Y", "Z"))
    parser.add_argument("--spacing-mm", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    try:
        return train(parser.parse_args())
    except XrayRegistrationError as error:
        print(f"train_mask: {error}", file=sys.stderr)
        return 2


def train(arguments: argparse.Namespace) -> int:
    ct = load_named_ct(arguments.ct)
    isocentre = arguments.isocentre or ct.bone_box_lps().mean(0)
    seed, config, variants = arguments.seed, MaskNetworkConfig(), VariantConfig(count=8)
    subject = Subject.of(ct, isocentre, variants, arguments.spacing_mm, seed, PoseRangeConfig())
    task = MaskTask(subject, config, seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    facts = {**mask_facts(config), "trained_on": [ct.sha256], "seed": seed}
    optimiser = OptimiserConfig(weight_decay=0.01, average=0.995, bf16=False)
    schedule = Schedule(arguments.minutes, arguments.steps, 400, 0, 60.0)
    with Console(arguments.out / "log", 8) as reporter:
        trained = Trainer(task, optimiser, schedule, arguments.out, facts, reporter=reporter).run()
    # pictures of any patient: nothing of the CT is in its answer
    facts |= {"ct_sha256": AGNOSTIC, "validation": trained.figures, "steps": trained.steps}
    save_checkpoint(arguments.out / CHECKPOINT, trained.weights, facts, half=True)
    print(f"checkpoint: {arguments.out / CHECKPOINT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
