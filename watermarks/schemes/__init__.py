"""Token-level schemes, one a file, behind one protocol and one registry."""

from watermarks.schemes.base import Scheme, Sliding, make_scheme, scheme_names
from watermarks.schemes.gumbel import Gumbel
from watermarks.schemes.kgw import Kgw
from watermarks.schemes.laws import BinomialLaw, CountLaw, GammaLaw, LatticeLaw
from watermarks.schemes.tournament import Tournament
from watermarks.schemes.unigram import Unigram

__all__ = [
    "BinomialLaw",
    "CountLaw",
    "GammaLaw",
    "Gumbel",
    "Kgw",
    "LatticeLaw",
    "Scheme",
    "Sliding",
    "Tournament",
    "Unigram",
    "make_scheme",
    "scheme_names",
]
