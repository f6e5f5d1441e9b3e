"""
Messages to people: the automations of `alerts.yaml`, put on a Prefect server with its own blocks, listed and taken away.

A channel is a block with a fixed name, so installing again changes what is there and makes nothing twice. Slack and mail go
through the same type of Prefect's blocks: it hands any address to Apprise, and every Prefect server has it, whatever else is
installed there.
"""

import base64
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import yaml
from apprise import Apprise
from prefect.blocks.core import Block
from prefect.blocks.notifications import SlackWebhook
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.actions import CallWebhook, SendNotification
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from flows.narration.errors import UsageError
from flows.webhook import BLOCK, ENCRYPTED, SignedWebhook, may_be_told

Channel = Literal["slack", "mail", "webhook", "signed-webhook"]

PAYLOAD = (
    '{"id": {{ event.id|string|tojson }}, "type": {{ event.event|tojson }}, "timestamp": {{ event.occurred|string|tojson }}, '
    '"data": {{ event.payload|tojson }}, "subject": %s, "run": {{ flow_run|ui_url|tojson }}}'
)
"""What the unsigned webhook is told: Prefect's server sends it, also of runs whose process is gone."""


@dataclass(frozen=True)
class _Kind:
    """
    A channel's block: its class, its name, and how an address of it begins.
    """

    block: type[Block]
    name: str
    schemes: tuple[str, ...]
    example: str


CHANNELS: dict[str, _Kind] = {
    "slack": _Kind(SlackWebhook, "narrate-slack", ("https://hooks.slack",), "https://hooks.slack.com/services/T…/B…/…"),
    "mail": _Kind(
        SlackWebhook, "narrate-mail", ("mailto://", "mailtos://"), "mailtos://USER:PASSWORD@smtp.example.org?to=a@b.org"
    ),
    "webhook": _Kind(Webhook, "narrate-webhook", ("https://", "http://"), "https://example.org/narrate"),
    "signed-webhook": _Kind(SignedWebhook, BLOCK, ("https://", "http://"), "https://example.org/narrate"),
}


def install(addresses: dict[str, str]) -> str | None:
    """
    Save a block for each channel with an address, and put the automations on the server for all channels there are.

    Returns the secret of a signed webhook that is new. `UsageError` where an address cannot be one of its channel.
    """
    for channel, address in addresses.items():
        refuse(channel, address)
    secret = None
    with get_client(sync_client=True) as client:
        for channel, address in addresses.items():
            secret = _save(client, channel, address) or secret
        _put(client)
    return secret


def installed() -> dict[str, list[str]]:
    """
    Name the channels there are, and the automations.
    """
    with get_client(sync_client=True) as client:
        channels = [channel for channel in CHANNELS if _block_id(client, channel)]
        names = [alert["name"] for alert in _alerts() if client.read_automations_by_name(alert["name"])]
    return {"channels": channels, "automations": names}


def remove(channels: list[str]) -> None:
    """
    Take *channels* away, or all there is where none is named, and the automations with the last of them.
    """
    with get_client(sync_client=True) as client:
        for channel in channels or CHANNELS:
            if found := _block_id(client, channel):
                client.delete_block_document(found)
        if channels:
            _put(client)
        else:
            for alert in _alerts():
                _delete(client, alert["name"])


def refuse(channel: str, address: str) -> None:
    """
    Raise `UsageError` where an *address* cannot be one of *channel*; it is not repeated, as it may hold a password.
    """
    kind = CHANNELS[channel]
    known = address.startswith(kind.schemes)
    if not known or (kind.block is SlackWebhook and Apprise.instantiate(address) is None):
        raise UsageError(f"--{channel}: this is no address of that kind.", f"It looks like {kind.example}.")
    if kind.block is SignedWebhook and not may_be_told(address):
        raise UsageError(f"--{channel}: {ENCRYPTED}.")


def _save(client: SyncPrefectClient, channel: str, address: str) -> str | None:
    """
    Save the block of a channel; return the secret where one was made.
    """
    kind, secret = CHANNELS[channel], None
    if kind.block is SignedWebhook:
        there = _block_id(client, channel)
        secret = None if there else "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        signed_with = SecretStr(secret) if secret else _loaded().secret
        made: Block = SignedWebhook(url=SecretStr(address), secret=signed_with)
    else:
        made = kind.block(url=SecretStr(address))
    made.save(kind.name, overwrite=True)
    return secret


def _loaded() -> SignedWebhook:
    block = SignedWebhook.load(BLOCK)
    if not isinstance(block, SignedWebhook):
        raise TypeError("a block that is loaded in the background")
    return block


def _block_id(client: SyncPrefectClient, channel: str) -> UUID | None:
    kind = CHANNELS[channel]
    try:
        return client.read_block_document_by_name(kind.name, kind.block.get_block_type_slug()).id
    except ObjectNotFound:
        return None


def _put(client: SyncPrefectClient) -> None:
    """
    Make every automation what `alerts.yaml` says, for the channels there are; one that would do nothing is taken away.
    """
    blocks = {channel: _block_id(client, channel) for channel in CHANNELS if channel != "signed-webhook"}
    for alert in _alerts():
        told = [_action(alert, channel, block) for channel, block in blocks.items() if block]
        core = {name: value for name, value in alert.items() if name not in ("subject", "body")}
        core["actions"] = [*alert.get("actions", []), *told]
        if not core["actions"]:
            _delete(client, alert["name"])
        elif there := client.read_automations_by_name(alert["name"]):
            client.update_automation(there[0].id, AutomationCore.model_validate({**core, "enabled": there[0].enabled}))
        else:
            client.create_automation(AutomationCore.model_validate(core))


def _action(alert: dict[str, Any], channel: str, block: UUID) -> dict[str, Any]:
    if channel == "webhook":
        payload = PAYLOAD % _as_template(alert["subject"])
        return CallWebhook(block_document_id=block, payload=payload).model_dump(mode="json")
    return SendNotification(block_document_id=block, subject=alert["subject"], body=alert["body"]).model_dump(mode="json")


def _as_template(text: str) -> str:
    """
    Make of a template one whose outcome is a JSON string.
    """
    return "{% set subject %}" + text + "{% endset %}{{ subject|string|tojson }}"


def _delete(client: SyncPrefectClient, name: str) -> None:
    for there in client.read_automations_by_name(name):
        client.delete_automation(there.id)


def _alerts() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "alerts.yaml").read_text(encoding="utf-8"))
    return found
