"""Runs `vrseg run` with many streams, lets faults happen to it, and tells what it cost. See scripts/soak."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from rich.console import Console
from rich.table import Table as RichTable
from soak_camera import Camera, http_camera, rtsp_camera
from soak_faults import MEAN_PAUSE_S, Faults, schedule, targets
from soak_samples import Sample, count_log
from soak_site import LOG_NAME, Site, SurpriseError
from soak_streams import DRAIN_TIMEOUT_S, configuration, role_of, stream_names
from soak_verdict import Story, as_markdown, broken, tables

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRAPE_EVERY_S = 5.0
MOST_WARM_UP_S = 300.0
MOST_QUIET_S = 20.0
FEWEST_STREAMS = 4
_USUAL_STREAMS = 16
_INTERRUPTED = 130
_MAKE_CAMERA = {"http": http_camera, "rtsp": rtsp_camera}


def main() -> int:
    """Soak; return 1 when a bound broke."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, required=True, help="how long vrseg runs")
    parser.add_argument("--streams", type=int, default=_USUAL_STREAMS)
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--out", type=Path, help="a Markdown file for the tables")
    parser.add_argument("--keep-log", type=Path, help="a file for vrseg's log")
    options = parser.parse_args()
    if options.minutes <= 0 or options.streams < FEWEST_STREAMS:
        parser.error(f"--minutes must be more than 0, --streams at least {FEWEST_STREAMS}")
    # A soak that is told to end takes vrseg with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="vrseg-soak-") as folder, log_kept(Path(folder), options.keep_log):
            story = asyncio.run(soak(Path(folder), options.minutes * 60, options.streams, options.seed))
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (SurpriseError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show(story)
    if options.out:
        options.out.write_text(as_markdown(story), encoding="utf-8")
    return int(any(broken(story)))


@contextmanager
def log_kept(folder: Path, path: Path | None) -> Iterator[None]:
    """Copy vrseg's log at the end of the block, however that comes."""
    try:
        yield
    finally:
        if path is not None:
            shutil.copyfile(folder / LOG_NAME, path)


async def soak(folder: Path, duration_s: float, streams: int, seed: int) -> Story:
    """Run a site for a while, in an empty folder.

    Raises:
        SurpriseError: vrseg did not start.
        OSError: a camera did not start.
    """
    names = stream_names(streams)
    with ExitStack() as after:
        cameras = {role: make() for role, make in _MAKE_CAMERA.items() if role in map(role_of, names)}
        for camera in cameras.values():
            after.callback(camera.kill)
            camera.start()
        addresses = {role: camera.address for role, camera in cameras.items()}
        site = Site(folder, configuration(streams, folder / "streams", addresses))
        try:
            return await _story(site, cameras, duration_s, seed)
        finally:
            await site.close()


async def _story(site: Site, cameras: dict[str, Camera], duration_s: float, seed: int) -> Story:
    await site.start()
    streams = list(site.document["streams"])
    quiet_s = min(MOST_QUIET_S, duration_s / 4)
    mean_pause_s = min(MEAN_PAUSE_S * _USUAL_STREAMS / len(streams), duration_s / 16)
    plan = list(schedule(seed, duration_s - quiet_s, mean_pause_s, targets(streams, list(cameras))))
    faults = Faults(site, cameras)
    samples: list[Sample] = []
    sampling = asyncio.create_task(_sample(site, min(SCRAPE_EVERY_S, duration_s / 40), samples))
    await faults.run(plan)
    if site.alive:
        await faults.settle()
    await asyncio.wait([sampling], timeout=max(0.0, duration_s - site.time_s))
    sampling.cancel()
    with suppress(asyncio.CancelledError):
        await sampling
    ending = await site.end(DRAIN_TIMEOUT_S)
    return Story(
        title=f"Soak: {len(streams)} streams, {duration_s / 60:g} minutes, seed {seed}",
        samples=samples,
        warm_up_s=min(MOST_WARM_UP_S, duration_s / 4),
        faults=faults.done,
        surprises=faults.surprises,
        log=count_log(site.log_lines()),
        ending=ending,
    )


async def _sample(site: Site, every_s: float, samples: list[Sample]) -> None:
    with suppress(psutil.NoSuchProcess):
        while site.alive:
            samples.append(await site.sample())
            await asyncio.sleep(every_s)


def show(story: Story) -> None:
    """Print all tables."""
    console = Console()
    for table in tables(story):
        shown = RichTable(*table.head, title=table.title, title_justify="left")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)


if __name__ == "__main__":
    sys.exit(main())
