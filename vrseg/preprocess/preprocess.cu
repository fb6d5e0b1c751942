// Frames of any size, turned or not, become one tensor: resized, coloured and normalised in one pass over each.
//
// Along each axis a pixel of the result is the mean of a box of the source: as wide as the scale when the frame shrinks
// (area), and one sample wide when it grows (which is bilinear). Luma and chroma are averaged from their own planes.
// Columns come first: a thread reads whole words of a row, never single samples, and multiplies them with fixed-point
// weights, two or four samples to an instruction. Its weights serve all rows of a strip of pixels, one below the other.

const int MAX_SLOTS = 16;         // frames of one launch
const int STRIP = 4;              // pixels of a thread, one below the other
const int TAPS = 8;               // samples of luma, or half as many pairs of chroma, that weights are made for at once
const int LUMA_ROWS = 3;          // rows that are read at once, to have many reads in flight: most boxes are as high
const int CHROMA_ROWS = 2;
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
    int element_bytes;            // 1: uint8; 2: float16; 4: float32
    float pad;                    // level around the picture
};

// The part of an axis that a pixel is the mean of, in samples.
struct Box { float start, end, inverse; };

__device__ __forceinline__ Box box_of(int pixel, float ratio) {
    const float width = fmaxf(ratio, 1.0f);
    const float start = ((float)pixel + 0.5f) * ratio - 0.5f * width;
    return {start, start + width, __fdividef(1.0f, width)};
}

__device__ __forceinline__ float share_before(const Box& box, float sample) {
    return __saturatef((sample - box.start) * box.inverse);
}

// The same in fixed point, on an axis of `size` samples: the outermost ones go on for ever.
__device__ __forceinline__ int weight_before(const Box& box, int sample, int size) {
    if (sample <= 0) return 0;
    if (sample >= size) return (int)ONE;
    return __float2int_rn(ONE * share_before(box, (float)sample));
}

// Weights of the samples from `first` on, two to a word; those before `fresh` get none. Rounded so that the sum is ONE.
template <int WORDS>
__device__ __forceinline__ void weigh(const Box& box, int first, int fresh, int size, u32 (&weights)[WORDS]) {
    int before = weight_before(box, fresh, size);
#pragma unroll
    for (int i = 0; i < WORDS; ++i) {
        const int middle = max(before, weight_before(box, first + 2 * i + 1, size));
        const int after = max(middle, weight_before(box, first + 2 * i + 2, size));
        weights[i] = (u32)(middle - before) | (u32)(after - middle) << 16;
        before = after;
    }
}

// Part of a row, as words. Where those may be misaligned, or reach beyond the row, it is read in pairs of bytes.
template <bool WHOLE, int WORDS>
__device__ __forceinline__ void read(u64 row, int at, int row_bytes, u32 (&words)[WORDS]) {
#pragma unroll
    for (int i = 0; i < WORDS; ++i) {
        const int low = at + 4 * i, last = row_bytes - 2;
        if (WHOLE) words[i] = __ldg((const u32*)(row + low));
        else words[i] = __ldg((const u16*)(row + min(low, last))) | __ldg((const u16*)(row + min(low + 2, last))) << 16;
    }
}

// Weighted sums of TAPS samples: two words of 8-bit samples, or four of 16-bit ones.
__device__ __forceinline__ float luma_sum(const u32 (&words)[2], const u32 (&weights)[TAPS / 2]) {
    u32 sum = __dp2a_lo(weights[0], words[0], 0u);
    sum = __dp2a_hi(weights[1], words[0], sum);
    sum = __dp2a_lo(weights[2], words[1], sum);
    return (float)__dp2a_hi(weights[3], words[1], sum);
}

__device__ __forceinline__ float luma_sum(const u32 (&words)[4], const u32 (&weights)[TAPS / 2]) {
    u32 sum = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) sum += (words[i] & 0xffff) * (weights[i] & 0xffff) + (words[i] >> 16) * (weights[i] >> 16);
    return (float)sum;
}

__device__ __forceinline__ Chroma chroma_sum(const u32 (&words)[2], const u32 (&weights)[TAPS / 4]) {
    const u32 cb = __byte_perm(words[0], words[1], 0x6420), cr = __byte_perm(words[0], words[1], 0x7531);
    return {(float)__dp2a_hi(weights[1], cb, __dp2a_lo(weights[0], cb, 0u)),
            (float)__dp2a_hi(weights[1], cr, __dp2a_lo(weights[0], cr, 0u))};
}

__device__ __forceinline__ Chroma chroma_sum(const u32 (&words)[4], const u32 (&weights)[TAPS / 4]) {
    u32 cb = 0, cr = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const u32 weight = i % 2 ? weights[i / 2] >> 16 : weights[i / 2] & 0xffff;
        cb += (words[i] & 0xffff) * weight;
        cr += (words[i] >> 16) * weight;
    }
    return {(float)cb, (float)cr};
}

// Means of the boxes of a strip of pixels, ONE (and 256 with 16-bit samples) times too large.
struct Strip { float luma[STRIP], cb[STRIP], cr[STRIP]; };

