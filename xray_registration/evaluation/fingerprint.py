"""What code made a file: so that cached pictures and old records are not mixed with new ones."""

from __future__ import annotations

import ast
import hashlib
from functools import lru_cache
from pathlib import Path

import xray_registration

PICTURE_CODE = (
    "rendering/xray_model", "geometry/positioner.py", "evaluation/pictures.py",
    "evaluation/scene.py",
)  # fmt: skip
METHOD_CODE = (
    "geometry", "imaging", "rendering", "similarity", "registration", "learning",
    "evaluation/methods.py",
    "evaluation/baselines.py", "evaluation/baseline_similarity.py",
)  # fmt: skip


@lru_cache(maxsize=8)
def code_fingerprint(parts: tuple[str, ...]) -> str:
    """16 hex digits of what the named files and folders of the package do.

    Comments, docstrings and layout do not count.
    """
    root = Path(xray_registration.__file__).parent
    digest = hashlib.sha256()
    for part in parts:
        path = root / part
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in files:
            if file.suffix in (".py", ".cpp", ".json") and file.is_file():
                digest.update(file.relative_to(root).as_posix().encode())
                digest.update(_essence(file))
    return digest.hexdigest()[:16]


def _essence(file: Path) -> bytes:
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return text.encode()
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body[0] = ast.Pass()
    return ast.dump(tree).encode()
