"""What a check of the geometry says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(str, Enum):
    """ERROR: cannot be right. WARNING: unusual, look at it. HINT: what would fit. NOTE: a fact."""

    ERROR = "error"
    WARNING = "warning"
    HINT = "hint"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One sentence about the geometry.

    Attributes:
        severity: see there.
        code: short and stable, for programs.
        text: for people, with the numbers.
    """

    severity: Severity
    code: str
    text: str

    def to_dict(self) -> dict[str, str]:
        """JSON-ready."""
        return {"severity": self.severity.value, "code": self.code, "text": self.text}


def error(code: str, text: str) -> Finding:
    """A finding that cannot be right."""
    return Finding(Severity.ERROR, code, text)


def warning(code: str, text: str) -> Finding:
    """A finding to look at."""
    return Finding(Severity.WARNING, code, text)


def hint(code: str, text: str) -> Finding:
    """What would fit better."""
    return Finding(Severity.HINT, code, text)


def note(code: str, text: str) -> Finding:
    """A fact."""
    return Finding(Severity.NOTE, code, text)
