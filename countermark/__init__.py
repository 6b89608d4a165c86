"""The ground floor of countermark: errors, durable files, manifests and the version.

Nothing here knows what a watermark is, and importing it needs no torch.
"""

from countermark.version import __version__

__all__ = ["__version__"]
