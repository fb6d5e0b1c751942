"""What the CPU tells the preprocessing kernels, without running any."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from plugins.frames import frame_of
from plugins.heads import toy_spec
from plugins.surfaces import noise, surface_of

from vrseg.gpu.picture import PICTURE
from vrseg.preprocess.cuda import JOB, SLOT, Jobs, bytes_touched

if TYPE_CHECKING:
    import av

    from vrseg.gpu.device import Gpu
    from vrseg.models.spec import InputSpec


def target_of(**keys: Any) -> InputSpec:
    usual: dict[str, Any] = {"width": 48, "height": 32, "fit": "stretch", "pad": 114}
    return replace(toy_spec().input, **(usual | keys))


def test_what_is_remembered_of_a_shape_serves_no_other(gpu_on_cpu: Gpu) -> None:
    stream = gpu_on_cpu.new_stream()
    target = target_of(fit="letterbox")
    plain = frame_of(noise(64, 48))
    surface = surface_of(gpu_on_cpu, stream, plain.picture)
    others: list[dict[str, Any]] = [
        {"matrix": "bt601"},
        {"full_range": True},
        {"siting": "left"},
        {"width": 62},
        {"height": 46},
        {"format": "p016"},
    ]
    frames = [replace(plain, picture=replace(surface, **keys)) for keys in ({}, *others)]
    frames += [replace(frames[0], rotation_deg=90), replace(frames[0], width=60), replace(frames[0], height=44)]
    jobs = Jobs(target)
    assert len({jobs.fit(frame).geometry for frame in frames[:8]}) == 8
    for frame in 2 * frames:
        assert jobs.fit(frame) == Jobs(target).fit(frame)


def test_shapes_are_forgotten_when_there_are_many(gpu_on_cpu: Gpu) -> None:
    frame = frame_of(noise(64, 48))
    surface = surface_of(gpu_on_cpu, gpu_on_cpu.new_stream(), frame.picture)
    jobs = Jobs(target_of())
    first = jobs.fit(replace(frame, picture=surface))
    assert jobs.fit(replace(frame, picture=surface)) is first
    for width in range(2, 400, 2):
        jobs.fit(replace(frame, picture=replace(surface, width=width)))
    assert jobs.fit(replace(frame, picture=surface)) == first
    assert jobs.fit(replace(frame, picture=surface)) is not first


def test_a_job_of_one_batch_is_not_written_again_by_the_next(gpu_on_cpu: Gpu) -> None:
    frame = frame_of(noise(64, 48))
    frame = replace(frame, picture=surface_of(gpu_on_cpu, gpu_on_cpu.new_stream(), frame.picture))
    jobs = Jobs(target_of())
    first, second = (list(jobs.launches([frame.picture], [jobs.fit(frame)], address)) for address in (512, 1024))
    assert [int(launch.job["slots"]["out"][0, 0]) for launch in first + second] == [512, 1024]
    assert not first[0].job.flags.writeable


def test_common_pictures_take_the_lean_kernel_and_others_any(gpu_on_cpu: Gpu) -> None:
    stream = gpu_on_cpu.new_stream()

    def kernel(picture: av.VideoFrame, **keys: Any) -> str:
        target = target_of(dtype="float16", **keys)
        frame = replace(frame_of(picture), picture=surface_of(gpu_on_cpu, stream, picture))
        jobs = Jobs(target)
        (launch,) = jobs.launches([frame.picture], [jobs.fit(frame)], 0)
        return launch.kernel

    assert kernel(noise(192, 96)) == "common_float16"
    assert kernel(noise(196, 96)) == "wide_float16"  # more than four times as wide
    assert kernel(noise(580, 96)) == "any_float16"  # more than twelve times
    assert kernel(noise(190, 96)) == "any_float16"  # rows that are no whole words
    assert kernel(noise(4, 96)) == "any_float16"
    assert kernel(noise(192, 96, deep=True)) == "any_float16"


def test_the_structure_fits_into_the_parameters_of_a_kernel() -> None:
    assert JOB.itemsize < 4000
    assert SLOT.itemsize % 8 == 0
    assert SLOT.fields is not None
    assert SLOT.fields["picture"][0] == PICTURE


def test_bytes_touched_are_each_sample_once_and_each_number_once(gpu_on_cpu: Gpu) -> None:
    surfaces = [surface_of(gpu_on_cpu, gpu_on_cpu.new_stream(), noise(64, 48, deep=deep)) for deep in (False, True)]
    target = target_of(dtype="float16")
    assert bytes_touched(surfaces, target) == 64 * 48 * 3 // 2 * 3 + 2 * (48 * 32 * 3 * 2)
