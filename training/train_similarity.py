#!/usr/bin/env python3
"""Train the learned similarity for one CT (experimental: see docs/learning.md).

python training/train_similarity.py example --out DIR --minutes 10 --isocentre 2.6 86.9 -175.1
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from xray_registration.commands.inputs import load_named_ct
from xray_registration.errors import XrayRegistrationError
from xray_registration.learning.config import TrainingConfig
from xray_registration.learning.reporting import Console
from xray_registration.learning.similarity_task import (
    LOSSES,
    SimilarityConfig,
    SimilarityTask,
)
from xray_registration.learning.similarity_training import CHECKPOINT, train_similarity
from xray_registration.learning.stream import Subject
from xray_registration.learning.trainer import Schedule
from xray_registration.similarity.manifold import GEOMETRIES


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ct", help="a CT file, or 'example'")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--isocentre", type=float, nargs=3, metavar=("X", "Y", "Z"))
    parser.add_argument("--geometry", choices=GEOMETRIES, default="sphere")
    parser.add_argument("--metric", choices=("se3", "so4", "so4_chordal"), default="so4")
    parser.add_argument("--loss", choices=LOSSES, default="gradient")
    parser.add_argument("--volume-residual", action="store_true", help="train Psi as well (slow)")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--spacing-mm", type=float, default=5.0)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    try:
        return train(parser.parse_args())
    except XrayRegistrationError as error:
        print(f"train_similarity: {error}", file=sys.stderr)
        return 2


def train(arguments: argparse.Namespace) -> int:
    ct = load_named_ct(arguments.ct)
    general, seed = TrainingConfig(), arguments.seed
    isocentre = arguments.isocentre or ct.bone_box_lps().mean(0)
    subject = Subject.of(ct, isocentre, general.variants, arguments.spacing_mm, seed, general.pose)
    config = SimilarityConfig(
        arguments.geometry,
        arguments.metric,
        arguments.loss,
        arguments.volume_residual,
        size=arguments.size,
    )
    task = SimilarityTask(subject, config, general.randomisation, arguments.batch_size, seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    schedule = Schedule(arguments.minutes, arguments.steps, 200, 0, 60.0)
    with Console(arguments.out / "log", arguments.batch_size) as reporter:
        train_similarity(task, config, ct, schedule, arguments.out, seed, reporter)
    print(f"checkpoint: {arguments.out / CHECKPOINT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
