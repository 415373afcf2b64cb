#!/usr/bin/env python3
"""Train the network that finds metal and blades in pictures (see docs/learning.md).

python training/train_mask.py CT [CT ...] --out DIR --minutes 11
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
    parser.add_argument("ct", nargs="+", help="a CT file, or 'example'")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=11.0)
    parser.add_argument("--steps", type=int, help="a number of steps instead")
    parser.add_argument("--spacing-mm", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    try:
        return train(parser.parse_args())
    except XrayRegistrationError as error:
        print(f"train_mask: {error}", file=sys.stderr)
        return 2


def train(arguments: argparse.Namespace) -> int:
    cts = [load_named_ct(given) for given in arguments.ct]
    seed, config = arguments.seed, MaskNetworkConfig()
    # some eight volumes in all, and more than the CT as it is of each
    variants = VariantConfig(count=max(2, 8 // len(cts)))
    subjects = [
        Subject.of(
            ct, ct.bone_box_lps().mean(0), variants, arguments.spacing_mm, seed, PoseRangeConfig()
        )
        for ct in cts
    ]
    optimiser = OptimiserConfig(weight_decay=0.01, average=0.995)
    task = MaskTask(subjects, config, seed, bf16=optimiser.bf16)
    arguments.out.mkdir(parents=True, exist_ok=True)
    facts = {**mask_facts(config), "trained_on": [ct.sha256 for ct in cts], "seed": seed}
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
