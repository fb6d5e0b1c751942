"""Encode sessions of one GPU: are there any, how many are open, and why one was refused."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, TypeAlias

from vrseg.errors import DeviceError

if TYPE_CHECKING:
    from PyNvVideoCodec import PyNvEncoder

    from vrseg.encode.nvenc_options import Options
    from vrseg.encode.settings import CodecName

Reason: TypeAlias = Literal["library", "absent", "unsupported", "limit", "memory", "preset", "failed"]
"""Label of `vrseg_encoder_fallbacks_total`. In this order: PyNvVideoCodec does not load; the GPU has no encoder; it has
none for this codec, size or picture format; no session is free; no device memory is free; the preset is a software
encoder's; anything else."""

TRIAL_SIZE = (320, 240)
"""Every generation of NVENC takes it; some refuse less than 145 x 49."""

SPARE_BYTES = 256 << 20
"""More than a session takes. Older drivers say "out of memory" at the session limit: with so much free it is that."""

# NVENCSTATUS of nvEncodeAPI.h.
_NO_DEVICE = frozenset({1, 2, 3, 4, 5})
_OUT_OF_MEMORY = 10
_UNSUPPORTED = frozenset({8, 12})
_CLIENT_KEY = 21
_CUDA_OUT_OF_MEMORY = 2


class NvencUnavailableError(DeviceError):
    """NVENC cannot do this; software may."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


@dataclass(frozen=True, slots=True)
class Ability:
    """What NVENC does for one codec."""

    most_b_frames: int


class NvencSessions:
    """The sessions that this process has open on one GPU. Safe to use from several threads.

    The cards' own limit can only be found by running into it. From then on no more sessions are tried than there were,
    until one of them is closed.
    """

    def __init__(self, gpu_index: int, *, limit: int | None = None) -> None:
        self.limit = limit
        """Most sessions at once, as configured or as found out; None where neither is known."""
        self.open = 0
        self._gpu_index = gpu_index
        self._lock = threading.RLock()
        self._abilities: dict[CodecName, Ability | NvencUnavailableError] = {}

    def ability(self, codec: CodecName) -> Ability:
        """Open a session once in this process, and ask it.

        Raises:
            NvencUnavailableError: there is no NVENC, or it lacks the codec, or (not remembered) no session is free.
        """
        with self._lock:
            known = self._abilities.get(codec)
            if known is None:
                try:
                    known = self._try(codec)
                except NvencUnavailableError as error:
                    if error.reason in {"limit", "memory"}:  # passes
                        raise
                    known = error
                self._abilities[codec] = known
        if isinstance(known, NvencUnavailableError):
            raise NvencUnavailableError(known.reason, str(known))
        return known

    def start(self, width: int, height: int, options: Options, *, stream_address: int = 0) -> PyNvEncoder:
        """Open a session on the device that is current on this thread, and count it until `ended` is called.

        Args:
            width: in pixels.
            height: in pixels.
            options: see `nvenc_options`.
            stream_address: of the CUDA stream on which the encoder reads pictures; 0 for one of its own.

        Raises:
            NvencUnavailableError: the limit is reached, or NVENC refuses.
        """
        import cupy  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen

        check_library()
        import PyNvVideoCodec  # noqa: PLC0415 -- as above

        with self._lock:
            if self.limit is not None and self.open >= self.limit:
                raise NvencUnavailableError("limit", f"{self._name}: all {self.limit} encode sessions are in use")
            try:
                encoder: PyNvEncoder = PyNvVideoCodec.CreateEncoder(
                    width,
                    height,
                    "NV12",
                    usecpuinputbuffer=False,
                    cudacontext=cupy.cuda.driver.ctxGetCurrent(),  # else it takes the first GPU's
                    cudastream=stream_address,
                    **options,
                )
            except (PyNvVideoCodec.PyNvVCException, PyNvVideoCodec.PyNvVCExceptionUnsupported) as error:
                raise self._refusal(error) from error
            self.open += 1
            return encoder

    def ended(self) -> None:
        """Say that a session is gone."""
        with self._lock:
            self.open -= 1

    @property
    def _name(self) -> str:
        return f"NVENC of cuda:{self._gpu_index}"

    def _try(self, codec: CodecName) -> Ability:
        trial = self.start(*TRIAL_SIZE, {"codec": codec})
        del trial
        self.ended()
        import PyNvVideoCodec  # noqa: PLC0415 -- `start` has loaded it

        try:
            caps = PyNvVideoCodec.GetEncoderCaps(gpuid=self._gpu_index, codec=codec)
        except (PyNvVideoCodec.PyNvVCException, PyNvVideoCodec.PyNvVCExceptionUnsupported) as error:
            raise self._refusal(error) from error
        return Ability(most_b_frames=caps["num_max_bframes"])

    def _refusal(self, error: Exception) -> NvencUnavailableError:
        reason = reason_of(str(error), free_bytes=_free_bytes())
        if reason == "limit":
            self.limit = max(1, self.open)
        # That a card has no encoder is a fact, not a fault: the driver's words would only worry.
        words = "" if reason == "absent" else f" ({_line(error)})"
        return NvencUnavailableError(reason, f"{self._name}: {_SPOKEN[reason]}{words}")


@cache
def sessions_of(gpu_index: int) -> NvencSessions:
    """Give the one count of a GPU's sessions in this process: the card counts no other way."""
    return NvencSessions(gpu_index)


