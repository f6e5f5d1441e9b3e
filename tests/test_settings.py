"""
Every knob: from the environment, from the command line, wrong, and what Prefect is set to.
"""

import json
import re
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from flows import settings
from flows.knobs import LibraryChoice, Limits, Output, Scripts, VoiceChoice
from flows.narration.errors import KeyRefused, UsageError
from flows.narration.speech import Delivery
from flows.settings import PREFECT, Settings
from tests.conftest import ROOT, Narrate

VALUES: dict[str, Any] = {
    "scripts": "a/b",
    "encoding": "cp1252",
    "language": "de",
    "segment_bytes": 333,
    "cues": True,
    "reference": ["a.wav", "b c.wav"],
    "transcript": "Said.",
    "voice_id": "ab-12",
    "voice_title": "Ada",
    "instant": True,
    "poll_interval": 2.5,
    "training_timeout": 77.0,
    "credentials": "fish-audio",
    "model": "s2-pro",
    "speed": 1.5,
    "volume": -3.0,
    "temperature": 0.3,
    "top_p": 0.4,
    "read_numbers": False,
    "timing": "word",
    "format": "opus",
    "bitrate": 64,
    "out": "o",
    "takes": "t",
    "served_at": "https://audio.example.org/a",
    "pause_breath": 0.1,
    "pause_sentence": 0.2,
    "pause_paragraph": 0.3,
    "pause_heading": 0.4,
    "pause_scene_break": 0.5,
    "concurrency": 7,
    "attempts": 3,
    "deadline": 11.0,
    "patience": 12.0,
    "backoff": 0.5,
    "budget": 1.25,
    "approve_above_usd": 0.75,
    "ask_on_warnings": True,
    "account_limit": "fish-audio",
}
"""For each knob a value that is not its default."""

WRONG = {
    "segment_bytes": "many",
    "cues": "perhaps",
    "instant": "maybe",
    "read_numbers": "2",
    "timing": "letter",
    "voice_id": "a b",
    "model": "s1",
    "format": "aac",
    "poll_interval": "0",
    "training_timeout": "-1",
    "speed": "9",
    "volume": "loud",
    "temperature": "2",
    "top_p": "nan",
    "bitrate": "1",
    "concurrency": "0",
    "attempts": "1.5",
    "deadline": "0",
    "patience": "-1",
    "backoff": "61",
    "budget": "-0.01",
    "approve_above_usd": "-1",
    "ask_on_warnings": "perhaps",
    "account_limit": "fish/audio",
    "pause_breath": "-1",
    "pause_sentence": "11",
    "pause_paragraph": "x",
    "pause_heading": "inf",
    "pause_scene_break": "",
    "out": "",
    "served_at": "audio.example.org",
    "reference": "a.wav",
    "voice_title": "x" * 101,
}
"""For each knob that can be wrong by itself a value that is."""


def _variable(name: str) -> str:
    return f"NARRATE_{name.upper()}"


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(_variable(name), raising=False)
    for name in ("FISH_API_KEY", "FISH_BASE_URL", "FISH_ALLOW_HTTP"):
        monkeypatch.delenv(name, raising=False)


def test_every_knob_has_a_value_here() -> None:
    """
    A new knob is tested, too.
    """
    assert set(Settings.model_fields) == set(VALUES)


