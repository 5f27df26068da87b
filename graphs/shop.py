"""The order book and the letters of the shop that the refunds agent works for, from one file."""

import re
import tomllib
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any, Literal

from graphs.knowledge import Language, Shipped

Currency = Literal["EUR", "GBP"]
Status = Literal["being packed", "in transit", "delivered"]

FILE = Path(__file__).parent / "data" / "shop.toml"
SIGNS: dict[str, str] = {"EUR": "€", "GBP": "£"}
FIGURE = re.compile(
    r"[£€]\s?(\d[\d.,]*)|(\d[\d.,]*)\s?(?:[£€]|(?:EUR|GBP|euros?|pounds?)\b)", re.IGNORECASE
)
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


class Letters(Shipped):
    greeting: str
    closing: str
    signature: str
    which_order: str
    not_yours: str
    status: str
    nothing_left: str
    refunded: str
    account_closed: str
    refund_rejected: str
    closure_rejected: str
    because: str
    answered: str
    failed: str
    the_refund: str
    the_account: str
    states: dict[Status, str]


class Customer(Shipped):
    id: str
    name: str
    since: int


class Line(Shipped):
    """One article of an order; `called` is what customers call it."""

    name: str
    called: list[str]
    quantity: int
    price: Decimal

    @property
    def total(self) -> Decimal:
        return self.price * self.quantity


class Refund(Shipped):
    amount: Decimal
    on: date
    reason: str


class Order(Shipped):
    """`due` is the day of the delivery, past or expected."""

    id: str
    customer: str
    placed: date
    status: Status
    due: date
    currency: Currency
    delivery: Decimal
    lines: list[Line]
    refunds: list[Refund] = []

    @property
    def total(self) -> Decimal:
        return sum((line.total for line in self.lines), self.delivery)

    @property
    def refunded(self) -> Decimal:
        return sum((refund.amount for refund in self.refunds), Decimal(0))

    @property
    def left(self) -> Decimal:
        """What can be refunded still."""
        return self.total - self.refunded

    @property
    def bought(self) -> str:
        return ", ".join(
            f"{line.quantity} × {line.name}" if line.quantity > 1 else line.name
            for line in self.lines
        )


class Shop(Shipped):
    notice: str
    letters: dict[Language, Letters]
    customers: list[Customer]
    orders: list[Order]

    def customer(self, customer_id: str) -> Customer | None:
        return next((each for each in self.customers if each.id == customer_id), None)

    def order(self, order_id: str) -> Order | None:
        return next((each for each in self.orders if each.id == order_id.upper()), None)

    def orders_of(self, customer_id: str) -> list[Order]:
        return [each for each in self.orders if each.customer == customer_id]


@cache
def shop() -> Shop:
    return Shop.model_validate(tomllib.loads(FILE.read_text(encoding="utf-8")))


def money(amount: Decimal, currency: str, language: Language = "en") -> str:
    """As people write it: £1,250.00, or 1.250,00 € in German."""
    sign, figure = SIGNS.get(currency, currency), f"{amount:,.2f}"
    if language == "en":
        return f"{sign}{figure}"
    return f"{figure.translate(str.maketrans(',.', '.,'))} {sign}"


def day(on: date, language: Language = "en") -> str:
    return f"{on:%d.%m.%Y}" if language == "de" else f"{on.day} {MONTHS[on.month - 1]} {on.year}"


def amounts_in(text: str) -> list[Decimal]:
    """The sums of money named in a text, in its order; both 1,250.00 and 1.250,00 are read."""
    return [_figure(found[1] or found[2]) for found in FIGURE.finditer(text)]


def amount_of(args: dict[str, Any]) -> Decimal | None:
    """The amount of a call as a model wrote it; None where that is no number."""
    try:
        amount = Decimal(str(args.get("amount")))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() else None


def _figure(written: str) -> Decimal:
    written = written.rstrip(".,")
    decimals = re.search(r"[.,](\d{1,2})$", written)
    return Decimal(re.sub(r"\D", "", written)).scaleb(-len(decimals[1]) if decimals else 0)
