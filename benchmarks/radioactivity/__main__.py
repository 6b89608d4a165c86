"""Radioactivity of students of marked text, into ``benchmarks/results/radioactivity.json``.

2 cores, from nothing: about 100 minutes in two processes, summed from its parts (a marked student takes 17 to 35
minutes on a busy core, a clean one 3). ``--shard I/N`` makes the I-th of N parts of texts, students and answers; a run
without shard then makes the table (3 minutes). Resumable: what is finished is kept in
``benchmarks/radioactivity/cache/``.
Run as: python -m benchmarks.radioactivity [--shard I/N]
"""

from __future__ import annotations

import argparse

from benchmarks.parts import shard_of
from benchmarks.radioactivity import plots, score, texts
from benchmarks.radioactivity.students import CLEAN, CONTROL, MARKED, answers, predictions
from benchmarks.rows import show, write


def prepare(shard: int, shards: int) -> None:
    """Makes one shard's students and what they say. Texts must be whole before students are trained on them."""
    for number, name in enumerate(texts.SCHEMES):
        if number % shards == shard:
            texts.rows(name)
    for student in (*MARKED, CONTROL, *CLEAN)[shard::shards]:
        answers(student)
        for name in [student.marked] if student.marked else score.STATISTICS:
            for mode in score.modes(name):
                if mode != "closed":
                    predictions(student, "unmarked" if mode == "reading unmarked" else name)
        print(f"asked {student.name}", flush=True)


def main() -> None:
    """A shard of the work, or all of it and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shard", type=shard_of, help="I/N: the I-th of N parts of the preparation, and no table")
    options = parser.parse_args()
    if options.shard:
        prepare(*options.shard)
        return
    prepare(0, 1)
    null = score.null()
    table = [*score.marked_rows(), *score.control_rows(), *score.clean_rows(null)]
    write("radioactivity", table)
    plots.draw(table, [10**p for _, others in null.values() for under in others for p in under])
    show(table)


if __name__ == "__main__":
    main()
