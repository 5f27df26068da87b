"""Until when a case is put off: the usual times, or one of a person's own, by their own clock."""

import datetime as dt
import zoneinfo

from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _

from approvals.errors import Invalid

CHOICES = {
    "hour": _("In an hour"),
    "afternoon": _("This afternoon, 15:00"),
    "tomorrow": _("Tomorrow, 9:00"),
    "monday": _("Next Monday, 9:00"),
}
OWN = "own"
WHICH = "Choose until when, or write a time of your own."


def zone_of(name: str) -> dt.tzinfo:
    """The browser's time zone, where it names one that is known here; else the server's."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        return timezone.get_current_timezone()


def moment(choice: str, own: str, zone: dt.tzinfo, now: dt.datetime) -> dt.datetime:
    """The time that was chosen. Raises Invalid when none was, or it cannot be read."""
    here = now.astimezone(zone)
    if choice == "hour":  # to the minute, so that the same form sent twice says the same
        return (now + dt.timedelta(hours=1)).replace(second=0, microsecond=0)
    if choice == "afternoon":
        return _at(here.date(), 15, zone)
    if choice == "tomorrow":
        return _at(here.date() + dt.timedelta(days=1), 9, zone)
    if choice == "monday":
        return _at(here.date() + dt.timedelta(days=7 - here.weekday()), 9, zone)
    return _own(own, zone)


def _at(day: dt.date, hour: int, zone: dt.tzinfo) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(hour), zone)


def _own(text: str, zone: dt.tzinfo) -> dt.datetime:
    try:
        found = parse_datetime(text.strip())
    except ValueError:
        found = None
    if found is None or not 2000 < found.year < 9000:
        raise Invalid(WHICH)
    return found if found.tzinfo else found.replace(tzinfo=zone)
