"""The command line as a whole."""

from __future__ import annotations

import subprocess
import sys

import pytest

import xray_registration
from xray_registration import cli
from xray_registration.errors import MissingDependencyError, XrayRegistrationError


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "xray_registration.cli", *arguments],
        text=True,
        capture_output=True,
        timeout=120,
    )


def test_help_names_the_verbs_and_exit_codes() -> None:
    done = _run("--help")
    assert done.returncode == 0
    for word in ("demo", "view", "register", "simulate", "info", "Exit codes"):
        assert word in done.stdout


@pytest.mark.parametrize("verb", ["demo", "view", "register", "simulate", "info"])
def test_each_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([verb, "--help"])
    assert end.value.code == 0
    assert f"xray-registration {verb}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.strip() == xray_registration.__version__


def test_no_verb_and_an_unknown_one_are_usage_errors() -> None:
    for arguments in ([], ["operate"]):
        done = _run(*arguments)
        assert done.returncode == 2
        assert "usage" in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MissingDependencyError("install it with: pip install x"), 1),
        (XrayRegistrationError("something else"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes_of_what_is_raised(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fail(arguments: object) -> int:
        raise error

    monkeypatch.setattr("xray_registration.commands.info.installation", lambda: fail(None))
    assert cli.main(["info"]) == code
    assert "xray-registration info:" in capsys.readouterr().err


def test_help_needs_no_heavy_package() -> None:
    """Answers at once: nothing but the standard library is imported for it."""
    code = (
        "import sys; from xray_registration import cli; cli.make_parser(); "
        "print([m for m in ('torch', 'numpy', 'SimpleITK', 'rclpy', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
