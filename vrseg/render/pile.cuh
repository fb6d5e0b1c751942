// Several classes, mixed into a pile of quads: neighbours lie between the same few places of the score planes, so what
// is computed at a place serves many pixels. Scores are interpolated in floats, pixels are mixed as in blend.py.

constexpr int PILE = 2;               // quads below each other that one thread takes; as in views_cuda.py
constexpr int ROWS = 2 * PILE;        // of pixels
constexpr float WHOLE = 8388608.0f;   // 2^23: a sum with it is rounded to a whole number, which lies in its low bits
constexpr float UP = 1.0f / 1024.0f;  // added first, it makes that round halves up

// The places that a pile of quads lies between.
struct Reach { Tap left, right, rows[ROWS]; };

__device__ __forceinline__ Reach reach_of(const Painting& p, int left, int top) {
    Reach reach = {tap_at(left, p.columns_per_pixel, p.columns), tap_at(left + 1, p.columns_per_pixel, p.columns), {}};
#pragma unroll
    for (int row = 0; row < ROWS; ++row) {
        Tap& tap = reach.rows[row] = tap_at(top + row, p.rows_per_pixel, p.rows);
        if (tap.first == tap.second) tap.share = 1.0f;  // `mix_in` comes to `second` from above
    }
    return reach;
}

// What the ranks within reach have in common.
struct Survey {
    u32 candidates;  // bit index % 32 of each class that may show: it leads, or comes close
    int leader;      // of one of the places
    bool settled;    // it leads at all of them, so far that nothing changes from pixel to pixel
};

__device__ __forceinline__ Survey surveyed(const Painting& p, const Reach& reach) {
    const Rank* ranks = (const Rank*)p.ranks;
    const int leader = ranks[reach.rows[0].first * p.columns + reach.left.first].leader;
    u32 candidates = 0;
    int lead = 255;
    for (int row = reach.rows[0].first; row <= reach.rows[ROWS - 1].second; ++row)
        for (int column = reach.left.first; column <= reach.right.second; ++column) {
            const Rank rank = ranks[row * p.columns + column];
            lead = rank.leader == leader ? min(lead, rank.best - rank.second) : 0;
            candidates |= 1u << (rank.leader % 32);
            if (margin(rank.second, rank.best) <= p.low) continue;
            candidates |= rank.runner_up == rank.leader ? ~0u : 1u << (rank.runner_up % 32);
        }
    return {candidates, leader, margin(lead, 0) >= p.low + p.rise && margin(0, lead) <= p.low};
}

// By how much more than `low` a class leads over all others at a place. Which two are the best is known from `rank`.
__device__ __forceinline__ float lead_at(const Painting& p, const u8* scores, int index, int place) {
    const Rank rank = ((const Rank*)p.ranks)[place];
    int lead = margin(rank.best, rank.second);
    if (rank.leader != index) lead = margin(rank.runner_up == index ? rank.second : scores[place], rank.best);
    return __int_as_float(0x4b000000 | lead) - (WHOLE + p.low);
}

struct Pair { float left, right; };  // for two pixels side by side

// Between the places of one row. The pixel on the right lies between the same as the one on the left, or one further.
__device__ __forceinline__ Pair leads_in(const Painting& p, const u8* scores, int index, const Reach& reach, int row) {
    const int start = row * p.columns;
    const Tap left = reach.left, right = reach.right;
    const float a = lead_at(p, scores, index, start + left.first), b = lead_at(p, scores, index, start + left.second);
    float c = right.first == left.first ? a : b, d = b;
    if (right.first > left.second) c = lead_at(p, scores, index, start + right.first);
    if (right.second != left.second) d = lead_at(p, scores, index, start + right.second);
    return {a + left.share * (b - a), c + right.share * (d - c)};
}

// The weight, 0 to 1, that comes of a lead.
__device__ __forceinline__ float share_of(const Painting& p, float lead) {
    const float whole = fminf(fmaxf(lead + UP + WHOLE, WHOLE), WHOLE + p.rise);
    return (whole - WHOLE) * (2.0f / FULL);
}

// Samples with WHOLE added, so that mixing rounds them.
struct Samples { float y[ROWS][2], cb[PILE], cr[PILE]; };

__device__ __forceinline__ float sample_of(int value) { return __int_as_float(0x4b000000 | value); }
__device__ __forceinline__ int value_of(float sample) { return __float_as_int(sample) & 0xff; }
__device__ __forceinline__ void mix(float& below, int top, float share) {
    below += __fmaf_rn((WHOLE + top) - below, share, UP);
}

