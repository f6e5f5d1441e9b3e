"""
Judge a recording before anything is spent on it: is there enough speech, and is it clean enough to be cloned?

The limits were set on real recordings (AUDIO.md, section d): archive recordings have about 18 dB between speech and noise, and
give usable voices.
"""

from dataclasses import dataclass

from flows.narration.reference.levels import SILENT_PEAK, Levels, Measured

LEAST_SPEECH, ADVISED_SPEECH = 3.0, 10.0
"""Seconds of speech in all recordings together."""

LEAST_SHARE = 0.15
"""Speech's share of the time from its first to its last moment: a detector that fires now and then hears no speaker."""

LEAST_SNR, ADVISED_SNR = 10.0, 18.0
"""Decibels between the speech and what is heard outside of it."""

ADVISED_BANDWIDTH = 5_000.0
"""Hz; telephones end at 3.4 to 4 kHz."""

MOST_CLIPPED, ADVISED_CLIPPED = 20.0, 0.5
"""Clipped runs in a second of speech: a recording that is 3 dB too loud has 1, at 6 dB it has 7 to 10, at 9 dB more than 30."""


@dataclass(frozen=True)
class Finding:
    """
    Something wrong, and how to record better.
    """

    problem: str
    remedy: str


def weigh(measured: Measured) -> tuple[list[Finding], list[Finding]]:
    """
    Return the faults (it cannot be used) and the warnings about one recording.
    """
    fault = _not_speech(measured)
    faults, warnings = ([fault], []) if fault else _quality(measured.levels, measured.speech_seconds)
    if measured.antiphase:
        problem = "its two channels cancel each other, so only the left one is used"
        warnings.append(Finding(problem, "Record in mono, or mend the cable."))
    return faults, warnings


def weigh_amount(speech_seconds: float) -> tuple[list[Finding], list[Finding]]:
    """
    Return the faults and the warnings about the *amount* of speech in all recordings together.
    """
    remedy = "Give 10 to 30 s of one person who reads aloud, without long pauses."
    if speech_seconds < LEAST_SPEECH:
        return [Finding(f"only {speech_seconds:.1f} s of speech, and a voice needs {LEAST_SPEECH:.0f} s", remedy)], []
    if speech_seconds < ADVISED_SPEECH:
        problem = f"only {speech_seconds:.1f} s of speech; the likeness gets better from {ADVISED_SPEECH:.0f} s on"
        return [], [Finding(problem, remedy)]
    return [], []


def _not_speech(measured: Measured) -> Finding | None:
    """
    Say what makes all other measures meaningless: silence, a tone, noise, music.
    """
    if measured.levels.peak_dbfs < SILENT_PEAK:
        return Finding(f"its {measured.seconds:.1f} s are silent", "Check that the right microphone is chosen and switched on.")
    begin, end = measured.span
    share = measured.speech_seconds / max(end - begin, min(measured.seconds, LEAST_SPEECH))
    if share < LEAST_SHARE:
        heard = f"only {share:.0%} of it sounds like speech" if measured.speech_seconds else "no speech can be heard"
        return Finding(f"{heard} in its {measured.seconds:.1f} s", "Record one person speaking, without music or other sounds.")
    return None


def _quality(levels: Levels, speech_seconds: float) -> tuple[list[Finding], list[Finding]]:
    """
    Return the faults and the warnings about how the speech was recorded.
    """
    faults: list[Finding] = []
    warnings: list[Finding] = []
    quiet_room = "Record in a quiet room, a hand's width from the microphone."
    if levels.snr_db < ADVISED_SNR:
        found = Finding(f"its noise is only {levels.snr_db:.1f} dB below the speech ({ADVISED_SNR:.0f} dB is good)", quiet_room)
        (faults if levels.snr_db < LEAST_SNR else warnings).append(found)
    clipped = levels.clipped_runs / speech_seconds
    if clipped > ADVISED_CLIPPED:
        found = Finding(
            f"it is clipped in {levels.clipped_runs} places", "Turn the recording level down until peaks stay below -6 dB."
        )
        (faults if clipped > MOST_CLIPPED else warnings).append(found)
    if levels.bandwidth_hz < ADVISED_BANDWIDTH:
        problem = f"its sound ends at {levels.bandwidth_hz / 1000:.1f} kHz, as over a telephone, so the voice will sound dull"
        warnings.append(Finding(problem, "Record at 44.1 kHz with a microphone of your own, and send the file itself."))
    return faults, warnings
