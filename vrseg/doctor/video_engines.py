"""What the GPU's video decoders and encoders do, asked in a child process: each question makes a CUDA context."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from vrseg.doctor.finding import Finding
from vrseg.encode.nvenc_sessions import reason_of

_TO_DECODE = {
    "h264": ("H264", 8),
    "hevc": ("HEVC", 8),
    "hevc 10 bit": ("HEVC", 10),
    "vp9": ("VP9", 8),
    "av1": ("AV1", 8),
}
_TO_ENCODE = ("h264", "hevc", "av1")
_TIMEOUT_S = 60


def look_at_video_engines() -> list[Finding]:
    """Report the codecs of the first GPU's NVDEC and NVENC; nothing where PyNvVideoCodec is not installed."""
    command = [sys.executable, "-m", "vrseg.doctor.video_engines"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603 - our own words
    except subprocess.TimeoutExpired:
        return [Finding("NVDEC", "optional", f"the driver did not answer within {_TIMEOUT_S} s")]
    if done.returncode != 0:
        said = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        return [Finding("NVDEC", "optional", f"cannot be asked: {said}")]
    return findings_from(json.loads(done.stdout.strip().rpartition("\n")[2]))


def findings_from(answers: dict[str, Any]) -> list[Finding]:
    """Put into words what the child process said."""
    if "library" in answers:
        if answers["library"] is None:
            return []
        return [Finding("NVDEC", "optional", f"PyNvVideoCodec does not load: {answers['library']}")]
    decodes = ", ".join(answers["decodes"])
    decoder = (
        Finding("NVDEC", "ok", f"{decodes}; the rest is decoded in software")
        if decodes
        else Finding("NVDEC", "optional", "decodes nothing here; video is decoded in software")
    )
    if answers["encodes"]:
        return [decoder, Finding("NVENC", "ok", ", ".join(answers["encodes"]))]
    refusal = answers["refusal"]
    if reason_of(refusal, free_bytes=None) == "absent":
        return [decoder, Finding("NVENC", "optional", "this GPU has none; video is encoded in software")]
    return [decoder, Finding("NVENC", "optional", f"does not start: {refusal}; video is encoded in software")]


def _ask() -> dict[str, Any]:
    try:
        import PyNvVideoCodec  # noqa: PLC0415 - it is what is being looked at: it may be broken
    except ModuleNotFoundError:
        return {"library": None}
    except (ImportError, RuntimeError) as error:
        return {"library": _first_line(error)}
    failures = (PyNvVideoCodec.PyNvVCException, PyNvVideoCodec.PyNvVCExceptionUnsupported)
    decodes, encodes, refusal = [], [], ""
    for name, (codec, bit_depth) in _TO_DECODE.items():
        try:
            caps = PyNvVideoCodec.GetDecoderCaps(
                gpuid=0,
                codec=getattr(PyNvVideoCodec.cudaVideoCodec, codec),
                chromaformat=getattr(PyNvVideoCodec.cudaVideoChromaFormat, "420"),
                bitdepth=bit_depth,
            )
        except failures:
            continue
        if caps["supported"]:
            decodes.append(name)
    for codec in _TO_ENCODE:
        try:
            PyNvVideoCodec.GetEncoderCaps(gpuid=0, codec=codec)
        except failures as error:
            refusal = refusal or " ".join(str(error).split())
        else:
            encodes.append(codec)
    return {"decodes": decodes, "encodes": encodes, "refusal": refusal}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_ask()) + "\n")
