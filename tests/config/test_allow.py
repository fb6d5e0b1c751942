"""Which addresses somebody may name who is not the author of the file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrseg.config.allow import NotAnAddressError, is_allowed, read_address, read_pattern

ALLOW = ["rtsp://10.0.0.*", "https://*.example.com:*/cams/*", "rtsp://cam*.lan:8554/main", "synthetic:*"]


@pytest.mark.parametrize(
    "uri",
    [
        "rtsp://10.0.0.5/main",
        "rtsp://10.0.0.5:554/main?channel=1",
        "RTSP://10.0.0.5/main",
        "rtsp://user:p%40ss@10.0.0.5/main",
        "rtsp://10.0.0.255",
        "https://a.b.example.com/cams/1.m3u8",
        "https://A.EXAMPLE.com.:8443/cams/1.m3u8?token=x",
        "https://a.example.com/%63ams/1",
        "rtsp://cam7.lan:8554/main",
        "synthetic:64x48@10",
        "SYNTHETIC:64x48",
    ],
)
def test_what_is_listed_may_be_named_however_it_is_written(uri: str) -> None:
    assert is_allowed(uri, ALLOW)


@pytest.mark.parametrize(
    "uri",
    [
        "rtsp://10.0.0.evil",  # a name, not an IP address
        "rtsp://10.0.0.5.evil.com/main",
        "rtsp://10.0.0.5:8554/main",  # not the usual port, and no other is listed
        "rtsp://10.0.0.5@evil.com/main",
        "rtsp://10.0.1.5/main",
        "http://10.0.0.5/main",
        "rtsps://10.0.0.5/main",
        "https://example.com/cams/1",
        "https://evil.com/a.example.com/cams/1",
        "https://evil.com?.example.com/cams/1",
        "https://a.example.com/other/1",
        "https://a.example.comx/cams/1",
        "https://notexample.com/cams/1",
        "rtsp://cam7.lan:8554/other",
        "rtsp://cam7.evil.lan:8554/main",
        "rtsp://[::ffff:10.0.0.5]/main",
    ],
)
def test_what_is_not_listed_may_not(uri: str) -> None:
    assert not is_allowed(uri, ALLOW)


@pytest.mark.parametrize(
    "uri",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "clip.mp4",
        "-",
        "/dev/video0",
        "v4l2:///dev/video0",
        "concat:a|b",
        "rtsp:10.0.0.5",
        "rtsp:/10.0.0.5",
        "",
        "rtsp://",
        "rtsp:///main",
        "rtsp://:554/main",
        "rtsp://10.0.0.5@10.0.0.6@evil.com/",
        "rtsp://10.0.0.5\\@evil.com/",
        "rtsp://10.0.0.5#@evil.com/",
        "rtsp://10.0.0.5/ma in",
        "rtsp://10.0.0.5/\n",
        "rtsp://10.0.0.5\x00.evil.com/",
        "rtsp://${HOST}/main",
        "rtsp://10.0.0.5/${SECRET}",
        "rtsp://10.0.0.%35/main",
        "rtsp://0x0a000005/main",
        "rtsp://167772165/main",
        "rtsp://10.0.5/main",
        "rtsp://012.0.0.5/main",
        "rtsp://1\u0660.0.0.5/main",
        "rtsp://10.0.0.5:0/main",
        "rtsp://10.0.0.5:99999/main",
        "rtsp://10.0.0.5:8554:554/main",
        "rtsp://*/main",
        "rtsp://[::1/main",
        "rtsp://[::1%25eth0]/main",
        "rtsp://a..b/main",
        "srt://10.0.0.5",  # without a port
        "https://a.example.com/cams/../admin",
        "https://a.example.com/cams/%2e%2e/admin",
        "https://a.example.com/cams/%2E./admin",
        "https://a.example.com/cams/..%2fadmin",
        "https://a.example.com/cams/%252e%252e/admin",
        "https://a.example.com/cams/..%5cadmin",
        "https://a.example.com/cams/./x",
        "https://a.example.com/cams/%zz",
        "https://a.example.com/cams/%",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(uri: str) -> None:
    with pytest.raises(NotAnAddressError):
        is_allowed(uri, ALLOW)


def test_nothing_is_listed_at_first() -> None:
    assert not is_allowed("rtsp://10.0.0.5/", [])
    assert not is_allowed("synthetic:64x48", [])


def test_any_host_and_any_port_can_be_listed() -> None:
    assert is_allowed("rtsp://evil.com:1234/x", ["rtsp://*:*"])
    assert is_allowed("rtsp://[2001:DB8::0:1]/x", ["rtsp://[2001:db8::*]"])
    assert not is_allowed("rtsp://[2001:db9::1]/x", ["rtsp://[2001:db8::*]"])


@pytest.mark.parametrize("pattern", ["*", "/srv/*", "rtsp://user@10.0.0.*", "10.0.0.*", "rtsp://10.0.0.5/../*"])
def test_patterns_that_mean_nothing_are_refused(pattern: str) -> None:
    with pytest.raises(NotAnAddressError):
        read_pattern(pattern)


@given(st.text(max_size=60) | st.from_regex(r"\A(rtsp|http|srt)://[a-z0-9.@:%\[\]/?*-]{0,40}\Z"))
def test_every_text_is_an_address_in_normal_form_or_refused(text: str) -> None:
    try:
        address = read_address(text)
    except NotAnAddressError:
        return
    host = address.host
    again = read_address(f"{address.scheme}://{host}:{address.port}{address.rest}")
    assert again == address
    assert host == host.lower()
    assert ".." not in address.rest.partition("?")[0].split("/")


@given(st.text("abc.0@:%/", max_size=25))
def test_nobody_gets_past_a_listed_host(tail: str) -> None:
    """Whatever is written behind the scheme, what is allowed is exactly this host."""
    uri = f"http://{tail}"
    try:
        allowed = is_allowed(uri, ["http://a.b/c*"])
        address = read_address(uri)
    except NotAnAddressError:
        return
    assert allowed == (address.host == "a.b" and address.port == 80 and address.rest.startswith("/c"))
