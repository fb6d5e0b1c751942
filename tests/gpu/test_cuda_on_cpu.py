"""The harness that runs kernels on the CPU must itself be right, and refuse what a GPU would."""

from __future__ import annotations

import numpy as np
import pytest
from plugins.cuda_on_cpu import address_of, kernel_names, launch_on_cpu

from vrseg.gpu.kernels import source_of
from vrseg.gpu.picture import PICTURE

SCALE = """
struct Job { u64 out; int n; float factor; };
extern "C" __global__ void scale(Job job, const float* in) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < job.n) ((float*)job.out)[i] = in[i] * job.factor;
}
extern "C" __global__ void __launch_bounds__(64) tally(const int* in, int* sum, float* most) {
    atomicAdd(sum, in[threadIdx.y]);
    atomicMax((int*)most, __float_as_int((float)in[threadIdx.y]));
}
extern "C" __global__ void meet(int* out) { __syncwarp(); *out = 1; }
extern "C" __global__ void sum(const int* in, int* out) {
    __shared__ int held[64];
    held[63 - threadIdx.x] = in[threadIdx.x];
    for (int half = 32; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) held[threadIdx.x] += held[threadIdx.x + half];
    }
    if (threadIdx.x == 0) out[blockIdx.x] = held[0];
}
extern "C" __global__ void leave_early(int* out) {
    if (threadIdx.x == 1) return;
    __syncthreads();
    out[0] = 1;
}
extern "C" __global__ void halves(const float* in, u16* out, float* back) {
    out[threadIdx.x] = half_of(in[threadIdx.x]);
    back[threadIdx.x] = of_half(out[threadIdx.x]);
}
extern "C" __global__ void colour(const Picture picture, float* out) {
    const Chroma chroma = chroma_at(picture, 0, 0);
    out[0] = luma_at(picture, 1, 0); out[1] = chroma.cb; out[2] = chroma.cr;
}
"""


@pytest.fixture(scope="module")
def source() -> str:
    common = source_of("vrseg.gpu", "picture.cuh").split('#line 1 "picture.cuh"')[-1]
    return f"{common}\n{SCALE}"


def test_every_thread_of_every_block_runs_once(source: str) -> None:
    job = np.dtype([("out", np.uint64), ("n", np.int32), ("factor", np.float32)], align=True)
    values, out = np.arange(1000, dtype=np.float32), np.zeros(1000, np.float32)
    argument = np.array([(address_of(out), 1000, 2.5)], job)
    launch_on_cpu(source, "scale", (8, 1, 1), (128, 1, 1), (argument, address_of(values)))
    np.testing.assert_array_equal(out, values * 2.5)


def test_atomics_add_up(source: str) -> None:
    values, total, most = np.arange(48, dtype=np.int32), np.zeros(1, np.int32), np.zeros(1, np.float32)
    launch_on_cpu(source, "tally", (2, 1, 1), (1, 48, 1), [address_of(one) for one in (values, total, most)])
    assert (total[0], most[0]) == (2 * values.sum(), 47)


def test_numbers_of_16_bits_round_as_numpy_does(source: str) -> None:
    values = np.array([1 / 3, -2049.0, 2051.0, 65504.0, 1e6, 1e-7, 6e-5, -0.1], np.float32)
    out, back = np.zeros(8, np.uint16), np.zeros(8, np.float32)
    launch_on_cpu(source, "halves", (1, 1, 1), (8, 1, 1), [address_of(one) for one in (values, out, back)])
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
    np.testing.assert_array_equal(out.view(np.float16), expected)
    np.testing.assert_array_equal(back, expected.astype(np.float32))


def test_a_structure_by_value_arrives_field_by_field(source: str) -> None:
    luma, chroma, out = np.array([0, 80], np.uint8), np.array([120, 140], np.uint8), np.zeros(3, np.float32)
    fields = (address_of(luma), address_of(chroma), 2, 2, 1, 1, 16.0, 1.5, 2.0, -0.5, -1.0, 3.0)
    launch_on_cpu(source, "colour", (1, 1, 1), (1, 1, 1), (np.array([fields], PICTURE), address_of(out)))
    np.testing.assert_array_equal(out, [80, 120, 140])


def test_threads_of_a_block_meet_at_barriers(source: str) -> None:
    values, out = np.arange(64, dtype=np.int32), np.zeros(2, np.int32)
    launch_on_cpu(source, "sum", (2, 1, 1), (64, 1, 1), (address_of(values), address_of(out)))
    assert out.tolist() == [values.sum()] * 2


def test_threads_that_miss_a_barrier_are_found(source: str) -> None:
    out = np.zeros(1, np.int32)
    with pytest.raises(RuntimeError, match="some threads have ended"):
        launch_on_cpu(source, "leave_early", (1, 1, 1), (4, 1, 1), (address_of(out),))


def test_what_a_gpu_would_refuse_or_misread_is_refused(source: str) -> None:
    out = np.zeros(1, np.int32)
    with pytest.raises(RuntimeError, match="meet: __syncwarp"):
        launch_on_cpu(source, "meet", (1, 1, 1), (2, 1, 1), (address_of(out),))
    with pytest.raises(ValueError, match="takes 1 arguments, got 2"):
        launch_on_cpu(source, "meet", (1, 1, 1), (2, 1, 1), (address_of(out), address_of(out)))
    with pytest.raises(ValueError, match="argument 0 has 8 bytes, got 4"):
        launch_on_cpu(source, "meet", (1, 1, 1), (2, 1, 1), (np.int32(3),))
    with pytest.raises(ValueError, match="neither a NumPy scalar"):
        launch_on_cpu(source, "meet", (1, 1, 1), (2, 1, 1), (3,))
    with pytest.raises(ValueError, match="no GPU takes"):
        launch_on_cpu(source, "meet", (1, 1, 1), (2048, 1, 1), (address_of(out),))
    with pytest.raises(ValueError, match="no such kernel"):
        launch_on_cpu(source, "absent", (1, 1, 1), (1, 1, 1), (address_of(out),))


def test_kernels_are_found_with_and_without_launch_bounds(source: str) -> None:
    assert kernel_names(source) == ["scale", "tally", "meet", "sum", "leave_early", "halves", "colour"]
