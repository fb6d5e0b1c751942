"""A real RTSP server on 127.0.0.1, from Debian's gst-rtsp-server. Run it with the system's Python.

It prints `ready PORT` once it listens, and serves until its standard input closes or it is killed: it never outlives
the test that started it.
"""

from __future__ import annotations

import argparse
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402 - versions come first

_BUFFER_LENGTH_MS = 200


def live_launch(options: argparse.Namespace) -> str:
    """A moving test picture, in real time, with a key frame each `gop` frames."""
    width, height = options.size.split("x")
    stop = f" num-buffers={options.frames}" if options.frames else ""
    encoder = {
        "h264": f"x264enc tune=zerolatency speed-preset=ultrafast key-int-max={options.gop} ! rtph264pay",
        "hevc": f"x265enc tune=zerolatency speed-preset=ultrafast key-int-max={options.gop} ! rtph265pay",
        "mjpeg": "jpegenc ! rtpjpegpay",
    }[options.codec]
    return (
        f"( videotestsrc is-live=true pattern=ball{stop} ! "
        f"video/x-raw,format=I420,width={width},height={height},framerate={options.fps}/1 ! "
        f"{encoder} name=pay0 pt=96 config-interval=1 )"
    ).replace("rtpjpegpay name=pay0 pt=96 config-interval=1", "rtpjpegpay name=pay0 pt=26")


def factory_for(options: argparse.Namespace) -> GstRtspServer.RTSPMediaFactory:
    factory = GstRtspServer.RTSPMediaFactory()
    if options.record:
        factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
        factory.set_launch("( rtph264depay name=depay0 ! fakesink sync=false )")
        if options.record_to:
            write = f"h264parse ! mpegtsmux ! filesink sync=false location={options.record_to}"
            factory.set_launch(f"( rtph264depay name=depay0 ! {write} )")
        factory.set_latency(_BUFFER_LENGTH_MS)
    else:
        factory.set_launch(live_launch(options))
        if options.stall_after:
            factory.connect("media-configure", stall_after, options.stall_after)
    factory.set_shared(True)
    return factory


def stall_after(_factory: GstRtspServer.RTSPMediaFactory, media: GstRtspServer.RTSPMedia, seconds: float) -> None:
    """Swallow all packets after a while; the connection stays open, as with a camera whose sensor died."""
    pay = media.get_element().get_by_name("pay0")

    def swallow() -> bool:
        pay.get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER | Gst.PadProbeType.BUFFER_LIST, drop)
        return False

    def drop(_pad: Gst.Pad, _info: Gst.PadProbeInfo) -> Gst.PadProbeReturn:
        return Gst.PadProbeReturn.DROP

    GLib.timeout_add(int(seconds * 1000), swallow)


def protect(
    server: GstRtspServer.RTSPServer, factory: GstRtspServer.RTSPMediaFactory, user: str, password: str
) -> None:
    """Let only `user` in."""
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    factory.add_role_from_structure(
        Gst.Structure.from_string("viewer, media.factory.access=(boolean)true, media.factory.construct=(boolean)true")[
            0
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", default="0")
    parser.add_argument("--path", default="/live")
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--gop", type=int, default=15)
    parser.add_argument("--codec", choices=("h264", "hevc", "mjpeg"), default="h264")
    parser.add_argument("--frames", type=int, default=0, help="end after so many; 0 never ends")
    parser.add_argument("--user")
    parser.add_argument("--password", default="")
    parser.add_argument("--stall-after", type=float, default=0.0, help="seconds after which packets stop coming")
    parser.add_argument("--record", action="store_true", help="take a stream that is pushed, instead of serving one")
    parser.add_argument("--record-to", default="", help="with --record: write what comes to this MPEG-TS file")
    options = parser.parse_args()

    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(options.port)
    factory = factory_for(options)
    if options.user:
        protect(server, factory, options.user, options.password)
    server.get_mount_points().add_factory(options.path, factory)
    if not server.attach(None):
        sys.exit(f"cannot listen on port {options.port}")
    loop = GLib.MainLoop()

    def wait_for_parent() -> None:
        sys.stdin.buffer.read()
        loop.quit()

    threading.Thread(target=wait_for_parent, daemon=True).start()
    print(f"ready {server.get_bound_port()}", flush=True)  # noqa: T201 - the caller reads it
    loop.run()


if __name__ == "__main__":
    main()
