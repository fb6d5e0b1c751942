"""One open NVDEC session: compressed units in, surfaces out, everything on one CUDA stream."""

from __future__ import annotations

import ctypes
import re
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from vrseg.decode.bitstream import DamagedUnitError
from vrseg.decode.capabilities import NVDEC_CODECS
from vrseg.errors import DeviceError, DeviceMemoryError, MediaError
from vrseg.gpu.guard import failing_as_device, first_line, is_want_of_memory, no_memory
from vrseg.gpu.memory import recorded, wait_for
from vrseg.gpu.surface import Surface, surface_bytes
from vrseg.gpu.transfer import copy_on_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import cupy

    from vrseg.decode.appearance import Appearance
    from vrseg.decode.bitstream import Codec
    from vrseg.decode.turns import Turns
    from vrseg.gpu.device import Gpu
    from vrseg.gpu.memory import Lease
    from vrseg.gpu.surface import SurfaceFormat
    from vrseg.gpu.surface_pool import SurfacePool

_HEALTHY = (0, 600)  # cudaSuccess, cudaErrorNotReady
_OUT_OF_MEMORY = re.compile(r"returned error 2\b")  # CUDA_ERROR_OUT_OF_MEMORY, after the name of NVDEC's function
# Less than the pictures of any session take. NVDEC does not always say what it wants for.
_NEXT_TO_NOTHING_BYTES = 48 << 20


class _Shape(NamedTuple):
    """What all pictures of a session have in common."""

    width: int
    height: int
    format: SurfaceFormat
    size_bytes: int


