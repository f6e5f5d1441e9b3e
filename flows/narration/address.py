"""
The address of the API: what may be one, since a key is sent to it.
"""

import ipaddress
from urllib.parse import urlsplit

HOSTED_API = "https://api.fish.audio"


def checked_address(address: str, *, allow_http: bool) -> str:
    """
    Return *address* without a slash at its end if a key may be sent there, or raise `ValueError` with what is wrong.

    Encrypted (https), or this machine's own, or *allow_http*. It is never quoted but for its host: whoever puts a password
    into it does not want to read that in a log.
    """
    if any(not 0x20 < ord(letter) < 0x7F or letter == "\\" for letter in address):
        raise ValueError("an address has no blanks, control characters, backslashes or letters beyond ASCII")
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("this is no address: its host or its port is none; it looks like https://api.fish.audio") from None
    if parts.scheme not in ("https", "http") or not host:
        raise ValueError("this is no address; it looks like https://api.fish.audio")
    if "@" in parts.netloc:
        raise ValueError("an address with a user name or a password in it is refused; the key is given by itself")
    if "?" in address or "#" in address:
        raise ValueError("an address with a query (?) or a fragment (#) is refused; give what stands before it")
    if parts.scheme == "http" and not (allow_http or is_loopback(host)):
        raise ValueError(
            f"http://{host} is not encrypted: anyone on the way could read the key and the scripts; use https, or allow it "
            "with FISH_ALLOW_HTTP=1 (in a block: allow_http)"
        )
    return address.rstrip("/")


def is_loopback(host: str) -> bool:
    """
    Tell whether *host* is this machine itself.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
