// The mean of a box of a plane: the whole of the resizing. Included by preprocess.cu, which says what a Slot is.

// The part of an axis, in samples, that a pixel is the mean of. It never starts outside the plane; what of it lies
// beyond the end is as the last sample.
struct Box {
    float start, end, inverse_width, offset;

    __device__ __forceinline__ Box(const Axis& axis, int pixel, int size) {
        start = fmaxf(fminf((float)pixel * axis.ratio + axis.start, (float)(size - 1)), 0.0f);
        end = start + axis.width;
        inverse_width = axis.inverse_width;
        offset = -start * inverse_width;
    }

    __device__ __forceinline__ float share_before(float sample) const {
        return __saturatef(fmaf(sample, inverse_width, offset));
    }
};

// Weights of the samples from `first` on, two to a word. Rounded so that the sum over a box is ONE.
// REST: no more will follow, and the last one takes what is left.
template <bool REST, int WORDS>
__device__ __forceinline__ void weigh(const Box& box, int first, u32 (&weights)[WORDS]) {
    const float from = (float)first;
    int before = __float2int_rn(ONE * box.share_before(from));
#pragma unroll
    for (int i = 0; i < WORDS; ++i) {
        const int middle = __float2int_rn(ONE * box.share_before(from + (float)(2 * i + 1)));
        const bool rest = REST && i == WORDS - 1;
        const int after = rest ? (int)ONE : __float2int_rn(ONE * box.share_before(from + (float)(2 * i + 2)));
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
    static constexpr int SHRUNK = 1, TAPS = 8, TAP_BYTES = SAMPLE_BYTES, ROWS = 2;
    static __device__ __forceinline__ u64 address(const Slot& slot) { return slot.picture.luma; }
    static __device__ __forceinline__ const Axis& across(const Slot& slot) { return slot.luma_x; }
    static __device__ __forceinline__ const Axis& down(const Slot& slot) { return slot.luma_y; }

    static __device__ __forceinline__ float sum(const u32* words, const u32 (&weights)[TAPS / 2]) {
        u32 sum = 0;
        if constexpr (SAMPLE_BYTES == 1) {
#pragma unroll
            for (int i = 0; i < 2; ++i)
                sum = __dp2a_hi(weights[2 * i + 1], words[i], __dp2a_lo(weights[2 * i], words[i], sum));
        } else {
#pragma unroll
            for (int i = 0; i < 4; ++i)
                sum += (words[i] & 0xffff) * (weights[i] & 0xffff) + (words[i] >> 16) * (weights[i] >> 16);
        }
        return (float)sum;
    }
};

template <int SAMPLE_BYTES> struct ChromaPlane {
    typedef Chroma Sum;
    static constexpr int SHRUNK = 2, TAPS = 4, TAP_BYTES = 2 * SAMPLE_BYTES, ROWS = 1;
    static __device__ __forceinline__ u64 address(const Slot& slot) { return slot.picture.chroma; }
    static __device__ __forceinline__ const Axis& across(const Slot& slot) { return slot.chroma_x; }
    static __device__ __forceinline__ const Axis& down(const Slot& slot) { return slot.chroma_y; }

    static __device__ __forceinline__ Chroma sum(const u32* words, const u32 (&weights)[TAPS / 2]) {
        u32 cb = 0, cr = 0;
        if constexpr (SAMPLE_BYTES == 1) {
            const u32 cbs = __byte_perm(words[0], words[1], 0x6420), crs = __byte_perm(words[0], words[1], 0x7531);
            cb = __dp2a_hi(weights[1], cbs, __dp2a_lo(weights[0], cbs, 0u));
            cr = __dp2a_hi(weights[1], crs, __dp2a_lo(weights[0], crs, 0u));
        } else {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const u32 weight = i % 2 ? weights[i / 2] >> 16 : weights[i / 2] & 0xffff;
                cb += (words[i] & 0xffff) * weight;
                cr += (words[i] >> 16) * weight;
            }
        }
        return {(float)cb, (float)cr};
    }
};