class NvdecSession:
    """Decodes one sequence of pictures of one size and format.

    NVDEC's own pictures last until the next call only. So each is copied into a surface of ours before that, on the
    stream on which NVDEC writes: nobody waits.
    """

    def __init__(
        self,
        gpu: Gpu,
        codec: Codec,
        stream: cupy.cuda.Stream,
        surfaces: SurfacePool,
        appearance: Appearance,
        *,
        at_once: bool,
        turns: Turns | None = None,
    ) -> None:
        """Make the decoder; the hardware is taken with the first unit.

        Args:
            gpu: current on this thread.
            codec: of the units.
            stream: of the decoder and of the copies.
            surfaces: where pictures go.
            appearance: of all pictures.
            at_once: a picture is given with its own unit. For streams that are in display order already.
            turns: decodes on a thread that it shares with others; without, on the caller's.

        Raises:
            DeviceError: there is no NVDEC.
            DeviceMemoryError: it has no room for its own pictures.
        """
        nvc = _library()
        self.appearance = appearance
        self._gpu = gpu
        self._nvc = nvc
        self._stream = stream
        self._surfaces = surfaces
        self._turns = turns
        self._formats: dict[int, SurfaceFormat] = {
            int(nvc.Pixel_Format.NV12): "nv12",
            int(nvc.Pixel_Format.P016): "p016",
        }
        self._flags = int(nvc.VideoPacketFlag.TIMESTAMP)
        if at_once:
            self._flags |= int(nvc.VideoPacketFlag.ENDOFPICTURE)
        self._resumes = False
        self._shape: _Shape | None = None
        latency = nvc.DisplayDecodeLatencyType
        try:
            self._decoder: Any = nvc.CreateDecoder(
                gpuid=gpu.index,
                codec=getattr(nvc.cudaVideoCodec, NVDEC_CODECS[codec]),
                cudacontext=0,
                cudastream=stream.ptr,
                usedevicememory=True,
                latency=latency.LOW if at_once else latency.NATIVE,
            )
        except (nvc.PyNvVCException, nvc.PyNvVCExceptionUnsupported) as error:
            if is_want_of_memory(error):
                raise self._no_memory(error) from error
            raise DeviceError(
                f"cuda:{gpu.index}: NVDEC does not open: {first_line(error)}; see `vrseg doctor`"
            ) from error

    def decode(
        self, units: Sequence[bytearray], first_ticket: int
    ) -> tuple[list[list[Surface]], DamagedUnitError | None]:
        """Decode units, whose tickets are numbers in a row, as far as they can be decoded.

        Between two of them the hardware is waited for, and what runs after a wait is slow. So all that can be done
        before the first or after the last is done there.

        Returns:
            What came of each unit; and where those are not all, what is the matter with the next.

        Raises:
            DeviceError: the GPU cannot go on.
            DeviceMemoryError: it has no room for more pictures.
            MediaError: not 4:2:0.
        """
        packets = [self._packet(unit, ticket) for ticket, unit in enumerate(units, first_ticket)]
        lent = self._lend(len(units))
        copies: list[list[Lease]] = []
        try:
            steps = self._steps(packets, lent, copies)
            if self._turns is None:
                deque(steps, maxlen=0)
            else:
                self._turns.work(steps)
        except DamagedUnitError as error:
            return self._handed_out(copies), error  # with what came before it
        finally:
            for lease in lent:  # for pictures that the decoder holds back
                lease.release()
        return self._handed_out(copies), None

    def drain(self) -> list[Surface]:
        """Return what the decoder holds back. It may go on afterwards, with a unit that begins anew.

        Raises:
            DamagedUnitError: it cannot.
            DeviceError: the GPU cannot go on.
            DeviceMemoryError: it has no room for more pictures.
        """
        self._resumes = True
        copies: list[list[Lease]] = []
        deque(self._steps([self._nvc.PacketData()], [], copies), maxlen=0)
        (pictures,) = self._handed_out(copies)
        return pictures

    def close(self) -> None:
        """Let go of the hardware, when all copies out of it are done."""
        try:
            with failing_as_device("decode"):
                wait_for(self._gpu, recorded(self._stream))
        finally:
            self._decoder = None

    def _packet(self, unit: bytearray, ticket: int) -> Any:
        packet = self._nvc.PacketData()
        packet.bsl_data = _address_of(unit)  # which stays good: the caller holds `unit` until it is decoded
        packet.bsl = len(unit)
        packet.pts = ticket
        packet.decode_flag = self._flags
        if self._resumes:
            packet.decode_flag |= int(self._nvc.VideoPacketFlag.DISCONTINUITY)
            self._resumes = False
        return packet

    def _lend(self, most: int) -> list[Lease]:
        """Take memory for so many pictures, once it is known how much that is."""
        shape = self._shape
        if shape is None:
            return []
        return [self._surfaces.lend(shape.width, shape.height, shape.format, self._stream) for _ in range(most)]

    def _steps(self, packets: list[Any], lent: list[Lease], copies: list[list[Lease]]) -> Iterator[None]:
        """Decode packet by packet; copy pictures to what was lent as long as that lasts, then to more."""
        try:
            for packet in packets:
                pictures = self._decoded(packet)
                copies.append([])
                for picture in pictures:
                    copies[-1].append(self._copied(picture, lent))  # one by one: memory may run out
                yield
        except (MemoryError, DeviceMemoryError):
            self._handed_out(copies)  # to nobody; but who has their memory next comes after the copies
            copies.clear()  # else the error holds it
            raise

    def _decoded(self, packet: Any) -> Any:
        """Return NVDEC's own pictures, which last until the next call."""
        nvc = self._nvc
        try:
            return self._decoder.Decode(packet)
        except (nvc.PyNvVCException, nvc.PyNvVCExceptionUnsupported) as error:
            self._check_device(error)
            if self._is_want_of_memory(error):
                raise self._no_memory(error) from error
            spent = isinstance(error, nvc.PyNvVCExceptionUnsupported)
            raise DamagedUnitError(first_line(error), spent=spent) from error

    def _copied(self, picture: Any, lent: list[Lease]) -> Lease:
        # All of a session are alike: NVDEC scales to the first size. To ask each anew costs more than to copy it.
        shape = self._shape = self._shape or self._shape_of(picture)
        lease = lent.pop() if lent else self._lend(1)[0]
        copy_on_device(lease.address, picture.GetPtrToPlane(0), shape.size_bytes, self._stream)
        return lease

    def _handed_out(self, copies: list[list[Lease]]) -> list[list[Surface]]:
        """Tell what was copied so far, and when the GPU has done it."""
        shape = self._shape
        if shape is None or not any(copies):
            return [[] for _ in copies]
        ready = recorded(self._stream)
        made = partial(
            Surface,
            width=shape.width,
            height=shape.height,
            format=shape.format,
            matrix=self.appearance.matrix,
            full_range=self.appearance.full_range,
            ready=ready,
        )
        return [[made(lease=lease) for lease in leases] for leases in copies]

    def _shape_of(self, picture: Any) -> _Shape:
        surface_format = self._formats.get(int(picture.format))
        if surface_format is None or len(picture.shape) != 2:
            raise MediaError(f"NVDEC gives {picture.format} pictures of shape {picture.shape}; only 4:2:0 is supported")
        rows, width = picture.shape
        height = rows * 2 // 3  # half as many rows of chroma as of luma lie below it
        return _Shape(width, height, surface_format, surface_bytes(width, height, surface_format))

    def _is_want_of_memory(self, error: Exception) -> bool:
        """Tell whether there was no room for pictures of NVDEC's own, which it takes with the first unit."""
        if is_want_of_memory(error) or _OUT_OF_MEMORY.search(str(error)):
            return True
        if self._shape is not None:
            return False
        import cupy  # noqa: PLC0415 -- as above

        free_bytes: int = cupy.cuda.runtime.memGetInfo()[0]
        return free_bytes < _NEXT_TO_NOTHING_BYTES

    def _no_memory(self, error: Exception) -> DeviceMemoryError:
        return no_memory(f"cuda:{self._gpu.index}: NVDEC", error)

    def _check_device(self, error: Exception) -> None:
        """Tell a damaged unit from a device on which nothing works any more."""
        import cupy  # noqa: PLC0415 -- as above

        status = None
        with suppress(cupy.cuda.runtime.CUDARuntimeError):
            status = cupy.cuda.runtime.streamQuery(self._stream.ptr)
        if status not in _HEALTHY:
            raise DeviceError(
                f"cuda:{self._gpu.index}: decoding broke the CUDA context: {first_line(error)}; start again"
            ) from error


def _library() -> Any:
    try:
        import PyNvVideoCodec  # noqa: PLC0415 -- GPU libraries load only when a GPU is chosen
    except (ImportError, RuntimeError) as error:
        raise DeviceError(f"PyNvVideoCodec does not load: {first_line(error)}; see `vrseg doctor`") from error
    return PyNvVideoCodec


def _address_of(unit: bytearray) -> int:
    """Return where the bytes lie. They must be held, and be left as they are, as long as somebody reads there."""
    return ctypes.addressof(ctypes.c_char.from_buffer(unit))
