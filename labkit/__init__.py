"""labkit: learn by doing how a gateway plugin in WebAssembly is written, shipped, hot-loaded and measured."""

from labkit.errors import LabkitError, UsageError

__all__ = ["LabkitError", "UsageError", "__version__"]

__version__ = "0.1.0"
