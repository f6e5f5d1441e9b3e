"""
Recordings of a speaker → one checked, trimmed, mono WAV and its digest.
"""

from flows.narration.reference.identity import digest, find_transcript
from flows.narration.reference.levels import Levels
from flows.narration.reference.normalize import Reference, normalize

__all__ = ["Levels", "Reference", "digest", "find_transcript", "normalize"]
