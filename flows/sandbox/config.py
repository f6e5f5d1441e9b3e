"""
The knobs of the sandbox: everything a test can turn, each described where it is declared.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

VoiceKind = Literal["quick", "neural"]
FaultKind = Literal[
    "status",
    "reset",
    "drop",
    "hang",
    "truncate",
    "drip",
    "empty",
    "html",
    "json",
    "tiny",
    "flac",
    "silence",
    "short",
    "long",
    "clip",
    "swallow",
    "lost",
]
FAULTS: Mapping[FaultKind, str] = {
    "status": "an error status",
    "reset": "connection reset before the answer",
    "drop": "200 and its headers, then the connection is reset",
    "hang": "no answer ever",
    "truncate": "body cut in half, chunked unless *length*",
    "drip": "body over *seconds*",
    "empty": "200 without a body",
    "html": "200 with a page",
    "json": "200 with an error object",
    "tiny": "a blank MP3 of 417 bytes",
    "flac": "sound in a format that was not asked for",
    "silence": "right format and length, silent",
    "short": "0.1 s of sound",
    "long": "ten times the sound",
    "clip": "full-scale noise",
    "swallow": "speech without its last two words; their times are missing as well",
    "lost": "POST /model makes the voice, then the connection is reset",
}
"""What each kind of fault is."""
SPEECH_ONLY = frozenset({"truncate", "drip", "tiny", "flac", "silence", "short", "long", "clip", "swallow"})


class KnobRefused(ValueError):
    """
    A configuration that does not exist; the message names every key at fault.
    """


class Fault(BaseModel):
    """
    One rule of what goes wrong; the first rule that matches and fires is the only one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: FaultKind = Field(description="; ".join(f"{kind}: {what}" for kind, what in FAULTS.items()))
    match: str = Field(default="", description="only when the text to speak, or the path, contains this")
    path: str = Field(default="/v1/tts", description="only when the path starts with this; /model for kind lost")
    method: str | None = Field(default=None, description="only for this HTTP method; POST for kind lost")
    count: int | None = Field(default=None, ge=0, description="fire so many times, then never again; null: for ever")
    after: int = Field(default=0, ge=0, description="let the first so many matching requests pass")
    lasts: float | None = Field(
        default=None, ge=0, description="seconds from its first firing after which it never fires again; null: for ever"
    )
    rate: float = Field(default=1.0, ge=0, le=1, description="share of matching requests it fires for, by *seed*")
    status: int = Field(default=500, ge=300, le=599, description="kind status: what to answer")
    retry_after: str | int | None = Field(default=None, description="kind status: the Retry-After header, as is")
    body: Literal["json", "html", "list", "empty", "key"] = Field(
        default="json", description="kind status: the body; key: JSON that repeats the bearer key"
    )
    length: bool = Field(default=False, description="kind truncate: say the whole length in the header, and break that word")
    seconds: float = Field(default=2.0, ge=0, description="kind drip: how long the body takes")

    @model_validator(mode="before")
    @classmethod
    def _aim_lost(cls, rule: Any) -> Any:
        if isinstance(rule, dict) and rule.get("kind") == "lost":
            return {"path": "/model", "method": "POST", **rule}
        return rule

    @model_validator(mode="after")
    def _check_place(self) -> Self:
        if self.kind in SPEECH_ONLY and not self.path.startswith("/v1/tts"):
            raise ValueError(f"kind {self.kind} spoils speech: path must start with /v1/tts")
        if self.kind == "lost" and not self.path.startswith("/model"):
            raise ValueError("kind lost belongs to POST /model")
        return self


