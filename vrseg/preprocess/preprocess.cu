// Frames of any size, turned or not, become one tensor: resized, coloured and normalised in one pass over each.
//
// Along each axis a pixel of the result is the mean of a box of the source: as wide as the scale when the frame shrinks
// (area), and one sample wide when it grows (which is bilinear). Luma and chroma are averaged from their own planes.
// Columns come first: a thread reads whole words of a row, never single samples, and multiplies them with fixed-point
// weights, two samples to an instruction. It does so for a few columns and a strip of rows, which share the rest.

const int MAX_SLOTS = 16;         // frames of one launch
const int COLUMNS = 2;            // of a thread: neighbours, or (kernels named any_) a row of the block's threads apart
const int STRIP = 8;              // pixels of a thread in a column, one below the other
const int WIDE = 32 * COLUMNS, TALL = 8 * STRIP; // pixels of a block of the quick kernels
// The sum of the weights of a box along a row: the most that 16 bits hold. Sums of 8-bit samples are exact as floats.
const float ONE = 65535.0f;

// How one axis of a plane becomes the picture's: the box of pixel i starts at i * ratio + start.
struct Axis { float ratio, start, width, inverse_width; };

// Where a frame lies in the tensor. Coordinates are those of the frame as coded: a turned one is only written turned.
// Mirrored, like Axis and Job, in cuda.py.
struct Slot {
    u64 out;                      // address of the frame's part of the tensor
    Picture picture;
    int width, height;            // of that part
    int left, top, right, bottom; // of the picture in it; padding is around
    int origin, step_x, step_y;   // elements from `out` to the first pixel, and on to the next ones
    Axis luma_x, luma_y, chroma_x, chroma_y;
};

struct Job {
    Slot slots[MAX_SLOTS];
    float factor[3], offset[3];   // number in the tensor = part of white * factor + offset; red, green, blue
    float pad[3];                 // numbers around the picture
    int channel[3];               // elements from a pixel to its red, green and blue
};

#include "boxes.cuh"

// The compiler would rather read a parameter again than keep it, but reading one at a computed place is slow.
#ifdef __CUDACC__
__device__ __forceinline__ int held(int v) { asm volatile("" : "+r"(v)); return v; }
__device__ __forceinline__ float held(float v) { asm volatile("" : "+f"(v)); return v; }
__device__ __forceinline__ u64 held(u64 v) { asm volatile("" : "+l"(v)); return v; }
__device__ __forceinline__ u64 wide_mad(u32 a, u32 b, u64 c) {
    u64 sum;
    asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(sum) : "r"(a), "r"(b), "l"(c));
    return sum;
}
// a * b + c, held between 0 and 1, in one instruction.
__device__ __forceinline__ float part_of(float a, float b, float c) {
    float sum;
    asm("fma.rn.ftz.sat.f32 %0, %1, %2, %3;" : "=f"(sum) : "f"(a), "f"(b), "f"(c));
    return sum;
}
#else
template <typename T> T held(T v) { return v; }
inline u64 wide_mad(u32 a, u32 b, u64 c) { return c + (u64)a * b; }
inline float part_of(float a, float b, float c) { return __saturatef(fmaf(a, b, c)); }
#endif

// Of a thread, in its block.
__device__ __forceinline__ int column_of(int column) { return COLUMNS * threadIdx.x + column; }

#include "walk.cuh"

// From sums along rows and columns to a pixel's red, green and blue, with all that is constant put together.
struct Color {
    float luma, red_cr, green_cb, green_cr, blue_cb, red, green, blue;

    __device__ __forceinline__ Color(const Picture& picture, float unit) {
        const float part = 1.0f / 255.0f, zero = -picture.luma_scale * picture.luma_offset;
        luma = held(picture.luma_scale * unit * part);
        red_cr = held(picture.red_cr * unit * part);
        green_cb = held(picture.green_cb * unit * part);
        green_cr = held(picture.green_cr * unit * part);
        blue_cb = held(picture.blue_cb * unit * part);
        red = held((zero - 128.0f * picture.red_cr) * part);
        green = held((zero - 128.0f * (picture.green_cb + picture.green_cr)) * part);
        blue = held((zero - 128.0f * picture.blue_cb) * part);
    }

