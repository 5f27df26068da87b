"""Markdown that an agent or a customer wrote, as HTML that can do nothing but be read."""

from collections.abc import Sequence

import nh3
from django.utils.html import escape
from django.utils.safestring import SafeString
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

TEXT = {"p", "br", "hr", "strong", "em", "ul", "ol", "li", "code", "pre", "blockquote", "a"}
TABLE = {"table", "thead", "tbody", "tr", "th", "td"}
# nh3 would let title and lang pass on every tag, were "*" not named.
ATTRIBUTES: dict[str, set[str]] = {"*": set(), "a": {"href"}, "ol": {"start"}}
SCHEMES = {"http", "https", "mailto"}
MAX_LENGTH = 50_000  # characters; what is longer is shown as it was written


def rich(text: str) -> SafeString:
    """Text without markdown keeps its line breaks; a heading is a bold line, an image its alt text.

    A link that isn't absolute loses its address: it would lead into this console.
    """
    source = text.encode("utf-8", "replace").decode()
    html = MARKDOWN.render(source) if len(source) <= MAX_LENGTH else _verbatim(source)
    return SafeString(
        nh3.clean(
            html,
            tags=TEXT | TABLE,
            attributes=ATTRIBUTES,
            url_schemes=SCHEMES,
            url_relative="deny",
            link_rel="noopener noreferrer nofollow",
        )
    )


def _verbatim(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def _markdown() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table")
    # In a letter, a line of dashes is a signature's and an indent is only an indent.
    markdown.disable(["lheading", "code"])
    markdown.add_render_rule("image", _alt)
    markdown.add_render_rule("heading_open", _bold)
    markdown.add_render_rule("heading_close", _bold_end)
    return markdown


def _alt(
    _: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    return escape(tokens[index].content)


def _bold(*_: object) -> str:
    return "<p><strong>"


def _bold_end(*_: object) -> str:
    return "</strong></p>\n"


MARKDOWN = _markdown()
