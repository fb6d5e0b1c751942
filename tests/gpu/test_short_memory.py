"""Device memory runs out half way: what is under way on the blocks that come back is known to who has them next."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from plugins.coding import packets_of
from plugins.painted import device_result, surface_of
from plugins.to_draw import CLASSES, CROWD, frame_like, person

from vrseg.decode.cuda import NvdecDecoder
from vrseg.gpu import memory
from vrseg.render.cuda import Paint, PaintStyle

if TYPE_CHECKING:
    from pathlib import Path

    from plugins.clips import MakeClip

    from vrseg.config.schema import View
    from vrseg.gpu.device import Gpu


class Blocks:
    """Lets so many more blocks be made, and remembers those on which work was noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.allowed = 1 << 30
        self.made: list[int] = []
        self.noted: set[int] = set()
        make, note = memory._allocate, memory.Lease.used_until

        def scarce(kind: memory.Kind, size_bytes: int) -> Any:
            if not self.allowed:
                raise MemoryError
            self.allowed -= 1
            block = make(kind, size_bytes)
            self.made.append(block.ptr)
            return block

        def noting(lease: memory.Lease, event: Any) -> None:
            self.noted.add(lease.address)
            note(lease, event)

        monkeypatch.setattr(memory, "_allocate", scarce)
        monkeypatch.setattr(memory.Lease, "used_until", noting)


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> Blocks:
    return Blocks(monkeypatch)


@pytest.mark.usefixtures("nvdec")
@pytest.mark.parametrize("at_end", [False, True])
def test_a_decoder_that_got_no_memory_for_the_next_picture(
    at_end: bool, make_clip: MakeClip, tmp_path: Path, gpu_on_cpu: Gpu, blocks: Blocks
) -> None:
    packets = packets_of(make_clip(tmp_path / "clip.mp4", frames=20, b_frames=2, width=320, height=240))
    decoder = NvdecDecoder("test", gpu=gpu_on_cpu, live=False)
    decoder.open()
    held: list[Any] = []
    if at_end:
        decoder.process_together(packets, held)
    blocks.made.clear()
    blocks.noted.clear()
    blocks.allowed = 1 if at_end else 3
    with pytest.raises(MemoryError):
        held.extend(decoder.flush()) if at_end else decoder.process_together(packets, held)
    assert blocks.made
    assert blocks.noted >= set(blocks.made)
    decoder.close()


def test_drawing_that_got_no_memory_for_its_second_part(gpu_on_cpu: Gpu, blocks: Blocks) -> None:
    """Labels are drawn first, and need nothing; what is blurred needs more than its new picture."""
    views: dict[str, View] = {"labelled": "overlay", "blurred": "blur"}
    styles = {name: PaintStyle(view=view, opacity=0.5, classes=CLASSES) for name, view in views.items()}
    frames = [
        replace(frame_like(64, 48), stream=name, picture=surface_of(gpu_on_cpu, frame_like(64, 48).picture))
        for name in views
    ]
    found = [device_result(gpu_on_cpu, CROWD), device_result(gpu_on_cpu, person())]
    stream, paint = gpu_on_cpu.new_stream(), Paint(gpu_on_cpu, styles)
    paint.open(stream)
    before = gpu_on_cpu.counts.snapshot()
    blocks.made.clear()
    blocks.noted.clear()
    blocks.allowed = 5  # two new pictures, and three tables of what is drawn over them
    with pytest.raises(MemoryError):
        paint.enqueue(frames, found, stream)
    assert (gpu_on_cpu.counts.snapshot() - before).launches == 1
    assert blocks.noted >= {*blocks.made[:2], *(frame.picture.lease.address for frame in frames)}
    paint.close()
