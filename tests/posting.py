"""What a browser would post: the form of a page as the server sent it, filled in by name."""

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

import httpx


class Sent(HTMLParser):
    """The controls of one form, those outside it that name it included.

    `fields` is what would be posted; `options` are the values of each radio group and select;
    `buttons` those that send it to its own address, as (name, value), in the page's order.
    """

    def __init__(self, answer: Any, form_id: str = "decide") -> None:
        super().__init__()
        self.form_id, self.action = form_id, ""
        self.fields: dict[str, str] = {}
        self.options: dict[str, list[str]] = {}
        self.required: set[str] = set()
        self.buttons: list[tuple[str, str]] = []
        self._in_form = False
        self._textarea = self._select = ""
        self._text: list[str] = []
        self.feed(answer.content.decode())
        assert self.action, f"the page has no form {form_id}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._in_form = given.get("id") == self.form_id
            self.action = given["action"] if self._in_form else self.action
        elif given.get("form", self.form_id if self._in_form else "") == self.form_id:
            self._control(tag, given)
        elif tag == "option" and self._select:
            self._option(given)

    def _control(self, tag: str, given: Mapping[str, str]) -> None:
        name = given.get("name", "")
        submits = given.get("type", "submit") == "submit" and "formaction" not in given
        if tag == "button" and submits:
            self.buttons.append((name, given.get("value", "")))
        if tag == "option" and self._select:
            self._option(given)
        if not name or "disabled" in given:
            return
        if "required" in given:
            self.required.add(name)
        if tag == "textarea":
            self._textarea, self._text = name, []
        elif tag == "select":
            self._select = name
        elif tag == "input":
            self._input(name, given)

    def _input(self, name: str, given: Mapping[str, str]) -> None:
        if given.get("type") in {"radio", "checkbox"}:
            self.options.setdefault(name, []).append(given.get("value", "on"))
            if "checked" not in given:
                return
        self.fields[name] = given.get("value", "")

    def _option(self, given: Mapping[str, str]) -> None:
        options = self.options.setdefault(self._select, [])
        options.append(given.get("value", ""))
        if "selected" in given or len(options) == 1:
            self.fields[self._select] = given.get("value", "")

    def handle_data(self, data: str) -> None:
        if self._textarea:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea" and self._textarea:
            self.fields[self._textarea] = "".join(self._text).removeprefix("\n")
            self._textarea = ""
        elif tag == "select":
            self._select = ""
        elif tag == "form":
            self._in_form = False

    def also(self, given: Mapping[str, str]) -> dict[str, str]:
        """The fields with these changed; a name or a choice that the page has not got fails."""
        for name, value in given.items():
            known = name in self.fields or name in self.options
            assert known, f"{name} is not on the page, which has {sorted(self.fields)}"
            if name in self.options:
                assert value in self.options[name], f"{name} offers {self.options[name]}"
        return {**self.fields, **given}


def send(client: Any, answer: Any, given: Mapping[str, str] | None = None) -> Any:
    """Posts the form of a page that the server sent, with these fields changed."""
    form = Sent(answer)
    assert form.buttons, "the form has no button to send it with"
    return client.post(form.action, form.also(given or {}))


def form_on(client: httpx.Client, pk: int) -> dict[str, str]:
    """The fields of the review page's form, as a browser would send them back."""
    page = client.get(f"/reviews/{pk}/")
    assert page.status_code == 200, page.text
    return {
        name: re.search(rf'name="{name}" value="([^"]+)"', page.text).group(1)
        for name in ("digest", "checkpoint", "key")
    }


def approve(client: httpx.Client, pk: int, form: dict[str, str], text: str) -> httpx.Response:
    return client.post(f"/reviews/{pk}/decide", data={**form, "edit.agent_response": text})
