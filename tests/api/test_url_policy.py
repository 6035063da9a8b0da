"""Where requests may go."""

import pytest

from inferencesh_mcp.api.url_policy import base_url, file_host, is_allowed
from inferencesh_mcp.errors import FileRefused, SettingsError

PRIVATE = [
    "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255",
    "fe80::1", "fe80::1%eth0", "fc00::1", "::", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "ff02::1", "192.0.2.1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_never_fetched(address):
    """In whatever notation, and for a local API neither."""
    assert not is_allowed(address, loopback=False)
    assert not is_allowed(address, loopback=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "127.9.9.9", "::ffff:127.0.0.1"])
def test_loopback_is_allowed_only_with_a_local_api(address):
    """That is the sandbox."""
    assert is_allowed(address, loopback=True)
    assert not is_allowed(address, loopback=False)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_allowed(address):
    """That is where files are."""
    assert is_allowed(address, loopback=False)


@pytest.mark.parametrize(
    "url",
    ["https://api.inference.sh", "https://x/api/", "http://127.0.0.1:8787", "http://localhost:1", "http://[::1]:80"],
)
def test_a_base_url_is_https_or_loopback(url):
    """And loses its last slash."""
    assert url.rstrip("/") == base_url(url, "V")


@pytest.mark.parametrize(
    "url",
    ["", "x", "http://api.inference.sh", "ftp://x", "https://u:p@x", "https://x?a=1", "https://x#f", "https://", "http://127.0.0.1.evil.example",
     "https://x:99999", "http://localhost.evil.example"],
)  # fmt: skip
def test_another_base_url_stops_the_start(url):
    """With the variable's name."""
    with pytest.raises(SettingsError, match=r"^V must"):
        base_url(url, "V")


@pytest.mark.parametrize(
    "url",
    ["", "file:///etc/passwd", "http://x/a", "https://u:p@x/", "inf://files/1", "http://127.0.0.1/", "https://x:0/"],
)
def test_a_file_has_an_https_url(url):
    """Nothing else is fetched."""
    with pytest.raises(FileRefused):
        file_host(url, loopback=False)


def test_a_local_file_url_is_fetched_for_a_local_api():
    """And for no other."""
    assert ("127.0.0.1", 81) == file_host("http://127.0.0.1:81/f", loopback=True)
    assert ("x", 443) == file_host("https://x/f", loopback=False)
    with pytest.raises(FileRefused):
        file_host("http://x/f", loopback=True)
