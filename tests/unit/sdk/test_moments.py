from __future__ import annotations

from datetime import UTC, datetime

import pytest

from penstock.cli.moments import moment

NOW = datetime(2026, 11, 21, 12, 30, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20 07:05", datetime(2026, 11, 20, 7, 5, tzinfo=UTC)),
        ("2026-11-20T07:05:09+02:00", datetime(2026, 11, 20, 5, 5, 9, tzinfo=UTC)),
        ("90m", datetime(2026, 11, 21, 11, 0, 5, tzinfo=UTC)),
        ("1h", datetime(2026, 11, 21, 11, 30, 5, tzinfo=UTC)),
        ("2d", datetime(2026, 11, 19, 12, 30, 5, tzinfo=UTC)),
        ("today", datetime(2026, 11, 21, tzinfo=UTC)),
        ("Yesterday", datetime(2026, 11, 20, tzinfo=UTC)),
        ("soon", None),
        ("9999999999w", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("0001-01-01 00:00+14:00", None),
        ("", None),
    ],
)
def test_moments_are_read_as_people_write_them(text: str, expected: datetime | None) -> None:
    assert moment(text, NOW) == expected
