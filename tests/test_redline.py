import random
import re

import pytest

from approvals.redline import Redline, redline
from tests.effort import effort

DRAFT = """Dear Maeve,

Thank you for telling us that your hours were cut. I am sorry to hear this.

We have noted that you will pay £60 today. We will not report this to the agencies.

Kind regards, Customer Care"""


def marked(line: Redline) -> str:
    signs = {"same": "{}", "del": "[-{}-]", "ins": "[+{}+]"}
    return "".join(signs[piece.kind].format(piece.text) for piece in line)


def before(line: Redline) -> str:
    return "".join(piece.text for piece in line if piece.kind != "ins")


def after(line: Redline) -> str:
    return "".join(piece.text for piece in line if piece.kind != "del")


def test_an_untouched_draft_is_one_unchanged_piece():
    line = redline(DRAFT, DRAFT)
    assert marked(line) == DRAFT
    assert (line.changed, line.added, line.removed) == (False, 0, 0)


def test_a_changed_word_is_marked_alone_and_counted():
    line = redline("A hard day for all of us.", "A long day for all of us.")
    assert marked(line) == "A [-hard-][+long+] day for all of us."
    assert (line.changed, line.added, line.removed) == (True, 1, 1)


def test_a_sentence_that_keeps_half_its_words_is_marked_word_by_word():
    line = redline("I am sorry to hear this.", "I am sorry; that is hard to write.")
    assert marked(line).startswith("I am sorry[-")


def test_a_sentence_that_keeps_less_than_half_is_replaced_whole():
    old = "We will not report this to the agencies."
    new = "October will show as late, but we will add no fee to this."
    assert marked(redline(old, new)) == f"[-{old}-][+{new}+]"


def test_two_unchanged_words_between_changes_are_folded_in():
    line = redline(
        "one two three four five six red and the blue", "one two three four five six a and the b"
    )
    assert marked(line) == "one two three four five six [-red and the blue-][+a and the b+]"


def test_three_unchanged_words_between_changes_stay():
    line = redline("red one two three blue four five", "a one two three b four five")
    assert marked(line) == "[-red-][+a+] one two three [-blue-][+b+] four five"


def test_changes_in_two_paragraphs_are_not_folded_together():
    line = redline(
        "We will pay now.\n\nShe must ring us.", "We will pay later.\n\nHe must ring us."
    )
    assert marked(line) == "We will pay [-now-][+later+].\n\n[-She-][+He+] must ring us."


def test_a_new_paragraph_leaves_its_neighbours_alone():
    new = DRAFT.replace("Kind regards", "Free advice: MoneyHelper.\n\nKind regards")
    expected = DRAFT.replace("Kind regards", "[+Free advice: MoneyHelper.\n\n+]Kind regards")
    assert marked(redline(DRAFT, new)) == expected


def test_sentences_around_a_rewritten_one_stay():
    new = DRAFT.replace("I am sorry to hear this.", "It cannot have been easy at all.")
    line = redline(DRAFT, new)
    assert [piece.text for piece in line if piece.kind == "del"] == ["I am sorry to hear this."]


def test_space_alone_is_a_change_without_words():
    line = redline("One two three.\nFour five six.", "One two three.\n\nFour five six.")
    assert marked(line) == "One two three.[+\n+]\nFour five six."
    assert (line.changed, line.added, line.removed) == (True, 0, 0)


def test_chinese_is_compared_by_character():
    line = redline("你好，我们会退款。", "你好，我们不会退款。")
    assert marked(line) == "你好，我们[+不+]会退款。"


@pytest.mark.parametrize("text", ["", " ", "\n\n", "word", "..", " lead and trail "])
def test_writing_all_anew_or_deleting_all_is_one_piece(text: str):
    assert [piece.text for piece in redline("", text)] == ([text] if text else [])
    assert [piece.text for piece in redline(text, "")] == ([text] if text else [])


@pytest.mark.parametrize("seed", range(300))
def test_both_texts_can_be_read_back_from_any_redline(seed: int):
    rng = random.Random(seed)
    old = _some_text(rng)
    new = _edited(rng, old)
    line = redline(old, new)
    assert (before(line), after(line)) == (old, new)
    assert all(piece.text for piece in line)
    assert line.changed == (old != new)


@pytest.mark.parametrize("seed", range(100))
def test_no_run_under_three_words_is_left_between_changes_in_a_line(seed: int):
    rng = random.Random(seed)
    old = _some_text(rng)
    pieces = list(redline(old, _edited(rng, old)))
    for piece in pieces[1:-1]:
        if piece.kind == "same" and "\n" not in piece.text and piece.text.strip():
            assert len(re.findall(r"[你好]|[^\W你好]+", piece.text)) >= 3


@pytest.mark.parametrize("sentences", [True, False])
def test_twenty_thousand_other_characters_take_no_noticeable_time(sentences: bool):
    rng = random.Random(1)
    old, new = (_long_text(rng, start, sentences) for start in "ab")
    lines: list[Redline] = []
    assert effort(lambda: lines.append(redline(old, new))) < 12  # 2.7 as it is
    assert (before(lines[0]), after(lines[0])) == (old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a. b. " * 3_300, "b. a. c. " * 2_200),
        ("." * 20_000 + "x", "." * 20_000 + "y"),
        (" " * 20_000 + "x", "\n" + " " * 20_000),
        ("a b " * 5_000, "b b a " * 3_300),
    ],
)
def test_text_made_to_be_slow_is_not(old: str, new: str):
    assert effort(lambda: redline(old, new)) < 20


def _some_text(rng: random.Random) -> str:
    words = ["we", "will", "pay", "£60", "not", "late", "fee", "x", "Maeve", "-", "你好。"]
    gaps = [" ", " ", " ", "  ", ". ", ".\n\n", "\n", ", "]
    return "".join(rng.choice(words) + rng.choice(gaps) for _ in range(rng.randint(0, 60)))


def _edited(rng: random.Random, text: str) -> str:
    for _ in range(rng.randint(0, 6)):
        start = rng.randint(0, len(text))
        end = min(len(text), start + rng.randint(0, 20))
        text = (
            text[:start]
            + rng.choice(["", "new ", "Quite so. ", "\n\n", _some_text(rng)])
            + text[end:]
        )
    return text


def _long_text(rng: random.Random, start: str, sentences: bool) -> str:
    words = [
        f"{start}{rng.randint(0, 800)}" + (". " if sentences and not n % 12 else " ")
        for n in range(6_000)
    ]
    return "".join(words)[:20_000]
