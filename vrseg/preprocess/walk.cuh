// The quick way: what a block's columns and rows have in common lies in shared memory, made once.
// Included by preprocess.cu.

// Columns of the block: where the words of each begin, and its weights.
template <typename Plane, int ROUNDS> struct ColumnTable {
    u32 start[WIDE];
    u32 weights[ROUNDS * Plane::TAPS / 2][WIDE];

    __device__ __forceinline__ void make(const Slot& slot, int column, int x) {
        const int size = slot.picture.width / Plane::SHRUNK;
        const Box box(Plane::across(slot), min(max(x - slot.left, 0), slot.right - slot.left - 1), size);
        const int on_word = __float2int_rd(box.start) & -max(4 / Plane::TAP_BYTES, 1);
        const int first = min(on_word, size - ROUNDS * Plane::TAPS);
        start[column] = first * Plane::TAP_BYTES;
#pragma unroll
        for (int i = 0; i < ROUNDS; ++i) {
            u32 words[Plane::TAPS / 2];
            if (i < ROUNDS - 1) weigh<false>(box, first + i * Plane::TAPS, words);
            else weigh<true>(box, first + i * Plane::TAPS, words);
#pragma unroll
            for (int j = 0; j < Plane::TAPS / 2; ++j) weights[i * Plane::TAPS / 2 + j][column] = words[j];
        }
    }
};

// The rows of a box: its first may be the last one of the box above, whose sum is kept. The others are new.
struct alignas(16) Rows {
    u32 range;             // first new row, and in the high half the number of them
    float kept, first, second; // weights
};

template <typename Plane>
__device__ __forceinline__ Rows rows_of(const Slot& slot, int pixel, bool alone) {
    const int size = slot.picture.height / Plane::SHRUNK;
    const Box box(Plane::down(slot), pixel, size), above(Plane::down(slot), pixel - 1, size);
    const int last = min(__float2int_ru(box.end), size) - 1;
    int row = __float2int_rd(box.start);
    float kept = 0.0f;
    if (!alone && row == min(__float2int_ru(above.end), size) - 1) kept = box.share_before((float)++row);
    const int count = last - row + 1;
    if (count < 1) return {(u32)last, 1.0f, 0.0f, 0.0f};
    const float one = box.share_before((float)(row + 1)), two = box.share_before((float)(row + 2));
    return {(u32)row | (u32)count << 16, kept, (count == 1 ? 1.0f : one) - kept,
            count == 1 ? 0.0f : (count == 2 ? 1.0f : two) - one};
}

template <typename Plane, int ROUNDS> struct Walk {
    typedef typename Plane::Sum Sum;
    static constexpr int ROWS = Plane::ROWS, WORDS = ROUNDS * Plane::TAPS * Plane::TAP_BYTES / 4;
    static constexpr int WEIGHTS = Plane::TAPS / 2;

    u64 start[COLUMNS];
    u32 weights[COLUMNS][ROUNDS][WEIGHTS];
    Sum sums[COLUMNS];
    u32 pitch;
    float inner;                   // weight of a row that lies wholly in a box

    __device__ __forceinline__ Walk(const Slot& slot, const ColumnTable<Plane, ROUNDS>& table) {
        pitch = held(slot.picture.pitch);
        inner = held(Plane::down(slot).inverse_width);
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column) {
            const int at = column_of(column);
            start[column] = Plane::address(slot) + table.start[at];
            sums[column] = {};
#pragma unroll
            for (int i = 0; i < ROUNDS * WEIGHTS; ++i)
                weights[column][i / WEIGHTS][i % WEIGHTS] = table.weights[i][at];
        }
    }

    __device__ __forceinline__ void read(u32 row, u32 (&words)[COLUMNS][WORDS]) const {
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column) {
            const u32* at = (const u32*)(wide_mad(row, pitch, start[column]));
#pragma unroll
            for (int i = 0; i < WORDS; ++i) words[column][i] = __ldg(at + i);
        }
    }

    // The first rows of most boxes, all at once, so that they are on their way together.
    __device__ __forceinline__ void ask(u32 range, u32 (&words)[ROWS][COLUMNS][WORDS]) const {
        const u32 row = range & 0xffff;
        read(row, words[0]);
        if constexpr (ROWS == 2) read(row + (range >= 2 << 16), words[1]);
    }

    __device__ __forceinline__ void total(const u32 (&words)[COLUMNS][WORDS], Sum (&totals)[COLUMNS]) const {
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column) {
            totals[column] = {};
#pragma unroll
            for (int i = 0; i < ROUNDS; ++i)
                add(totals[column], 1.0f, Plane::sum(words[column] + i * WORDS / ROUNDS, weights[column][i]));
        }
    }

    __device__ __forceinline__ void total(const u32 (&words)[ROWS][COLUMNS][WORDS],
                                          Sum (&totals)[ROWS][COLUMNS]) const {
#pragma unroll
        for (int i = 0; i < ROWS; ++i) total(words[i], totals[i]);
    }

    // The means of the boxes, ONE times too large, from the totals of their first rows.
    __device__ __forceinline__ void means(const Rows& rows, const Sum (&totals)[ROWS][COLUMNS], Sum (&means)[COLUMNS]) {
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column) {
            means[column] = {};
            add(means[column], rows.kept, sums[column]);
            add(means[column], rows.first, totals[0][column]);
            if constexpr (ROWS == 2) add(means[column], rows.second, totals[1][column]);
            sums[column] = totals[ROWS - 1][column];
        }
        const u32 count = rows.range >> 16;
        if (count <= ROWS) return;
        float rest = 1.0f - rows.kept - rows.first - (ROWS == 2 ? rows.second : 0.0f);
        u32 row = (rows.range & 0xffff) + ROWS;
#pragma unroll 1
        for (u32 left = count - ROWS; left > 0; --left, ++row) {
            u32 more[COLUMNS][WORDS];
            read(row, more);
            total(more, sums);
            const float weight = left == 1 ? rest : inner;
#pragma unroll
            for (int column = 0; column < COLUMNS; ++column) add(means[column], weight, sums[column]);
            rest -= weight;
        }
    }
};