def check_library() -> None:
    """Import PyNvVideoCodec, which loads the driver's libraries at once.

    Raises:
        NvencUnavailableError: it or the driver's video libraries are missing.
    """
    try:
        import PyNvVideoCodec  # noqa: F401, PLC0415 -- GPU libraries load only when a GPU is chosen
    except (ImportError, RuntimeError) as error:
        message = f"PyNvVideoCodec does not load: {_line(error)}; run `vrseg doctor` for what is missing"
        raise NvencUnavailableError("library", message) from error


def reason_of(message: str, *, free_bytes: int | None) -> Reason:
    """Sort an error of PyNvVideoCodec by its text; no attribute holds the code.

    At the session limit newer drivers answer nvEncOpenEncodeSessionEx with 21 (incompatible client key), older ones
    with 10 (out of memory), although memory is free.

    Args:
        message: names the failed function and `Error code : N`.
        free_bytes: of device memory, at the time; None when unknown.
    """
    found = re.search(r"error code\s*:?\s*(\d+)", message, re.IGNORECASE)
    code = None if found is None else int(found.group(1))
    of_cuda = re.search(r"\bcu[A-Z]|cuda", message) is not None and "nvEnc" not in message
    if of_cuda:
        return "memory" if code == _CUDA_OUT_OF_MEMORY else "failed"
    if code == _CLIENT_KEY:
        return "limit"
    if code == _OUT_OF_MEMORY:
        opening = "nvEncOpenEncodeSession" in message
        return "limit" if opening and free_bytes is not None and free_bytes > SPARE_BYTES else "memory"
    if code in _NO_DEVICE:
        return "absent"
    return "unsupported" if code in _UNSUPPORTED or re.search("nsupported|not supported", message) else "failed"


_SPOKEN: dict[Reason, str] = {
    "absent": "this GPU has no video encoder",
    "unsupported": "not for this codec, size or format",
    "limit": "no encode session is free; close other encoders, or encode in software",
    "memory": "no device memory for an encoder",
    "failed": "does not start",
}


def _line(error: BaseException) -> str:
    return " ".join(str(error).split("\n=== ")[0].split()) or type(error).__name__


def _free_bytes() -> int | None:
    import cupy  # noqa: PLC0415 -- as above

    try:
        free: int = cupy.cuda.runtime.memGetInfo()[0]
    except cupy.cuda.runtime.CUDARuntimeError:
        return None
    return free
