"""What is recorded is in English, whoever acted; whoever reads it is told in their own language.

Audit notes, the reasons of refusals and the errors of runs are written by code that knows no
reader: by workers, by rooms below the pages, and inside an action's transaction. They are put into
words here, when they are shown. `%(…)s` stands for what the code put in.
"""

import re
from functools import cache
from typing import NamedTuple

from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_noop as _

SENTENCES = [
    # Errors that have no other words: the docstrings of approvals/errors.py
    _("Something went wrong."),
    _("What was sent cannot be used. Nothing was recorded."),
    _("Somebody or something was first. Nothing was recorded."),
    _("Somebody else decided this review first."),
    _("The thread moved on since this page was made."),
    _("This page shows an older state of the review."),
    _("Somebody else has this case."),
    _("Too late to undo: the decision is being applied."),
    _("You may look at this review, but not decide it."),
    # Actions
    _("%(name)s has this case."),
    _("%(name)s has asked for this case already."),
    _("given to %(name)s"),
    _("kept; %(name)s had asked for it"),
    _("the lease ran out"),
    _("no longer a reviewer of it"),
    _("This case does not wait any more."),
    _("Tried to edit %(name)s."),
    _("This form was used for another review. Open the review again."),
    _("This form was sent before, with another text or since taken back."),
    _("The thread was deleted by another program."),
    _("Only the person who decided can take it back."),
    _("This run is not failed any more; somebody may have retried it."),
    _("The agent, or another program, moved the thread on since this page was made."),
    _("Another program went on from the same checkpoint as this decision's run."),
    _("The run went on, by a decision that was made here."),
    _("Another program resumed the run, and it failed in %(node)s: %(error)s"),
    _("Wrong name or password."),
    _("Only admins tend runs."),
    _("It was continued, and failed again. Retry it, or end the run."),
    _("%(name)s had the run go on."),
    _("Ended by %(name)s."),
    _("Deleted by %(name)s."),
    _("LangGraph cannot do this: %(error)s Nothing was done."),
    _("This run waits for a person: decide it, or undo its decision."),
    _("The graph of this thread is not registered here, so nothing can run it."),
    _("A decision of this thread is under way. Wait until it has ended."),
    _("%(name)s ran the thread again from a checkpoint."),
    _("The thread has no such checkpoint any more."),
    # The day's arrangements
    _("Choose for whom it is meant."),
    _("Nobody of that name may decide this queue. Choose somebody else."),
    _("Choose until when, or write a time of your own."),
    _("That time has passed. Choose a later one."),
    _("Something else is at work on this case. Try it again in a moment."),
    _("A case can be put off for 90 days at most. Choose an earlier time."),
    _("At most 100 cases can be done at once. Select fewer."),
    _("The form is incomplete. Select the cases again."),
    _("A question is answered one by one: open it."),
    _("There is no such case for you."),
    _("There is no such view of yours."),
    _("Only admins share views with everybody."),
    _("A view needs a name."),
    _("The name of a view has 40 characters at most."),
    _("You have 30 views. Delete one of them first."),
    _("This saved reply is not yours to change."),
    _("This saved reply is not yours to delete."),
    _("The note is empty. Write it, then add it."),
    _("The note has %(length)s characters; at most %(limit)s are kept."),
    _("One reads, or edits."),
    _("A tab has a UUID."),
    _("This tab is somebody else's."),
    _("Not a review of this person's queues."),
    # What a note says of them, after the headline
    _("to %(names)s"),
    _("to nobody"),
    _("until %(at)s"),
    _("%(what)s “%(name)s”"),
    _("the shared view"),
    _("the shared views, with a new one:"),
    _("the shared views, without"),
    _("Saved reply: %(title)s"),
    # The worker
    _(
        "The worker ended in the middle of this run %(times)s, or could not write what it had "
        "done, so the run was set aside. Something in it may kill the process, want more memory or "
        "write more than there is room for: look before you retry it."
    ),
    _("once"),
    _("%(number)s times"),
    _("%(reason)s before the decision could be applied. Nothing of it was sent."),
    _("The thread was deleted"),
    _("The thread moved on"),
    _("The run was stopped there; what its nodes had done by then is done."),
    _("The node would not have this answer. Take it back, and answer anew."),
    _("The graph %(graph)s is not registered here any more."),
    _("It was applied; another program then deleted the thread."),
    _("It was applied; another program then moved the thread."),
    _(
        "The run stopped before %(nodes)s, and asks nobody there. A pause of a graph that "
        "LangGraph cannot see inside its node can only be ended by an admin."
    ),
    _("LangGraph cannot read this thread: %(error)s"),
    # What cannot be read of a state
    _("It is encrypted (%(cipher)s), and this installation has no key for it."),
    _("It is encrypted, and could not be decrypted here (%(error)s)."),
    _("It is stored as a pickle, which is never opened here: it could run any code."),
    _("It is stored as “%(kind)s”, by a serializer that this installation does not have."),
    _("Its stored bytes are broken (%(error)s)."),
    _("It holds a %(kind)s. %(why)s"),
    _(
        'The type %(type)s is not allowed here. An admin can add ["%(module)s", "%(name)s"] to '
        "allowed_msgpack_modules in reviews.toml."
    ),
    _("The type %(type)s cannot be imported here (%(error)s)."),
    _("A %(type)s could not be made of what is stored: the type has changed."),
    # Where it paused, in the headline of an entry
    _("before %(node)s"),
    _("after %(node)s"),
    _("with a question in %(node)s"),
    _("%(where)s, read again: %(fields)s"),
    _("from %(checkpoint)s"),
    # What may be edited and answered
    _("This graph does not offer that here. Nothing was recorded."),
    _("This takes one decision, and %(number)s arrived. Decide once, then send again."),
    _(
        "Each of the %(expected)s calls takes one decision, in their order, and %(given)s arrived. "
        "Decide every call, then send again."
    ),
    _(
        "The run allows no decision on “%(name)s” that is known here, so it can't be answered. "
        "Tell whoever looks after this agent."
    ),
    _("“%(name)s” can't be %(decided)s here. Choose %(known)s."),
    _("This can only be answered, not %(decided)s. Answer it."),
    *(_("approved"), _("edited"), _("rejected"), _("answered that way")),
    _("%(wrong)s Correct it, then send it again."),
    _("The question is too long to be shown whole, so it cannot be answered here."),
    _(
        "This state holds something that this installation cannot read (%(place)s): %(why)s Nobody "
        "can approve here what nobody can see."
    ),
    _("This holds a character that cannot be stored. Remove it, then send it."),
    _("Say why you reject it: the reason goes on record with the decision."),
    _("Say what should be different: the agent drafts again by what you write."),
    _("Write the answer that should stand in for the agent's."),
    _(
        "LangGraph would not run the right nodes after this update, so nothing was written. The "
        "edges out of the node before the pause do not lead here again."
    ),
    _(
        "This pause was reached by Send: its node runs with what it was sent, which a change of "
        "the state would not reach. Nothing was written. Approve it as it is."
    ),
    _("The tool must stay “%(name)s”. Change its arguments, or choose another decision."),
    _("This agent has no tool “%(name)s”. Choose one of: %(known)s."),
    _("The arguments of “%(name)s” were changed. Choose edit to run it with the changes."),
    _("The arguments of “%(name)s” must be an object, { … }."),
    _("The response to “%(name)s” is empty. Write it, then send it again."),
    _("Say why “%(name)s” is rejected: the agent reads the reason. Then send again."),
    _("This holds something that is no number (NaN or infinity)."),
    _("The graph's type refuses this: %(error)s"),
    _("Its type has no form in JSON, so it stays as it is."),
    _("This holds bytes, which cannot be edited here."),
    _("Write the date as 2026-11-30."),
    _("Write the time as 2026-11-30T14:05:00+00:00."),
    _("Write the time as 14:05:00."),
    _("Write the duration as ISO 8601 does: PT1H, or -PT1H."),
]
LONGEST = 5_000  # characters
GAP = re.compile(r"%\((\w+)\)s")


