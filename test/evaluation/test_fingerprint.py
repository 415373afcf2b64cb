"""What counts as the same code, and what a report says of the machine."""

from __future__ import annotations

from pathlib import Path

from xray_registration.evaluation import fingerprint
from xray_registration.evaluation.environment import environment


def test_comments_and_docstrings_do_not_count_but_numbers_do(tmp_path: Path) -> None:
    def essence(text: str) -> bytes:
        path = tmp_path / "module.py"
        path.write_text(text)
        return fingerprint._essence(path)

    plain = essence('"""One."""\ndef f(x):\n    """Two."""\n    return x + 1\n')
    assert plain == essence('"""Other."""\n# why\ndef f( x ):\n    """Text."""\n    return x + 1\n')
    assert plain != essence('"""One."""\ndef f(x):\n    """Two."""\n    return x + 2\n')


def test_the_named_parts_exist_and_differ() -> None:
    pictures = fingerprint.code_fingerprint(fingerprint.PICTURE_CODE)
    methods = fingerprint.code_fingerprint(fingerprint.METHOD_CODE)
    assert len(pictures) == len(methods) == 16
    assert pictures != methods
    root = Path(fingerprint.__file__).parents[1]
    for part in (*fingerprint.PICTURE_CODE, *fingerprint.METHOD_CODE):
        assert (root / part).exists(), part


def test_environment_names_what_figures_depend_on() -> None:
    found = environment()
    assert {"date (UTC)", "python", "processor", "cores for this process", "torch"} <= set(found)
    assert all(isinstance(value, str) and value for value in found.values())
