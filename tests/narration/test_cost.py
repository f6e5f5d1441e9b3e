"""
Prices and estimates, against what the service publishes.
"""

from typing import get_args

import pytest

from flows.narration import cost
from flows.narration.speech import Delivery


def test_bytes_are_billed_and_not_characters() -> None:
    """
    Umlauts, Chinese and emoji cost what they weigh.
    """
    assert (5, 6, 6, 4, 0) == tuple(map(cost.billed_bytes, ("Hello", "Grüß", "你好", "😀", "")))


@pytest.mark.parametrize(
    ("billed", "model", "usd"),
    [
        (1_000_000, "s2.1-pro", 15.0),
        (1_000_000, "s2-pro", 15.0),
        (1_000_000, "s2.1-pro-free", 0.0),
        (1, "s2.1-pro", 0.000015),
        (0, "s2.1-pro", 0.0),
        (333_333, "s2.1-pro", 4.999995),
    ],
)
def test_a_million_bytes_are_fifteen_dollars(billed: int, model: str, usd: float) -> None:
    """
    To the byte, so that sums of what was paid agree with the account.
    """
    assert usd == cost.usd(billed, model=model)


def test_every_model_has_a_price() -> None:
    """
    A model without one would be found out after its first request.
    """
    assert set(get_args(Delivery.model_fields["model"].annotation)) == set(cost.USD_PER_BYTE)


def test_an_hour_of_speech_is_54_thousand_bytes() -> None:
    """
    At 15 bytes a second; half of that at twice the speed.
    """
    assert (1.0, 0.5) == (cost.hours(54_000), cost.hours(54_000, speed=2.0))
