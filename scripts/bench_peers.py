"""vrseg beside two loops as most people write them, on the same clip, model, threads and encoder.

Both loops decode a frame, resize it, run the model, scale the mask, draw the overlay and encode, one frame
after the other: `opencv` with VideoCapture and VideoWriter, `pyav` with PyAV on both ends. Each contestant runs in
a process of its own, in turn, several rounds; medians of frames per second and of peak memory are compared.

    python scripts/bench_peers.py --clip CLIP.mp4 --model MODEL.onnx [--description MODEL.yaml] [--rounds 3] [--json]

The model must segment one class. The opencv-python-headless package is needed (it is in the `dev` extra). OpenCV's
VideoWriter has no x264 on its own wheel: it pipes raw frames into the `ffmpeg` program there, with the same settings.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    Image = npt.NDArray[np.uint8]

PRESET, CRF = "veryfast", "23"
COLOUR_BGR = (96, 200, 0)


def load_model(path: str, description: str | None) -> tuple[Any, Any]:
    """Return the session and the resolved description."""
    import onnxruntime

    from vrseg.config.schema import Model
    from vrseg.models.load import load_spec

    spec = load_spec("model", Model(path=path, description=description), Path.cwd())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]), spec


def make_overlay(session: Any, spec: Any) -> Callable[[Image], Image]:
    """Return the usual per-frame function: BGR frame in, BGR frame with the mask drawn out."""
    import cv2
    import numpy as np

    given = spec.input
    mean, std = np.float32(given.mean), np.float32(given.std)

    def overlay(frame_bgr: Image) -> Image:
        height, width = frame_bgr.shape[:2]
        small = cv2.resize(frame_bgr, (given.width, given.height))
        if given.color == "rgb":
            small = cv2.cvtColor(small, cv2.COLOR_BGR2RGB)
        tensor = ((small.astype(np.float32) * given.scale) - mean) / std
        if given.layout == "nchw":
            tensor = tensor.transpose(2, 0, 1)
        output = session.run(None, {given.name: tensor[None].astype(np.float32)})[0][0]
        probability = output[..., 0] if spec.channels_last else output[-1] if output.ndim == 3 else output
        mask = cv2.resize(probability, (width, height)) > 0.5
        frame_bgr[mask] = (0.5 * frame_bgr[mask] + 0.5 * np.array(COLOUR_BGR, np.float32)).astype(np.uint8)
        return frame_bgr

    return overlay


def run_opencv(clip: str, target: str, overlay: Callable[[Image], Image]) -> int:
    """OpenCV's VideoCapture, and its frames into a writer."""
    import cv2

    capture = cv2.VideoCapture(clip)
    width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    rate = capture.get(cv2.CAP_PROP_FPS)
    writer = subprocess.Popen(
        ["ffmpeg", "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{width}x{height}",
         "-r", str(rate), "-i", "-", "-c:v", "libx264", "-preset", PRESET, "-crf", CRF, "-threads", threads(),
         "-pix_fmt", "yuv420p",
         target],
        stdin=subprocess.PIPE,
    )  # fmt: skip
    assert writer.stdin is not None
    count = 0
    while True:
        ok, frame_bgr = capture.read()
        if not ok:
            break
        writer.stdin.write(overlay(cast("Image", frame_bgr)).tobytes())
        count += 1
    writer.stdin.close()
    writer.wait()
    return count


def run_pyav(clip: str, target: str, overlay: Callable[[Image], Image]) -> int:
    """PyAV on both ends."""
    import av

    count = 0
    with av.open(clip) as source, av.open(target, "w") as sink:
        video = source.streams.video[0]
        video.thread_type = "AUTO"
        out = sink.add_stream("libx264", rate=video.average_rate, options={"preset": PRESET, "crf": CRF})
        out.width, out.height, out.pix_fmt = video.width, video.height, "yuv420p"
        out.codec_context.thread_count = int(threads())
        for picture in source.decode(video):
            frame_bgr = cast("Image", picture.to_ndarray(format="bgr24"))
            sink.mux(out.encode(av.VideoFrame.from_ndarray(overlay(frame_bgr), format="bgr24")))
            count += 1
        sink.mux(out.encode(None))
    return count


def run_vrseg(arguments: argparse.Namespace, target: str) -> tuple[int, float]:
    """One `vrseg process`; returns frames and seconds as it says them itself, without model loading."""
    import asyncio

    import uvloop

    from vrseg.config.schema import Model, Output
    from vrseg.job import Job, plan_job, run_job
    from vrseg.telemetry.logs import make_logger

    job = Job(
        input=arguments.clip,
        output=Output(uri=target, preset=PRESET, quality=int(CRF)),
        model=Model(path=arguments.model, description=arguments.description),
        view="overlay",
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(
            run_job(job, plan_job(job), make_logger("text", "error"), on_start=lambda _recorder, _ledger: None)
        )
    return report.frames, report.elapsed_s


def threads() -> str:
    """As many as there are cores, for each encoder."""
    return str(len(os.sched_getaffinity(0)))


def contest(arguments: argparse.Namespace) -> None:
    """Run one contestant in this process and print what it took."""
    with tempfile.TemporaryDirectory() as folder:
        target = str(Path(folder) / "out.mp4")
        if arguments.contestant == "vrseg":
            frames, elapsed_s = run_vrseg(arguments, target)
        else:
            overlay = make_overlay(*load_model(arguments.model, arguments.description))
            started_s = time.perf_counter()
            frames = {"opencv": run_opencv, "pyav": run_pyav}[arguments.contestant](arguments.clip, target, overlay)
            elapsed_s = time.perf_counter() - started_s
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({"frames": frames, "fps": frames / elapsed_s, "peak_mb": (own + children) / 1024}))


def main() -> None:
    """Run all contestants in turn and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--description")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--contestant", choices=["vrseg", "opencv", "pyav"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        contest(arguments)
        return
    names = ["vrseg", "opencv", "pyav"]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(arguments.rounds):
        for name in names:
            done = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--contestant", name],
                check=True,
                capture_output=True,
                text=True,
            )
            runs[name].append(json.loads(done.stdout.splitlines()[-1]))
    medians = {
        name: {key: statistics.median(run[key] for run in each) for key in ("frames", "fps", "peak_mb")}
        for name, each in runs.items()
    }
    best = max(medians[name]["fps"] for name in names[1:])
    leanest = min(medians[name]["peak_mb"] for name in names[1:])
    outcome = {
        "medians": medians,
        "speed_against_best_peer": medians["vrseg"]["fps"] / best,
        "memory_against_leanest_peer": medians["vrseg"]["peak_mb"] / leanest,
    }
    if arguments.json:
        print(json.dumps(outcome, indent=2))
        return
    for name in names:
        print(f"{name:8} {medians[name]['fps']:8.1f} frames/s {medians[name]['peak_mb']:8.0f} MB")
    print(f"vrseg is {outcome['speed_against_best_peer']:.2f} x the best peer, with "
          f"{outcome['memory_against_leanest_peer']:.2f} x the memory of the leanest")  # fmt: skip


if __name__ == "__main__":
    main()
