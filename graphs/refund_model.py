"""The refunds agent's own chat model: it reads the conversation and decides by plain rules.

It stands in for a language model, so that the agent runs offline and the same way each time. Like
one, it believes what customers write: it asks for the sum they name. People check that.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from graphs.knowledge import Language, language_of
from graphs.shop import Letters, Order, amount_of, amounts_in, day, money, shop

CASE = re.compile(r"<case>\n(.*)\n</case>", re.S)
ORDER = re.compile(r"\bFH-\d{4,6}\b", re.I)
REFUND = re.compile(
    r"\brefund|\breimburse|money back|compensat|erstatt|geld zurück|rückzahlung", re.I
)
NO_REFUND = re.compile(
    r"\b(?:no|not (?:want|need) a|don.t (?:want|need) a|without a|keine?) (?:refund|erstattung)"
    r"|\bdid you (?:ever )?refund",
    re.I,
)
CLOSE = re.compile(
    r"\b(?:clos|delet|cancel)\w*\b[^.!?]{0,30}\baccount"
    r"|\b(?:schließ|lösch|kündig)\w*\b[^.!?]{0,30}konto|konto\b[^.!?]{0,30}(?:schließ|lösch|kündig)",
    re.I,
)
HALF = re.compile(r"\bhalf\b|\bhälfte\b", re.I)
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
REJECTED = re.compile(
    r"User rejected the tool call for `\w+` (?:with reason: (?P<reason>.*)|with id .*)", re.S
)
LONGEST_QUOTE = 200


class Call(NamedTuple):
    name: str
    args: dict[str, Any]


class Result(NamedTuple):
    """A tool call and what came back: of the tool, or of the person who answered for it."""

    call: ToolCall
    message: ToolMessage

    @property
    def receipt(self) -> dict[str, Any]:
        """What the tool says it did; empty if it did nothing. Edits put a notice before it."""
        try:
            read = json.loads(self.message.text.rpartition("\n")[2])
        except ValueError:
            return {}
        return read if isinstance(read, dict) else {}

    @property
    def rejection(self) -> str | None:
        """The reviewer's reason, "" if none was given; None if the call was not rejected."""
        found = REJECTED.match(self.message.text) if self.message.status == "error" else None
        return (found["reason"] or "").strip() if found else None


@dataclass(frozen=True)
class Talk:
    """A conversation as the rules read it: the case, the customer's last turn, and since then."""

    case: dict[str, Any]
    subject: str
    said: str
    results: list[Result]
    length: int

    @classmethod
    def of(cls, messages: Sequence[BaseMessage]) -> "Talk":
        turns = [message for message in messages if message.type != "system"]
        stated = CASE.fullmatch(turns[0].text) if turns else None
        turns = turns[1:] if stated else turns
        case = json.loads(stated[1]) if stated else {}
        last = max((i for i, m in enumerate(turns) if isinstance(m, HumanMessage)), default=-1)
        first = all(not isinstance(m, HumanMessage) for m in turns[:last])
        said = turns[last].text if last >= 0 else ""
        subject = str(case.get("subject") or "") if first else ""
        return cls(case, subject, said, list(_results(turns[last + 1 :])), len(turns))

    @property
    def customer(self) -> dict[str, Any]:
        return self.case.get("customer") or {}

    @property
    def language(self) -> Language:
        return language_of(str(self.customer.get("language", "en")))

    @property
    def letters(self) -> Letters:
        return shop().letters[self.language]

    @property
    def asked(self) -> str:
        return f"{self.subject}\n{self.said}"

    @property
    def sentences(self) -> list[str]:
        return [sentence for sentence in SENTENCE.split(self.asked) if sentence.strip()]

    @property
    def order_ids(self) -> list[str]:
        return list(dict.fromkeys(found.upper() for found in ORDER.findall(self.asked)))

    @property
    def orders(self) -> list[Order]:
        receipts = [r.receipt for r in self.results if r.call["name"] == "look_up_order"]
        return [Order.model_validate(each["order"]) for each in receipts if "order" in each]

    @property
    def reviewed(self) -> list[Result]:
        """The results of everything but looking up."""
        return [r for r in self.results if r.call["name"] != "look_up_order"]

    @property
    def wants_refund(self) -> bool:
        return bool(REFUND.search(NO_REFUND.sub("", self.asked)))

    @property
    def wants_closure(self) -> bool:
        return bool(CLOSE.search(self.asked))


