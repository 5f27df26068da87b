"""Times as 10:42:07, dates as 19. Nov. 2026."""

TIME_FORMAT = "H:i:s"
DATE_FORMAT = "j. N Y"
DATETIME_FORMAT = "j. N Y, H:i:s"
SHORT_DATETIME_FORMAT = "j. N Y H:i"
MONTH_DAY_FORMAT = "j. N"
