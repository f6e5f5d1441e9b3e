"""
`/model`: create, look at, list, change and delete voices.
"""

import uuid
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from flows.sandbox import fields as form
from flows.sandbox.errors import Invalid, Refused
from flows.sandbox.fields import VISIBILITIES, Fields, flag, one
from flows.sandbox.journal import plain
from flows.sandbox.library import STRANGER
from flows.sandbox.voices import Voice, facts, now, training
from flows.sandbox.world import Call, World

SORTS = ("score", "task_count", "created_at")


async def create(request: Request) -> Response:
    """
    Answer `POST /model`.
    """
    world, call = _state(request)
    fields = await form.read(request)
    call.entry.parameters = plain(fields)
    form.check(fields)
    voice_id = uuid.uuid4().hex
    states, ready_at = training(world.knobs)
    voice = Voice(voice_id, call.account, facts(voice_id, call.account, fields), states, ready_at)
    voice.samples = list(fields["voices"])
    world.voices.add(voice)
    return JSONResponse(voice.body(), 201)


async def show(request: Request) -> Response:
    """
    Answer `GET /model/{id}`: one look at the training.
    """
    world, _ = _state(request)
    voice = _find(request, owned=False)
    world.voices.look(voice)
    return JSONResponse(voice.body())


async def listing(request: Request) -> Response:
    """
    Answer `GET /model`: the caller's own voices, or everybody's public ones; no look at their training.
    """
    world, call = _state(request)
    query = request.query_params
    own = flag(query, "self")
    size, page = _page(request)
    sort = query.get("sort_by", "score")
    if sort not in SORTS:
        raise Invalid([("sort_by", "literal_error", f"Input should be one of {', '.join(SORTS)}")])
    mine = [voice.body() for voice in world.voices.all(public=not own) if not own or voice.owner == call.account]
    bodies = [body for body in reversed(mine) if own or body["visibility"] == "public"]
    if world.knobs.full_voice and not own:
        bodies.insert(0, _full_voice())
    found = [body for body in bodies if _listed(body, request, own=own)]
    if sort == "task_count":
        found.sort(key=lambda body: -int(body["task_count"]))
    shown = found[(page - 1) * size : page * size]
    return JSONResponse({"total": len(found), "items": shown, "has_more": page * size < len(found)})


def _page(request: Request) -> tuple[int, int]:
    sizes = {"page_size": ("10", 100), "page_number": ("1", 1 << 31)}
    numbers = []
    for name, (default, most) in sizes.items():
        value = request.query_params.get(name, default)
        if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= most:
            raise Invalid([(name, "int_parsing", f"Input should be an integer from 1 to {most}")])
        numbers.append(int(value))
    return numbers[0], numbers[1]


def _listed(body: Mapping[str, Any], request: Request, *, own: bool) -> bool:
    query = request.query_params
    author, languages = query.get("author_id"), query.getlist("language") + query.getlist("title_language")
    return (
        query.get("title", "").lower() in body["title"].lower()
        and set(query.getlist("tag")) <= set(body["tags"])
        and (not languages or bool(set(languages) & set(body["languages"])))
        and (own or author is None or author == body["author"]["_id"])
    )


def _full_voice() -> dict[str, Any]:
    fields: Fields = {"title": ["A stranger's voice"], "visibility": ["public"], "cover_image": [b"x"]}
    return {**facts("f" * 32, STRANGER, fields), "train_mode": "full", "state": "trained", "task_count": 1 << 20}


async def update(request: Request) -> Response:
    """
    Answer `PATCH /model/{id}`; no fields at all are no error.
    """
    world, call = _state(request)
    voice, fields = _find(request, owned=True), await form.read(request)
    call.entry.parameters = plain(fields)
    if wrong := form.untold(fields):
        raise Invalid(wrong)
    visibility = one(fields, "visibility", voice.facts["visibility"])
    if visibility not in VISIBILITIES:
        raise Invalid([("visibility", "literal_error", f"Input should be one of {', '.join(VISIBILITIES)}")])
    changed: dict[str, Any] = {name: one(fields, name) for name in ("title", "description") if fields.get(name)}
    if fields.get("tags"):
        changed["tags"] = list(fields["tags"])
    if fields.get("cover_image"):
        changed["cover_image"] = f"coverimage/{voice.id}"
    voice.facts.update(changed, visibility=visibility, updated_at=now())
    world.voices.save(voice)
    return JSONResponse({"status": "ok"})


async def delete(request: Request) -> Response:
    """
    Answer `DELETE /model/{id}`.
    """
    world, _ = _state(request)
    world.voices.remove(_find(request, owned=True))
    return Response(status_code=204) if world.knobs.delete_status == 204 else JSONResponse({"status": "ok"})


def _find(request: Request, *, owned: bool) -> Voice:
    world, call = _state(request)
    voice = world.voices.find(request.path_params["voice_id"])
    if voice is None:
        raise Refused(404, "Model not found")
    if not voice.visible_to(call.account) or (owned and voice.owner != call.account):
        raise Refused(403, "No permission to access this model")
    return voice


def _state(request: Request) -> tuple[World, Call]:
    return request.app.state.world, request.state.call
