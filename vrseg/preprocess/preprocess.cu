// Frames of any size, turned or not, become one tensor: resized, coloured and normalised in one pass over each.
//
// Along each axis a pixel of the result is the mean of a box of the source: as wide as the scale when the frame shrinks
// (area), and one sample wide when it grows (which is bilinear). Luma and chroma are averaged from their own planes.
// Columns come first: a thread reads whole words of a row, never single samples, and multiplies them with fixed-point
// weights, two samples to an instruction. It does so for a few columns and a strip of rows, which share the rest.

const int MAX_SLOTS = 16;         // frames of one launch
const int COLUMNS = 2;            // of a thread, as many columns apart as a block has threads in a row
const int STRIP = 8;              // pixels of a thread in a column, one below the other
const float ONE = 16384.0f;       // the sum of the weights of a box along a row

// How one axis of a plane becomes the picture's: the box of pixel i starts at i * ratio + start.
struct Axis { float ratio, start, width, inverse_width; };

// Where a frame lies in the tensor. Coordinates are those of the frame as coded: a turned one is only written turned.
// Mirrored, like Axis and Job, in cuda.py.
struct Slot {
    Picture picture;
    u64 out;                      // address of the frame's part of the tensor
    int width, height;            // of that part
    int left, top, right, bottom; // of the picture in it; padding is around
    int origin, step_x, step_y;   // elements from `out` to the first pixel, and on to the next ones
    Axis luma_x, luma_y, chroma_x, chroma_y;
};

struct Job {
    Slot slots[MAX_SLOTS];
    float factor[3], offset[3];   // number in the tensor = level * factor + offset; red, green, blue
    int channel[3];               // elements from a pixel to its red, green and blue
    float pad;                    // level around the picture
};

#include "boxes.cuh"

// What is written is next read by another kernel.
__device__ __forceinline__ void put(u8* out, float value) { __stcg(out, (u8)value); }
__device__ __forceinline__ void put(u16* out, float value) { __stcg(out, half_of(value)); }
__device__ __forceinline__ void put(float* out, float value) { __stcg(out, value); }

template <typename Element>
__device__ __forceinline__ void store(const Job& job, const Slot& slot, int x, int y, const Rgb& color) {
    const float levels[3] = {color.r, color.g, color.b};
    const int element = slot.origin + x * slot.step_x + y * slot.step_y;
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        // Networks were trained on pictures of 8 bits: whole levels.
        const float level = rintf(fminf(fmaxf(levels[i], 0.0f), 255.0f));
        const u32 at = (element + job.channel[i]) * sizeof(Element);
        put((Element*)(slot.out + at), level * job.factor[i] + job.offset[i]);
    }
}

template <typename Element>
__device__ __forceinline__ void fill_padding(const Job& job, const Slot& slot, int x, int y) {
    for (int column = 0; column < COLUMNS; ++column) {
        const int left = x + column * (int)blockDim.x;
        const bool beside = left < slot.left || left >= slot.right;
        for (int at = y; left < slot.width && at < min(y + STRIP, slot.height); ++at)
            if (beside || at < slot.top || at >= slot.bottom)
                store<Element>(job, slot, left, at, {job.pad, job.pad, job.pad});
    }
}

// Pixels from (x, y) down, and those of the thread's other columns, as far as they lie in the picture.
template <typename Element, int SAMPLE_BYTES, int ROUNDS>
__device__ __forceinline__ void fill_picture(const Job& job, const Slot& slot, int x, int y) {
    const float unit = SAMPLE_BYTES == 1 ? 1.0f / ONE : 1.0f / (256.0f * ONE);
    View<LumaPlane<SAMPLE_BYTES>, ROUNDS> lumas(slot, x - slot.left);
    View<ChromaPlane<SAMPLE_BYTES>, ROUNDS> chromas(slot, x - slot.left);
    const int end = min(y + STRIP, slot.bottom);
#pragma unroll 1
    for (int at = max(y, slot.top); at < end; ++at) {
        float luma[COLUMNS];
        Chroma chroma[COLUMNS];
        lumas.means(at - slot.top, luma);
        chromas.means(at - slot.top, chroma);
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column) {
            const Chroma mean = {unit * chroma[column].cb, unit * chroma[column].cr};
            const Rgb color = rgb_of(slot.picture, unit * luma[column], mean);
            const int left = x + column * (int)blockDim.x;
            if (left >= slot.left && left < slot.right) store<Element>(job, slot, left, at, color);
        }
    }
}

// How many rounds of words hold any box. One of n samples touches n + 1, and three may precede it in its first word.
__device__ __forceinline__ int rounds_of(const Slot& slot) {
    const int taps = LumaPlane<1>::TAPS;
    if (slot.picture.pitch % 4) return 0;
    if (slot.luma_x.ratio <= taps - 4 && slot.picture.width >= taps) return 1;
    return slot.luma_x.ratio <= 2 * taps - 4 && slot.picture.width >= 2 * taps ? 2 : 0;
}

template <typename Element, bool COMMON> __device__ __forceinline__ void fill(const Job& job) {
    const Slot& slot = job.slots[blockIdx.z];
    const int x = blockIdx.x * blockDim.x * COLUMNS + threadIdx.x;
    const int y = (blockIdx.y * blockDim.y + threadIdx.y) * STRIP;
    if (slot.right - slot.left < slot.width || slot.bottom - slot.top < slot.height)
        fill_padding<Element>(job, slot, x, y);
    const int rounds = COMMON ? 1 : rounds_of(slot);
    if (COMMON || slot.picture.sample_bytes == 1) {
        if (rounds == 1) fill_picture<Element, 1, 1>(job, slot, x, y);
        else if (rounds == 2) fill_picture<Element, 1, 2>(job, slot, x, y);
        else fill_picture<Element, 1, 0>(job, slot, x, y);
    } else {
        if (rounds == 1) fill_picture<Element, 2, 1>(job, slot, x, y);
        else if (rounds == 2) fill_picture<Element, 2, 2>(job, slot, x, y);
        else fill_picture<Element, 2, 0>(job, slot, x, y);
    }
}

// Pictures of 8 bits, at most four times as wide as in the tensor, their rows made of whole words: fewer registers.
extern "C" __global__ void common_uint8(const __grid_constant__ Job job) { fill<u8, true>(job); }
extern "C" __global__ void common_float16(const __grid_constant__ Job job) { fill<u16, true>(job); }
extern "C" __global__ void common_float32(const __grid_constant__ Job job) { fill<float, true>(job); }

extern "C" __global__ void any_uint8(const __grid_constant__ Job job) { fill<u8, false>(job); }
extern "C" __global__ void any_float16(const __grid_constant__ Job job) { fill<u16, false>(job); }
extern "C" __global__ void any_float32(const __grid_constant__ Job job) { fill<float, false>(job); }