template <int SAMPLE_BYTES, bool WHOLE>
__device__ __forceinline__ void add_luma(const Slot& slot, int x, int y, Strip& strip) {
    const int width = slot.picture.width, last_row = slot.picture.height - 1;
    const Box columns = box_of(x, slot.ratio_x);
    const int end = min(__float2int_ru(columns.end), width);
    for (int fresh = max(__float2int_rd(columns.start), 0); fresh < end;) {
        const int first = max(min(fresh & ~3, width - TAPS), 0);
        u32 weights[TAPS / 2];
        weigh(columns, first, fresh, width, weights);
#pragma unroll
        for (int k = 0; k < STRIP; ++k) {
            const Box rows = box_of(y + k, slot.ratio_y);
            for (float row = floorf(rows.start); row < rows.end; row += LUMA_ROWS) {
                u32 words[LUMA_ROWS][2 * SAMPLE_BYTES];
#pragma unroll
                for (int i = 0; i < LUMA_ROWS; ++i) {
                    const int source = min(max((int)row + i, 0), last_row);
                    read<WHOLE>(slot.picture.luma + (u64)(u32)(source * slot.picture.pitch), first * SAMPLE_BYTES,
                         slot.picture.pitch, words[i]);
                }
                float before = share_before(rows, row);
#pragma unroll
                for (int i = 0; i < LUMA_ROWS; ++i) {
                    const float after = share_before(rows, row + (float)(i + 1));
                    strip.luma[k] += (after - before) * luma_sum(words[i], weights);
                    before = after;
                }
            }
        }
        fresh = first + TAPS;
    }
}

template <int SAMPLE_BYTES, bool WHOLE>
__device__ __forceinline__ void add_chroma(const Slot& slot, int x, int y, Strip& strip) {
    const int width = slot.picture.width / 2, last_row = slot.picture.height / 2 - 1;
    const Box columns = box_of(x, 0.5f * slot.ratio_x);
    const int end = min(__float2int_ru(columns.end), width);
    for (int fresh = max(__float2int_rd(columns.start), 0); fresh < end;) {
        const int first = max(min(fresh & ~1, width - TAPS / 2), 0);
        u32 weights[TAPS / 4];
        weigh(columns, first, fresh, width, weights);
#pragma unroll
        for (int k = 0; k < STRIP; ++k) {
            const Box rows = box_of(y + k, 0.5f * slot.ratio_y);
            for (float row = floorf(rows.start); row < rows.end; row += CHROMA_ROWS) {
                u32 words[CHROMA_ROWS][2 * SAMPLE_BYTES];
#pragma unroll
                for (int i = 0; i < CHROMA_ROWS; ++i) {
                    const int source = min(max((int)row + i, 0), last_row);
                    read<WHOLE>(slot.picture.chroma + (u64)(u32)(source * slot.picture.pitch), 2 * first * SAMPLE_BYTES,
                         slot.picture.pitch, words[i]);
                }
                float before = share_before(rows, row);
#pragma unroll
                for (int i = 0; i < CHROMA_ROWS; ++i) {
                    const float after = share_before(rows, row + (float)(i + 1));
                    const Chroma sum = chroma_sum(words[i], weights);
                    strip.cb[k] += (after - before) * sum.cb;
                    strip.cr[k] += (after - before) * sum.cr;
                    before = after;
                }
            }
        }
        fresh = first + TAPS / 2;
    }
}

template <int SAMPLE_BYTES, bool WHOLE>
__device__ __forceinline__ void add(const Slot& slot, int x, int y, Strip& strip) {
    add_luma<SAMPLE_BYTES, WHOLE>(slot, x - slot.left, y - slot.top, strip);
    add_chroma<SAMPLE_BYTES, WHOLE>(slot, x - slot.left, y - slot.top, strip);
}

__device__ __forceinline__ void store(const Job& job, u64 out, int element, const Rgb& color) {
    const float levels[3] = {color.r, color.g, color.b};
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        // Networks were trained on pictures of 8 bits: whole levels.
        const float level = rintf(fminf(fmaxf(levels[i], 0.0f), 255.0f));
        const float value = level * job.factor[i] + job.offset[i];
        const int at = element + job.channel[i];
        if (job.element_bytes == 2) ((u16*)out)[at] = half_of(value);
        else if (job.element_bytes == 4) ((float*)out)[at] = value;
        else ((u8*)out)[at] = (u8)value;
    }
}

extern "C" __global__ void __launch_bounds__(256) preprocess(const __grid_constant__ Job job) {
    const Slot& slot = job.slots[blockIdx.z];
    const Picture& picture = slot.picture;
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = (blockIdx.y * blockDim.y + threadIdx.y) * STRIP;
    if (x >= slot.width || y >= slot.height) return;
    const bool seen = x >= slot.left && x < slot.right && y + STRIP > slot.top && y < slot.bottom;
    Strip strip = {};
    if (seen) {
        const bool whole = picture.pitch % 4 == 0 && picture.width >= TAPS;
        if (picture.sample_bytes == 1) whole ? add<1, true>(slot, x, y, strip) : add<1, false>(slot, x, y, strip);
        else whole ? add<2, true>(slot, x, y, strip) : add<2, false>(slot, x, y, strip);
    }
    const float unit = picture.sample_bytes == 1 ? 1.0f / ONE : 1.0f / (256.0f * ONE);
#pragma unroll
    for (int k = 0; k < STRIP; ++k) {
        if (y + k >= slot.height) break;
        const bool inside = seen && y + k >= slot.top && y + k < slot.bottom;
        const Chroma chroma = {unit * strip.cb[k], unit * strip.cr[k]};
        const Rgb color = inside ? rgb_of(picture, unit * strip.luma[k], chroma) : Rgb{job.pad, job.pad, job.pad};
        store(job, slot.out, slot.origin + x * slot.step_x + (y + k) * slot.step_y, color);
    }
}
