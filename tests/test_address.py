"""Addresses as people and logs may see them."""

from __future__ import annotations

import pytest

from vrseg.address import redact


@pytest.mark.parametrize(
    "password", ["hunter2", "hun'ter2", 'hun"ter2', "hun:ter2", "hun/ter2", "hun?ter2", "hun#ter2"]
)
def test_a_password_is_hidden_whatever_characters_it_holds(password: str) -> None:
    shown = redact(f"rtsp://admin:{password}@10.0.0.7:554/cam: nobody listens there")
    assert shown == "rtsp://***@10.0.0.7:554/cam: nobody listens there"


@pytest.mark.parametrize(
    "secret",
    [
        "?access_token=hunter2",
        "?api_key=hunter2",
        "?apikey=hunter2",
        "?user=admin&pwd=hunter2",
        "?sig=hunter2",
        "?passphrase=hun'hunter2",
        "?X-Amz-Credential=hunter2&X-Amz-Signature=hunter2",
        "/user=admin_password=hunter2_channel=1_stream=0.sdp",
    ],
)
def test_secrets_in_paths_and_queries_are_hidden(secret: str) -> None:
    assert "hunter2" not in redact(f"rtsp://10.0.0.7{secret}")


@pytest.mark.parametrize("scheme", ["rtmp", "rtmps", "RTMP"])
def test_the_stream_key_of_an_rtmp_address_is_hidden(scheme: str) -> None:
    shown = redact(f"{scheme}://live.example:1935/app/abcd-1234?bandwidth=1: nobody listens there")
    assert shown == f"{scheme}://live.example:1935/app/***: nobody listens there"


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://10.0.0.7:554/cam@home",
        "rtsp://[fd00::7]:554/cam@home",
        "http://cams.example/front@2x.mjpg?monkey=1",
        "rtmp://127.0.0.1/live: nobody listens there",
        "rtsp://10.0.0.7: write to somebody@example.com",
    ],
)
def test_what_is_no_secret_stays(address: str) -> None:
    assert redact(address) == address
