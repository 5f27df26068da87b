"""Times as 10:42:07, dates as 19 Nov 2026."""

TIME_FORMAT = "H:i:s"
DATE_FORMAT = "j M Y"
DATETIME_FORMAT = "j M Y, H:i:s"
SHORT_DATETIME_FORMAT = "j M Y H:i"
MONTH_DAY_FORMAT = "j M"