class RuleModel(BaseChatModel):
    """Follows the rules of this module; calls only tools that are bound to it."""

    @property
    def _llm_type(self) -> str:
        return "rules"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        talk = Talk.of(messages)
        bound = {tool["function"]["name"] for tool in kwargs.get("tools", [])}
        calls = [call for call in next_calls(talk) if call.name in bound]
        answer = AIMessage("" if calls else closing(talk), tool_calls=numbered(talk, calls))
        return ChatResult(generations=[ChatGeneration(message=answer)])


def numbered(talk: Talk, calls: list[Call]) -> list[ToolCall]:
    """Ids that are the same when a turn is repeated, and different for every other one."""
    case = json.dumps(talk.case, sort_keys=True)
    ids = [uuid5(NAMESPACE_URL, f"{case}/{talk.length}/{i}").hex for i in range(len(calls))]
    return [
        ToolCall(name=call.name, args=call.args, id=f"call_{id_}", type="tool_call")
        for call, id_ in zip(calls, ids, strict=True)
    ]


# What to do next


def next_calls(talk: Talk) -> list[Call]:
    if talk.reviewed:
        return second_tries(talk)
    if not talk.results and talk.order_ids:
        return [Call("look_up_order", {"order_id": order_id}) for order_id in talk.order_ids]
    return [*refunds(talk), *closures(talk)]


def refunds(talk: Talk) -> list[Call]:
    if not talk.wants_refund:
        return []
    asked = [(order, amount_asked(talk, order)) for order in talk.orders]
    return [refund(order, amount, quote(talk, REFUND)) for order, amount in asked if amount > 0]


def refund(order: Order, amount: Decimal, reason: str) -> Call:
    args = {"order_id": order.id, "amount": float(amount), "currency": order.currency}
    return Call("issue_refund", {**args, "reason": reason})


def closures(talk: Talk) -> list[Call]:
    customer_id = str(talk.customer.get("reference", ""))
    if not talk.wants_closure or not customer_id:
        return []
    args = {"customer_id": customer_id, "reason": quote(talk, CLOSE)}
    return [Call("cancel_account", args)]


def second_tries(talk: Talk) -> list[Call]:
    """A refund that was rejected with a smaller sum in the reason is asked for again, with it."""
    last_turn = {result.call["args"].get("order_id"): result for result in talk.reviewed}
    tries = []
    for order in talk.orders:
        result = last_turn.get(order.id)
        offered = amounts_in(result.rejection or "") if result else []
        asked = amount_of(result.call["args"]) if result else None
        if result and asked and offered and 0 < offered[-1] < asked:
            reason = f"A colleague asked for this sum: “{result.rejection}”"
            tries.append(refund(order, offered[-1], reason))
    return tries


def amount_asked(talk: Talk, order: Order) -> Decimal:
    """The sum the customer names; else half, the articles named, or all that is left."""
    about = [s for s in talk.sentences if len(talk.orders) == 1 or order.id in s.upper()]
    sentences = [sentence for sentence in about if REFUND.search(sentence)]
    named = [amount for sentence in sentences for amount in amounts_in(sentence)]
    if named:
        return named[-1]
    amount = min(price_of_articles(talk, order), order.left)
    if any(HALF.search(sentence) for sentence in sentences):
        amount = (amount / 2).quantize(Decimal("0.01"), ROUND_HALF_UP)
    return amount


def price_of_articles(talk: Talk, order: Order) -> Decimal:
    """Of the articles that the customer mentions, or of the order if those are all or none."""

    def mentioned(called: list[str]) -> bool:
        return any(re.search(rf"\b{re.escape(word)}", talk.asked, re.I) for word in called)

    lines = [line for line in order.lines if mentioned(line.called)]
    return (
        sum((x.total for x in lines), Decimal(0))
        if 0 < len(lines) < len(order.lines)
        else (order.left)
    )