// One plane, as the pixels of a thread's columns see it. A column's weights serve all its pixels.
//
// ROUNDS times Plane::TAPS samples must hold a box, from a word on, and rows must be made of whole words. ROUNDS = 0
// does without: it makes weights anew for each round, and reads pairs of bytes.
template <typename Plane, int ROUNDS> struct View {
    typedef typename Plane::Sum Sum;
    static constexpr int KEPT = ROUNDS ? ROUNDS : 1, ROWS = ROUNDS ? Plane::ROWS : 1;
    static constexpr int WORDS = Plane::TAPS * Plane::TAP_BYTES / 4;

    const Slot& slot;
    const int width, height;
    const int left;                                   // pixel of the first column; may lie beside the picture
    u32 start[COLUMNS];                               // of the words of each column, in bytes from a row's start
    u32 weights[COLUMNS][KEPT][Plane::TAPS / 2];
    Sum sums[COLUMNS];                                // of the row below: a box often begins where the last one ended
    int summed;                                       // that row

    __device__ __forceinline__ View(const Slot& slot, int left)
        : slot(slot), width(slot.picture.width / Plane::SHRUNK), height(slot.picture.height / Plane::SHRUNK),
          left(left), summed(-1) {
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column) {
            sums[column] = {};
            if constexpr (ROUNDS > 0) {
                const Box box = columns(column);
                const int on_word = __float2int_rd(box.start) & -max(4 / Plane::TAP_BYTES, 1);
                const int first = min(on_word, width - ROUNDS * Plane::TAPS);
                start[column] = first * Plane::TAP_BYTES;
#pragma unroll
                for (int i = 0; i < ROUNDS - 1; ++i) weigh<false>(box, first + i * Plane::TAPS, weights[column][i]);
                weigh<true>(box, first + (ROUNDS - 1) * Plane::TAPS, weights[column][ROUNDS - 1]);
            }
        }
    }

    // A column beside the picture is as the outermost one in it.
    __device__ __forceinline__ Box columns(int column) const {
        const int pixel = min(max(left + column * (int)blockDim.x, 0), slot.right - slot.left - 1);
        return Box(Plane::across(slot), pixel, width);
    }

    // The means of the boxes of a row of pixels, ONE times too large. Rows are asked for from the top down.
    __device__ __forceinline__ void means(int pixel, Sum (&means)[COLUMNS]) {
        const Box rows(Plane::down(slot), pixel, height);
        const int last = min(__float2int_ru(rows.end), height) - 1;
        int row = __float2int_rd(rows.start);
        float before = 0.0f;
        if (row == summed) before = rows.share_before((float)++row);
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column) {
            means[column] = {};
            add(means[column], before, sums[column]);
        }
#pragma unroll 1
        for (; row <= last; row += ROWS) {
            u32 words[ROWS][COLUMNS][KEPT * WORDS];
            if constexpr (ROUNDS > 0) {
#pragma unroll
                for (int i = 0; i < ROWS; ++i) read(min(row + i, last), words[i]);
            }
#pragma unroll
            for (int i = 0; i < ROWS; ++i) {
                const float after = rows.share_before((float)(row + i + 1));
#pragma unroll
                for (int column = 0; column < COLUMNS; ++column) {
                    sums[column] = ROUNDS ? sum_of(words[i][column], weights[column])
                                          : sum_in_rounds(row + i, columns(column));
                    add(means[column], after - before, sums[column]);
                }
                before = after;
            }
        }
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column) add(means[column], 1.0f - before, sums[column]);
        summed = last;
    }

    __device__ __forceinline__ void read(int row, u32 (&words)[COLUMNS][KEPT * WORDS]) const {
        const u64 at = Plane::address(slot) + (u32)(row * slot.picture.pitch);
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column) {
#pragma unroll
            for (int i = 0; i < KEPT * WORDS; ++i) words[column][i] = __ldg((const u32*)(at + start[column]) + i);
        }
    }

    static __device__ __forceinline__ Sum sum_of(const u32 (&words)[KEPT * WORDS],
                                                 const u32 (&weights)[KEPT][Plane::TAPS / 2]) {
        Sum sum = {};
#pragma unroll
        for (int i = 0; i < KEPT; ++i) add(sum, 1.0f, Plane::sum(words + i * WORDS, weights[i]));
        return sum;
    }

    __device__ __forceinline__ Sum sum_in_rounds(int row, const Box& box) const {
        const u64 from = Plane::address(slot) + (u32)(row * slot.picture.pitch);
        const int last_low = slot.picture.pitch - max(Plane::TAP_BYTES, 2), last_high = slot.picture.pitch - 2;
        Sum sum = {};
        const int on_pair = __float2int_rd(box.start) & -(2 / min(Plane::TAP_BYTES, 2));
        for (int first = on_pair; (float)first < box.end; first += Plane::TAPS) {
            u32 words[WORDS], weights[Plane::TAPS / 2];
#pragma unroll
            for (int i = 0; i < WORDS; ++i) {
                const int at = first * Plane::TAP_BYTES + 4 * i;
                const u32 low = __ldg((const u16*)(from + min(at, last_low)));
                words[i] = low | (u32)__ldg((const u16*)(from + min(at + 2, last_high))) << 16;
            }
            weigh<false>(box, first, weights);
            add(sum, 1.0f, Plane::sum(words, weights));
        }
        return sum;
    }
};
