"""
Level profiles: which there are, which a person may make up, and what they find wrong with a file.
"""

from typing import Any

import pytest

from flows.narration.errors import UsageError
from flows.narration.mastering import PROFILES, Levels, level_profile

GOOD: dict[str, Any] = {
    "loudness": -19.0,
    "rms": -20.0,
    "peak": -3.5,
    "true_peak": -3.4,
    "noise_floor": -75.0,
    "seconds": 60.0,
    "head": 0.75,
    "tail": 1.5,
    "sample_rate": 44_100,
    "channels": 1,
    "kbps": 192,
    "kbps_seen": [192],
}


def _misses(profile: str, **levels: Any) -> list[str]:
    return level_profile(profile).misses(Levels(**(GOOD | levels)))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, []),
        ({"rms": -23.04, "peak": -2.96, "noise_floor": -60.0}, []),
        ({"rms": -23.2}, ["RMS -23.20 dBFS, below -23"]),
        ({"rms": -17.9}, ["RMS -17.90 dBFS, above -18"]),
        ({"peak": -2.9}, ["peak -2.90 dBFS, above -3"]),
        ({"noise_floor": -59.0}, ["noise floor -59.00 dBFS, above -60"]),
        ({"head": 0.49}, ["silence before the first word 0.49 s, below 0.5"]),
        ({"head": 1.01}, ["silence before the first word 1.01 s, above 1"]),
        ({"tail": 0.99}, ["silence after the last word 0.99 s, below 1"]),
        ({"tail": 5.1}, ["silence after the last word 5.10 s, above 5"]),
        ({"seconds": 7201.0}, ["length 120.02 min, above 120"]),
        ({"sample_rate": 48_000}, ["sample rate 48000 Hz, not 44100"]),
        ({"channels": 2}, ["2 channels, not 1"]),
        ({"kbps": 128, "kbps_seen": [128]}, ["bit rate 128 kbit/s, not 192 kbit/s throughout"]),
        ({"kbps": None, "kbps_seen": [128, 256]}, ["bit rate from 128 to 256 kbit/s, not 192 kbit/s throughout"]),
        ({"loudness": -25.0, "true_peak": 0.1}, []),
    ],
)
def test_each_number_that_acx_asks_for_is_told(changed: dict[str, Any], told: list[str]) -> None:
    """
    And none that it does not ask for.
    """
    assert told == _misses("acx", **changed)


def test_loudness_and_true_peak_are_asked_for_by_others() -> None:
    """
    With half a LU on either side.
    """
    podcast = {"loudness": -16.0, "true_peak": -1.0, "kbps": 128, "kbps_seen": [128]}

    assert [] == _misses("podcast", **podcast)
    assert ["loudness -16.60 LUFS, below -16.5"] == _misses("podcast", **(podcast | {"loudness": -16.6}))
    assert ["true peak -0.50 dBTP, above -1"] == _misses("podcast", **(podcast | {"true_peak": -0.5}))
    assert ["loudness cannot be measured"] == _misses("ebu", loudness=None)


def test_numbers_of_ones_own_are_a_profile() -> None:
    """
    Alone, or in place of some of another's.
    """
    own, changed = level_profile("loudness=-18, true_peak=-2"), level_profile("acx,loudness=-20,rms_high=none")

    assert (-18, -2, None, 192) == (own.loudness, own.true_peak, own.peak, own.mp3_kbps)
    assert (-20, -23, None, -3) == (changed.loudness, changed.rms_low, changed.rms_high, changed.peak)
    assert all(level_profile(name) == profile for name, profile in PROFILES.items())


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        ("audible", "no level profile “audible”. Choose acx, podcast, ebu"),
        ("", "no level profile “”"),
        ("acx,loud", "no level profile “acx,loud”"),
        ("true_peak=-2", "loudness: Field required"),
        ("loudness=loud", "loudness: Input should be a valid number"),
        ("loudness=-3", "loudness: Input should be less than or equal to -9"),
        ("loudness=nan", "is no good"),
        ("acx,volume=3", "volume: Extra inputs are not permitted"),
        ("acx,rms_low=-17", "rms_low is above rms_high"),
        ("acx,rms_low=-18.5", "less than 1 dB apart"),
        ("acx,head=2", "head and tail must be within their limits"),
        ("acx,noise_floor=-78", "room_tone must be 6 dB or more below noise_floor"),
        ("loudness=-10,peak=-9", "loudness must be 6 dB or more below the peak"),
    ],
)
def test_a_profile_that_makes_no_sense_is_refused(wish: str, why: str) -> None:
    """
    With a sentence that says what is wrong with it.
    """
    with pytest.raises(UsageError) as refused:
        level_profile(wish)

    assert why in str(refused.value)
    assert "\n" not in str(refused.value)