def quote(talk: Talk, wish: re.Pattern[str]) -> str:
    """The wish in the customer's words, with the sentence before it, where the reason mostly is."""
    body = [sentence.strip() for sentence in SENTENCE.split(talk.said) if sentence.strip()]
    at = next((i for i, sentence in enumerate(body) if wish.search(sentence)), 0)
    said = " ".join(body[max(at - 1, 0) : at + 1])
    short = said if len(said) <= LONGEST_QUOTE else f"{said[:LONGEST_QUOTE].rstrip()} …"
    return f"The customer writes: “{short}”"


# What to tell the customer


def closing(talk: Talk) -> str:
    letters = talk.letters
    greeting = letters.greeting.format(name=talk.customer.get("name") or "customer")
    body = [*notes(talk), *(outcome(talk, result) for result in _last_tries(talk.reviewed))]
    body = body or [letters.which_order]
    return "\n\n".join([greeting, *body, letters.closing, letters.signature])


def notes(talk: Talk) -> Iterator[str]:
    """Of each order that nothing was to be done about: where it is, or that it is not theirs."""
    found = {order.id: order for order in talk.orders}
    done = {result.call["args"].get("order_id") for result in talk.reviewed}
    looked_up = [r.call["args"].get("order_id") for r in talk.results if r not in talk.reviewed]
    for order_id in looked_up:
        if order_id not in found:
            yield talk.letters.not_yours.format(order=order_id)
        elif order_id not in done:
            yield standing(talk, found[order_id])


def standing(talk: Talk, order: Order) -> str:
    letters, language = talk.letters, talk.language
    if order.refunds and not order.left:
        refunded = money(order.refunded, order.currency, language)
        on = day(order.refunds[-1].on, language)
        return letters.nothing_left.format(order=order.id, refunded=refunded, on=on)
    state = letters.states[order.status].format(due=day(order.due, language))
    placed = day(order.placed, language)
    return letters.status.format(order=order.id, bought=order.bought, placed=placed, state=state)


def outcome(talk: Talk, result: Result) -> str:
    """True to what happened, which is not always what was asked for."""
    letters, receipt = talk.letters, result.receipt
    if receipt.get("done") == "refund":
        amount = money(Decimal(receipt["amount"]), receipt["currency"], talk.language)
        return letters.refunded.format(amount=amount, order=receipt["order_id"])
    if receipt.get("done") == "account closed":
        return letters.account_closed.format(customer=receipt["customer_id"])
    if result.rejection is not None:
        return refusal(talk, result)
    if result.message.status == "error":
        return letters.failed.format(what=matter(talk, result.call))
    return letters.answered.format(what=matter(talk, result.call), text=result.message.text)


def refusal(talk: Talk, result: Result) -> str:
    """That a person said no, and why. The reason goes out as it was written."""
    letters, args = talk.letters, result.call["args"]
    because = letters.because.format(reason=result.rejection) if result.rejection else ""
    if result.call["name"] == "cancel_account":
        said = letters.closure_rejected.format(customer=args["customer_id"])
    else:
        amount = money(amount_of(args) or Decimal(0), args["currency"], talk.language)
        said = letters.refund_rejected.format(amount=amount, order=args["order_id"])
    return f"{said} {because}".strip()


def matter(talk: Talk, call: ToolCall) -> str:
    if call["name"] == "cancel_account":
        return talk.letters.the_account.format(customer=call["args"]["customer_id"])
    return talk.letters.the_refund.format(order=call["args"]["order_id"])


def _results(turns: list[BaseMessage]) -> Iterator[Result]:
    """In the order of the calls; the answers of people come before those of tools."""
    answers = {m.tool_call_id: m for m in turns if isinstance(m, ToolMessage)}
    calls = [call for m in turns if isinstance(m, AIMessage) for call in m.tool_calls]
    for call in calls:
        if call["id"] in answers:
            yield Result(call, answers[call["id"]])


def _last_tries(results: list[Result]) -> list[Result]:
    """One result per matter: of a refund asked for twice, the second."""
    last = {(r.call["name"], r.call["args"].get("order_id")): r for r in results}
    return list(last.values())
