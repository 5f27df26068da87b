import pytest

from approvals.richtext import MAX_LENGTH, rich
from tests.effort import effort


def test_plain_text_keeps_its_line_breaks():
    assert rich("Dear Maeve,\nthank you.\n\nKind regards") == (
        "<p>Dear Maeve,<br>\nthank you.</p>\n<p>Kind regards</p>\n"
    )


@pytest.mark.parametrize("text", ["Thanks\n--\nJo", "Thanks\n---\nJo", "Thanks\n===\nJo"])
def test_a_signature_line_makes_no_heading(text: str):
    assert "<strong>" not in rich(text)
    assert "Jo" in rich(text)


def test_an_indented_line_is_not_code():
    assert rich("    indented") == "<p>indented</p>\n"


def test_common_markdown_is_kept():
    html = rich("**b** *i* `c`\n\n- one\n\n> said\n\n```\nx < 1\n```\n\n|a|\n|-|\n|1|")
    for part in (
        "<strong>b</strong>",
        "<em>i</em>",
        "<code>c</code>",
        "<li>one</li>",
        "<blockquote>",
        "<pre><code>x &lt; 1",
        "<td>1</td>",
    ):
        assert part in html


def test_a_list_keeps_the_number_it_starts_with():
    assert '<ol start="3">' in rich("3. three\n4. four")


def test_a_heading_is_a_bold_line():
    assert rich("# Refund *now*") == "<p><strong>Refund <em>now</em></strong></p>\n"


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<p style='position:fixed' onclick=x>hi</p>",
        "<!-- hidden -->",
    ],
)
def test_html_is_shown_as_it_was_written(text: str):
    assert rich(text) == f"<p>{text.replace('<', '&lt;').replace('>', '&gt;')}</p>\n"


def test_an_image_is_its_alternative_text():
    html = rich("See ![the <b>bill](https://evil.example/pixel.png)")
    assert html == "<p>See the &lt;b&gt;bill</p>\n"


def test_a_link_opens_nothing_of_ours_to_its_target():
    assert rich("[bank](https://bank.example/x 'tip')") == (
        '<p><a href="https://bank.example/x" rel="noopener noreferrer nofollow">bank</a></p>\n'
    )


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "&#106;avascript:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "file:///etc/passwd",
        "ftp://host/x",
        "/logout",
        "//evil.example",
        "#main",
        "../admin/",
    ],
)
def test_only_absolute_web_and_mail_addresses_are_links(address: str):
    assert "href" not in rich(f"[x]({address}) and [y]\n\n[y]: {address}")


def test_mail_addresses_are_links():
    assert 'href="mailto:a@b.example"' in rich("<a@b.example>")


def test_what_cannot_be_encoded_is_replaced():
    html = rich("a\ud800b\x00c")
    assert html.encode() == "<p>a?b\ufffdc</p>\n".encode()


def test_the_result_needs_no_escaping():
    assert hasattr(rich("*x*"), "__html__")


def test_very_long_text_is_shown_as_it_was_written():
    html = rich("**bold** <b>" + "x" * MAX_LENGTH)
    assert html.startswith("<pre>**bold** &lt;b&gt;x")


@pytest.mark.parametrize("part", ["[", "![", "[a](b", "*a **b ", "> ", "|\n", "<", "`", "- "])
def test_text_made_to_be_slow_is_not(part: str):
    text = "|a|b|\n|-|-|\n" + (part * MAX_LENGTH)[: MAX_LENGTH - 20]
    assert effort(lambda: rich(text)) < 100  # 31 at most as it is
