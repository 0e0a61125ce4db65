"""What notebooks show: tables of what the library returns."""

from labkit.ui.table import Table

__all__ = ["Table"]
