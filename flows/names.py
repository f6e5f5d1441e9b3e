"""
How runs are named: by who typed a name in the form, or else after what they do; and what tags them as a part of another.
"""

import re
from uuid import UUID

from prefect.runtime import flow_run

_MADE_UP = re.compile(r"[A-Za-z]+-[A-Za-z]+")
"""Names such as holistic-beagle, which Prefect makes up for runs that nobody named; its form proposes such as Tasty-Bee. A name
of a person's that looks like that is not told from it."""


def named(after: str) -> str:
    """
    Return the name that a person gave this run; one that has none is named *after* what it does.
    """
    given = flow_run.get_name()
    return after if not given or _MADE_UP.fullmatch(given) else str(given)


def part_of(run_id: UUID | str | None) -> str:
    """
    Name the tag of the runs that another has begun, and waits for.
    """
    return f"part-of-{run_id}"
