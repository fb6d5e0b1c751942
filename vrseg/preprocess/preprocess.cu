// Frames of any size, turned or not, become one tensor: resized, coloured and normalised in one pass over each.
//
// Along each axis a pixel of the result is the mean of a box of the source: as wide as the scale when the frame shrinks
// (area), and one sample wide when it grows (which is bilinear). Luma and chroma are averaged from their own planes.
// Columns come first: a thread reads whole words of a row, never single samples, and multiplies them with fixed-point
// weights, two or four samples to an instruction. Its weights serve all rows of a strip of pixels, one below the other.

const int MAX_SLOTS = 16;         // frames of one launch
const int STRIP = 4;              // pixels of a thread, one below the other
const float ONE = 16384.0f;       // the sum of the weights of a box along a row

// Where a frame lies in the tensor. Coordinates are those of the frame as coded: a turned one is only written turned.
// Mirrored, like Job, in cuda.py.
struct Slot {
    Picture picture;
    u64 out;                      // address of the frame's part of the tensor
    int width, height;            // of that part
    int left, top, right, bottom; // of the picture in it; padding is around
    int origin, step_x, step_y;   // elements from `out` to the first pixel, and on to the next ones
    float ratio_x, ratio_y;       // samples of luma to a pixel
};

struct Job {
    Slot slots[MAX_SLOTS];
    float factor[3], offset[3];   // number in the tensor = level * factor + offset; red, green, blue
    int channel[3];               // elements from a pixel to its red, green and blue
    float pad;                    // level around the picture
};

// The part of an axis, in samples, that a pixel is the mean of: from `start` to `end`.
struct Box { float start, end, inverse; };

// It is moved into the plane where it would reach beyond: there the outermost sample is all that it sees.
__device__ __forceinline__ Box box_of(int pixel, float ratio, int size) {
    const float width = fmaxf(ratio, 1.0f);
    const float start = ((float)pixel + 0.5f) * ratio - 0.5f * width;
    const float moved = fmaxf(fminf(start, (float)size - width), 0.0f);
    return {moved, moved + width, __fdividef(1.0f, width)};
}

__device__ __forceinline__ float share_before(const Box& box, float sample) {
    return __saturatef(sample * box.inverse - box.start * box.inverse);
}

// Weights of the samples from `first` on, two to a word; those before `fresh` get none. Rounded so that the sum is ONE.
template <int WORDS>
__device__ __forceinline__ void weigh(const Box& box, int first, int fresh, u32 (&weights)[WORDS]) {
    int before = __float2int_rn(ONE * share_before(box, (float)fresh));
    const float from = (float)first;
#pragma unroll
    for (int i = 0; i < WORDS; ++i) {
        const int middle = max(before, __float2int_rn(ONE * share_before(box, from + (float)(2 * i + 1))));
        const int after = max(middle, __float2int_rn(ONE * share_before(box, from + (float)(2 * i + 2))));
        weights[i] = (u32)(middle - before) | (u32)(after - middle) << 16;
        before = after;
    }
}

// Sums of a row, ONE (and 256 with 16-bit samples) times too large.
__device__ __forceinline__ void add(float& sum, float weight, float more) { sum += weight * more; }
__device__ __forceinline__ void add(Chroma& sum, float weight, Chroma more) {
    sum.cb += weight * more.cb;
    sum.cr += weight * more.cr;
}

// A plane of a picture: how many samples (or pairs) are weighed at once, and how many rows are read at once; most boxes
// need no more new ones, when 1080 lines become about 512.
template <int SAMPLE_BYTES> struct LumaPlane {
    typedef float Sum;
    static const int SHRUNK = 1, TAPS = 8, TAP_BYTES = SAMPLE_BYTES, ROWS = 2;
    static __device__ __forceinline__ u64 address(const Picture& picture) { return picture.luma; }

    static __device__ __forceinline__ float sum(const u32 (&words)[2], const u32 (&weights)[4]) {
        u32 sum = __dp2a_lo(weights[0], words[0], 0u);
        sum = __dp2a_hi(weights[1], words[0], sum);
        sum = __dp2a_lo(weights[2], words[1], sum);
        return (float)__dp2a_hi(weights[3], words[1], sum);
    }

    static __device__ __forceinline__ float sum(const u32 (&words)[4], const u32 (&weights)[4]) {
        u32 sum = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i)
            sum += (words[i] & 0xffff) * (weights[i] & 0xffff) + (words[i] >> 16) * (weights[i] >> 16);
        return (float)sum;
    }
};

