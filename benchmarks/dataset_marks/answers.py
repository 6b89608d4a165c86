"""What classifiers answered, kept with the results: a table can be made again, or gone on with, without training.

A file a classifier in ``benchmarks/results/dataset_marks/``, bound to the rows it was trained on and to how; delete the
folder to measure everything anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.rows import RESULTS
from countermark.files import make_dir
from countermark.manifest import digest, read_checked_json, write_checked_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FOLDER = RESULTS / "dataset_marks"


class Kept:
    """What is known of one classifier.

    Args:
        name: of the file.
        bound: digest of all that decides the classifier; what was kept of another one is not taken.
        labels: every label it can answer; answers are kept as their indices, a character each.
    """

    def __init__(self, name: str, bound: str, labels: Sequence[str]) -> None:
        self._path, self._bound, self._labels = FOLDER / f"{name}.json", bound, sorted(labels)
        self._body: dict[str, Any] = {"bound": bound, "labels": self._labels, "answers": {}}
        if self._path.exists():
            body = read_checked_json(self._path)
            if (body["bound"], body["labels"]) == (bound, self._labels):
                self._body = body

    def seconds(self, measure: Callable[[], float]) -> float:
        """How long its training took."""
        if "seconds" not in self._body:
            self._body["seconds"] = measure()
            self._write()
        return float(self._body["seconds"])

    def answers(self, variant: str, texts: Sequence[str], ask: Callable[[], Sequence[str]]) -> list[str]:
        """Its labels for ``texts``; asked now if these texts have not been asked under ``variant``."""
        found = self._body["answers"].get(variant)
        if found is None or found["texts"] != digest(list(texts)):
            said = "".join(str(self._labels.index(label)) for label in ask())
            found = self._body["answers"][variant] = {"texts": digest(list(texts)), "said": said}
            self._write()
        return [self._labels[int(index)] for index in found["said"]]

    def figures(self, what: str, given: object, measure: Callable[[], Any]) -> Any:  # noqa: ANN401 - JSON
        """Figures that were computed from ``given``."""
        found = self._body.get("figures", {}).get(what)
        if found is None or found["given"] != digest(given):
            found = {"given": digest(given), "found": measure()}
            self._body.setdefault("figures", {})[what] = found
            self._write()
        return found["found"]

    def _write(self) -> None:
        make_dir(FOLDER)
        write_checked_json(self._path, self._body)
