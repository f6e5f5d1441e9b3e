"""
What requests are sent through, beneath httpx and the SDK: aiohttp, the proxy of the environment, no cookies.
"""

from http.cookiejar import CookieJar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport


def transport(base_url: str) -> AiohttpTransport:
    """
    Make the transport for *base_url*; its session begins with the first request.
    """
    return AiohttpTransport(client=_session, proxy=_proxy(base_url))


def _session() -> aiohttp.ClientSession:
    """
    Make what httpx sends through: aiohttp, as httpx's own transport takes twice the time of a request on the one event loop.

    Any number of connections, as the recorder counts requests; no cookie is kept; the environment is not looked at, which it
    would do in another thread for each request.
    """
    connector = aiohttp.TCPConnector(limit=0, ssl=httpx.create_ssl_context())
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)


def _proxy(base_url: str) -> httpx.Proxy | None:
    """
    Look up the proxy that the environment names for *base_url*, if any.
    """
    parts, proxies = urlsplit(base_url), getproxies()
    address = proxies.get(parts.scheme) or proxies.get("all")
    return httpx.Proxy(address) if address and not proxy_bypass(parts.hostname or "") else None


class NoCookies(CookieJar):
    """
    A jar that keeps no cookie: nothing here needs one, and looking for them took an eighth of a request's time.
    """

    def extract_cookies(self, response: object, request: object) -> None:
        """
        Leave them.
        """

    def add_cookie_header(self, request: object) -> None:
        """
        Send none.
        """
