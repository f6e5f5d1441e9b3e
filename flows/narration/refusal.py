"""
What the service refused, and what broke on the way, as errors of ours.
"""

import aiohttp
import httpx

from flows.narration import answer
from flows.narration.errors import (
    KeyRefused,
    MoneyError,
    NarrateError,
    RateLimited,
    RequestRefused,
    RequestUnread,
    ServiceAway,
    ServiceUnavailable,
    UsageError,
    VoiceNotFound,
)


def translated(error: Exception, response: httpx.Response | None, *, doing: str, key: str) -> NarrateError:
    """
    Make our error of what the service said in its *response*, or of what kept it from answering while *doing* something.
    """
    if response is not None and not response.is_success:
        return _from_status(response, doing)
    said = answer.without_key(str(error), key)
    # The transport tells a connection that breaks under a request as one that was never made: its cause knows better.
    cause = error.__cause__ if isinstance(error, httpx.TransportError) else error
    if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return ServiceAway(f"While {doing}: no connection to the service ({said}).", billed=False)
    if isinstance(error, TimeoutError):
        return ServiceUnavailable(f"While {doing}: no complete answer within the deadline.")
    if isinstance(error, answer.AnswerTooLong):
        return ServiceUnavailable(f"While {doing}: {said}, at {answer.MOST_ANSWER_BYTES // 1_000_000} MB it was given up.")
    if isinstance(error, httpx.TransportError) or isinstance(cause, aiohttp.ClientError):
        return ServiceUnavailable(f"While {doing}: the connection broke ({type(cause or error).__name__}: {said}).")
    if response is not None:
        return ServiceUnavailable(f"While {doing}: the answer is not what the API documents ({type(error).__name__}).")
    return RequestRefused(f"While {doing}: the request cannot be made ({type(error).__name__}: {said}).")


def _from_status(response: httpx.Response, doing: str) -> NarrateError:
    status, said = response.status_code, answer.message(response)
    fact = f"While {doing}: the service answered {status} ({said})."
    # A voice that is another account's is answered with 403 when looked at, and with 400 when spoken with.
    about_a_voice = "/model/" in response.request.url.path
    if "reference not found" in said.lower() or (status in (403, 404) and about_a_voice):
        return VoiceNotFound(fact, "`narrate voices list` shows the account's voices.")
    match status:
        case 401 | 403:
            return KeyRefused(fact, "Check the key (FISH_API_KEY, or that of --credentials), and that it may do this.")
        case 402:
            return MoneyError(fact, "Top up the API wallet at https://fish.audio/app/developers, then run again.")
        case 404:
            return UsageError(fact, "Check FISH_BASE_URL: there seems to be no such API.")
        case 429:
            return RateLimited(fact, retry_after=answer.retry_after(response), billed=False)
        case 408 | 425:
            return ServiceUnavailable(fact)
        case 422:
            return RequestUnread(fact, "Run it again; if it says so again, the text may be the cause.")
        case 502 | 504:  # said by what stands before the service, which may have done the work
            return ServiceAway(fact, retry_after=answer.retry_after(response))
        case 503:
            return ServiceAway(fact, retry_after=answer.retry_after(response), billed=False)
        case _ if status >= 500:
            return ServiceUnavailable(fact, retry_after=answer.retry_after(response), billed=False)
    return RequestRefused(fact, "Another attempt would be refused as well.")
