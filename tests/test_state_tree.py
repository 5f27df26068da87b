"""The state's tree as it is on the page: deep, wide and long values."""

import re

from django.template.loader import render_to_string

from approvals.state_tree import tree


def page(values: object) -> str:
    return render_to_string("_tree.html", {"nodes": tree(values)})


def nested(levels: int) -> dict[str, object]:
    value: dict[str, object] = {"bottom": "here it ends"}
    for level in range(levels, 0, -1):
        value = {f"level_{level}": value, "beside": level}
    return value


def test_sixty_levels_are_all_there_and_squeeze_nothing_away():
    html = page(nested(60))
    assert html.count("<ul") == html.count("</ul>") == 60
    assert html.count("<li") == html.count("</li>") == 121
    assert "here it ends" in html
    # Six levels are indented; of the deeper ones, a number says how deep.
    assert html.count('class="deep"') == 54
    assert re.findall(r'class="depth"[^>]*>(\d+)<', html) == [str(n) for n in range(7, 61)]


def test_a_tree_closes_each_level_before_the_next_line_of_the_one_above():
    html = page({"a": {"b": [], "c": [1]}, "d": {}})
    order = re.findall(r'class="k">(\w+)|(</ul>)', html)
    assert [key or "close" for key, _ in order] == [
        *("a", "b", "close", "c", "0", "close", "close", "d", "close"),
    ]


def test_a_long_text_is_folded_and_its_length_said():
    html = page({"note": "word " * 1000, "short": "word"})
    assert '<span class="size">5,000 chars</span>' in html
    assert html.count("<details>") == 1


def test_of_a_thousand_items_the_rest_is_counted():
    assert "801 more" in page({"list": list(range(1000))})
