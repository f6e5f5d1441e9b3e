"""
A webhook for machines: each event of `flows.telling` as a POST of JSON, signed in the manner of https://www.standardwebhooks.com.

The headers are `webhook-id` (that of the event; the same in every attempt, so that a receiver can drop what it knows),
`webhook-timestamp` (seconds of the attempt) and `webhook-signature` (`v1,` and the HMAC-SHA256 of id, timestamp and body in
Base64): libraries for a dozen languages check them. The body is `type`, `timestamp` and `data`.

Address and secret come from NARRATE_WEBHOOK_URL and NARRATE_WEBHOOK_SECRET, or else from the block named `narrate` of the type
below; never from a parameter, which Prefect would show.
"""

import asyncio
import base64
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
from prefect import get_run_logger, task
from prefect.blocks.core import Block
from prefect.cache_policies import NO_CACHE
from pydantic import ConfigDict, Field, SecretStr, field_validator
from standardwebhooks import Webhook

from flows import settings
from flows.narration.address import is_loopback
from flows.narration.errors import WebhookAway

BLOCK = "narrate"

ENCRYPTED = "a webhook is told by https, or by http on this machine itself"

ANSWER_SECONDS = 10.0
"""How long a receiver may take to answer, all in all."""

SECRET_BYTES = range(24, 65)
"""How long a secret may be, as the specification has it."""

WAITS: list[float] = [1, 2, 4, 8, 16]
"""Seconds between attempts; the run waits for them at its end, so they are few."""


class SignedWebhook(Block):
    """
    The address of a webhook that is told of runs, and what it is signed with.
    """

    _block_type_name = "Narrate Webhook"
    _block_type_slug = "narrate-webhook"
    _description = "A webhook that is told of Narrate's runs by signed POST requests (https://www.standardwebhooks.com)."

    model_config = ConfigDict(hide_input_in_errors=True)

    url: SecretStr = Field(title="URL", description="Address that is told; https, or this machine's own.")
    secret: SecretStr = Field(title="Secret", description="What is signed with: whsec_ and 24 to 64 bytes in Base64.")

    @field_validator("url")
    @classmethod
    def _fit(cls, url: SecretStr) -> SecretStr:
        if not may_be_told(url.get_secret_value()):
            raise ValueError(ENCRYPTED)
        return url

    @field_validator("secret")
    @classmethod
    def _signs(cls, secret: SecretStr) -> SecretStr:
        prefix, _, key = secret.get_secret_value().partition("_")
        try:
            long_enough = len(base64.b64decode(key, validate=True)) in SECRET_BYTES
        except ValueError:
            long_enough = False
        if prefix != "whsec" or not long_enough:
            raise ValueError("a secret is whsec_ and 24 to 64 bytes in Base64")
        return secret

    @property
    def host(self) -> str:
        """
        Which host is told: all of the address that may be shown.
        """
        return urlsplit(self.url.get_secret_value()).hostname or ""


def may_be_told(url: str) -> bool:
    """
    Tell whether *url* is an address that only its receiver can listen at.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))


_known: dict[UUID, SignedWebhook | None] = {}
"""The webhook of a run, once it was looked for."""


_away: set[UUID] = set()
"""Runs that have said that their webhook is away."""


async def tell(kind: str, data: dict[str, Any], *, message_id: str, run_id: UUID, insisting: bool) -> None:
    """
    Tell the webhook, if there is one; that it stays away fails nothing, and is logged once.

    It is tried once, by the way; where *insisting*, in a task of its own that tries again.
    """
    if run_id not in _known:
        _known.clear()
        _away.clear()
        _known[run_id] = await _configured()
    hook = _known[run_id]
    if hook is None:
        return
    body = json.dumps({"type": kind, "timestamp": datetime.now(UTC).isoformat(), "data": data}, ensure_ascii=False)
    try:
        await (post if insisting else post.fn)(hook, kind, message_id, body)
    except Exception as error:
        if insisting:
            get_run_logger().warning("%s was not told of %s (%s): %s", hook.host, kind, message_id, error)
        elif run_id not in _away:
            _away.add(run_id)
            get_run_logger().warning(
                "%s was not told of %s (%s), and what else of this kind it does not take is not said: %s",
                hook.host,
                kind,
                message_id,
                error,
            )


async def _configured() -> SignedWebhook | None:
    """
    Find the webhook in the environment or in its block; one that cannot be used is warned of.
    """
    knobs = settings.checked(settings.WebhookKnobs, {})
    try:
        if knobs.url or knobs.secret:
            return SignedWebhook(url=knobs.url, secret=knobs.secret)
        return await SignedWebhook.aload(BLOCK)
    except ValueError as error:
        if knobs.url or knobs.secret:
            get_run_logger().warning(
                "No webhook is told: NARRATE_WEBHOOK_URL or NARRATE_WEBHOOK_SECRET cannot be used. %s", error
            )
    except (RuntimeError, httpx.HTTPError):
        get_run_logger().warning("No webhook is told: the block narrate-webhook/%s cannot be used.", BLOCK)
    return None


@task(
    name="tell-webhook",
    task_run_name="tell-webhook {kind}",
    retries=len(WAITS),
    retry_delay_seconds=WAITS,
    cache_policy=NO_CACHE,
    persist_result=False,
)
async def post(hook: SignedWebhook, kind: str, message_id: str, body: str) -> None:
    """
    Post one message. `WebhookAway` where it is not taken; each attempt is signed anew, under the same id.
    """
    now = datetime.now(UTC)
    headers = {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(hook.secret.get_secret_value()).sign(message_id, now, body),
    }
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            httpx.AsyncClient(timeout=ANSWER_SECONDS) as client,
            client.stream("POST", hook.url.get_secret_value(), content=body.encode(), headers=headers) as answer,
        ):
            if answer.is_success:
                return
            said = f"it answered {answer.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        said = type(error).__name__
    raise WebhookAway(f"The webhook at {hook.host} did not take {kind}: {said}.", "")
