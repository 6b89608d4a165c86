"""The one place where the version is written."""

__version__ = "0.1.0"

FORMAT_VERSION = 1
"""Version of every file format in ``docs/formats.md``; a reader refuses a number it does not know."""