class Knobs(BaseModel):
    """
    How the sandbox behaves now. `PATCH /_config` merges into it: null gives a key its default back.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    voice: VoiceKind = Field(default="quick", description="quick: tones, next to free; neural: English speech (hibari)")
    foreign: Literal["tones", "refuse"] = Field(
        default="tones", description="what the neural voice does with letters it cannot read: the quick voice's tones, or 400"
    )
    training: Literal["looks", "seconds", "at-once", "failed", "never"] | list[str] = Field(
        default="looks",
        description="how voices made from now on train. POST /model answers created (at-once: trained). looks: "
        "training, then trained on GET number *training_looks*; failed: likewise, but failed; seconds: trained after "
        "*training_seconds*; never: training for ever; a list: its states look by look, the last one for ever",
    )
    early: Literal["speak", "refuse"] = Field(
        default="speak",
        description="what speech does with a voice that is still to be trained by looks: speak, as the OpenAPI document says "
        "that fast voices are there at once, and recipes use them so; refuse: 400",
    )
    training_looks: int = Field(default=2, ge=1, description="on which GET /model/{id} the training is over")
    training_seconds: float = Field(default=3.0, ge=0, description="training seconds: how long it takes")
    delete_status: Literal[200, 204] = Field(
        default=204, description="what DELETE /model/{id} answers: 204 as live calls saw, 200 as the OpenAPI document says"
    )
    parameter_status: Literal[400, 422] = Field(
        default=400,
        description="what a wrong parameter of speech answers: 400 as live calls saw, 422 as pages of the documentation say",
    )
    unauthorized: Literal["token", "permission"] = Field(
        default="token",
        description="the message of 401: Invalid Token as the page on errors says, or No permission -- see authorization "
        "schemes as the OpenAPI document says",
    )
    hottest: Literal[1, 2] = Field(
        default=1, description="the highest temperature: 1 as the OpenAPI document says, 2 as was not refused in live calls"
    )
    full_voice: bool = Field(
        default=False,
        description="list a stranger's public voice with train_mode full, on which SDK 1.3.0 fails the whole page",
    )
    keys: list[str] | None = Field(default=None, description="the bearer keys that are accepted; null: any")
    concurrency_limit: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="speech requests under way for each key, above: 429; null: as published, 5, from a *cumulative_top_up* "
        "of 100 on 15, from 1000 on 50",
    )
    concurrency_retry_after: int | None = Field(default=None, description="Retry-After of that 429; null: none")
    credit: Annotated[Decimal, Field(ge=0)] = Field(
        default=Decimal(10), description="USD in the wallet of every key; set it to refill"
    )
    cumulative_top_up: Annotated[Decimal, Field(ge=0)] = Field(
        default=Decimal(10), description="USD ever paid in, as the wallet tells it"
    )
    wallet_lag: float = Field(
        default=0.0, ge=0, description="seconds until the wallet tells what was spent; 5 to 35 as live calls saw"
    )
    package_id: bool = Field(
        default=True, description="give the package the _id that SDK 1.3.0 needs and the OpenAPI document does not have"
    )
    live_limit: Literal["frame", "status"] = Field(
        default="frame",
        description="how the live WebSocket refuses above *concurrency_limit*: by an error frame as live calls saw, or by "
        "429 to the handshake as the SDK expects",
    )
    asr_duration: Literal["seconds", "milliseconds"] = Field(
        default="seconds", description="unit of ASR's duration: seconds as OpenAPI says, milliseconds as SDK 1.3.0 says"
    )
    asr_megabytes: Literal[20, 50] = Field(
        default=20, description="largest upload to ASR: 20 as the documentation says, 50 as live calls saw"
    )
    latency: float = Field(default=0.0, ge=0, description="seconds a speech request waits before its answer")
    real_time_factor: float = Field(
        default=0.0, ge=0, description="seconds that a second of sound takes to come; published for s2-pro on one H200: 0.195"
    )
    seconds: float | None = Field(default=None, gt=0, description="length of every answer; null: by the text")
    vary: bool = Field(default=False, description="give other bytes for the same request, as the hosted API does")
    seed: int = Field(default=0, description="of rated faults and of the neural voice's noise")
    faults: list[Fault] = Field(default=[], description="what goes wrong, see Fault")

    def merged(self, patch: Mapping[str, Any]) -> "Knobs":
        """
        Apply *patch* to these knobs.

        :raises KnobRefused: for an unknown key or a value out of range; nothing has changed then
        """
        kept = {key: value for key, value in self.model_dump().items() if key not in patch}
        try:
            return Knobs.model_validate({**kept, **{k: v for k, v in patch.items() if v is not None}})
        except ValidationError as error:
            raise KnobRefused("; ".join(_sentence(problem) for problem in error.errors())) from error


def _sentence(problem: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    return f"unknown key {name}" if problem["type"] == "extra_forbidden" else f"{name}: {problem['msg']}"
