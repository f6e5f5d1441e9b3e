"""
Addresses that a key may be sent to, and those it may not.
"""

import pytest

from flows.narration.address import checked_address


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("https://api.fish.audio", "https://api.fish.audio"),
        ("https://proxy.example:8443/fish/", "https://proxy.example:8443/fish"),
        ("HTTPS://api.fish.audio", "HTTPS://api.fish.audio"),
        ("http://127.0.0.1:8400", "http://127.0.0.1:8400"),
        ("http://127.9.8.7", "http://127.9.8.7"),
        ("http://localhost:1", "http://localhost:1"),
        ("http://LOCALHOST", "http://LOCALHOST"),
        ("http://[::1]:8400", "http://[::1]:8400"),
    ],
)
def test_encrypted_or_this_machine(address: str, kept: str) -> None:
    """
    A slash at the end is no part of it.
    """
    assert kept == checked_address(address, allow_http=False)


@pytest.mark.parametrize(
    "address",
    [
        "http://api.fish.audio",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://127.1",
        "http://0.0.0.0",
        "http://2130706433",
        "http://[::ffff:8.8.8.8]",
        "http://192.168.0.2:8400",
    ],
)
def test_what_is_not_encrypted_is_refused_unless_it_is_allowed(address: str) -> None:
    """
    Neither what looks like this machine nor a network at home is it.
    """
    with pytest.raises(ValueError, match=r"is not encrypted.*FISH_ALLOW_HTTP"):
        checked_address(address, allow_http=False)

    assert address == checked_address(address, allow_http=True)


@pytest.mark.parametrize(
    "address",
    [
        "https://ada:SECRET@api.fish.audio",
        "https://SECRET@api.fish.audio",
        "https://@api.fish.audio/SECRET",
        "https://api.fish.audio?key=SECRET",
        "https://api.fish.audio/#SECRET",
        "http://ada:SECRET@127.0.0.1",
        "http://127.0.0.1#@SECRET",
        "http://127.0.0.1\\@SECRET",
        "https://api.fish.audio/\nX-Injected: SECRET",
        "https://api.fish.audio /SECRET",
        "https://fish.audio:SECRET",
        "https://[SECRET",
        "https://fish.аudio/SECRET",
        "ftp://SECRET",
        "SECRET",
        "https:///SECRET",
        "",
    ],
)
@pytest.mark.parametrize("allow_http", [False, True])
def test_what_is_no_plain_address_is_refused_without_quoting_it(address: str, allow_http: bool) -> None:
    """
    Passwords, queries, fragments, and tricks that let two readers see two hosts.
    """
    with pytest.raises(ValueError, match="address") as refused:
        checked_address(address, allow_http=allow_http)

    assert "SECRET" not in str(refused.value)
    assert refused.value.__cause__ is None
