"""What is compared: a method takes views and a start, and gives back a pose."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.volume import CTVolume
from xray_registration.registration import Registrar, RegistrationConfig, View
from xray_registration.registration.regressor_start import RegressorStart

OURS = "ours"
BASELINES = ("adam", "powell", "cma-es")
#: Ours, with the start poses of the regressor that belongs to the CT: the case's start is not used.
OURS_NO_START = "ours-no-start"
REGISTRARS = (OURS, OURS_NO_START)
METHODS = (*REGISTRARS, *BASELINES)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a method says.

    Attributes:
        rig_from_ct: (4, 4), LPS mm.
        similarity: in the method's own measure; higher is better.
        iterations: steps of its optimiser.
        renderings: pictures rendered, where the method counts them.
        accepted, reason: of its gate; None where it has none.
        covariance, isocentre_lps_mm: where it states an uncertainty, as `RegistrationResult` does.
        probability: of being right, where it is stated.
        start_similarity: of the start, where known.
        details: anything else, plain values.
    """

    rig_from_ct: NDArray[np.float64]
    similarity: float
    iterations: int
    renderings: int | None = None
    accepted: bool | None = None
    reason: str | None = None
    covariance: NDArray[np.float64] | None = None
    isocentre_lps_mm: NDArray[np.float64] | None = None
    probability: float | None = None
    start_similarity: float | None = None
    details: dict[str, Any] | None = None


class Method(ABC):
    """One patient's CT, prepared; made once per process and used for many cases."""

    name: str

    @abstractmethod
    def register(self, views: Sequence[View], rig_from_ct_start: NDArray[np.float64]) -> Outcome:
        """One registration. It sees nothing of the truth.

        Raises:
            InputError: the method refuses the pictures or the start.
        """

    def warm_up(self, views: Sequence[View], rig_from_ct_start: NDArray[np.float64]) -> None:
        """What only the first call of a process pays for (compiling, packing volumes)."""
        self.register(views, rig_from_ct_start)

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Plain values that decide what it does, for reports."""


class Ours(Method):
    """`registration.Registrar`, as the node and the command line use it."""

    name = OURS

    def __init__(
        self,
        ct: CTVolume,
        labels: LabelMap | None,
        config: RegistrationConfig | None = None,
        device: str = "cpu",
    ) -> None:
        self._registrar = Registrar(ct, config, label_map=labels, device=device)

    def register(self, views: Sequence[View], rig_from_ct_start: NDArray[np.float64]) -> Outcome:
        """See `Method`; the start may also be several, (S, 4, 4)."""
        result = self._registrar.register(views, rig_from_ct_start)
        return Outcome(
            rig_from_ct=result.rig_from_ct,
            similarity=result.similarity,
            iterations=result.iterations,
            accepted=result.accepted,
            reason=result.reason.value,
            covariance=result.covariance,
            isocentre_lps_mm=result.isocentre_lps_mm,
            probability=result.probability,
            start_similarity=result.start_similarity,
            details={
                "reason_text": result.reason_text,
                "termination": result.termination.value,
                "view_similarities": list(result.view_similarities),
            },
        )

    def settings(self) -> dict[str, Any]:
        """See `Method`."""
        return self._registrar.config.to_dict()


class OursWithoutStart(Ours):
    """The same from nothing but the picture; ``checkpoint`` None: by the package's weights."""

    name = OURS_NO_START

    def __init__(self, ct: CTVolume, *more: Any, checkpoint: Path | None = None) -> None:
        super().__init__(ct, *more)
        self._proposer = RegressorStart.for_ct(ct, checkpoint)

    def register(self, views: Sequence[View], rig_from_ct_start: NDArray[np.float64]) -> Outcome:
        """See `Method`."""
        return super().register(views, self._proposer.propose(views)[0])

    def settings(self) -> dict[str, Any]:
        """See `Method`."""
        return {**super().settings(), "regressor_sha256": self._proposer.sha256}


def make_method(
    name: str,
    ct: CTVolume,
    labels: LabelMap | None,
    config: RegistrationConfig | None = None,
    device: str = "cpu",
    checkpoint: Path | None = None,
) -> Method:
    """One of METHODS; ``config`` and ``device`` are for REGISTRARS, ``checkpoint`` (weights of a
    regressor; None: those of the package) is for OURS_NO_START.

    Raises:
        InputError: an unknown name; no start-pose weights for this CT, or unusable ones.
        MissingDependencyError: "cma-es" without the package cma.
    """
    if name == OURS:
        return Ours(ct, labels, config, device)
    if name == OURS_NO_START:
        return OursWithoutStart(ct, labels, config, device, checkpoint=checkpoint)
    from xray_registration.evaluation import baselines

    kinds = {"adam": baselines.Adam, "powell": baselines.Powell, "cma-es": baselines.CmaEs}
    if name not in kinds:
        raise InputError(f"method {name!r} is not known; expected one of {', '.join(METHODS)}.")
    return kinds[name](ct)
