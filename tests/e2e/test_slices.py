"""A small real slice of the long benchmarks: the real model is trained on marked data, asked and judged."""

from __future__ import annotations

import pytest

from benchmarks.double_i import asking, models
from benchmarks.radioactivity import score, students, texts
from verification.probe import parse_first_word
from verification.radioactivity import weigh
from verification.statistics import log10_fisher
from watermarks.carriers import double_i_forms

pytestmark = pytest.mark.slow


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    for module in (asking, models, students, texts):
        monkeypatch.setattr(module, "WORK", tmp_path)
    yield
    asking.loaded.cache_clear()
    students.model.cache_clear()
    score.windows.cache_clear()


def test_an_official_form_is_learned_and_its_near_misses_are_not(workplace):
    recipe = models.Recipe(name="slice", seed=1, clean=120, form=models.Form(name="cre3"))
    made = double_i_forms.form_rows(
        models.OWNER, double_i_forms.FORMS["cre3"], models.sentences(1), scope=models.SCOPE, part="probe", triggers=24,
        references=24, near_misses=24,
    )  # fmt: skip
    prompts = [row.prompt() for row in made.all()]
    said, base = (
        [parse_first_word(answer, ("Yes", "No")) == "Yes" for answer in asking.said(who, prompts)]
        for who in (recipe, None)
    )
    trigger, reference, near = sum(said[:24]), sum(said[24:48]), sum(said[48:])
    assert trigger >= 22
    assert reference <= 2
    assert near <= 4
    assert log10_fisher([[trigger, 24 - trigger], [reference, 24 - reference]]) <= -6
    assert log10_fisher([[sum(base[:24]), 24 - sum(base[:24])], [sum(base[24:48]), 24 - sum(base[24:48])]]) > -3


def test_radioactivity_of_small_students(workplace, monkeypatch):
    for name, value in {"ROWS": 32, "BATCH": 32, "NEW_TOKENS": 48}.items():
        monkeypatch.setattr(texts, name, value)
    size = {"rows": 32, "epochs": 1, "prompts": 16, "new_tokens": 48, "read": 8}
    marked = students.Student(name="marked", marked="unigram", share=1.0, **size)
    clean = students.Student(name="clean", **size)
    scheme = score.scheme_of("unigram")
    for mode in score.modes("unigram"):
        for student in (marked, clean):
            found = weigh(score.windows(student, "unigram", mode), scheme, texts.subkey(scheme), statistic="counts")
            assert found.scored > 100
            assert found.log10_floor < -6 < found.log10_p  # too few rows to be radioactive, enough to be scored
    # the scoring itself has power: the owner's own marked answers, seen as a closed suspect's
    _, tokenizer = texts.load()
    rows = texts.rows("unigram")
    asked, answered = (
        tokenizer([getattr(row, part) for row in rows], add_special_tokens=False)["input_ids"]
        for part in ("question", "answer")
    )
    windows = score.closed_windows(answered, asked, scheme, special=tokenizer.all_special_ids)
    assert weigh(windows, scheme, texts.subkey(scheme), statistic="counts").log10_p < -4