template <int SAMPLE_BYTES> struct ChromaPlane {
    typedef Chroma Sum;
    static const int SHRUNK = 2, TAPS = 4, TAP_BYTES = 2 * SAMPLE_BYTES, ROWS = 1;
    static __device__ __forceinline__ u64 address(const Picture& picture) { return picture.chroma; }

    static __device__ __forceinline__ Chroma sum(const u32 (&words)[2], const u32 (&weights)[2]) {
        const u32 cb = __byte_perm(words[0], words[1], 0x6420), cr = __byte_perm(words[0], words[1], 0x7531);
        return {(float)__dp2a_hi(weights[1], cb, __dp2a_lo(weights[0], cb, 0u)),
                (float)__dp2a_hi(weights[1], cr, __dp2a_lo(weights[0], cr, 0u))};
    }

    static __device__ __forceinline__ Chroma sum(const u32 (&words)[4], const u32 (&weights)[2]) {
        u32 cb = 0, cr = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const u32 weight = i % 2 ? weights[i / 2] >> 16 : weights[i / 2] & 0xffff;
            cb += (words[i] & 0xffff) * weight;
            cr += (words[i] >> 16) * weight;
        }
        return {(float)cb, (float)cr};
    }
};

// Part of a row, as words. Where those may be misaligned, or reach beyond the row, it is read in pairs of bytes.
template <bool WHOLE, int WORDS>
__device__ __forceinline__ void read(u64 at, u64 last_pair, u32 (&words)[WORDS]) {
#pragma unroll
    for (int i = 0; i < WORDS; ++i) {
        if (WHOLE) words[i] = __ldg((const u32*)at + i);
        else words[i] = __ldg((const u16*)min(at + 4 * i, last_pair)) |
                        (u32)__ldg((const u16*)min(at + 4 * i + 2, last_pair)) << 16;
    }
}

// Adds to `sums` the boxes of a strip of pixels, from (x, y) of the picture down.
template <typename Plane, bool WHOLE>
__device__ __forceinline__ void add_boxes(const Slot& slot, int x, int y, typename Plane::Sum (&sums)[STRIP]) {
    const Picture& picture = slot.picture;
    const int width = picture.width / Plane::SHRUNK, height = picture.height / Plane::SHRUNK, pitch = picture.pitch;
    const float ratio_y = slot.ratio_y / Plane::SHRUNK;
    const Box columns = box_of(x, slot.ratio_x / Plane::SHRUNK, width);
    const int end = min(__float2int_ru(columns.end), width);
    // One round for frames up to four times as wide as their picture here.
    for (int fresh = __float2int_rd(columns.start); fresh < end;) {
        const int aligned = fresh & -max(4 / Plane::TAP_BYTES, 1);
        const int first = max(min(aligned, width - Plane::TAPS), 0);
        u32 weights[Plane::TAPS / 2];
        weigh(columns, first, fresh, weights);
        const u64 plane = Plane::address(picture), start = plane + first * Plane::TAP_BYTES;
        typename Plane::Sum sum = {};  // of the last row; the next box often begins in it
        int summed = -1;
#pragma unroll
        for (int k = 0; k < STRIP; ++k) {
            const Box rows = box_of(y + k, ratio_y, height);
            const int last = min(__float2int_ru(rows.end), height) - 1;
            int row = __float2int_rd(rows.start);
            if (row == summed) add(sums[k], share_before(rows, (float)++row), sum);
#pragma unroll 1
            for (float before = share_before(rows, (float)row); row <= last; row += Plane::ROWS) {
                u32 words[Plane::ROWS][Plane::TAPS * Plane::TAP_BYTES / 4];
#pragma unroll
                for (int i = 0; i < Plane::ROWS; ++i) {
                    const u32 skipped = min(row + i, last) * pitch;
                    read<WHOLE>(start + skipped, plane + skipped + pitch - 2, words[i]);
                }
#pragma unroll
                for (int i = 0; i < Plane::ROWS; ++i) {
                    const float after = share_before(rows, (float)(row + i + 1));
                    sum = Plane::sum(words[i], weights);
                    add(sums[k], after - before, sum);
                    before = after;
                }
            }
            summed = last;
        }
        fresh = first + Plane::TAPS;
    }
}

