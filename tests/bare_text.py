"""Words in templates that no translation can reach."""

import re
from html.parser import HTMLParser
from pathlib import Path

SPOKEN = {"title", "aria-label", "aria-description", "placeholder", "alt", "label"}
# Names and the machine's own words, the same in every language.
SAME = re.compile(
    r"\b(Countersign|sha-256|created_at|JSON|UTC|Ctrl|Esc|null|true|false|__end__"
    r"|(actor|action|thread|review|decision|after|before):\S*|\w+\.(json|toml))"
)
TRANSLATED = re.compile(r"{%\s*blocktranslate\b.*?{%\s*endblocktranslate\s*%}", re.S)
NOTED = re.compile(r"{%\s*comment\b.*?{%\s*endcomment\s*%}|{#.*?#}", re.S)
# What a page puts between < and > besides what it says: `{% block body_attributes %} class="…"`.
ATTRIBUTES = re.compile(r"{%\s*block \w*attributes %}.*?$|{% block data %}.*?$", re.M)
TAG = re.compile(r"{%.*?%}|{{.*?}}", re.S)
# A tag's own words: `|default:"unknown"`, `with name="Older"`; not `with tree="state-tree"`.
LITERAL = re.compile(
    r"""(?:\|default:(?=["'][^"']*[a-z]{3})|\bwith\s[^%]*?\w=(?=["'][^"']*[ A-Z]))"""
    r"""(["'])([^"']*)\1"""
)
WORD = re.compile(r"[^\W\d_]{2,}")


class Words(HTMLParser):
    """Collects the words of a template from which all that is translated was taken out."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.is_code = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.is_code = tag in {"script", "style"}
        for name, value in attrs:
            if name in SPOKEN or (name.startswith("data-") and " " in (value or "")):
                self.handle_data(value or "")

    def handle_endtag(self, tag: str) -> None:
        self.is_code = False

    def handle_data(self, data: str) -> None:
        if not self.is_code and WORD.search(SAME.sub("", data)):
            self.found.append(" ".join(data.split()))


def bare(path: Path) -> list[str]:
    """The texts, attributes and arguments of a template that say something untranslated."""
    source = NOTED.sub("", TRANSLATED.sub("", path.read_text(encoding="utf-8")))
    said = TAG.sub("", ATTRIBUTES.sub("", source))
    reader = Words()
    reader.feed(said if "<" in said else f"<i {said}>")  # or it is included within a tag
    reader.close()
    tags = [tag for tag in TAG.findall(source) if "translate" not in tag]
    return reader.found + [match[2] for tag in tags for match in LITERAL.finditer(tag)]
