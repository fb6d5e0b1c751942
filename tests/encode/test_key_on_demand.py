from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from plugins.encoded import FAST, every, frames_at
from plugins.late_gpu import Painter

from vrseg.encode.choose import make_cuda_encoder
from vrseg.encode.cpu import PyavEncoder
from vrseg.encode.download import DownloadEncoder
from vrseg.encode.settings import EncodeSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from plugins.fake_nvenc import Machine

    from vrseg.frame import EncodedPacket, Frame
    from vrseg.gpu.device import Gpu
    from vrseg.stage import Encode, KeyFrameOnDemand

ASKED_BEFORE = 20


def key_times(encoder: Encode, frames: Iterable[Frame]) -> list[int]:
    """Encode, asking for a key frame on the way; return at which frames there is one."""
    asked = cast("KeyFrameOnDemand", encoder)
    encoder.open()
    asked.request_key_frame()  # before the first frame it changes nothing
    packets: list[EncodedPacket] = []
    for index, frame in enumerate(frames):
        if index == ASKED_BEFORE:
            asked.request_key_frame()
        packets += encoder.process(frame)
    packets += encoder.flush()
    encoder.close()
    return [packet.pts // 512 for packet in packets if packet.key]


def settings(codec: Any, *, live: bool = True) -> EncodeSettings:
    return EncodeSettings(codec=codec, preset=FAST[codec], live=live, gop_s=1.0)


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_the_next_frame_is_a_key_frame_and_the_interval_begins_anew(codec: str, live: bool) -> None:
    found = key_times(PyavEncoder(settings(codec, live=live)), frames_at(every(60)))
    assert found == [0, ASKED_BEFORE, ASKED_BEFORE + 30]


def test_an_encoder_that_downloads_passes_it_on(late_gpu: Gpu) -> None:
    found = key_times(DownloadEncoder(settings("h264"), late_gpu), Painter(late_gpu).frames(every(60)))
    assert found == [0, ASKED_BEFORE, ASKED_BEFORE + 30]


def test_nvenc_is_asked_as_well(nvenc: Machine) -> None:
    encoder = make_cuda_encoder(EncodeSettings(gop_s=1.0, live=True), nvenc.gpu, lambda _reason: None)
    assert key_times(encoder, Painter(nvenc.gpu).frames(every(60))) == [0, ASKED_BEFORE, ASKED_BEFORE + 30]
