"""Registration on a GPU: where the CPU ends. Skipped without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from xray_registration.registration import Registrar

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_ends_where_the_cpu_ends(thorax: Any) -> None:
    truth = thorax.pose("ap")
    start = thorax.start(truth, seed=0)
    on_gpu = Registrar(thorax.ct, device="cuda").register([thorax.view("ap")], start)
    on_cpu = thorax.registrar.register([thorax.view("ap")], start)
    assert on_gpu.device.startswith("cuda")
    assert on_gpu.accepted, on_gpu.reason_text
    assert thorax.error_mm(on_gpu.rig_from_ct, truth) < 0.5
    assert thorax.error_mm(on_gpu.rig_from_ct, on_cpu.rig_from_ct) < 0.1
