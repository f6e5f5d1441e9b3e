"""
What a run was asked to make.
"""

from dataclasses import dataclass, field
from pathlib import Path

from flows.narration.assemble import Sound
from flows.narration.limiter import Patience
from flows.narration.links import Links
from flows.narration.mirror import Mirror
from flows.narration.plan import Survey
from flows.narration.retakes import Retakes
from flows.narration.speech import Delivery
from flows.narration.takes import TakeStore


@dataclass(frozen=True)
class Order:
    """
    What a run was asked to make: the scripts surveyed, how they are to be spoken, how they are to sound, and where.
    """

    survey: Survey
    out: Path
    store: TakeStore
    delivery: Delivery
    sound: Sound
    patience: Patience
    budget_usd: float | None = None
    approve_above_usd: float | None = None
    account_limit: str | None = None
    retakes: Retakes = field(default_factory=Retakes)
    language: str = "en"
    mirror: Mirror | None = None
    links: Links | None = None
