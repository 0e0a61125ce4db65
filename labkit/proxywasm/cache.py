"""Compiled modules on disk, so that only the first load of a module pays for its compilation.

The key covers the module's bytes, the engine's version and its configuration, the machine's architecture and the file
format. A file is written under another name and renamed, so that readers and concurrent writers only ever see whole
files; a file that is damaged nevertheless is found by its checksum, before the engine would map it, and made anew.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.metadata
import os
import platform
import sys
import tempfile
from pathlib import Path

import wasmtime

from labkit.proxywasm._engine import Engine
from labkit.proxywasm.errors import InvalidModule

_FORMAT = "1"


def _default_directory() -> Path:
    if configured := os.environ.get("LABKIT_CACHE"):
        return Path(configured) / "modules"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/labkit/modules"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "labkit" / "modules"


class ModuleCache:
    """A directory of compiled modules; `directory=None` compiles every time.

    It keeps to about `limit` bytes: those that were not used for the longest time go first.

    The files are machine code: the directory must belong to the user alone, and is made so.
    """

    def __init__(self, directory: Path | None, *, limit: int = 2 << 30) -> None:
        self.directory = directory
        self.limit = limit

    @classmethod
    def default(cls) -> ModuleCache:
        """The user's cache directory, or `$LABKIT_CACHE/modules`."""
        return cls(_default_directory())

    def get(self, engine: Engine, code: bytes, name: str = "<bytes>") -> wasmtime.Module:
        """The compiled module of these bytes.

        Raises:
            InvalidModule: The engine refuses the bytes.
        """
        if self.directory is None:
            return self._compile(engine, code, name)
        path = self.path(engine, code)
        module = self._load(engine, path)
        if module is None:
            module = self._compile(engine, code, name)
            # A cache that cannot be written (full disk, read-only home) costs time, nothing else.
            with contextlib.suppress(OSError):
                self._store(path, bytes(module.serialize()))
                self._make_room(path)
        return module

    def path(self, engine: Engine, code: bytes) -> Path:
        """Where the compiled form of these bytes is kept."""
        assert self.directory is not None
        key = "\0".join(
            (_FORMAT, importlib.metadata.version("wasmtime"), str(engine.key), sys.platform, platform.machine())
        )
        digest = hashlib.sha256(key.encode() + b"\0" + hashlib.sha256(code).digest()).hexdigest()
        return self.directory / f"{digest}.cwasm"

    @staticmethod
    def _compile(engine: Engine, code: bytes, name: str) -> wasmtime.Module:
        try:
            return wasmtime.Module(engine.wasmtime, code)
        except wasmtime.WasmtimeError as error:
            raise InvalidModule("the engine refuses it", module=name, details=str(error)) from None

    @staticmethod
    def _load(engine: Engine, path: Path) -> wasmtime.Module | None:
        try:
            if not _owned_by_user(path):
                return None
            checksum = path.with_suffix(".sha256").read_text()
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != checksum:
                    return None
            module = wasmtime.Module.deserialize_file(engine.wasmtime, str(path))
            os.utime(path)
            return module
        except (OSError, UnicodeDecodeError, wasmtime.WasmtimeError):
            return None

    def _make_room(self, newest: Path) -> None:
        files = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in newest.parent.glob("*.cwasm"))
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self.limit or path == newest:
                return
            path.unlink(missing_ok=True)
            path.with_suffix(".sha256").unlink(missing_ok=True)
            total -= size

    @staticmethod
    def _store(path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        checksum = hashlib.sha256(data).hexdigest()
        for target, content in ((path, data), (path.with_suffix(".sha256"), checksum.encode())):
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                os.replace(temporary, target)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise


def _owned_by_user(path: Path) -> bool:
    """Whether nobody else can have written the file: it is mapped as machine code."""
    if not hasattr(os, "getuid"):
        return True
    status = path.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


assert ctypes.sizeof(ctypes.c_void_p) == 8, "the engine supports 64-bit machines only"
