"""What can be wrong with a ledger, a checkpoint or a proof: a closed set of names that programs can tell apart."""

from __future__ import annotations

from enum import StrEnum

from countermark.errors import IntegrityError

_HINT = "do not use it as evidence; compare with a copy or an export"


class Fault(StrEnum):
    """The class of a failure; the first word of every message about one."""

    MALFORMED_NOTE = "malformed_note"  # not a signed note, or not a checkpoint
    UNKNOWN_SIGNER = "unknown_signer"  # a note that no known key signed
    BAD_SIGNATURE = "bad_signature"  # a known key's signature over something else
    WRONG_ORIGIN = "wrong_origin"  # a checkpoint of another log
    MALFORMED_PROOF = "malformed_proof"  # not a proof, or one of another shape
    WRONG_PROOF = "wrong_proof"  # a proof of something else
    ENTRY_CHANGED = "entry_changed"  # an entry's bytes do not have the hash stored beside them
    ENTRY_MISPLACED = "entry_misplaced"  # an entry says that it belongs elsewhere
    ENTRY_MISSING = "entry_missing"  # a gap
    ENTRY_MALFORMED = "entry_malformed"  # not a canonical event of a known kind
    ID_CHANGED = "id_changed"  # the look-up column does not hold the entry's id
    ID_DOUBLED = "id_doubled"  # two entries with one id
    TREE_CHANGED = "tree_changed"  # a stored node of the tree is not the hash of what is below it
    TRUNCATED = "truncated"  # a checkpoint knows more entries than there are
    REWRITTEN = "rewritten"  # the entries below a checkpoint are not those it was made over
    UNREADABLE = "unreadable"  # the database itself cannot be read


class LedgerError(IntegrityError):
    """An integrity failure with its class: the message starts with the fault's name."""

    def __init__(self, fault: Fault, message: str, *, hint: str = "") -> None:
        super().__init__(
            f"{fault}: {message}", hint=hint or "do not use it as evidence; compare with a copy or an export"
        )
        self.fault = fault
