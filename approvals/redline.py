"""What an edit changed, word by word, the way a person would mark it on paper."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Literal, NamedTuple

# Both texts side by side, cut into spans. A span is unchanged when its two halves are equal;
# joining the first halves always gives back the text before, the second halves the text after.
Span = tuple[str, str]
Kind = Literal["same", "ins", "del"]

FOLD_BELOW = 3  # words: a shorter unchanged run between two changes is folded in
PAIRING_LIMIT = 250_000  # pairs of sentences weighed in one block; above it, replaced whole

# Chinese and Japanese put no spaces between words: there a character counts as a word.
WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff]"
    r"|[$£€]?[^\W\u3040-\u30ff\u3400-\u9fff]+(?:[.,:/@'’-][^\W\u3040-\u30ff\u3400-\u9fff]+)*%?"
)
TOKEN = re.compile(rf"({WORD.pattern}|\S|^)(\s*)")
SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])|\n\s*")


class Piece(NamedTuple):
    """A run of text that stayed, came or went; its spaces and line breaks are the real ones."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Redline:
    """`same` + `del` pieces read as the text before, `same` + `ins` as the text after."""

    pieces: tuple[Piece, ...]

    def __iter__(self) -> Iterator[Piece]:
        return iter(self.pieces)

    @property
    def changed(self) -> bool:
        return any(piece.kind != "same" for piece in self.pieces)

    @property
    def added(self) -> int:
        """In words."""
        return self._words("ins")

    @property
    def removed(self) -> int:
        """In words."""
        return self._words("del")

    def _words(self, kind: Kind) -> int:
        return sum(_word_count(piece.text) for piece in self.pieces if piece.kind == kind)


def redline(before: str, after: str) -> Redline:
    spans = _fold(_by_sentence(_sentences(before), _sentences(after)))
    return Redline(tuple(piece for span in _join(_trim(spans)) for piece in _pieces(span)))


def _pieces(span: Span) -> Iterator[Piece]:
    before, after = span
    if before == after:
        yield Piece("same", before)
        return
    if before:
        yield Piece("del", before)
    if after:
        yield Piece("ins", after)


# Sentences


def _sentences(text: str) -> list[str]:
    cuts = [0, *(match.end() for match in SENTENCE_END.finditer(text)), len(text)]
    return [text[start:end] for start, end in pairwise(cuts) if start < end]


def _by_sentence(before: list[str], after: list[str]) -> Iterator[Span]:
    for a, b in _blocks(before, after):
        if a == b:
            yield from zip(a, b, strict=True)
        else:
            yield from _trim(_by_pair(a, b))


def _by_pair(before: list[str], after: list[str]) -> Iterator[Span]:
    """What lies between two sentences that belong together was written anew."""
    i = j = 0
    for pair_i, pair_j in _pairs(before, after):
        yield "".join(before[i:pair_i]), "".join(after[j:pair_j])
        yield from _by_word(before[pair_i], after[pair_j])
        i, j = pair_i + 1, pair_j + 1
    yield "".join(before[i:]), "".join(after[j:])


def _pairs(before: list[str], after: list[str]) -> list[tuple[int, int]]:
    """Which sentences belong together, in reading order: the choice that shares most words."""
    if len(before) * len(after) > PAIRING_LIMIT:
        return []
    shared = _shared_words(before, after)
    best = [[0] * (len(after) + 1)]
    for row in reversed(shared):
        below, line = best[-1], [0]
        for j in range(len(after) - 1, -1, -1):
            paired = below[j + 1] + row[j] if j in row else 0
            line.append(max(below[j], line[-1], paired))
        best.append(line[::-1])
    best.reverse()
    return list(_walk(best, shared))


def _walk(best: list[list[int]], shared: list[dict[int, int]]) -> Iterator[tuple[int, int]]:
    i = j = 0
    while i < len(shared) and j < len(best[0]) - 1:
        if best[i][j] == best[i + 1][j]:
            i += 1
        elif best[i][j] == best[i][j + 1]:
            j += 1
        else:
            yield i, j
            i, j = i + 1, j + 1


def _shared_words(before: list[str], after: list[str]) -> list[dict[int, int]]:
    """For each sentence before, the sentences after that keep half of it, and how much."""
    holders: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for j, sentence in enumerate(after):
        for word, count in _vocabulary(sentence).items():
            holders[word].append((j, count))
    return [_keepers(_vocabulary(sentence), holders) for sentence in before]


