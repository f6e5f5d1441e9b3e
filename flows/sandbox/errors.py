"""
What the sandbox refuses, in the three shapes the hosted API is known to answer with.
"""

from starlette.responses import JSONResponse, PlainTextResponse, Response

PERMISSION = "No permission -- see authorization schemes"


class Refused(Exception):
    """
    A request refused with the envelope `{"status": N, "message": "..."}`.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, message, headers)
        self.status = status
        self.message = message
        self.headers = headers or {}

    def response(self) -> Response:
        """
        Render the envelope.
        """
        return JSONResponse({"status": self.status, "message": self.message}, self.status, self.headers)


class Unparsable(Refused):
    """
    A body that cannot be read at all: answered as plain text, which exercises clients that expect JSON.
    """

    def __init__(self, message: str) -> None:
        super().__init__(400, message)

    def response(self) -> Response:
        """
        Render the plain text.
        """
        return PlainTextResponse(self.message, self.status)


class Invalid(Refused):
    """
    Fields of a management request that are wrong: answered as a list of `{loc, type, msg}`.

    SDK 1.3.0 fails on that list with an AttributeError; that is why it must not be an envelope here.
    """

    def __init__(self, problems: list[tuple[str, str, str]]) -> None:
        super().__init__(422, "; ".join(f"{field}: {message}" for field, _, message in problems))
        self.problems = problems

    def response(self) -> Response:
        """
        Render the list.
        """
        rows = [{"loc": [field], "type": kind, "msg": message, "in": "body"} for field, kind, message in self.problems]
        return JSONResponse(rows, self.status)
