"""HTTP Live Streaming into a folder: fragmented MP4 pieces and a playlist that grows, by FFmpeg's own muxer."""

from __future__ import annotations

import math
import re
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Never

import av
import structlog
from av.error import FFmpegError

from vrseg.av_errors import describe, output_error
from vrseg.errors import ConfigError, MediaError
from vrseg.sink.muxer import Muxer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from vrseg.frame import EncodedPacket

PIECE_S = 2.0
"""Length of a piece, unless the configuration says otherwise."""
KEEP_S = 30.0
"""How far the playlist reaches back, unless the configuration says otherwise."""
CODECS = frozenset({"h264", "hevc", "av1"})
# A player may still be loading what has just left the playlist.
_PIECES_BEHIND = 3
_CODEC_TAGS = {"hevc": "hvc1"}  # Apple's players take no other

_TOKEN = re.compile(r"[0-9a-f]{8}")
_SEQUENCE = re.compile(r"^#EXT-X-MEDIA-SEQUENCE:(\d+)", re.MULTILINE)
_END = "#EXT-X-ENDLIST\n"

_log = structlog.get_logger(__name__)


class HlsSink:
    """Stage[EncodedPacket, Never]: `NAME.m3u8`, and beside it `NAME-TOKEN-init.mp4` and `NAME-TOKEN-NUMBER.m4s`.

    Each life has a token of its own, drawn by lot and noted in `.NAME.m3u8.written`: what bears it is ours, and is
    deleted, by FFmpeg while the life lasts, later by the lives that come after. The playlist's numbers go on.

    Args:
        playlist: ends in .m3u8.
        codec: `h264`, `hevc` or `av1`.
        piece_s: length of a piece; it lasts until the first key frame after this.
        keep_s: how far the playlist reaches back.

    Raises:
        ConfigError: from `open`: the folder cannot be written, or somebody else's playlist is there.
        MediaError: from `process` and `flush`: the disk is full, or the folder went away.
    """

    def __init__(self, playlist: Path, *, codec: str, piece_s: float = PIECE_S, keep_s: float = KEEP_S) -> None:
        self._playlist = playlist
        self._codec = codec
        self._piece_s = piece_s
        self._keep_s = keep_s
        self._index = playlist.with_name(f".{playlist.name}.written")
        self._token = secrets.token_hex(4)
        self._former: list[str] = []
        self._began_s = 0.0
        self._number = 0
        self._muxer: Muxer | None = None

    @property
    def up(self) -> bool:
        return self._muxer is not None

    def open(self) -> None:
        folder = self._playlist.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._former = self._read_index()
            self._number = self._next_number()
            self._write_index([*self._former, self._token])
        except FileExistsError as error:
            raise ConfigError(f"{folder}: this is a file, where a folder is needed: choose another path") from error
        except OSError as error:
            raise ConfigError(str(output_error(error, str(self._playlist), live=False))) from error

    def ready(self) -> bool:
        return True

    def process(self, packet: EncodedPacket, /) -> Iterable[Never]:
        try:
            if self._muxer is None:
                self._muxer = self._start(packet)
            self._muxer.write(packet)
            if packet.key:
                self._delete_former()
        except (FFmpegError, OSError) as error:
            raise self._failed(error) from error
        return ()

    def suspend(self) -> None:
        muxer, self._muxer = self._muxer, None
        if muxer is not None:
            try:
                muxer.finish()
            except (FFmpegError, OSError) as error:
                raise self._failed(error) from error

    def flush(self) -> Iterable[Never]:
        began = self._muxer is not None
        self.suspend()
        if began:
            try:
                self._end_playlist()
            except OSError as error:
                raise self._failed(error) from error
        return ()

    def close(self) -> None:
        if self._muxer is not None:
            self._muxer.abandon()
            self._muxer = None

    def _start(self, first: EncodedPacket) -> Muxer:
        self._began_s = time.monotonic()
        stem = f"{self._playlist.stem}-{self._token}"
        flags = "delete_segments+independent_segments+program_date_time+temp_file+omit_endlist"
        options = {
            "hls_segment_type": "fmp4",
            "hls_time": f"{self._piece_s:g}",
            "hls_list_size": str(max(3, math.ceil(self._keep_s / self._piece_s))),
            "hls_delete_threshold": str(_PIECES_BEHIND),
            "hls_fmp4_init_filename": f"{stem}-init.mp4",
            "hls_segment_filename": f"{self._playlist.parent}/{stem}-%d.m4s",
            "hls_flags": flags + ("+discont_start" if self._number else ""),
            "start_number": str(self._number),
        }
        container = av.open(f"file:{self._playlist}", "w", format="hls", options=options)
        return Muxer(container, first, codec_tag=_CODEC_TAGS.get(self._codec))

    def _failed(self, error: Exception) -> MediaError:
        return MediaError(f"{self._playlist}: {describe(error)}")

    def _read_index(self) -> list[str]:
        if not self._index.exists():
            return []
        return [
            line for line in self._index.read_text(encoding="ascii", errors="replace").split() if _TOKEN.fullmatch(line)
        ]

    def _write_index(self, tokens: list[str]) -> None:
        fresh = self._index.with_name(f"{self._index.name}.new")
        fresh.write_text("".join(f"{token}\n" for token in tokens), encoding="ascii")
        fresh.replace(self._index)

    def _next_number(self) -> int:
        """Say which number follows those of the playlist that is there, if it is ours."""
        if not self._playlist.exists():
            return 0
        text = self._playlist.read_text(encoding="utf-8", errors="replace")
        if text and not any(f"{self._playlist.stem}-{token}-" in text for token in self._former):
            raise ConfigError(f"{self._playlist}: this playlist was made by somebody else: remove it, or choose a name")
        first = _SEQUENCE.search(text)
        return int(first[1]) + text.count("#EXTINF:") if first else 0

    def _end_playlist(self) -> None:
        """Tell players that nothing more will come."""
        fresh = self._playlist.with_name(f"{self._playlist.name}.tmp")
        fresh.write_text(self._playlist.read_text(encoding="utf-8") + _END, encoding="utf-8")
        fresh.replace(self._playlist)

    def _delete_former(self) -> None:
        """Delete pieces of former lives, once no player can be looking at their playlist any more."""
        if not self._former or time.monotonic() - self._began_s < self._keep_s:
            return
        for token in self._former:
            for path in self._playlist.parent.glob(f"{_literal(self._playlist.stem)}-{token}-*"):
                with suppress(FileNotFoundError):
                    path.unlink()
        _log.info("pieces of former runs deleted", playlist=str(self._playlist), runs=len(self._former))
        self._former = []
        self._write_index([self._token])


def _literal(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)