    // As parts of white, 0 to 1: fractions of a level stay, for networks see them.
    __device__ __forceinline__ void parts(float y, Chroma chroma, float (&parts)[3]) const {
        const float middle = fmaf(luma, y, green);
        parts[0] = part_of(luma, y, fmaf(red_cr, chroma.cr, red));
        parts[1] = part_of(green_cb, chroma.cb, fmaf(green_cr, chroma.cr, middle));
        parts[2] = part_of(luma, y, fmaf(blue_cb, chroma.cb, blue));
    }
};

// Rounded to what the type holds. What is written is next read by another kernel.
__device__ __forceinline__ void put(u8* out, float value) { __stcg(out, (u8)__float2uint_rn(value)); }
__device__ __forceinline__ void put(u16* out, float value) { __stcg(out, half_of(value)); }
__device__ __forceinline__ void put(float* out, float value) { __stcg(out, value); }

__device__ __forceinline__ void put_pair(u8* out, float low, float high) {
    __stcg((u16*)out, (u16)(__float2uint_rn(low) | __float2uint_rn(high) << 8));
}
__device__ __forceinline__ void put_pair(u16* out, float low, float high) {
    __stcg((u32*)out, (u32)half_of(low) | (u32)half_of(high) << 16);
}
__device__ __forceinline__ void put_pair(float* out, float low, float high) {
    __stcg((u64*)out, (u64)__float_as_uint(low) | (u64)__float_as_uint(high) << 32);
}

template <typename Element>
__device__ __forceinline__ void store(const Job& job, const Slot& slot, int x, int y, const float (&numbers)[3]) {
    const int element = slot.origin + x * slot.step_x + y * slot.step_y;
#pragma unroll
    for (int i = 0; i < 3; ++i)
        put((Element*)(slot.out + (u32)(element + job.channel[i]) * (u32)sizeof(Element)), numbers[i]);
}

template <typename Element>
__device__ __forceinline__ void fill_padding(const Job& job, const Slot& slot, int x, int y, int apart) {
    for (int column = 0; column < COLUMNS; ++column) {
        const int left = x + column * apart;
        const bool beside = left < slot.left || left >= slot.right;
        for (int at = y; left < slot.width && at < min(y + STRIP, slot.height); ++at)
            if (beside || at < slot.top || at >= slot.bottom)
                store<Element>(job, slot, left, at, job.pad);
    }
}

