"""Where the kit's own files are: manifests, the mock plugin, the Go programs that the lab builds.

In a checkout they stand at the top level, where a learner edits them; in an installed wheel they travel inside the
package.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def checkout() -> Path | None:
    """The checkout that this package runs from, or None when it was installed from a wheel."""
    top = _PACKAGE.parent
    return top if (top / "pyproject.toml").is_file() and (top / "manifests").is_dir() else None


def path(name: str) -> Path:
    """The file or folder `name`, relative to the checkout's top level, such as `manifests/quickstart.yaml`.

    Raises:
        FileNotFoundError: The kit has no such file.
    """
    found = (checkout() or _PACKAGE / "_files") / name
    if not found.exists():
        raise FileNotFoundError(f"labkit has no file {name!r} ({found})")
    return found
