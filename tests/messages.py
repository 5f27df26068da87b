"""The catalogues of translations: what the sources say, kept in order, with no dates or paths.

`python -m tests.messages` brings locale/*/LC_MESSAGES/django.po up to date with the sources and
makes each .mo of its .po. New messages come in untranslated; tests/test_languages.py then fails
until somebody has written them. Needs Babel alone, no GNU gettext.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_javascript, extract_python
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parent.parent
LOCALE = ROOT / "locale"
PYTHON = ["approvals", "console"]
KEYWORDS: dict[str, Any] = dict.fromkeys(
    [
        *("_", "noop", "gettext", "gettext_lazy", "gettext_noop"),
        *("pgettext", "pgettext_lazy", "ngettext", "ngettext_lazy", "npgettext"),
    ]
)
HEADER = {
    "Project-Id-Version": "Countersign",
    "MIME-Version": "1.0",
    "Content-Type": "text/plain; charset=UTF-8",
    "Content-Transfer-Encoding": "8bit",
}


def templates() -> list[Path]:
    return sorted((ROOT / "templates").rglob("*.html"))


def extracted() -> set[tuple[str, Any]]:
    """Every (context, id) that the sources have; the id of a plural is a pair."""
    found: set[tuple[str, Any]] = set()
    for folder in PYTHON:
        for path in sorted((ROOT / folder).rglob("*.py")):
            source = io.BytesIO(path.read_bytes())
            found |= set(_keys(extract_python(source, KEYWORDS, [], {"encoding": "utf-8"})))
    for path in templates():
        calls = templatize(path.read_text(encoding="utf-8"))
        source = io.BytesIO(calls.encode())
        found |= set(_keys(extract_javascript(source, KEYWORDS, [], {"encoding": "utf-8"})))
    return found


def _keys(calls: Any) -> Iterator[tuple[str, Any]]:
    for _, name, said, _ in calls:
        words = [said] if isinstance(said, str) else list(said or [None])
        context = words.pop(0) if "pgettext" in name else ""
        plural = name.startswith("n") and name != "noop"
        if words and isinstance(words[0], str) and words[0]:
            yield context, tuple(words[:2]) if plural else words[0]


def po(language: str) -> Path:
    return LOCALE / language / "LC_MESSAGES" / "django.po"


def languages() -> list[str]:
    return sorted(path.parent.parent.name for path in LOCALE.glob("*/LC_MESSAGES/django.po"))


def read(language: str) -> Catalog:
    with po(language).open("rb") as file:
        return read_po(file, locale=language)


def key(message: Message) -> tuple[str, Any]:
    return message.context or "", message.id


class Said(list[Message]):
    """What write_mo asks of a catalogue."""

    charset = "utf-8"


def compiled(language: str) -> bytes:
    """The .mo of a .po, with its header alone: Babel's own would say when it was made."""
    header, *said = read(language)
    header.string = header_of(language)
    made = io.BytesIO()
    write_mo(made, Said([header, *said]))  # type: ignore[arg-type]
    return made.getvalue()


def header_of(language: str) -> str:
    catalogue = Catalog(locale=language)
    plural = f"nplurals={catalogue.num_plurals}; plural={catalogue.plural_expr};"
    fields = {**HEADER, "Language": language, "Plural-Forms": plural}
    return "".join(f"{name}: {value}\n" for name, value in fields.items())


def update(language: str) -> None:
    """The catalogue with what the sources have, and nothing else; what was translated stays."""
    known = {key(message): message for message in read(language) if message.id}
    catalogue = Catalog(locale=language, header_comment=f"# Countersign in {language}", fuzzy=False)
    for context, said in extracted():
        before = known.get((context, said))
        string = before.string if before else None
        catalogue.add(said, string, context=context or None)
    write(language, catalogue)


def written(language: str, catalogue: Catalog) -> str:
    """The .po, in the order of its messages."""
    text = io.BytesIO()
    write_po(text, catalogue, width=100, no_location=True, sort_output=True, omit_header=True)
    lines = "".join(f'"{line}\\n"\n' for line in header_of(language).splitlines())
    return f'msgid ""\nmsgstr ""\n{lines}\n{text.getvalue().decode().strip()}\n'


def write(language: str, catalogue: Catalog) -> None:
    po(language).write_text(written(language, catalogue), encoding="utf-8")
    po(language).with_suffix(".mo").write_bytes(compiled(language))


def main() -> None:
    for language in languages():
        update(language)
        missing = [one.id for one in read(language) if one.id and not all(_strings(one))]
        print(f"{language}: {len(missing)} untranslated")


def _strings(message: Message) -> list[str]:
    return list(message.string) if isinstance(message.string, tuple) else [message.string]


if __name__ == "__main__":
    main()
