"""What a release's manifest says of its marks: digests that bind a later plan, and roots under which leaves open.

Neither says what is marked. With them in a dated manifest, an owner cannot choose after looking at a suspect which
parameters a plan names; and an auditor can be shown the planned triggers while the key stays secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verification.leafing import leaf_root
from watermarks.leaves import KEYED, mark_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verification.plan import Claim
    from watermarks.keys import Key


def published(key: Key, marks: Mapping[Claim, tuple[Mapping[str, Any], Sequence[str]]]) -> dict[str, dict[str, str]]:
    """Manifest fields ``marks`` and ``leaf_roots``, from every claim's parameters and answers."""
    return {
        "marks": {str(claim): mark_digest(claim, mark, answers) for claim, (mark, answers) in marks.items()},
        "leaf_roots": {str(claim): leaf_root(key, claim, mark) for claim, (mark, _) in marks.items() if claim in KEYED},
    }
