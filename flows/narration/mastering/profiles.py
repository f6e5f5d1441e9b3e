"""
Level profiles: how loud a finished file is to be, and what else is measured of it.
"""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from flows.narration.errors import UsageError
from flows.narration.mastering.measuring import Levels
from flows.narration.speech import SAMPLE_RATE

SLACK = 0.05
"""dB by which a measurement may differ from another program's."""


class LevelProfile(BaseModel):
    """
    What is asked of each finished file; limits that are None are not asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    name: str = Field(default="custom", description="Name of the profile.")
    loudness: float = Field(ge=-35, le=-9, description="Integrated loudness that each file is brought to, in LUFS.")
    loudness_tolerance: float | None = Field(
        default=0.5, ge=0.2, le=6, description="LU by which a file may differ from it; none: it is a goal, not a limit."
    )
    rms_low: float | None = Field(default=None, ge=-60, le=0, description="Lowest RMS of a whole file, in dBFS.")
    rms_high: float | None = Field(default=None, ge=-60, le=0, description="Highest RMS of a whole file, in dBFS.")
    peak: float | None = Field(default=None, ge=-20, le=0, description="Highest sample, in dBFS.")
    true_peak: float | None = Field(default=None, ge=-20, le=0, description="Highest true peak, in dBTP.")
    noise_floor: float | None = Field(
        default=-60, ge=-90, le=-30, description="Highest RMS of the quietest half second, in dBFS."
    )
    room_tone: float = Field(default=-76, ge=-100, le=-55, description="Level of the room tone (RMS), in dBFS.")
    head: float = Field(default=0.75, ge=0, le=10, description="Seconds before the first word.")
    head_low: float = Field(default=0.0, ge=0, le=10, description="Fewest seconds before the first word.")
    head_high: float = Field(default=30.0, ge=0, le=30, description="Most seconds before the first word.")
    tail: float = Field(default=1.5, ge=0, le=10, description="Seconds after the last word.")
    tail_low: float = Field(default=0.0, ge=0, le=10, description="Fewest seconds after the last word.")
    tail_high: float = Field(default=30.0, ge=0, le=30, description="Most seconds after the last word.")
    minutes: float = Field(default=1_440, ge=1, le=1_440, description="Longest file, in minutes; a longer chapter is split.")
    mp3_kbps: int = Field(default=192, ge=64, le=320, description="Bit rate of the MP3, constant, in kbit/s.")
    aac_kbps: int = Field(default=96, ge=32, le=192, description="Bit rate of the AAC in the M4B, in kbit/s.")
    high_pass: float = Field(default=80, ge=20, le=150, description="Corner of the high-pass filter, in Hz.")

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        for low, high in (("rms_low", "rms_high"), ("head_low", "head_high"), ("tail_low", "tail_high")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise ValueError(f"{low} is above {high}")
        if self.rms_low is not None and self.rms_high is not None and self.rms_high - self.rms_low < 1:
            raise ValueError("rms_low and rms_high are less than 1 dB apart")
        if not self.head_low <= self.head <= self.head_high or not self.tail_low <= self.tail <= self.tail_high:
            raise ValueError("head and tail must be within their limits")
        if self.noise_floor is not None and self.room_tone > self.noise_floor - 6:
            raise ValueError("room_tone must be 6 dB or more below noise_floor")
        if self.loudness > self.highest_peak - 6:
            raise ValueError("loudness must be 6 dB or more below the peak")
        return self

    @property
    def most_speech(self) -> float:
        """
        Seconds that the speech of one file may have, with its pauses.
        """
        return self.minutes * 60 - self.head - self.tail - 1

    @property
    def highest_peak(self) -> float:
        """
        The lower of both limits on peaks, in dB.
        """
        return min(limit for limit in (self.peak, self.true_peak, 0.0) if limit is not None)

    def misses(self, levels: Levels) -> list[str]:
        """
        Tell each number of a file that is not as it has to be.
        """
        return [
            *self.misses_level(levels),
            *_outside("peak", levels.peak, "dBFS", None, self.peak),
            *_outside("true peak", levels.true_peak, "dBTP", None, self.true_peak),
            *_outside("noise floor", levels.noise_floor, "dBFS", None, self.noise_floor),
            *_outside("silence before the first word", levels.head, "s", self.head_low, self.head_high),
            *_outside("silence after the last word", levels.tail, "s", self.tail_low, self.tail_high),
            *_outside("length", levels.seconds / 60, "min", None, self.minutes),
            *([] if levels.sample_rate == SAMPLE_RATE else [f"sample rate {levels.sample_rate} Hz, not {SAMPLE_RATE}"]),
            *([] if levels.channels == 1 else [f"{levels.channels} channels, not 1"]),
            *([] if levels.kbps == self.mp3_kbps else [f"bit rate {levels.told_rate}, not {self.mp3_kbps} kbit/s throughout"]),
        ]

    def misses_level(self, levels: Levels) -> list[str]:
        """
        Tell those numbers that another gain would mend.
        """
        near = self.loudness_tolerance
        return [
            *_outside("loudness", levels.loudness, "LUFS", *((self.loudness - near, self.loudness + near) if near else ())),
            *_outside("RMS", levels.rms, "dBFS", self.rms_low, self.rms_high),
        ]


def _outside(name: str, value: float | None, unit: str, low: float | None = None, high: float | None = None) -> list[str]:
    slack = 0.0 if unit in ("s", "min") else SLACK
    if value is None:
        return [f"{name} cannot be measured"] if low is not None or high is not None else []
    if low is not None and value < low - slack:
        return [f"{name} {value:.2f} {unit}, below {low:g}"]
    if high is not None and value > high + slack:
        return [f"{name} {value:.2f} {unit}, above {high:g}"]
    return []


ACX = LevelProfile(
    name="acx",
    loudness=-19.0,
    loudness_tolerance=None,
    rms_low=-23,
    rms_high=-18,
    peak=-3,
    head=0.65,
    tail=1.2,
    head_low=0.5,
    head_high=1.0,
    tail_low=1.0,
    tail_high=5.0,
    minutes=120,
)
"""Of ACX. RMS counts pauses, head and tail in and loudness does not: at -19 LUFS speech has an RMS near -20 dBFS, and credits
of five seconds, half of which are room tone, stay above -23."""

PODCAST = LevelProfile(name="podcast", loudness=-16, true_peak=-1, mp3_kbps=128)
EBU = LevelProfile(name="ebu", loudness=-23, true_peak=-1)

PROFILES = {profile.name: profile for profile in (ACX, PODCAST, EBU)}


def level_profile(wish: str) -> LevelProfile:
    """
    Read a profile's name, or numbers of one's own: `loudness=-18,true_peak=-2`, also after a name: `acx,loudness=-20`.

    Raises `UsageError` for what is neither.
    """
    first, *others = [part.strip() for part in wish.split(",")]
    base, numbers = PROFILES.get(first), others
    if base is None:
        numbers = [first, *others]
    pairs = [number.partition("=") for number in numbers]
    if not all(sign for _, sign, _ in pairs):
        raise UsageError(
            f"There is no level profile “{wish}”.",
            f"Choose {', '.join(PROFILES)}, or give numbers: loudness=-18,true_peak=-2.",
        )
    own = {name.strip(): None if value.strip() == "none" else value.strip() for name, _, value in pairs}
    try:
        return LevelProfile.model_validate((base.model_dump() if base else {}) | {"name": wish} | own)
    except ValidationError as error:
        found = error.errors()[0]
        place = ".".join(map(str, found["loc"]))
        said = found["msg"].removeprefix("Value error, ")
        raise UsageError(f"The level profile “{wish}” is no good: {place + ': ' if place else ''}{said}.") from error
