"""
How long a text may take: bounds that real readings keep and that what goes wrong does not.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.narration.pace import bounds

ENGLISH = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness. " * 4
GERMAN = "Der Nordwind und die Sonne stritten einmal, wer von beiden der Stärkere sei, da kamen Wanderer des Weges. " * 4
CHINESE = "从前有一座山，山里有一座庙，庙里有一个老和尚，正在给小和尚讲故事。" * 8
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。" * 8
KOREAN = "나라의 말이 중국과 달라 한자와는 서로 통하지 아니하므로 이런 까닭으로 어리석은 백성이 있다. " * 6
RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. " * 5
ARABIC = "كان يا ما كان في قديم الزمان ملك عادل يحكم بلادا واسعة ويحب شعبه كثيرا. " * 6

# Units a second that narrators read: words of English (155 to 185 a minute in Librivox's "Alice" and "Sherlock Holmes") and of
# the other alphabets, characters of Chinese (4 to 5), Japanese (a kanji is about two of 7 to 8 moras) and Korean (5 to 6).
READ = {
    "English": (ENGLISH, len(ENGLISH.split()), (2.2, 3.2)),
    "German": (GERMAN, len(GERMAN.split()), (1.7, 2.5)),
    "Russian": (RUSSIAN, len(RUSSIAN.split()), (1.6, 2.5)),
    "Arabic": (ARABIC, len(ARABIC.split()), (1.5, 2.5)),
    "Chinese": (CHINESE, sum(letter.isalpha() for letter in CHINESE), (3.5, 5.5)),
    "Japanese": (JAPANESE, sum(letter.isalpha() for letter in JAPANESE), (4.0, 6.5)),
    "Korean": (KOREAN, sum(letter.isalpha() for letter in KOREAN), (4.0, 6.5)),
}


@pytest.mark.parametrize("language", READ)
@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0])
def test_a_reading_at_any_narrators_pace_is_a_take(language: str, speed: float) -> None:
    """
    The slowest and the fastest narrator of a language, at any speed that can be asked for.
    """
    text, units, paces = READ[language]
    shortest, longest = bounds(text, speed=speed)

    for pace in paces:
        assert shortest < units / pace / speed < longest


@pytest.mark.parametrize("language", READ)
@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0])
def test_a_fifth_of_a_text_is_no_take_and_ten_times_it_is_none(language: str, speed: float) -> None:
    """
    A voice that broke off early, and one that says the same over and over, at the common pace of its language.
    """
    text, units, paces = READ[language]
    common = units / (sum(paces) / 2) / speed
    shortest, longest = bounds(text, speed=speed)

    assert common / 5 < shortest
    assert common * 10 > longest


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Oh!", 0.25),
        ("Oh!", 6.0),
        ("No.", 0.2),
        ("1984.", 1.6),
        ("On 12/12/2012 at 12:12 he paid 1,000,000.50 USD.", 14.0),
        ("Dr. J. R. Smith, Ph.D., 221B Baker St., London NW1 6XE.", 8.0),
        ("[laughing] Well.", 9.0),
        ("好。", 0.3),
        ("「え？」", 0.3),
        ("50 % of 3 € is ½ of 300 ¢.", 8.0),
        ("… — !", 0.2),
    ],
)
def test_short_texts_vary_most(text: str, seconds: float) -> None:
    """
    A sigh, an address, a number: what a reader makes of it cannot be told by counting.
    """
    shortest, longest = bounds(text, speed=1.0)

    assert shortest < seconds < longest


@settings(max_examples=100, derandomize=True, deadline=None)
@given(text=st.text(max_size=400), more=st.text(max_size=50), speed=st.floats(0.5, 2.0))
def test_bounds_are_in_order_and_grow_with_the_text(text: str, more: str, speed: float) -> None:
    """
    Whatever the text: there is room between them, and more text never needs less time.
    """
    shortest, longest = bounds(text, speed=speed)

    assert 0 <= shortest < longest
    if not set("[]<>|") & set(text + more):
        further = bounds(text + more, speed=speed)
        assert shortest <= further[0]
        assert longest <= further[1]
    assert bounds(text, speed=1.0) == pytest.approx((shortest * speed, longest * speed))