def _keepers(
    words: Counter[str], holders: defaultdict[str, list[tuple[int, int]]]
) -> dict[int, int]:
    kept: Counter[int] = Counter()
    for word, count in words.items():
        for j, other in holders.get(word, ()):
            kept[j] += min(count, other)
    return {j: n for j, n in kept.items() if 2 * n >= words.total()}


def _vocabulary(sentence: str) -> Counter[str]:
    return Counter(word for word, _ in TOKEN.findall(sentence))


# Words


def _by_word(before: str, after: str) -> list[Span]:
    """A sentence that keeps less than half its words is shown replaced whole."""
    spans = _fold(_word_spans(before, after))
    kept = sum(_word_count(a) for a, b in spans if a == b)
    return [(before, after)] if 2 * kept < _word_count(before) else spans


def _word_spans(before: str, after: str) -> Iterator[Span]:
    """Words are compared without the space that follows them, so a new line is no new word."""
    a_gaps, b_gaps = _tokens(before), _tokens(after)
    i = j = 0
    for a, b in _blocks([word for word, _ in a_gaps], [word for word, _ in b_gaps]):
        a_run, b_run = a_gaps[i : i + len(a)], b_gaps[j : j + len(b)]
        i, j = i + len(a), j + len(b)
        if a != b:
            yield "".join(map("".join, a_run)), "".join(map("".join, b_run))
            continue
        for (word, a_gap), (_, b_gap) in zip(a_run, b_run, strict=True):
            yield word, word
            yield a_gap, b_gap


def _tokens(text: str) -> list[tuple[str, str]]:
    return TOKEN.findall(text)


def _word_count(text: str) -> int:
    return sum(1 for _ in WORD.finditer(text))


# Spans


def _fold(spans: Iterable[Span]) -> list[Span]:
    """Join neighbours, and runs too short to be worth reading into the changes around them."""
    joined = _join(spans)
    folded = joined[:1]
    for index, span in enumerate(joined[1:], start=1):
        inside = index < len(joined) - 1
        if _changed(folded[-1]) and (_changed(span) or (inside and _is_short(span[0]))):
            folded[-1] = _add(folded[-1], span)
        else:
            folded.append(span)
    return folded


def _join(spans: Iterable[Span]) -> list[Span]:
    joined: list[Span] = []
    for span in spans:
        if joined and _changed(joined[-1]) == _changed(span):
            joined[-1] = _add(joined[-1], span)
        elif any(span):
            joined.append(span)
    return joined


def _trim(spans: Iterable[Span]) -> Iterator[Span]:
    """Space that ends both halves of a change stayed: marks end with their last word."""
    for before, after in spans:
        space = _common_space(before, after)
        yield before[: len(before) - space], after[: len(after) - space]
        if space:
            yield before[-space:], after[-space:]


def _common_space(before: str, after: str) -> int:
    """How many characters of space the two end with alike."""
    if before == after:
        return 0
    a, b = before[len(before.rstrip()) :], after[len(after.rstrip()) :]
    return _alike(a[::-1], b[::-1])


def _add(left: Span, right: Span) -> Span:
    return left[0] + right[0], left[1] + right[1]


def _changed(span: Span) -> bool:
    return span[0] != span[1]


def _is_short(text: str) -> bool:
    """A line break is never folded in: changes in two paragraphs stay two changes."""
    return "\n" not in text and _word_count(text) < FOLD_BELOW


def _blocks(a: list[str], b: list[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Equal and unequal stretches. The ends alike go first: they are most of any real edit."""
    head = _alike(a, b)
    tail = _alike(a[head:][::-1], b[head:][::-1])
    a_end, b_end = len(a) - tail, len(b) - tail
    yield a[:head], b[:head]
    middle = SequenceMatcher(None, a[head:a_end], b[head:b_end])
    for _, i, i_end, j, j_end in middle.get_opcodes():
        yield a[head + i : head + i_end], b[head + j : head + j_end]
    yield a[a_end:], b[b_end:]


def _alike(a: Sequence[str], b: Sequence[str]) -> int:
    """How many items the two begin with alike."""
    return next(
        (n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
