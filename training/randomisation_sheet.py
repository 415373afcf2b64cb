#!/usr/bin/env python3
"""A sheet of training pictures: rendered, disturbed, and the channels that the network sees.

python training/randomisation_sheet.py example --out sheet.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from xray_registration.commands.inputs import load_named_ct
from xray_registration.errors import XrayRegistrationError
from xray_registration.learning.canonical import network_input
from xray_registration.learning.config import TrainingConfig
from xray_registration.learning.stream import RegressorStream, Subject
from xray_registration.optional import require

_GAP = 2


def sheet(stream: RegressorStream, rows: int) -> np.ndarray:
    """Grey picture (H, W) in 0..1: two samples in a row, five pictures each."""
    pictures: list[torch.Tensor] = []
    number = 0
    while len(pictures) < 2 * rows:
        lines, images, usable, _ = stream.pictures(0, number)
        inputs = network_input(images, usable)
        for n in range(len(lines)):
            parts = (
                lines[n] / lines[n].max(),
                images[n].clamp(0, 1),
                (inputs[n, 0] + 1.5) / 3,
                (inputs[n, 1] + 1.5) / 3,
                inputs[n, 2],
            )
            gap = torch.ones(lines.shape[1], _GAP)
            pictures.append(torch.cat([x for part in parts for x in (part, gap)], 1))
        number += 1
    line = torch.ones(_GAP, 2 * pictures[0].shape[1])
    made = [x for n in range(rows) for x in (torch.cat(pictures[2 * n : 2 * n + 2], 1), line)]
    return torch.cat(made).numpy()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ct", help="a CT file, or 'example'")
    parser.add_argument("--out", type=Path, default=Path("sheet.png"))
    parser.add_argument("--config", type=Path, help="YAML of a training")
    parser.add_argument("--isocentre", type=float, nargs=3, metavar=("X", "Y", "Z"))
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    try:
        config = TrainingConfig()
        if arguments.config:
            config = TrainingConfig.from_yaml(arguments.config)
        ct = load_named_ct(arguments.ct)
        isocentre = np.array(arguments.isocentre or ct.bone_box_lps().mean(0))
        subject = Subject.of(
            ct, isocentre, config.variants, config.spacing_mm, arguments.seed, config.pose
        )
        stream = RegressorStream(
            [subject], config.canonical, config.randomisation, 16, arguments.seed
        )
        with torch.no_grad():
            picture = sheet(stream, arguments.rows)
        cv2 = require("cv2", "opencv-python-headless")
        if not cv2.imwrite(str(arguments.out), np.round(255 * picture).astype(np.uint8)):
            print(f"{arguments.out}: cannot be written", file=sys.stderr)
            return 2
    except XrayRegistrationError as error:
        print(f"randomisation_sheet: {error}", file=sys.stderr)
        return 2
    print(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
