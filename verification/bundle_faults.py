"""What can be wrong with an evidence bundle: a closed set of names that programs can tell apart."""

from __future__ import annotations

from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

from countermark.errors import CountermarkError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator

_HINT = "do not rely on it; ask whoever made the bundle for a whole one"
MALFORMED = (
    CountermarkError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip
"""What reading of foreign data may raise: whatever it is, the data are not what they should be."""


class Failure(StrEnum):
    """The class of a failure; the first word of every message about one."""

    LAYOUT = "layout"  # a file is missing, unknown, linked or too large, or its JSON is not in the one spelling
    SIGNATURE = "signature"  # no statement, or a signature that does not fit it
    SIGNER = "signer"  # signed by others than the plan, or the reader, expects
    DIGEST = "digest"  # a file is not the one that was signed
    PLAN = "plan"  # no plan, or one that could not have been sealed
    LEDGER = "ledger"  # a proof that does not hold, of another thing, or signed by no known log
    TIMESTAMP = "timestamp"  # a time stamp that does not hold, or of another thing
    TIME = "time"  # the plan cites time evidence that is not there, or says otherwise
    OPENING = "opening"  # what was opened is not what had been committed to
    PROBES = "probes"  # the probes do not derive again
    RELEASE = "release"  # a manifest of another release, or one that does not hold the marks
    ANSWERS = "answers"  # an answer dropped, doubled, reordered, added or read otherwise than its raw text
    TRANSCRIPT = "transcript"  # what was received is not what was scored
    RESULTS = "results"  # the verdicts are not those that follow


class BundleError(IntegrityError):
    """A bundle that proves nothing, with the class of what is wrong: the message starts with its name."""

    def __init__(self, failure: Failure, message: str, *, hint: str = "") -> None:
        super().__init__(f"{failure}: {message}", hint=hint or _HINT)
        self.failure = failure


@contextmanager
def failing_as(failure: Failure) -> Iterator[None]:
    """Names whatever goes wrong inside: foreign data may be of any shape."""
    try:
        yield
    except BundleError:
        raise
    except CountermarkError as error:
        raise BundleError(failure, error.message, hint=error.hint) from error
    except MALFORMED as error:
        raise BundleError(failure, f"got data of another shape ({type(error).__name__}), expected format 1") from error
