"""Money beside an argument: in the currency that stands next to it, with its decimals."""

import pytest
from django.utils import translation

from approvals.money import DECIMALS, money_of, of_pairs


@pytest.mark.parametrize(
    ("key", "value", "currency", "said"),
    [
        ("amount", 12.5, "GBP", "£12.50"),
        ("amount", "1204.5", "eur", "€1,204.50"),
        ("amount_minor", 1250, "GBP", "£12.50"),
        ("amount_minor", 1250, "JPY", "JP¥1,250"),
        ("amount_minor", 1250, "KWD", "KWD\xa01.250"),
        ("unitPrice", 3, "KWD", "KWD\xa03.000"),
        ("unitPriceCents", 305, "USD", "US$3.05"),
        ("refund_total", -7, "CHF", "−CHF\xa07.00"),
        ("price", 0.125, "GBP", "£0.125"),  # never rounded
        ("price", 1e-7, "GBP", "£0.0000001"),
        ("price", 1e14, "GBP", "£100,000,000,000,000.00"),
        ("value", 0, "GBP", "£0.00"),
        ("amount_minor", 12.5, "GBP", ""),  # no number of pence
        ("amount", 12.5, "XYZ", ""),
        ("amount", 12.5, "", ""),
        ("amount", True, "GBP", ""),
        ("amount", "lots", "GBP", ""),
        ("amount", "NaN", "GBP", ""),
        ("amount", "1e400", "GBP", ""),
        ("amount", None, "GBP", ""),
        ("order_id", 12, "GBP", ""),
        ("amounts_of_people", 12, "GBP", ""),
    ],
)
def test_an_amount_is_told_in_the_currency_beside_it(key, value, currency, said):
    assert money_of(key, value, {"currency": currency}) == said


def test_an_object_with_its_own_currency_is_told_by_its_amounts():
    paid = {"amount": 5, "currency": "EUR", "fee_minor": 20, "to": "Ana"}
    assert of_pairs([("paid", paid), ("currency", "GBP")], "paid") == "€5.00, €0.20"
    assert of_pairs([("amount", 5)], "amount") == ""
    assert of_pairs([("", ["amount", 5])], "") == ""


def test_it_follows_the_language():
    with translation.override("de"):
        assert "1.204,50" in money_of("amount", 1204.5, {"currency": "EUR"})


def test_currencies_are_three_letters_and_no_two_say_different_decimals():
    assert len(DECIMALS) > 140
    assert all(code.isalpha() and code.isupper() and len(code) == 3 for code in DECIMALS)
