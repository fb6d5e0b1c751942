"""What vrseg reaches on an NVIDIA GPU, beside what the same libraries reach in a bare loop. One run, one table.

    python scripts/bench_gpu.py --clip REAL_CLIP.mp4 --model DEEPLAB_FP16.onnx --json figures.json [SECTION ...]

The clip is scaled and coded anew for each section, so any real one will do. `scripts/export_deeplab.py` writes the
model. Sections: decode, preprocess, pipeline, file, latency, profile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_bare import annex_b, bare_decode, bare_engine, on_threads, packets_of
from gpu_harness import Load, repeat_clip, run_load, stream_name, with_names, write_clip
from gpu_profile import print_profile

from vrseg.backend.backend import ViewStyle
from vrseg.backend.choose import choose_backend
from vrseg.config.schema import Batching, Model
from vrseg.models.load import load_spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from vrseg.backend.backend import Backend, ModelWork
    from vrseg.config.schema import View

ROUNDS = 3
BATCH = 8
HD, UHD = (1920, 1080), (3840, 2160)


class Bench:
    """Clips, device and figures of one run."""

    def __init__(self, clip: Path, model: Path, description: Path | None, folder: Path) -> None:
        self.backend: Backend = choose_backend("cuda")
        self.clip = clip
        self.model = model
        self.description = description
        self.folder = folder
        self.figures: dict[str, Any] = {"gpu": self.backend.gpu.name}

    def made(self, name: str, make: Callable[[Path], Path]) -> Path:
        """Return a clip of this run, made when it is first asked for."""
        path = self.folder / name
        return path if path.exists() else make(path)

    def hd(self) -> Path:
        """1080p H.264, 900 frames, a key frame every 60."""
        return self.made("hd.mp4", lambda path: write_clip(self.clip, path, size=HD, codec="libx264", frames=900))

    def long_hd(self) -> Path:
        """The same, long enough for half a minute at any speed."""
        return self.made("hd_long.mp4", lambda path: repeat_clip(self.hd(), path, 40))

    def uhd(self) -> Path:
        """4K HEVC, 240 frames."""
        return self.made("uhd.mp4", lambda path: write_clip(self.clip, path, size=UHD, codec="libx265", frames=240))

    def work(self, streams: int, batch: int, view: View = "overlay") -> ModelWork:
        """Return the stages of the model, drawing `view` for so many streams."""
        section = Model(
            path=str(self.model),
            description=str(self.description) if self.description else None,
            batch=Batching(max_size=batch),
        )
        spec = load_spec("bench", section, Path.cwd())
        style = ViewStyle(view=view, opacity=0.5, classes=spec.classes)
        return self.backend.make_model(
            spec,
            section,
            max_batch=batch,
            styles={stream_name(number): style for number in range(streams)},
            host_results=False,
        )


def stage_decode(bench: Bench, path: Path, repeats: int) -> tuple[int, float]:
    """Decode the same with the stage, frames dropped as they come; return their number, and the seconds it took.

    Each thread reads packets of its own before the clock runs: FFmpeg's packets and contexts belong to one thread.
    """
    source, packets = packets_of(path, 900)
    decoder = bench.backend.make_decoder("bench", live=False, first_index=0)
    decoder.open()
    frames = 0
    start_s = time.perf_counter()
    for _ in range(repeats):
        for packet in packets:
            frames += sum(1 for _ in decoder.process(packet))
    frames += sum(1 for _ in decoder.flush())
    decoder.close()
    passed_s = time.perf_counter() - start_s
    source.close()
    return frames, passed_s


def decode(bench: Bench) -> None:
    """Bare and as a stage, in turn."""
    for name, path, codec, threads, repeats in (
        ("1080p H.264, 1 stream", bench.hd(), "h264", 1, 3),
        ("1080p H.264, 7 streams", bench.hd(), "h264", 7, 3),
        ("4K HEVC, 7 streams", bench.uhd(), "hevc", 7, 3),
    ):
        source, packets = packets_of(path, 900)
        units = annex_b(packets)
        pairs = [
            (
                on_threads(threads, partial(bare_decode, units, codec, repeats)),
                on_threads(threads, partial(stage_decode, bench, path, repeats)),
            )
            for _ in range(ROUNDS)
        ]
        source.close()
        bare, own = (statistics.median(column) for column in zip(*pairs, strict=True))
        bench.figures[f"decode {name}"] = {"bare_fps": bare, "vrseg_fps": own, "ratio": own / bare}


def pipeline(bench: Bench) -> None:
    """From 1080p packets to drawn surfaces, with 1 and with 16 streams."""
    clip, batch = bench.long_hd(), 8
    source, packets = packets_of(bench.hd(), 900)
    units = annex_b(packets)
    for streams in (1, 16):
        engine_fps = bare_engine(bench.work(1, batch).infer, batch)
        decode_fps = on_threads(streams, lambda: bare_decode(units, "h264", 3))
        load = Load(clips=(clip,) * streams, seconds=10, batch=batch)
        outcome = run_load(load, bench.backend, bench.work(streams, batch))
        wall = min(engine_fps, decode_fps)
        bench.figures[f"pipeline, {streams} streams"] = {
            "bare_engine_fps": engine_fps,
            "bare_decode_fps": decode_fps,
            "ratio": outcome.frames_per_s / wall,
            **with_names(outcome),
        }
    source.close()


def file(bench: Bench) -> None:
    """One file, several of its parts decoded at once, to drawn surfaces in order."""
    batch = 8
    engine_fps = bare_engine(bench.work(1, batch).infer, batch)
    load = Load(clips=(bench.long_hd(),), seconds=10, batch=batch, file_decoder=True)
    outcome = run_load(load, bench.backend, bench.work(1, batch))
    bench.figures["one file, parts decoded at once"] = {
        "bare_engine_fps": engine_fps,
        "ratio": outcome.frames_per_s / engine_fps,
        **with_names(outcome),
    }


def latency(bench: Bench) -> None:
    """Live: decoded to drawn. With B-frames pictures come two at once, so that one waits for the other."""
    write = partial(write_clip, bench.clip, size=HD, codec="libx264", frames=1800, rate=60)
    for kind, name, b_frames in (("", "hd60.mp4", False), (", B-frames", "hd60_b_frames.mp4", True)):
        fast = bench.made(name, partial(write, b_frames=b_frames))
        load = Load(clips=(fast,), seconds=20, batch=1, realtime=True, max_delay_s=0.0)
        bench.figures[f"live 1080p60{kind}, batch 1"] = with_names(run_load(load, bench.backend, bench.work(1, 1)))
    clip = bench.long_hd()
    load = Load(clips=(clip,) * 16, seconds=15, batch=8, realtime=True)
    bench.figures["live 16 x 1080p30"] = with_names(run_load(load, bench.backend, bench.work(16, 8)))


def preprocess(bench: Bench) -> None:
    """Eight 1080p pictures to 512 x 512, beside a copy and beside CV-CUDA."""
    from gpu_preprocess import measure

    bench.figures["preprocess, 8 x 1080p to 512 x 512 float16"] = measure(bench.backend.gpu)


def profile(bench: Bench) -> None:
    """Where the time goes; printed, and in no figure."""
    print_profile(bench.backend, bench.work(1, BATCH), bench.hd(), BATCH)


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "decode": decode,
    "preprocess": preprocess,
    "pipeline": pipeline,
    "file": file,
    "latency": latency,
    "profile": profile,
}


def main() -> None:
    """Run the sections that are asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=list(SECTIONS))
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--description", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "vrseg-bench-gpu")
    asked = parser.parse_args()
    asked.folder.mkdir(exist_ok=True)
    bench = Bench(asked.clip, asked.model, asked.description, asked.folder)
    failed = False
    for name in asked.sections:
        start_s = time.perf_counter()
        try:
            SECTIONS[name](bench)
        except Exception as error:  # noqa: BLE001 -- the other sections are still worth their time
            failed = True
            traceback.print_exc()
            bench.figures[name] = f"failed: {error}"
        print(f"# {name}: {time.perf_counter() - start_s:.0f} s", flush=True)
        text = json.dumps(bench.figures, indent=2, default=str)
        if asked.json:
            asked.json.write_text(text)
    print(json.dumps(bench.figures, indent=2, default=str))
    sys.exit(failed)


if __name__ == "__main__":
    main()
