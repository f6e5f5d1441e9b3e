"""
`/_config` and `/`: what the hosted API does not have, and what a visitor should know.
"""

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from flows.sandbox.config import KnobRefused, Knobs
from flows.sandbox.errors import Refused
from flows.sandbox.world import World

WELCOME = """\
This is a stand-in of the Fish Audio API, on this machine only. It is not Fish Audio.
Its voice is a stand-in too and not a clone of anybody: {voice}.
Point a client's base URL here; any bearer key will do unless the knob `keys` lists some.

GET    /_config           the knobs
PATCH  /_config           turn some, as a JSON object
POST   /_config/reset     defaults; voices and journal gone
GET    /_config/requests  the journal: every request, in order
DELETE /_config/requests  forget it

Knobs:
{knobs}
"""
HEARD = {"quick": "a tone for every word", "neural": "an English reader moved towards the pitch of the reference"}


async def welcome(request: Request) -> Response:
    """
    Answer `GET /`.
    """
    world: World = request.app.state.world
    knobs = "\n".join(f"  {name}: {field.description}" for name, field in Knobs.model_fields.items())
    return PlainTextResponse(WELCOME.format(voice=HEARD[world.knobs.voice], knobs=knobs))


async def show(request: Request) -> Response:
    """
    Answer `GET /_config`.
    """
    world: World = request.app.state.world
    return JSONResponse(world.knobs.model_dump(mode="json"))


async def patch(request: Request) -> Response:
    """
    Answer `PATCH /_config` with the whole configuration; nothing changes if anything in it is wrong.
    """
    try:
        body = await request.json()
    except ValueError as error:
        raise Refused(400, f"not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refused(400, "expected a JSON object of knobs")
    world: World = request.app.state.world
    try:
        world.configure(body)
    except KnobRefused as error:
        raise Refused(400, str(error)) from error
    return await show(request)


async def reset(request: Request) -> Response:
    """
    Answer `POST /_config/reset`.
    """
    world: World = request.app.state.world
    world.reset()
    return await show(request)


async def requests(request: Request) -> Response:
    """
    Answer `GET /_config/requests`.
    """
    world: World = request.app.state.world
    return JSONResponse(world.journal.rows())


async def forget(request: Request) -> Response:
    """
    Answer `DELETE /_config/requests`.
    """
    world: World = request.app.state.world
    world.journal.clear()
    return Response(status_code=204)
