from __future__ import annotations

from pathlib import Path

import pytest

from xray_registration.errors import InputError, MissingDependencyError, XrayRegistrationError
from xray_registration.optional import require


def test_require_returns_the_module() -> None:
    import xml.dom.minidom

    assert require("xml.dom.minidom") is xml.dom.minidom


def test_an_absent_package_is_named_as_pip_knows_it() -> None:
    with pytest.raises(MissingDependencyError, match="pip install Not-There") as caught:
        require("not_there.part", pip="Not-There")
    assert caught.value.name == "not_there.part"
    with pytest.raises(MissingDependencyError, match=r"pip install not_there$"):
        require("not_there.part")


def test_a_package_that_fails_to_import_is_not_called_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_installed_package.py").write_text("import its_missing_dependency\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"is installed but.*its_missing_dependency"):
        require("half_installed_package")


def test_errors_are_the_builtin_kinds_too() -> None:
    assert issubclass(InputError, (XrayRegistrationError, ValueError))
    assert issubclass(MissingDependencyError, ImportError)
    assert issubclass(MissingDependencyError, XrayRegistrationError)
