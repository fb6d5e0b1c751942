from __future__ import annotations

import shutil

import pytest
from plugins.limits import no_more_files

from vrseg.errors import SourceRefusedError
from vrseg.source.srt import SrtSource


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg program")
def test_a_program_that_cannot_be_started_is_tried_again_like_a_camera_that_is_away() -> None:
    source = SrtSource("srt://127.0.0.1:9?passphrase=geheimgeheim", open_timeout_s=1.0, stall_timeout_s=1.0)
    with no_more_files(), pytest.raises(SourceRefusedError, match=r"(?i)no process.*too many open files") as caught:
        source.open()
    source.close()
    assert "geheim" not in str(caught.value)
