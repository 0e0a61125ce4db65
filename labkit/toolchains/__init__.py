"""From source to wasm: one module a language, each with a `build`."""

from labkit.toolchains._errors import (
    BuildFailed,
    CompileError,
    Diagnostic,
    SourceError,
    ToolchainMissing,
)
from labkit.toolchains._process import Progress
from labkit.toolchains.go import Build, Go, Tool, build, build_tool, find_go

__all__ = [
    "Build",
    "BuildFailed",
    "CompileError",
    "Diagnostic",
    "Go",
    "Progress",
    "SourceError",
    "Tool",
    "ToolchainMissing",
    "build",
    "build_tool",
    "find_go",
]