def test_every_knob_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A variable NARRATE_… for each, lists as JSON; and what is given on the command line wins over it.
    """
    for name, value in VALUES.items():
        monkeypatch.setenv(_variable(name), _as_text(value))

    knobs, given = settings.checked(Settings, {}), settings.checked(Settings, {"speed": "0.75", "reference": ["c.wav"]})

    assert VALUES == knobs.model_dump()
    assert {**VALUES, "speed": 0.75, "reference": ["c.wav"]} == given.model_dump()


@pytest.mark.parametrize("kind", [Scripts, Delivery, Output, Limits], ids=lambda kind: str(kind.__name__))
def test_a_group_of_knobs_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    """
    A flow that is started elsewhere than on the command line takes its defaults from the same variables.
    """
    for name, value in VALUES.items():
        monkeypatch.setenv(_variable(name), _as_text(value))

    group = settings.from_environment(kind)

    assert {name: VALUES[name] for name in kind.model_fields} == group.model_dump()
    assert isinstance(group, kind)


def test_the_groups_share_out_the_knobs() -> None:
    """
    Each knob belongs to exactly one parameter of the flow.
    """
    groups = [name for kind in (Scripts, VoiceChoice, Delivery, Output, Limits) for name in kind.model_fields]

    assert sorted(Settings.model_fields) == sorted(groups)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """
    In one sentence, by its option or variable, with what it was, and nothing else beside it.
    """
    monkeypatch.setenv(_variable(name), WRONG[name])

    with pytest.raises(UsageError) as refused:
        settings.checked(Settings, {"scripts": "s"})

    assert re.match(rf"(--{name.replace('_', '-')}|{_variable(name)})\b", refused.value.fact), refused.value.fact
    assert WRONG[name] in refused.value.fact
    assert "\n" not in str(refused.value)


def test_all_wrong_values_are_named_at_once(bare_narrate: Narrate) -> None:
    """
    A person mends them all before the next try.
    """
    done = bare_narrate("run", "s", "--voice-id", "x", "--speed", "9", NARRATE_CONCURRENCY="0", NARRATE_FORMAT="aac")

    assert (2, "") == (done.code, done.out)
    assert ["--concurrency", "--format", "--speed"] == sorted(re.findall("(--[a-z]+):", done.err))
    assert 1 == done.err.count("\n")


def test_the_command_line_wins(bare_narrate: Narrate) -> None:
    """
    An option over its variable, the variable over the default, as the number of segments shows.
    """
    script = bare_narrate.folder / "a.txt"
    script.write_text("This is the first sentence of all. " * 20)

    default, variable, option = (
        bare_narrate("estimate", script, "--json", *more, **environment).json["segments"]
        for more, environment in (
            ((), {}),
            ((), {"NARRATE_SEGMENT_BYTES": "200"}),
            (("--segment-bytes", "100"), {"NARRATE_SEGMENT_BYTES": "200"}),
        )
    )

    assert default < variable < option


def test_a_key_in_the_wrong_place_is_not_quoted() -> None:
    """
    Whoever gives the key where its name belongs does not want to read it in a log.
    """
    with pytest.raises(UsageError) as refused:
        settings.checked(Settings, {"scripts": "a", "voice_id": "x", "credentials": "Sk_THE_KEY"})

    assert refused.value.fact.startswith("--credentials: ")
    assert "Sk_THE_KEY" not in str(refused.value)


@pytest.mark.parametrize("url", ["api.fish.audio", "ftp://h", "http://", "http://h:99999", "http://h:x", "http:// h"])
def test_a_wrong_address_is_named(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """
    By the variable that it comes from.
    """
    monkeypatch.setenv("FISH_BASE_URL", url)

    with pytest.raises(UsageError, match="FISH_BASE_URL"):
        settings.account()


def test_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The hosted API by default; a key is never shown, and neither none nor a blank one is a key.
    """
    assert "api.fish.audio" == settings.account().host
    for blank in (None, "", " \n"):
        if blank is not None:
            monkeypatch.setenv("FISH_API_KEY", blank)
        with pytest.raises(KeyRefused):
            _ = settings.account().key
    monkeypatch.setenv("FISH_API_KEY", " secret\n")

    assert "secret" == settings.account().key
    assert "secret" not in repr(settings.account())


def test_prefect_is_set_the_same_everywhere() -> None:
    """
    What the command line sets is what prefect.toml says, so that a server started by hand behaves the same.
    """
    told = dict(_flat(tomllib.loads((ROOT / "prefect.toml").read_text())))

    assert {name: value for name, value in PREFECT.items() if name.startswith("PREFECT_")} == told


def test_prefect_knows_what_it_is_set_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Every setting exists in the Prefect that is installed, which ignores others without a word.
    """
    from prefect.settings import Settings as PrefectSettings

    for name, value in PREFECT.items():
        monkeypatch.setenv(name, value)
    known = dict(_flat(PrefectSettings().model_dump()))

    assert {name: value for name, value in PREFECT.items() if name.startswith("PREFECT_")} == {
        name: known.get(name) for name in PREFECT if name.startswith("PREFECT_")
    }


def _flat(table: dict[str, Any], prefix: str = "PREFECT") -> Iterator[tuple[str, str]]:
    """
    Tell each value of nested tables by the name of its variable.
    """
    for name, value in table.items():
        path = f"{prefix}_{name.upper()}"
        if isinstance(value, dict):
            yield from _flat(value, path)
        elif isinstance(value, timedelta):
            yield path, f"{value.total_seconds():.0f}"
        elif isinstance(value, set):
            yield path, ",".join(sorted(map(str, value)))
        else:
            yield path, str(value).lower() if isinstance(value, bool) else str(value).removesuffix(".0")


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (Scripts, {"scripts": "  "}),
        (Output, {"out": " "}),
        (VoiceChoice, {"reference": ["a.wav", ""]}),
        (LibraryChoice, {"books": [" "]}),
    ],
)
def test_a_name_is_not_of_spaces_only(kind: type[BaseModel], given: dict[str, Any]) -> None:
    """
    An empty path would be that of the folder that it is run in.
    """
    with pytest.raises(ValidationError):
        kind.model_validate(given)