class Pattern(NamedTuple):
    sentence: str
    made: re.Pattern[str]


def told(text: str, deep: int = 3) -> str:
    """A recorded sentence in the reader's language; what is not ours stays as it is.

    Agents write errors too: what is longer, or has more sentences in sentences, is none of ours.
    """
    if not text or (get_language() or "en").startswith("en"):
        return text
    if text in _whole():
        return gettext(text)
    for pattern in _patterns() if deep and len(text) <= LONGEST else ():
        if match := pattern.made.fullmatch(text):
            inside = {name: told(found, deep - 1) for name, found in match.groupdict().items()}
            return gettext(pattern.sentence) % inside
    return text


@cache
def _whole() -> set[str]:
    return {one for one in SENTENCES if not GAP.search(one)}


@cache
def _patterns() -> list[Pattern]:
    """Those that say most first: “%(name)s …” would match many another."""
    gapped = [one for one in SENTENCES if GAP.search(one)]
    by_words = sorted(gapped, key=lambda one: -len(GAP.sub("", one)))
    return [Pattern(one, _made(one)) for one in by_words]


def _made(sentence: str) -> re.Pattern[str]:
    words = GAP.split(sentence)
    parts = [f"(?P<{part}>.+)" if i % 2 else re.escape(part) for i, part in enumerate(words)]
    return re.compile("".join(parts), re.DOTALL)
