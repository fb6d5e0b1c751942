// Several classes at the model's resolution, brought down to what painting needs of them at most pixels.
// A thread takes four places side by side.
#include "pixels.cuh"
#include "painting.cuh"

constexpr int SIDE_BY_SIDE = 4;  // as in views_cuda.py

// The scores of one class at the places of a thread, the first in the lowest byte. TOGETHER: they can be read at once.
template <bool TOGETHER>
__device__ __forceinline__ u32 scores_at(const u8* plane, int count) {
    if (TOGETHER) return *(const u32*)plane;
    u32 scores = 0;
    for (int i = 0; i < count; ++i) scores |= (u32)plane[i] << (8 * i);
    return scores;
}

__device__ __forceinline__ u32 byte_at(u32 bytes, int i) { return (bytes >> (8 * i)) & 0xff; }

// Against the foreground's best stands the background's best; `layer` then is decided like the scores of one class.
template <bool TOGETHER>
__device__ void write_layer(const Painting& p, int place, int count, size_t plane) {
    const u8* scores = (const u8*)p.scores + place;
    u32 background[SIDE_BY_SIDE] = {}, foreground[SIDE_BY_SIDE] = {};
#pragma unroll 4
    for (int index = 0; index < p.classes; ++index, scores += plane) {
        const u32 four = scores_at<TOGETHER>(scores, count);
        const u32 shown = ((const Colour*)p.palette)[index].background ? 0 : ~0u;
#pragma unroll
        for (int i = 0; i < SIDE_BY_SIDE; ++i) {
            foreground[i] = max(foreground[i], byte_at(four & shown, i));
            background[i] = max(background[i], byte_at(four & ~shown, i));
        }
    }
#pragma unroll
    for (int i = 0; i < SIDE_BY_SIDE; ++i)
        if (i < count) ((u8*)p.layer)[place + i] = (u8)margin((int)foreground[i], (int)background[i]);
}

// A score with its class, so that the larger is the better: of equal scores, that of the class that comes first.
__device__ __forceinline__ u32 keyed(u32 score, int index) { return score << 8 | (MAX_CLASSES - 1 - index); }
__device__ __forceinline__ u8 score_of(u32 key) { return (u8)(key >> 8); }
__device__ __forceinline__ u8 class_of(u32 key) { return (u8)(MAX_CLASSES - 1 - (key & 0xff)); }

template <bool TOGETHER>
__device__ void write_ranks(const Painting& p, int place, int count, size_t plane, u32* present, u32 stamp) {
    const u8* scores = (const u8*)p.scores + place;
    u32 best[SIDE_BY_SIDE] = {}, second[SIDE_BY_SIDE] = {}, third[SIDE_BY_SIDE] = {};
#pragma unroll 8
    for (int index = 0; index < p.classes; ++index, scores += plane) {
        const u32 four = scores_at<TOGETHER>(scores, count);
#pragma unroll
        for (int i = 0; i < SIDE_BY_SIDE; ++i) {
            const u32 key = keyed(byte_at(four, i), index), behind = min(best[i], key);
            third[i] = max(third[i], min(second[i], behind));
            second[i] = max(second[i], behind);
            best[i] = max(best[i], key);
        }
    }
#pragma unroll
    for (int i = 0; i < SIDE_BY_SIDE; ++i) {
        if (i >= count) break;
        const u8 leader = class_of(best[i]);
        const bool crowded = margin(score_of(third[i]), score_of(best[i])) > p.low;
        ((Rank*)p.ranks)[place + i] = {score_of(best[i]), score_of(second[i]), leader,
                                       crowded ? leader : class_of(second[i])};
        // All who write here write the same, so it does not matter who comes last; a stamp needs no clearing.
        if (present[leader] != stamp) present[leader] = stamp;
    }
}

template <bool TOGETHER>
__device__ __forceinline__ void four_places(const Painting& p, int place, int area, u32* present, u32 stamp) {
    const int count = TOGETHER ? SIDE_BY_SIDE : min(SIDE_BY_SIDE, area - place);
    if (p.view == OVERLAY || p.view == MASK) write_ranks<TOGETHER>(p, place, count, area, present, stamp);
    else write_layer<TOGETHER>(p, place, count, area);
}

// Grid: fours of places of the largest score plane in x, frames in z.
extern "C" __global__ void rank(const __grid_constant__ Paintings batch) {
    const Painting& p = batch.frames[blockIdx.z];
    const int place = SIDE_BY_SIDE * (blockIdx.x * blockDim.x + threadIdx.x), area = p.rows * p.columns;
    if (place >= area || p.classes < 2 || p.boxes) return;
    u32* present = (u32*)batch.present + blockIdx.z * MAX_CLASSES;
    const bool together = p.scores % SIDE_BY_SIDE == 0 && area % SIDE_BY_SIDE == 0;
    if (together) four_places<true>(p, place, area, present, batch.stamp);
    else four_places<false>(p, place, area, present, batch.stamp);
}
