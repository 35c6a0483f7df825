"""Moments as a database keeps them: whole microseconds since 1970 in UTC, exact both ways."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from noa.errors import ValidationError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def utc_now() -> datetime:
    """The clock of whoever gives no other."""
    return datetime.now(UTC)


def to_us(moment: datetime) -> int:
    """The number to store. Raises ``ValidationError`` for a moment without a time zone."""
    if moment.tzinfo is None:
        raise ValidationError(f"The moment {moment} has no time zone; moments are stored in UTC.")
    return (moment - _EPOCH) // _MICROSECOND


def from_us(microseconds: int) -> datetime:
    """The moment, in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)
