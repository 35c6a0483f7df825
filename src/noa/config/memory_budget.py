"""How much memory local models may take together: an amount, or a part of what there is."""

from __future__ import annotations

import re
from typing import Final

#: The part of the machine's (or the container's) memory that models may take unless it is configured.
DEFAULT_MEMORY_BUDGET: Final = "85%"

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*(%|[kmgt]i?b?|b)?", re.IGNORECASE)
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}


def budget_bytes(budget: str | int, total_bytes: int) -> int:
    """The bytes that a budget (``"8GiB"``, ``"80%"``, or a number of bytes) allows of ``total_bytes``.

    As everywhere in this trade, ``8G`` means 8 GiB and ``8GB`` means 8,000,000,000 bytes. Raises ``ValueError`` with
    what is wrong, to stand after the name of the setting.
    """
    match = _AMOUNT.fullmatch(str(budget).strip())
    if match is None:
        raise ValueError("must be an amount of memory, like 8GiB, or a part of it, like 80%")
    number, unit = float(match[1]), (match[2] or "").lower()
    if unit == "%":
        if not 1 <= number <= 100:
            raise ValueError("must be from 1% to 100%, or an amount like 8GiB")
        return int(total_bytes * number / 100)
    base = 1000 if unit.endswith("b") and "i" not in unit else 1024
    amount = int(number * base ** _POWERS.get(unit[:1], 0))
    if amount < 1:
        raise ValueError("must be more than nothing, like 8GiB or 80%")
    return amount