// Mixes in one class by its lead. Rows of places come one after the other; each is looked at once.
__device__ __forceinline__ void mix_in(const Painting& p, Samples& samples, const Reach& reach, int index) {
    const Colour colour = ((const Colour*)p.palette)[index];
    const u8* scores = (const u8*)p.scores + (size_t)index * p.rows * p.columns;
    Pair above = {}, below = {};
    int reached = reach.rows[0].first - 1;
#pragma unroll
    for (int row = 0; row < ROWS; ++row) {
        const Tap tap = reach.rows[row];
        while (reached < tap.second) {
            above = below;
            below = leads_in(p, scores, index, reach, ++reached);
        }
        const float left = share_of(p, above.left + tap.share * (below.left - above.left));
        const float right = share_of(p, above.right + tap.share * (below.right - above.right));
        mix(samples.y[row][0], colour.y, left);
        mix(samples.y[row][1], colour.y, right);
        if (row % 2) continue;
        mix(samples.cb[row / 2], colour.cb, left);  // chroma takes the upper left of each four
        mix(samples.cr[row / 2], colour.cr, left);
    }
}

__device__ void mix_classes(const Painting& p, Samples& samples, const Reach& reach, u32 candidates,
                            const u32* present, u32 stamp) {
#pragma unroll 1
    for (int first = 0; first < p.classes; first += 32)
#pragma unroll 1
        for (u32 left = candidates; left; left &= left - 1) {
            const int index = first + __ffs((int)left) - 1;
            if (index >= p.classes) break;
            if (present[index] != stamp || ((const Colour*)p.palette)[index].background) continue;
            mix_in(p, samples, reach, index);
        }
}

__device__ __forceinline__ Samples samples_of(const Quad* pile) {
    Samples samples;
#pragma unroll
    for (int i = 0; i < PILE; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) samples.y[2 * i + j / 2][j % 2] = sample_of(pile[i].y[j]);
        samples.cb[i] = sample_of(pile[i].cb);
        samples.cr[i] = sample_of(pile[i].cr);
    }
    return samples;
}

__device__ __forceinline__ Quad quad_of(const Samples& samples, int i) {
    const float(*rows)[2] = samples.y + 2 * i;
    return {{value_of(rows[0][0]), value_of(rows[0][1]), value_of(rows[1][0]), value_of(rows[1][1])},
            value_of(samples.cb[i]), value_of(samples.cr[i])};
}

__device__ __forceinline__ Quad covered(const Quad& quad, const Colour& colour, int weight) {
    return {{mixed(quad.y[0], colour.y, weight), mixed(quad.y[1], colour.y, weight),
             mixed(quad.y[2], colour.y, weight), mixed(quad.y[3], colour.y, weight)},
            mixed(quad.cb, colour.cb, weight), mixed(quad.cr, colour.cr, weight)};
}

__device__ __forceinline__ bool in_several_colours(const Painting& p) {
    return (p.view == OVERLAY || p.view == MASK) && p.classes > 1 && !p.boxes;
}

// Mixes every class that leads somewhere in the frame into the pile, in order, by its own lead over all others.
__device__ __forceinline__ void paint_pile(const Painting& p, int left, int top, const u32* present, u32 stamp) {
    const Colour& back = p.backdrop;
    const Quad blank = {{back.y, back.y, back.y, back.y}, back.cb, back.cr};
    Quad pile[PILE];
#pragma unroll
    for (int i = 0; i < PILE; ++i) {
        pile[i] = blank;
        if (p.view == OVERLAY && top + 2 * i < p.source.height) pile[i] = quad_at(p.source, left, top + 2 * i);
    }
    const Reach reach = reach_of(p, left, top);
    const Survey survey = surveyed(p, reach);
    if (survey.settled) {
        const Colour colour = ((const Colour*)p.palette)[survey.leader];
        const int weight = colour.background ? 0 : 2 * p.rise;
#pragma unroll
        for (int i = 0; i < PILE; ++i) pile[i] = covered(pile[i], colour, weight);
    } else {
        Samples samples = samples_of(pile);
        mix_classes(p, samples, reach, survey.candidates, present, stamp);
#pragma unroll
        for (int i = 0; i < PILE; ++i) pile[i] = quad_of(samples, i);
    }
#pragma unroll
    for (int i = 0; i < PILE; ++i)
        if (top + 2 * i < p.source.height) put(pile[i], p.luma, p.chroma, p.source.width, left, top + 2 * i);
}
