"""Imports of packages that only some features need.

rosdep has no key for several of our dependencies (SimpleITK, pydicom, diffdrr, ...), so on a ROS
machine they may be absent. They are imported where they are used, and their absence is reported
with the name that pip knows them by.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from xray_registration.errors import MissingDependencyError


def require(module: str, pip: str | None = None) -> ModuleType:
    """Import and return ``module``.

    Args:
        module: dotted name as in an import statement, e.g. ``"scipy.ndimage"``.
        pip: name of the package on PyPI where it differs from the module's first component.

    Raises:
        MissingDependencyError: the package is absent (the message says how to install it), or
            it is there and fails to import (the message quotes the failure).
    """
    package = pip if pip is not None else module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name is not None
        # ModuleNotFoundError may come from deeper down: then the package itself is installed.
        if missing and (module == error.name or module.startswith(f"{error.name}.")):
            raise MissingDependencyError(
                f"the Python package '{package}' is needed here and is not installed; "
                f"install it with: pip install {package}",
                name=module,
            ) from error
        raise MissingDependencyError(
            f"the Python package '{package}' is installed but 'import {module}' fails: {error}; "
            f"reinstall it with: pip install --force-reinstall {package}",
            name=module,
        ) from error