// Pixels from (x, y) down, and those of the thread's other columns, as far as they lie in the picture.
template <typename Element, int SAMPLE_BYTES, int ROUNDS>
__device__ __forceinline__ void fill_picture(const Job& job, const Slot& slot, int x, int y) {
    const Color color(slot.picture, SAMPLE_BYTES == 1 ? 1.0f / ONE : 1.0f / (256.0f * ONE));
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
            const int left = x + column * (int)blockDim.x;
            float numbers[3];
            color.parts(luma[column], chroma[column], numbers);
#pragma unroll
            for (int i = 0; i < 3; ++i) numbers[i] = numbers[i] * job.factor[i] + job.offset[i];
            if (left >= slot.left && left < slot.right) store<Element>(job, slot, left, at, numbers);
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
        fill_padding<Element>(job, slot, x, y, blockDim.x);
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

template <typename Element, int ROUNDS> __device__ __forceinline__ void fill_quickly(const Job& job) {
    __shared__ ColumnTable<LumaPlane<1>, ROUNDS> luma_columns;
    __shared__ ColumnTable<ChromaPlane<1>, ROUNDS> chroma_columns;
    __shared__ Rows luma_rows[TALL], chroma_rows[TALL];
    const Slot& slot = job.slots[blockIdx.z];
    const int left = blockIdx.x * WIDE, top = blockIdx.y * TALL, y = threadIdx.y * STRIP;
    if (left >= slot.width || top >= slot.height) return;
    for (int i = threadIdx.y * blockDim.x + threadIdx.x; i < 2 * (WIDE + TALL); i += blockDim.x * blockDim.y) {
        const int row = i - 2 * WIDE, pixel = top + row % TALL - slot.top;
        const bool alone = row % STRIP == 0 || pixel == 0;
        if (i < WIDE) luma_columns.make(slot, i, left + i);
        else if (i < 2 * WIDE) chroma_columns.make(slot, i - WIDE, left + i - WIDE);
        else if (row < TALL) luma_rows[row] = rows_of<LumaPlane<1>>(slot, pixel, alone);
        else chroma_rows[row - TALL] = rows_of<ChromaPlane<1>>(slot, pixel, alone);
    }
    if (slot.right - slot.left < slot.width || slot.bottom - slot.top < slot.height)
        fill_padding<Element>(job, slot, left + column_of(0), top + y, 1);
    __syncthreads();
    Walk<LumaPlane<1>, ROUNDS> lumas(slot, luma_columns);
    Walk<ChromaPlane<1>, ROUNDS> chromas(slot, chroma_columns);
    const Color color(slot.picture, 1.0f / ONE);
    const u64 out = held(slot.out);
    const int end = min(top + y + STRIP, slot.bottom);
    const int step_x = held(slot.step_x), step_y = held(slot.step_y);
    const int first = left + column_of(0), first_in = held(slot.left), last_in = held(slot.right);
    const u32 origin = held(slot.origin + first * slot.step_x);
    // Two neighbours are written at once where they lie side by side, and on an even place.
    const bool together = step_x == 1 && first >= first_in && first + 1 < last_in &&
                          (origin | step_y | job.channel[0] | job.channel[1] | job.channel[2] |
                           (u32)(out / sizeof(Element))) % 2 == 0;
    const float offset[3] = {held(job.offset[0]), held(job.offset[1]), held(job.offset[2])};
    int at = max(top + y, slot.top);
    const Rows* luma_box = luma_rows + (at - top);
    const Rows* chroma_box = chroma_rows + (at - top);
    u32 luma_words[2][COLUMNS][2 * ROUNDS], chroma_words[1][COLUMNS][2 * ROUNDS];
#pragma unroll 1
    for (; at < end; ++at, ++luma_box, ++chroma_box) {
        float luma_totals[2][COLUMNS], luma[COLUMNS], parts[COLUMNS][3];
        Chroma chroma_totals[1][COLUMNS], chroma[COLUMNS];
        lumas.ask(luma_box->range, luma_words);
        chromas.ask(chroma_box->range, chroma_words);
        lumas.total(luma_words, luma_totals);
        chromas.total(chroma_words, chroma_totals);
        lumas.means(*luma_box, luma_totals, luma);
        chromas.means(*chroma_box, chroma_totals, chroma);
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column) color.parts(luma[column], chroma[column], parts[column]);
        const u32 element = origin + at * step_y;
        if (together) {
#pragma unroll
            for (int i = 0; i < 3; ++i) {
                const float factor = job.factor[i];
                put_pair((Element*)(out + (u64)((element + job.channel[i]) * (u32)sizeof(Element))),
                         parts[0][i] * factor + offset[i], parts[1][i] * factor + offset[i]);
            }
            continue;
        }
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column) {
            if (first + column < first_in || first + column >= last_in) continue;
#pragma unroll
            for (int i = 0; i < 3; ++i)
                put((Element*)(out + (u64)((element + column * step_x + job.channel[i]) * (u32)sizeof(Element))),
                    parts[column][i] * job.factor[i] + offset[i]);
        }
    }
}

// 8-bit pictures whose rows are whole words, at most four times as wide as in the tensor.
extern "C" __global__ void __launch_bounds__(256)
common_uint8(const __grid_constant__ Job job) { fill_quickly<u8, 1>(job); }
extern "C" __global__ void __launch_bounds__(256)
common_float16(const __grid_constant__ Job job) { fill_quickly<u16, 1>(job); }
extern "C" __global__ void __launch_bounds__(256)
common_float32(const __grid_constant__ Job job) { fill_quickly<float, 1>(job); }

// The same, at most twelve times as wide.
extern "C" __global__ void __launch_bounds__(256)
wide_uint8(const __grid_constant__ Job job) { fill_quickly<u8, 2>(job); }
extern "C" __global__ void __launch_bounds__(256)
wide_float16(const __grid_constant__ Job job) { fill_quickly<u16, 2>(job); }
extern "C" __global__ void __launch_bounds__(256)
wide_float32(const __grid_constant__ Job job) { fill_quickly<float, 2>(job); }

// All others.
extern "C" __global__ void any_uint8(const __grid_constant__ Job job) { fill<u8, false>(job); }
extern "C" __global__ void any_float16(const __grid_constant__ Job job) { fill<u16, false>(job); }
extern "C" __global__ void any_float32(const __grid_constant__ Job job) { fill<float, false>(job); }
