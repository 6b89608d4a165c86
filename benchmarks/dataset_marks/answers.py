"""What classifiers answered, kept with the results: a table can be made again, or gone on with, without training.

A file a classifier in ``benchmarks/results/dataset_marks/``, bound to the rows it was trained on and how, and to its
weights: answers of two trainings never stand together. Delete the folder to measure everything anew.
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
        model: trains it or finds it trained: its seconds, and the digest of its weights. Called only when something is
            not known yet; other weights than those that answered before make all answers void.
    """

    def __init__(self, name: str, bound: str, labels: Sequence[str], model: Callable[[], tuple[float, str]]) -> None:
        self._path, self._bound, self._labels, self._model = FOLDER / f"{name}.json", bound, sorted(labels), model

    @property
    def seconds(self) -> float:
        """How long its training took."""
        body = self._body()
        return float(body["seconds"] if "seconds" in body else self._of_model()["seconds"])

    def answers(self, texts: Sequence[str], ask: Callable[[], Sequence[str]]) -> list[str]:
        """Its labels for ``texts``; asked now if they were not asked before."""
        which = digest(list(texts))[:16]
        said = self._body()["answers"].get(which)
        if said is None:
            body = self._of_model()
            said = "".join(str(self._labels.index(label)) for label in ask())
            body["answers"][which] = said
            self._write(body)
        return [self._labels[int(index)] for index in said]

    def figures(self, given: object, measure: Callable[[], Any]) -> Any:  # noqa: ANN401 - JSON
        """Figures that are computed from ``given``."""
        which = digest(given)[:16]
        found = self._body()["figures"].get(which)
        if found is None:
            body, found = self._of_model(), measure()
            body["figures"][which] = found
            self._write(body)
        return found

    def _of_model(self) -> dict[str, Any]:
        """The body, emptied if the model is another than the one that answered."""
        seconds, weights = self._model()
        body = self._body()
        if body.get("weights") != weights:
            body = {**self._empty(), "weights": weights, "seconds": seconds}
            self._write(body)
        return body

    def _empty(self) -> dict[str, Any]:
        return {"bound": self._bound, "labels": self._labels, "answers": {}, "figures": {}}

    def _body(self) -> dict[str, Any]:
        if not self._path.exists():
            return self._empty()
        body: dict[str, Any] = read_checked_json(self._path)
        return body if (body["bound"], body["labels"]) == (self._bound, self._labels) else self._empty()

    def _write(self, body: dict[str, Any]) -> None:
        make_dir(FOLDER)
        write_checked_json(self._path, body)
