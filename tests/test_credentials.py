"""
The block that holds the account's key: as the UI shows it, used by a run, missing, and not fit to be used.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flows.credentials import FishAudioCredentials
from tests.conftest import KEY, Done, Narrate, Sandbox
from tests.standing import ask

BLOCK_KEY = "the-key-in-the-block"
SLUG = "fish-audio-credentials"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """
    One script of one sentence.
    """
    path = tmp_path / "one.txt"
    path.write_text("Nobody came.\n")
    return path


@pytest.fixture
def keyless(narrate: Narrate) -> Narrate:
    """
    A machine with no key in its environment, and an address that nobody answers at.
    """
    kept = {name: value for name, value in narrate.environment.items() if name != "FISH_API_KEY"}
    return Narrate(folder=narrate.folder, environment={**kept, "FISH_BASE_URL": "http://127.0.0.1:9"})


@pytest.fixture(scope="module")
def block_type(prefect_api: str) -> Any:
    """
    The type of block, registered as README says.
    """
    subprocess.run(
        [sys.executable, "-m", "prefect", "block", "register", "-m", "flows.credentials"],
        env={**os.environ, "PREFECT_API_URL": prefect_api},
        stdout=subprocess.PIPE,
        timeout=120,
        check=True,
    )
    return ask("GET", f"{prefect_api}/block_types/slug/{SLUG}").raise_for_status().json()


def _schema(api: str, block_type: Any) -> Any:
    mine = {"block_schemas": {"block_type_id": {"any_": [block_type["id"]]}}}
    [schema] = ask("POST", f"{api}/block_schemas/filter", json=mine).raise_for_status().json()
    return schema


def _save(api: str, block_type: Any, name: str, **data: Any) -> str:
    """
    Save a block as the UI does, which checks no more than types; return its id.
    """
    schema = _schema(api, block_type)
    body = {"name": name, "data": data, "block_schema_id": schema["id"], "block_type_id": block_type["id"]}
    return str(ask("POST", f"{api}/block_documents/", json=body).raise_for_status().json()["id"])


def _run(narrate: Narrate, script: Path, **environment: str) -> Done:
    """
    Narrate with a voice that is not there: that shows whose account was asked, and costs nothing.
    """
    return narrate("run", script, "--voice-id", "nobody", "--out", narrate.folder / "out", **environment)


def test_the_form_explains_itself(prefect_api: str, block_type: Any) -> None:
    """
    The type says what it is, the key is a password that is kept secret, and each field has a name and a sentence.
    """
    fields = _schema(prefect_api, block_type)["fields"]

    assert "Fish Audio Credentials" == block_type["name"]
    assert "https://fish.audio/app/api-keys" in block_type["description"]
    assert "save" in block_type["code_example"]
    assert ["api_key"] == fields["secret_fields"] == fields["required"]
    assert "password" == fields["properties"]["api_key"]["format"]
    assert ["api_key", "base_url", "allow_http"] == sorted(
        fields["properties"], key=lambda name: fields["properties"][name]["position"]
    )
    assert all(field["title"] and field["description"] for field in fields["properties"].values())


def test_a_run_uses_the_block(keyless: Narrate, sandbox: Sandbox, script: Path, prefect_api: str, block_type: Any) -> None:
    """
    Key and address are those of the block; nobody who looks at the block without leave sees the key.
    """
    sandbox.config(keys=[BLOCK_KEY])
    block = _save(prefect_api, block_type, "in-use", api_key=BLOCK_KEY, base_url=sandbox.url)

    done = _run(keyless, script, NARRATE_CREDENTIALS="in-use")

    assert 4 == done.code, done.err
    assert [404] == [row["status"] for row in sandbox.requests("/model/nobody")]
    assert BLOCK_KEY not in done.err + ask("GET", f"{prefect_api}/block_documents/{block}").text


@pytest.mark.long
def test_without_the_block_the_environment_counts(bare_narrate: Narrate, sandbox: Sandbox, script: Path) -> None:
    """
    The same deployment works where nobody made the block, and says so; without a key as well both ways to give one are told.
    """
    sandbox.config(keys=[KEY])

    done = _run(bare_narrate, script, NARRATE_CREDENTIALS="fish-audio")
    sandbox.forget()
    keyless = _run(bare_narrate, script, NARRATE_CREDENTIALS="fish-audio", FISH_API_KEY="")

    assert 4 == done.code, done.err
    assert "There is no block “fish-audio” of the type fish-audio-credentials: the key in the environment is used." in done.err
    assert 7 == keyless.code, keyless.err
    assert [] == [told for told in ("fish-audio", "prefect block register", "FISH_API_KEY") if told not in keyless.err]
    assert "Traceback" not in keyless.err
    assert "fish-audio" in (bare_narrate.folder / "out/run.json").read_text()
    assert [] == sandbox.requests()


def test_a_block_of_another_name_has_to_be_there(narrate: Narrate, sandbox: Sandbox, script: Path) -> None:
    """
    Who named another account does not spend the money of the environment's.
    """
    done = _run(narrate, script, NARRATE_CREDENTIALS="never-made")

    assert 2 == done.code, done.err
    assert "There is no block “never-made”" in done.err
    assert [] == sandbox.requests()


def test_a_block_that_is_not_fit_is_refused(keyless: Narrate, script: Path, prefect_api: str, block_type: Any) -> None:
    """
    The UI saves whatever is typed; the run refuses it, names the block and quotes no secret.
    """
    _save(prefect_api, block_type, "with-password", api_key=BLOCK_KEY, base_url=f"https://ada:{KEY}@fish.example")

    done = _run(keyless, script, NARRATE_CREDENTIALS="with-password")

    assert 2 == done.code, done.err
    assert "The block “with-password” of the type fish-audio-credentials cannot be used: an address with a user" in done.err
    assert [] == [shown for shown in ("Traceback", BLOCK_KEY, KEY) if shown in done.err]


@pytest.mark.parametrize("given", [{"base_url": "http://fish.example"}, {"base_url": f"https://u:{KEY}@h"}, {"api_key": ""}])
def test_a_block_that_is_made_in_python_is_checked_at_once(given: dict[str, str]) -> None:
    """
    What is wrong is told without what was given.
    """
    with pytest.raises(ValidationError) as refused:
        FishAudioCredentials(**{"api_key": BLOCK_KEY, **given})

    assert KEY not in str(refused.value)
    assert BLOCK_KEY not in str(refused.value) + repr(FishAudioCredentials(api_key=BLOCK_KEY))
