"""Work without a mouse, in Chromium: what each key does, and when none of them does anything."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from approvals import keymap
from approvals.models import Decision, Profile, Review
from tests.conftest import eventually
from tests.test_capture import appears
from tests.test_end_to_end import aside
from tests.test_question_page import CLOSE, REFUND, batch

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("cast")]
UNDO = 600
# Until keys count: every key was let go, and a frame was painted.
PAINTED = """new Promise((done) =>
  requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"""
# Key presses that no keyboard of this machine sends: (how many, key, code).
SENT = """([number, key, code]) => {
  for (let n = 0; n < number; n += 1) document.body.dispatchEvent(
    new KeyboardEvent("keydown", { key, code, bubbles: true, cancelable: true }));
}"""


@pytest.fixture
def address(site) -> str:
    return site(undo=UNDO, worker=False)


def case(graph: str = "support", **state: Any) -> Review:
    return aside(lambda: appears(graph, **state))


def ready(page: Page) -> Page:
    page.wait_for_load_state()
    expect(page.locator("#main")).to_be_visible()
    page.evaluate(PAINTED)
    page.evaluate(PAINTED)
    return page


def opened(person: Any, address: str, review: Review, **options: Any) -> Page:
    page = person(address, "rita", **options)
    page.goto(review.get_absolute_url())
    return ready(page)


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def decided(number: int = 1) -> list[Decision]:
    """That many decisions that stand, oldest first."""

    def found() -> list[Decision] | None:
        rows = list(Decision.objects.exclude(state="undone").order_by("decided_at"))
        return rows if len(rows) >= number else None

    rows = aside(lambda: eventually(found, what=f"{number} decisions"))
    assert len(rows) == number
    return rows


def none_decided(page: Page, number: int = 0) -> None:
    """Time for whatever was pressed to come to something, and then as many as there were."""
    if number:
        decided(number)
    page.wait_for_timeout(300)
    assert aside(lambda: Decision.objects.exclude(state="undone").count()) == number


def test_a_key_approves_two_approve_an_edit_and_three_reject(address, person):
    rita = opened(person, address, case())
    expect(rita.locator("#approve")).to_have_attribute("aria-keyshortcuts", "A")
    press(rita, "a")
    assert decided()[0].action == "approve"
    expect(rita.locator("#dock [data-act=undo]")).to_be_visible()
    press(ready(rita), "z")
    expect(rita.locator("#approve")).to_be_visible()

    press(ready(rita), "e")
    expect(rita.locator("#reply")).to_be_focused()
    rita.keyboard.type(" Until then.")
    press(rita, "Control+Enter")
    assert decided()[0].edits["agent_response"].endswith(" Until then.")
    expect(rita.locator("#dock [data-act=undo]")).to_be_visible()
    press(ready(rita), "Control+z")
    expect(rita.locator("#approve")).to_be_visible()

    rita.goto(case("scripted").get_absolute_url())
    press(ready(rita), "r")
    rita.keyboard.type("As rarely, no answer.")
    press(rita, "Control+Enter")
    (rejection,) = decided()
    assert (rejection.action, rejection.said["text"]) == ("reject", "As rarely, no answer.")


def test_a_held_key_decides_nothing_that_was_not_seen(address, person):
    cases = first, _, last = [case() for _ in range(3)]
    rita = opened(person, address, first, stays=False)
    shown = rita.locator("#review")
    rita.keyboard.down("a")
    expect(shown).not_to_have_attribute("data-case", str(first.pk))
    for _ in range(10):
        rita.keyboard.down("a")  # as a key repeats that is held
    # As from a keyboard whose repetitions are told as presses of their own.
    rita.evaluate(SENT, [5, "a", "KeyA"])
    none_decided(rita, 1)
    rita.keyboard.up("a")
    ready(rita).locator("#approve").focus()
    rita.keyboard.down("Enter")
    decided(2)
    expect(shown).to_have_attribute("data-case", str(last.pk))
    rita.locator("#approve").focus()
    for _ in range(5):
        rita.keyboard.down("Enter")
    none_decided(rita, 2)
    rita.keyboard.up("Enter")
    press(ready(rita), "a")
    assert {one.review_id for one in decided(3)} == {review.pk for review in cases}


def test_keys_are_dead_in_texts_under_dialogs_and_while_loading(address, person):
    rita = opened(person, address, case("scripted"))
    press(rita, "e")
    rita.keyboard.type("arjnz?")
    expect(rita.locator("#reply")).to_have_value(re.compile("arjnz.$"))
    press(rita, "Escape")
    expect(rita.locator("#reply")).not_to_be_focused()
    press(rita, "?")
    expect(rita.locator("#keys")).to_be_visible()
    press(rita, "a", "Escape")
    expect(rita.locator("#keys")).to_be_hidden()
    press(rita, "Control+k", "Escape", "Shift+A", "Control+a", "Alt+a")
    rita.evaluate("document.body.dataset.busy = ''")
    press(rita, "a")
    rita.evaluate("delete document.body.dataset.busy")
    sent: list[Any] = []
    rita.route("**/decide", lambda route: sent.append(route))  # the answer does not come
    press(rita, "a", "a", "r", "Control+k")
    eventually(lambda: rita.wait_for_timeout(20) or sent)
    (only,) = sent
    only.abort("aborted")
    expect(rita.locator("#palette")).to_be_hidden()
    expect(rita.locator("#say-reject")).to_be_hidden()
    none_decided(rita)


def test_keys_of_ones_own_of_another_alphabet_and_none(address, person, cast):
    review = case()
    aside(lambda: Profile.objects.create(user=cast.rita, keys={"approve": "q", "edit": "a"}))
    rita = opened(person, address, review)
    expect(rita.locator("#approve kbd")).to_have_text("Q")
    expect(rita.locator("#keys [data-action=approve] kbd")).to_have_text("Q")
    press(rita, "a")
    expect(rita.locator("#reply")).to_be_focused()
    press(rita, "Escape")
    # The key of Q with a Russian keyboard.
    rita.evaluate(SENT, [1, "й", "KeyQ"])
    decided()
    expect(rita.locator("#dock [data-act=undo]")).to_be_visible()

    rita.goto("/profile/")
    rita.get_by_label("Keys of one character").uncheck()
    rita.get_by_role("button", name="Save").click()
    expect(rita.get_by_text("Saved.")).to_be_visible()
    rita.goto(review.get_absolute_url())
    expect(rita.locator("#dock kbd")).to_have_count(0)
    press(ready(rita), "z")
    none_decided(rita, 1)
    press(rita, "Control+z")
    expect(rita.locator("#approve")).to_be_visible()
    none_decided(rita)


def test_on_a_mac_command_is_the_key(address, person):
    rita = person(address, "rita")
    rita.context.add_init_script(
        "Object.defineProperty(navigator, 'platform', { get: () => 'MacIntel' })"
    )
    rita.goto(case().get_absolute_url())
    expect(rita.locator(".find kbd")).to_have_text("⌘ K")
    press(ready(rita), "Control+k")
    expect(rita.locator("#palette")).to_be_hidden()
    press(rita, "Meta+k")
    expect(rita.locator("#palette")).to_be_visible()
    press(rita, "Escape", "e")
    rita.keyboard.type("Dear Maeve, from a Mac. ")
    press(rita, "Control+Enter")
    none_decided(rita)
    press(rita, "Meta+Enter")
    assert decided()[0].action == "edit"


def test_the_sheet_lists_every_key_and_the_palette_runs_what_it_finds(address, person, cast):
    review, other = case(), case()
    rita = opened(person, address, review)
    press(rita, "?")
    for action in keymap.ACTIONS:
        row = rita.locator(f"#keys [data-action={action.name}]")
        expect(row).to_be_visible()
        assert row.locator("dt").inner_text() == str(action.label)
        assert row.locator("kbd").count() == len([cap for cap in action.key.split() if cap != "…"])
    press(rita, "Escape")

    rita.get_by_role("button", name="Find or run a command").click()
    ask = rita.get_by_role("combobox", name="Find or run a command")
    expect(ask).to_be_focused()
    expect(rita.get_by_role("option", name="Approve", exact=True)).to_have_attribute(
        "aria-selected", "true"
    )
    expect(rita.get_by_role("option", name="Sign out")).to_have_count(1)
    expect(rita.get_by_role("option", name="Undo the last decision")).to_have_count(
        0
    )  # there is none
    rita.keyboard.type("dark th")
    expect(rita.locator("#palette [role=option]")).to_have_count(3)
    press(rita, "Enter")
    expect(rita.locator("html")).to_have_attribute("data-theme", "dark")
    aside(lambda: eventually(lambda: Profile.objects.filter(user=cast.rita, theme="dark").exists()))

    press(rita, "Control+k")
    rita.keyboard.type("edit")
    press(rita, "Enter")
    expect(rita.locator("#reply")).to_be_focused()
    press(rita, "Control+k")  # from where one writes, too
    rita.keyboard.type(other.thread_id)
    press(rita, "ArrowUp", "Enter")
    expect(rita).to_have_url(re.compile(other.get_absolute_url()))


def test_the_list_is_walked_and_parts_of_the_case_are_gone_to(address, person):
    first, second = case(), case()
    rita = person(address, "rita")
    expect(rita.locator("a.row")).to_have_count(2)
    press(ready(rita), "j", "j", "k", "k")  # the end of it is the end
    expect(rita.locator(f"#row-{first.pk}")).to_be_focused()
    press(rita, "Enter")
    expect(rita).to_have_url(re.compile(first.get_absolute_url()))
    press(ready(rita), "j")
    expect(rita.locator("#review")).to_have_attribute("data-case", str(second.pk))
    press(ready(rita), "k")
    expect(rita.locator("#review")).to_have_attribute("data-case", str(first.pk))
    press(ready(rita), "h")
    expect(rita.locator("[data-act=history]")).to_be_focused()
    press(rita, "t")
    expect(rita.locator("[data-act=state]")).to_be_focused()
    press(rita, "d")
    expect(rita.locator('[name="beside"][value="draft"]')).to_be_checked()
    press(rita, "/")
    expect(rita.locator("#q")).to_be_focused()


def test_a_question_is_answered_call_by_call_or_at_once(address, person):
    question = batch(REFUND, CLOSE)
    one, other = (case("asking", question=question, schema=None) for _ in range(2))
    rita = opened(person, address, one)
    press(rita, "2", "r")
    rita.keyboard.type("She did not ask.")
    press(rita, "Control+Enter")  # the first is open yet: it is gone to, and nothing is sent
    none_decided(rita)
    press(rita, "a", "a")
    assert decided()[0].action == "mixed"
    expect(rita.locator("#dock [data-act=undo]")).to_be_visible()
    rita.goto(other.get_absolute_url())
    press(ready(rita), "a")
    assert decided(2)[1].action == "approve"


REACHABLE = "a[href], button, summary, input, select, textarea, [tabindex='0']"
WALK = """() => {
  window.walked = new Set();
  document.addEventListener("focusin", (event) => window.walked.add(event.target));
}"""
LEFT_OUT = """(reachable) => {
  const isThere = (each) => each.checkVisibility({ visibilityProperty: true }) && !each.disabled
    && each.tabIndex >= 0 && each.type !== "hidden";
  // Of a group of radios Tab reaches one; the arrows reach the rest.
  const one = (each) => (each.type === "radio" ? each.name : each);
  const walked = new Set([...window.walked].map(one));
  return [...document.querySelectorAll(reachable)]
    .filter((each) => isThere(each) && !walked.has(one(each)))
    .map((each) => each.outerHTML.slice(0, 120));
}"""


def test_tab_reaches_every_control_of_the_page(address, person):
    rita = opened(person, address, case("scripted"))
    rita.wait_for_load_state("networkidle")  # what is refreshed now would be another control
    rita.evaluate(WALK)
    for _ in range(250):
        press(rita, "Tab")
        if rita.evaluate("document.activeElement === document.body"):
            break
    else:
        raise AssertionError("Tab never comes to the end")
    assert rita.evaluate(LEFT_OUT, REACHABLE) == []
    acts = rita.evaluate("[...window.walked].map((each) => each.dataset.act)")
    assert {"approve", "edit", "reject", "next", "search", "palette"} <= set(acts)
