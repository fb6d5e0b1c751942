// Rows of a detector, turned into boxes in the frame's pixels. Two launches for a batch: one of the `read_` kernels
// gathers the rows that score enough, `keep` leaves one box for each object. Same arithmetic as rows.py and boxes.py,
// each operation rounded on its own, as NumPy does: both make the same decisions.

enum Kind { FLOAT32, FLOAT16, INT32, INT64 };

// One output of the network, or some columns of it; strides in elements. Mirrored by TABLE in detect_cuda.py.
struct Table {
    u64 address;
    u64 frame_stride, row_stride, column_stride;
    int kind;
};

// Mirrored by ROWS in detect_cuda.py.
struct Rows {
    Table boxes, scores, classes;  // the same one, unless the network gives them one by one
    int count;                     // rows of a frame
    int class_count;
    int width, height;             // of the network's input
    float min_score;
};

// What scores enough. One list for each frame, `capacity` entries long: every row finds room.
// Mirrored by CANDIDATES in detect_cuda.py.
struct Candidates {
    u64 counts;   // u32 for each frame
    u64 keys;     // u64, in no order: see key_of
    u64 boxes;    // float4 (x0, y0, x1, y1) in input pixels, by row
    u64 classes;  // int, by row
    int capacity;
};

// No picture is as large. What a network says beyond it, or as NaN, comes of weights or inputs that are broken.
#define FAR_AWAY 1e6f

// The greater key is the better score, or between equals the earlier row. Never 0: that is a candidate that is gone.
__device__ __forceinline__ u64 key_of(float score, u32 row) {
    // Bits of floats order like the numbers from 0 up; adding 0 makes a 0 of -0.
    return (u64)__float_as_uint(score + 0.0f) << 32 | (0xffffffffu - row);
}
__device__ __forceinline__ u32 row_of(u64 key) { return 0xffffffffu - (u32)key; }
__device__ __forceinline__ float score_of(u64 key) { return __uint_as_float((u32)(key >> 32)); }

__device__ __forceinline__ float value_at(const Table& table, int frame, int row, int column) {
    const u64 at = frame * table.frame_stride + row * table.row_stride + column * table.column_stride;
    if (table.kind == FLOAT32) return ((const float*)table.address)[at];
    if (table.kind == FLOAT16) return of_half(((const u16*)table.address)[at]);
    if (table.kind == INT32) return (float)((const int*)table.address)[at];
    return (float)((const long long*)table.address)[at];
}

__device__ __forceinline__ bool sane(float4 box) {
    return fabsf(box.x) < FAR_AWAY && fabsf(box.y) < FAR_AWAY && fabsf(box.z) < FAR_AWAY && fabsf(box.w) < FAR_AWAY;
}
__device__ __forceinline__ bool enough(float score, float min_score) {  // false for NaN
    return score >= min_score && score < FAR_AWAY;
}

__device__ __forceinline__ float4 box_at(const Table& table, int frame, int row) {
    return make_float4(value_at(table, frame, row, 0), value_at(table, frame, row, 1), value_at(table, frame, row, 2),
                       value_at(table, frame, row, 3));
}
__device__ __forceinline__ float4 corners(float4 centre_and_size) {
    const float across = centre_and_size.z * 0.5f, down = centre_and_size.w * 0.5f;
    return make_float4(__fsub_rn(centre_and_size.x, across), __fsub_rn(centre_and_size.y, down),
                       __fadd_rn(centre_and_size.x, across), __fadd_rn(centre_and_size.y, down));
}

struct Best { int class_id; float score; };

// The highest of the class scores, which begin at column `first`; NaN if there is one.
__device__ __forceinline__ Best best_class(const Rows& rows, int frame, int row, int first) {
    Best best = {0, value_at(rows.scores, frame, row, first)};
    for (int class_id = 1; class_id < rows.class_count; ++class_id) {
        const float score = value_at(rows.scores, frame, row, first + class_id);
        if (score > best.score || score != score) best = {class_id, score};
        if (score != score) break;
    }
    return best;
}

__device__ __forceinline__ void append(const Candidates& found, int frame, int row, Best best, float4 box) {
    const u64 start = (u64)frame * found.capacity;
    const u32 place = atomicAdd((u32*)found.counts + frame, 1u);
    ((u64*)found.keys)[start + place] = key_of(best.score, row);
    ((float4*)found.boxes)[start + row] = box;
    ((int*)found.classes)[start + row] = best.class_id;
}

