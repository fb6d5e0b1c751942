// What the kernels that paint share: the frames of a batch with what was found of each, and how weights come of it.

constexpr int MAX_CLASSES = 256;  // as in painting.py

enum View { OVERLAY, MASK, MATTE, GREEN, BLUR };  // as in painting.py

// One frame; mirrored by PAINTING in painting.py. Addresses are 0 where there is nothing.
struct Painting {
    u64 luma, chroma;   // the picture to paint: 8 bits, rows of source.width bytes
    u64 scores;         // (classes, rows, columns) uint8
    u64 layer;          // (rows, columns) uint8: scores of the foreground against all else
    u64 ranks;          // (rows, columns) Rank, where there are several classes
    u64 boxes;          // (box_count, 4) float32: x0, y0, x1, y1
    u64 box_classes;    // (box_count,) int32
    u64 box_count;      // one int32
    u64 small, blurred; // luma, chroma pairs and (of `small`) coverage of the shrunken picture, uint8
    Picture source;     // its addresses, which come first, are the last that differ between frames of one kind
    u64 palette;        // Colour of each class; one more for all that are unknown
    int view;
    int classes, rows, columns; // of the scores; `classes` also is the length of the palette less one
    int low, rise;              // scores from no weight to full weight
    int small_width, small_height;
    float columns_per_pixel, rows_per_pixel;         // of the scores
    float small_columns_per_pixel, small_rows_per_pixel;
    int full_range;
    Colour backdrop;
};

struct Paintings {
    Painting frames[MAX_FRAMES];
    u64 present; // (MAX_FRAMES, MAX_CLASSES) uint32: `stamp` where the class leads somewhere in the frame
    u32 stamp;
};

// The two best of several classes at one place of the score planes: their scores, and which they are. Where a third
// comes so close that it may show, the runner-up is given as the leader itself: then only the planes tell.
struct alignas(4) Rank { u8 best, second, leader, runner_up; };

__device__ __forceinline__ int margin(int score, int others) { return (score - others + 255) >> 1; }

// The two neighbours of a pixel along one axis of a smaller plane; pixel centres keep their place.
struct Tap { int first, second; float share; };

__device__ __forceinline__ Tap tap_at(int pixel, float step, int count) {
    const float place = (pixel + 0.5f) * step - 0.5f;
    const float inside = fminf(fmaxf(place, 0.0f), (float)(count - 1));
    const int first = (int)inside;
    return {first, min(first + 1, count - 1), inside - (float)first};
}

// Where four scores around a pixel lie in their plane.
struct Spot { int at[4]; float right, below; };

__device__ __forceinline__ Spot spot_at(const Painting& p, int x, int y) {
    const Tap column = tap_at(x, p.columns_per_pixel, p.columns), row = tap_at(y, p.rows_per_pixel, p.rows);
    const int above = row.first * p.columns, under = row.second * p.columns;
    return {{above + column.first, above + column.second, under + column.first, under + column.second},
            column.share, row.share};
}

__device__ __forceinline__ int between(const Spot& spot, float a, float b, float c, float d) {
    const float above = a + spot.right * (b - a), under = c + spot.right * (d - c);
    return (int)(above + spot.below * (under - above) + 0.5f);
}

__device__ __forceinline__ int score_at(const Spot& spot, u64 plane) {
    const u8* scores = (const u8*)plane;
    return between(spot, scores[spot.at[0]], scores[spot.at[1]], scores[spot.at[2]], scores[spot.at[3]]);
}

__device__ __forceinline__ int weight_of(const Painting& p, int score) {
    return 2 * (clamped(score, p.low, p.low + p.rise) - p.low);
}

// The best of the boxes that hold a pixel, or -1.
__device__ int box_at(const Painting& p, int x, int y) {
    const float4* boxes = (const float4*)p.boxes;
    const int count = *(const int*)p.box_count;
    for (int i = 0; i < count; ++i) {
        const float4 box = boxes[i];
        const int left = max(0, (int)box.x) & ~1, top = max(0, (int)box.y) & ~1;
        if (x >= left && y >= top && x < (int)rintf(box.z) && y < (int)rintf(box.w)) return i;
    }
    return -1;
}

__device__ __forceinline__ int foreground_weight(const Painting& p, int x, int y) {
    if (p.boxes) return box_at(p, x, y) < 0 ? 0 : FULL;
    return weight_of(p, score_at(spot_at(p, x, y), p.layer));
}
