"""Which encoder takes the pictures of a GPU: its own, or one in software."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from vrseg.encode.cpu import choose_encoder
from vrseg.encode.cuda import NvencEncoder
from vrseg.encode.download import DownloadEncoder
from vrseg.encode.nvenc_options import is_nvenc_preset
from vrseg.encode.nvenc_sessions import NvencUnavailableError, sessions_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vrseg.encode.nvenc_sessions import Reason
    from vrseg.encode.settings import EncodeSettings
    from vrseg.frame import EncodedPacket, Frame
    from vrseg.gpu.device import Gpu
    from vrseg.stage import Encode

_log = structlog.get_logger(__name__)


def make_cuda_encoder(settings: EncodeSettings, gpu: Gpu, on_fallback: Callable[[Reason], None]) -> Encode:
    """Choose by `settings.encoder`.

    `nvenc` is NVENC or a DeviceError. `auto` is NVENC, and where that cannot, software: said by a warning, counted by
    `on_fallback`. The name of an FFmpeg encoder is that one, in software.

    Args:
        settings: what is asked for.
        gpu: whose surfaces come.
        on_fallback: called on the encoder's thread with the reason, each time an encoder falls back.
    """
    if settings.encoder == "nvenc":
        return NvencEncoder(settings, gpu)
    if settings.encoder == "auto":
        return NvencOrSoftware(settings, gpu, on_fallback)
    return DownloadEncoder(settings, gpu)


def name_cuda_encoder(settings: EncodeSettings, gpu: Gpu) -> str:
    """Name what `make_cuda_encoder` takes, as far as it can be known before the first frame.

    Raises:
        DeviceError: NVENC is asked for and cannot.
        ConfigError: this FFmpeg lacks the encoder.
    """
    if settings.encoder not in {"auto", "nvenc"}:
        return choose_encoder(settings)
    gpu.use()
    try:
        _refuse_preset(settings)
        sessions_of(gpu.index).ability(settings.codec)
    except NvencUnavailableError:
        if settings.encoder == "nvenc":
            raise
        return choose_encoder(settings)
    return "nvenc"


class NvencOrSoftware:
    """Stage[Frame, EncodedPacket]: NVENC, or from the first frame on software, for the whole of a stream.

    A session can be refused only when size and colour are known, so the first frame decides.
    """

    def __init__(self, settings: EncodeSettings, gpu: Gpu, on_fallback: Callable[[Reason], None]) -> None:
        self._settings = settings
        self._gpu = gpu
        self._on_fallback = on_fallback
        self._chosen: NvencEncoder | DownloadEncoder = NvencEncoder(settings, gpu)

    def open(self) -> None:
        try:
            _refuse_preset(self._settings)
            self._chosen.open()
        except NvencUnavailableError as error:
            self._fall_back(error)

    def process(self, frame: Frame, /) -> Iterable[EncodedPacket]:
        try:
            return self._chosen.process(frame)
        except NvencUnavailableError as error:
            self._fall_back(error)
            return self._chosen.process(frame)

    def request_key_frame(self) -> None:
        """Make the next frame a key frame."""
        self._chosen.request_key_frame()

    def flush(self) -> Iterable[EncodedPacket]:
        return self._chosen.flush()

    def close(self) -> None:
        self._chosen.close()

    def _fall_back(self, error: NvencUnavailableError) -> None:
        self._chosen.close()
        self._chosen = DownloadEncoder(_for_software(self._settings), self._gpu)
        self._chosen.open()
        _log.warning(f"{error}; this output is encoded in software", codec=self._settings.codec, reason=error.reason)
        self._on_fallback(error.reason)


def _refuse_preset(settings: EncodeSettings) -> None:
    """A preset of a software encoder asks for one."""
    preset = settings.preset
    if preset is not None and not is_nvenc_preset(preset):
        raise NvencUnavailableError("preset", f"NVENC has no preset {preset}")


def _for_software(settings: EncodeSettings) -> EncodeSettings:
    """Leave out what only NVENC understands."""
    preset = settings.preset
    return replace(settings, preset=None) if preset is not None and is_nvenc_preset(preset) else settings
