"""The exceptions that this package raises on purpose.

Everything derives from :class:`XrayRegistrationError`, so a caller can tell "the input or the
installation is wrong" from a defect of the package itself.
"""

from __future__ import annotations


class XrayRegistrationError(Exception):
    """Base of every exception raised on purpose by this package."""


class InputError(XrayRegistrationError, ValueError):
    """A file, topic, parameter or array is unusable.

    The message names the file or topic, the offending value and what would be accepted.
    """


class MissingDependencyError(XrayRegistrationError, ImportError):
    """An optional Python package is not installed, or it is installed and does not import."""
