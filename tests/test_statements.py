"""A full disk and a timeout at some of the statements of a decision; `make faults` tries each."""

from tests.faults import statements


def test_what_fails_while_a_person_decides_leaves_nothing_behind(clean, as_):
    told = statements.decide(lambda: as_("rita"), at_most=8)
    assert told.wrong == []
    assert told.faults >= 6


def test_what_fails_while_a_worker_applies_is_done_again_once(clean, as_):
    told = statements.apply(lambda: as_("rita"), at_most=8)
    assert told.wrong == []
    assert told.faults >= 6