// Rows of 5 + C: box, objectness, class scores. Returns false where they do not score enough or make no sense.
__device__ __forceinline__ bool read_row(const Rows& rows, int frame, int row, float4& box, Best& best) {
    // A class score is at most 1, so objectness alone already rules out nearly all rows.
    const float objectness = value_at(rows.scores, frame, row, 4);
    if (!enough(objectness, rows.min_score)) return false;
    box = box_at(rows.boxes, frame, row);
    if (!sane(box)) return false;
    best = best_class(rows, frame, row, 5);
    best.score = __fmul_rn(objectness, best.score);
    return enough(best.score, rows.min_score);
}

// Raw YOLOX output (A, 5 + C): offsets in cells, logarithms of sizes. Rows go cell by cell, finest grid first.
extern "C" __global__ void __launch_bounds__(256) read_yolox(const Rows rows, const Candidates found) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x, frame = blockIdx.y;
    float4 box;
    Best best;
    if (row >= rows.count || !read_row(rows, frame, row, box, best)) return;
    int cell = row, stride = 8;
    while (stride < 32 && cell >= (rows.width / stride) * (rows.height / stride)) {
        cell -= (rows.width / stride) * (rows.height / stride);
        stride *= 2;
    }
    const int columns = rows.width / stride;
    // A size of e^10 cells is no box; the limit keeps the exponential finite.
    box = make_float4(__fadd_rn(box.x, (float)(cell % columns)) * stride,
                      __fadd_rn(box.y, (float)(cell / columns)) * stride,
                      expf(fminf(box.z, 10.0f)) * stride, expf(fminf(box.w, 10.0f)) * stride);
    append(found, frame, row, best, corners(box));
}

// YOLOv5 or v7 output (A, 5 + C): centre, size, objectness, class scores.
extern "C" __global__ void __launch_bounds__(256) read_yolov5(const Rows rows, const Candidates found) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x, frame = blockIdx.y;
    float4 box;
    Best best;
    if (row < rows.count && read_row(rows, frame, row, box, best)) append(found, frame, row, best, corners(box));
}

// YOLOv8 or 11 output (4 + C, A), strides turned: centre, size, class scores; there is no objectness.
extern "C" __global__ void __launch_bounds__(256) read_yolov8(const Rows rows, const Candidates found) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x, frame = blockIdx.y;
    if (row >= rows.count) return;
    const Best best = best_class(rows, frame, row, 4);
    if (!enough(best.score, rows.min_score)) return;
    const float4 box = box_at(rows.boxes, frame, row);
    if (sane(box)) append(found, frame, row, best, corners(box));
}

// What is left after the network's own suppression: corners, scores, classes; unused rows score 0 or less.
extern "C" __global__ void __launch_bounds__(256) read_end2end(const Rows rows, const Candidates found) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x, frame = blockIdx.y;
    if (row >= rows.count) return;
    const float score = value_at(rows.scores, frame, row, 0), class_id = value_at(rows.classes, frame, row, 0);
    if (!enough(score, rows.min_score) || !(score > 0.0f) || !(class_id >= 0.0f)) return;
    const float4 box = box_at(rows.boxes, frame, row);
    if (sane(box)) append(found, frame, row, {(int)class_id, score}, box);
}

// Where a frame lies in the input: input pixels to pixels of the upright frame, then of the coded one.
// Mirrored by PLACE in detect_cuda.py.
struct Place {
    float left, top, scale_x, scale_y;
    int width, height;  // of the coded frame
    int quarter_turns;  // clockwise, that show it upright
};
struct Places { Place of[64]; };

// Boxes that are kept, `max_boxes` rows for each frame, best first. Mirrored by KEPT in detect_cuda.py.
struct Kept {
    u64 counts;   // int for each frame
    u64 boxes;    // float4
    u64 scores;   // float
    u64 classes;  // int
};

__device__ __forceinline__ float clipped(float value, float limit) { return fminf(fmaxf(value, 0.0f), limit); }

