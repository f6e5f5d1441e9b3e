"""
The account at Fish Audio as a Prefect block, so that no machine that works needs the key in its environment.

Made known to a server with `prefect block register -m flows.credentials`, and filled in at the UI under Blocks, or by
`FishAudioCredentials(api_key=…).save("fish-audio")`. Prefect encrypts it in its database, and gives it back in plain text to
whoever may use the server's API: see to it that only those who may spend the money can.
"""

from typing import Self

from prefect import get_run_logger
from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, SecretStr, ValidationError, model_validator

from flows import settings
from flows.knobs import VoiceChoice
from flows.narration.address import HOSTED_API, checked_address
from flows.narration.errors import KeyRefused, UsageError
from flows.settings import Account

SLUG = "fish-audio-credentials"

BLOCK = "fish-audio"
"""The block that deployments name; where it is not there, the environment's key counts, and for no other."""


class FishAudioCredentials(Block):
    """
    The key and the address of an account at Fish Audio.
    """

    _block_type_name = "Fish Audio Credentials"
    _block_type_slug = SLUG
    _description = "The key of an account at Fish Audio (https://fish.audio/app/api-keys), which narrating is billed to."
    _code_example = """\
```python
from flows.credentials import FishAudioCredentials

FishAudioCredentials(api_key="…").save("fish-audio")
```"""

    model_config = ConfigDict(hide_input_in_errors=True)

    api_key: SecretStr = Field(title="API key", min_length=1, description="Key of the account; it is stored encrypted.")
    base_url: str = Field(
        default=HOSTED_API, title="Base URL", description="Address of the API: https, without a query and without a password."
    )
    allow_http: bool = Field(
        default=False,
        title="Allow http",
        description="Send the key over http as well, which anyone on the way can read. This machine itself needs no leave.",
    )

    @model_validator(mode="after")
    def _fit_for_a_key(self) -> Self:
        checked_address(self.base_url, allow_http=self.allow_http)
        return self


async def account_of(voice: VoiceChoice) -> Account:
    """
    Return the account that *voice* is at: that of the block it names, or else that of the environment.

    Raises `KeyRefused` where neither has a key, and `UsageError` where an address is none that a key may be sent to.
    """
    if not voice.credentials:
        return settings.account()
    block = await _block(voice.credentials)
    if block is not None:
        given = {"api_key": block.api_key, "base_url": block.base_url, "allow_http": block.allow_http}
        return settings.checked(Account, given)
    if voice.credentials != BLOCK:
        raise UsageError(
            f"There is no block “{voice.credentials}” of the type {SLUG}.",
            "Make it in the UI, under Blocks, or name one that is there (Account, --credentials).",
        )
    account = settings.account()
    if account.api_key is None or not account.api_key.get_secret_value().strip():
        raise KeyRefused(
            f"There is no block “{voice.credentials}” of the type {SLUG}, and no FISH_API_KEY in the environment.",
            "Make the block (`prefect block register -m flows.credentials`, then Blocks in the UI), or set FISH_API_KEY "
            "where the flow runs.",
        )
    get_run_logger().info("There is no block “%s” of the type %s: the key in the environment is used.", voice.credentials, SLUG)
    return account


async def _block(name: str) -> FishAudioCredentials | None:
    """
    Load a block, or return `None` where there is none by that name.
    """
    try:
        return await FishAudioCredentials.aload(name)
    except ValueError:
        return None
    except RuntimeError as error:  # the UI checks no more than types
        raise UsageError(
            f"The block “{name}” of the type {SLUG} cannot be used: {_faults(error.__cause__)}.",
            "Mend it in the UI, under Blocks.",
        ) from None


def _faults(error: BaseException | None) -> str:
    """
    Tell what is wrong with a block by the names of its fields; nothing that is in it is quoted.
    """
    if not isinstance(error, ValidationError):
        return "it does not load"
    faults = [(*each["loc"], each["msg"].removeprefix("Value error, ")) for each in error.errors(include_input=False)]
    return "; ".join(": ".join(map(str, fault)) for fault in faults)
