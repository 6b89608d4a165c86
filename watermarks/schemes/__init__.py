"""Token-level schemes, one a file, behind one protocol and one registry."""

from watermarks.schemes.base import BinomialLaw, Scheme, make_scheme, scheme_names
from watermarks.schemes.kgw import Kgw

__all__ = ["BinomialLaw", "Kgw", "Scheme", "make_scheme", "scheme_names"]