__device__ __forceinline__ float4 to_frame(float4 box, const Place& place) {
    const float width = place.width, height = place.height;
    const float x0 = __fmul_rn(__fsub_rn(box.x, place.left), place.scale_x);
    const float y0 = __fmul_rn(__fsub_rn(box.y, place.top), place.scale_y);
    const float x1 = __fmul_rn(__fsub_rn(box.z, place.left), place.scale_x);
    const float y1 = __fmul_rn(__fsub_rn(box.w, place.top), place.scale_y);
    float4 turned = make_float4(x0, y0, x1, y1);
    // A point of the coded frame at (cx, cy) is shown at (height - cy, cx) after a quarter turn clockwise.
    if (place.quarter_turns == 1) turned = make_float4(y0, __fsub_rn(height, x1), y1, __fsub_rn(height, x0));
    if (place.quarter_turns == 2)
        turned = make_float4(__fsub_rn(width, x1), __fsub_rn(height, y1), __fsub_rn(width, x0), __fsub_rn(height, y0));
    if (place.quarter_turns == 3) turned = make_float4(__fsub_rn(width, y1), x0, __fsub_rn(width, y0), x1);
    return make_float4(clipped(turned.x, width), clipped(turned.y, height), clipped(turned.z, width),
                       clipped(turned.w, height));
}

__device__ __forceinline__ float area_of(float4 box) {
    return __fmul_rn(fmaxf(__fsub_rn(box.z, box.x), 0.0f), fmaxf(__fsub_rn(box.w, box.y), 0.0f));
}

// Intersection over union; 0 where both are empty.
__device__ __forceinline__ float overlap(float4 a, float4 b) {
    const float4 both = make_float4(fmaxf(a.x, b.x), fmaxf(a.y, b.y), fminf(a.z, b.z), fminf(a.w, b.w));
    const float common = area_of(both);
    return common / fmaxf(__fsub_rn(__fadd_rn(area_of(a), area_of(b)), common), 1e-9f);
}

// Greedy suppression, class by class, one block for each frame. Nothing is sorted: each round looks through what is
// left for what the box kept last removes, and for the best of the rest. So it costs kept boxes x candidates, of which
// there are few and few hundred, and any number of candidates is right. A candidate belongs to one thread throughout.
// The boxes are written twice: for drawing, and to pinned memory, where the host finds them without a copy.
extern "C" __global__ void __launch_bounds__(256)
keep(const Candidates found, float iou, int max_boxes, int first_frame, const Places places, const Kept here,
     const Kept crossing) {
    __shared__ u64 best[256];
    __shared__ int total;
    const int frame = first_frame + blockIdx.x;
    const u64 start = (u64)frame * found.capacity, out = (u64)frame * max_boxes;
    const u32 count = ((const u32*)found.counts)[frame];
    u64* keys = (u64*)found.keys + start;
    const float4* boxes = (const float4*)found.boxes + start;
    const int* classes = (const int*)found.classes + start;

    int kept = 0;  // counted by the first thread
    u64 chosen = 0;
    float4 box = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    int class_id = -1;
    for (int round = 0; round < max_boxes; ++round) {
        u64 mine = 0;
        for (u32 i = threadIdx.x; i < count; i += blockDim.x) {
            const u64 key = keys[i];
            if (key == 0) continue;
            const u32 row = row_of(key);
            if (key == chosen || (classes[row] == class_id && overlap(box, boxes[row]) > iou)) keys[i] = 0;
            else mine = key > mine ? key : mine;
        }
        best[threadIdx.x] = mine;
        for (u32 half = blockDim.x / 2; half > 0; half /= 2) {
            __syncthreads();
            if (threadIdx.x < half && best[threadIdx.x + half] > best[threadIdx.x])
                best[threadIdx.x] = best[threadIdx.x + half];
        }
        __syncthreads();
        chosen = best[0];
        __syncthreads();  // before the next round writes there
        if (chosen == 0) break;
        box = boxes[row_of(chosen)];
        class_id = classes[row_of(chosen)];
        if (threadIdx.x > 0) continue;
        const float4 shown = to_frame(box, places.of[blockIdx.x]);
        if (!(shown.z > shown.x && shown.w > shown.y)) continue;  // wholly within the padding
        ((float4*)here.boxes)[out + kept] = shown;
        ((float*)here.scores)[out + kept] = score_of(chosen);
        ((int*)here.classes)[out + kept] = class_id;
        ++kept;
    }
    if (threadIdx.x == 0) ((int*)here.counts)[frame] = ((int*)crossing.counts)[frame] = total = kept;
    __syncthreads();
    for (int i = threadIdx.x; i < total; i += blockDim.x) {
        ((float4*)crossing.boxes)[out + i] = ((const float4*)here.boxes)[out + i];
        ((float*)crossing.scores)[out + i] = ((const float*)here.scores)[out + i];
        ((int*)crossing.classes)[out + i] = ((const int*)here.classes)[out + i];
    }
}
