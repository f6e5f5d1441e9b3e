"""
The public library: a dozen stand-ins for voices of strangers, by the ids that public documentation and examples use.

Each hums at a pitch of its own, so that they are told apart; none sounds like the voice that has its id at Fish Audio.
"""

from flows.sandbox import sound
from flows.sandbox.encode import flac
from flows.sandbox.timbre import RATE
from flows.sandbox.voices import Voice, facts

STRANGER = "0" * 32
HUM = "as long as it takes to know a voice by its pitch and by nothing else"
VOICES = (
    # id, title, language, tags, pitch in Hz
    ("802e3bc2b27e49c2995d23ef70e6ac89", "Energetic Male", "en", ("male", "energetic"), 132),
    ("9a9cf47702da476aa4629e2506d4a857", "Hannah", "en", ("female", "conversational", "warm"), 196),
    ("8ef4a238714b45718ce04243307c57a7", "E-girl", "en", ("female", "young"), 240),
    ("ca3007f96ae7499ab87d27ea3599956a", "E-Girl Voice", "en", ("female", "young"), 228),
    ("933563129e564b19a115bedd57b7406a", "Sarah", "en", ("female", "soft"), 184),
    ("b347db033a6549378b48d00acb0d06cd", "Selene", "en", ("female", "calm", "narration"), 172),
    ("bf322df2096a46f18c579d0baa36f41d", "Adrian", "en", ("male", "deep", "narration"), 98),
    ("536d3a5e000945adb7038665781a4aca", "Ethan", "en", ("male", "conversational"), 118),
    ("79d0bd3e4e5444b18f7b6d89b5927bf1", "Jordan", "en", ("male", "dynamic"), 126),
    ("e3cd384158934cc9a01029cd7d278634", "Laura", "en", ("female", "narration"), 206),
    ("0327fdb5da9e4fd782899a8058c8ae2b", "Deep narration", "en", ("male", "narration"), 108),
    ("7f92f8afb8ec43bf81429cc1c9199cb1", "AD学姐", "zh", ("female", "calm"), 190),
)


def library() -> list[Voice]:
    """
    Make the voices of the library, the least used first.
    """
    made = []
    for used, (voice_id, title, language, tags, pitch) in enumerate(reversed(VOICES)):
        fields = {"title": [title], "tags": list(tags), "languages": [language], "visibility": ["public"]}
        told = facts(voice_id, STRANGER, {**fields, "cover_image": [b"x"], "voices": [b"x"], "texts": [HUM]})
        hum = flac(sound.speak(HUM, tone=pitch, rate=RATE), RATE)
        told["task_count"] = 1000 * (used + 1)
        made.append(Voice(voice_id, STRANGER, told, ["trained"], samples=[hum], tone=pitch))
    return made
