"""Amounts of money as people write them: £12.50 for 1250 in minor units of GBP."""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from django.utils.formats import number_format
from django.utils.translation import gettext as _

# ISO 4217, by the decimals of its minor unit. What is not here is not taken for a currency.
_DECIMALS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF",
    2: "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN "
    "BZD CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP "
    "GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL "
    "MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK "
    "PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB "
    "TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST XCD YER ZAR ZMW ZWG",
    3: "BHD IQD JOD KWD LYD OMR TND",
}
DECIMALS = {code: number for number, codes in _DECIMALS.items() for code in codes.split()}
# As they are written in British English.
SYMBOLS = {"GBP": "£", "EUR": "€", "USD": "US$", "JPY": "JP¥", "INR": "₹", "ILS": "₪"}
_AMOUNT = r"amount|price|total|subtotal|sum|fee|cost|balance|value"
_KEY = re.compile(rf"(?:^|_)(?:{_AMOUNT})(_minor|_cents|_pence|_minor_units)?$")


def money_of(key: str, value: Any, siblings: Mapping[str, Any]) -> str:
    """What this argument is in money; "" where no currency stands beside it, or it is no amount.

    An object that has its own currency is told by its amounts. Nothing is rounded.
    """
    if isinstance(value, dict):
        inside = [money_of(each, value[each], value) for each in value]
        return ", ".join(filter(None, inside))
    named = _KEY.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower())
    currency = str(siblings.get("currency", "")).upper()
    amount = _decimal(value)
    if not named or currency not in DECIMALS or amount is None:
        return ""
    if not named[1]:
        return written(amount, currency)
    if amount != amount.to_integral_value():
        return ""
    return written(amount.scaleb(-DECIMALS[currency]), currency)


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and abs(amount) < Decimal(10) ** 15 else None


def written(amount: Decimal, currency: str) -> str:
    """With the decimals of its currency at least, and all of its own."""
    own = -int(amount.normalize().as_tuple().exponent)
    places = max(DECIMALS[currency], own)
    if places > 12:
        return ""
    number = number_format(abs(amount), decimal_pos=places, force_grouping=True)
    sign = "−" if amount < 0 else ""
    if symbol := SYMBOLS.get(currency):
        return sign + _("%(symbol)s%(amount)s") % {"symbol": symbol, "amount": number}
    return sign + _("%(code)s\u00a0%(amount)s") % {"code": currency, "amount": number}


def of_pairs(pairs: list[tuple[str, Any]], key: str) -> str:
    """For templates: of a call's arguments, the one of this key."""
    given = dict(pairs)
    return money_of(key, given.get(key), given)