__device__ __forceinline__ void put(u8* out, float value) { *out = (u8)value; }
__device__ __forceinline__ void put(u16* out, float value) { *out = half_of(value); }
__device__ __forceinline__ void put(float* out, float value) { *out = value; }

template <typename Element>
__device__ __forceinline__ void store(const Job& job, Element* out, const Rgb& color) {
    const float levels[3] = {color.r, color.g, color.b};
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        // Networks were trained on pictures of 8 bits: whole levels.
        const float level = rintf(fminf(fmaxf(levels[i], 0.0f), 255.0f));
        put(out + job.channel[i], level * job.factor[i] + job.offset[i]);
    }
}

template <int SAMPLE_BYTES, bool WHOLE>
__device__ __forceinline__ void add_strip(const Slot& slot, int x, int y, float (&luma)[STRIP],
                                          Chroma (&chroma)[STRIP]) {
    add_boxes<LumaPlane<SAMPLE_BYTES>, WHOLE>(slot, x, y, luma);
    add_boxes<ChromaPlane<SAMPLE_BYTES>, WHOLE>(slot, x, y, chroma);
}

template <typename Element> __device__ __forceinline__ void fill(const Job& job) {
    const Slot& slot = job.slots[blockIdx.z];
    const Picture& picture = slot.picture;
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = (blockIdx.y * blockDim.y + threadIdx.y) * STRIP;
    if (x >= slot.width || y >= slot.height) return;
    const int from_left = x - slot.left, from_top = y - slot.top;
    const bool seen = from_left >= 0 && x < slot.right && from_top + STRIP > 0 && y < slot.bottom;
    float luma[STRIP] = {};
    Chroma chroma[STRIP] = {};
    if (seen) {
        const bool whole = picture.pitch % 4 == 0 && picture.width >= LumaPlane<1>::TAPS;
        if (picture.sample_bytes == 1 && whole) add_strip<1, true>(slot, from_left, from_top, luma, chroma);
        else if (picture.sample_bytes == 1) add_strip<1, false>(slot, from_left, from_top, luma, chroma);
        else if (whole) add_strip<2, true>(slot, from_left, from_top, luma, chroma);
        else add_strip<2, false>(slot, from_left, from_top, luma, chroma);
    }
    const float unit = picture.sample_bytes == 1 ? 1.0f / ONE : 1.0f / (256.0f * ONE);
#pragma unroll
    for (int k = 0; k < STRIP; ++k) {
        if (y + k >= slot.height) break;
        const bool inside = seen && from_top + k >= 0 && y + k < slot.bottom;
        const Rgb color = inside ? rgb_of(picture, unit * luma[k], {unit * chroma[k].cb, unit * chroma[k].cr})
                                 : Rgb{job.pad, job.pad, job.pad};
        store(job, (Element*)slot.out + (slot.origin + x * slot.step_x + (y + k) * slot.step_y), color);
    }
}

extern "C" __global__ void __launch_bounds__(256) preprocess_uint8(const __grid_constant__ Job job) {
    fill<u8>(job);
}

extern "C" __global__ void __launch_bounds__(256) preprocess_float16(const __grid_constant__ Job job) {
    fill<u16>(job);
}

extern "C" __global__ void __launch_bounds__(256) preprocess_float32(const __grid_constant__ Job job) {
    fill<float>(job);
}
