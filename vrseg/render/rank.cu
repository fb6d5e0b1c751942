// Several classes at the model's resolution, brought down to what painting needs of them at most pixels.
#include "pixels.cuh"
#include "painting.cuh"

// Against the foreground's best stands the background's best; `layer` then is decided like the scores of one class.
__device__ int foreground_margin(const Painting& p, int place, size_t plane) {
    const u8* scores = (const u8*)p.scores;
    int best[2] = {0, 0};
    for (int index = 0; index < p.classes; ++index) {
        int& rival = best[((const Colour*)p.palette)[index].background ? 1 : 0];
        rival = max(rival, (int)scores[index * plane + place]);
    }
    return margin(best[0], best[1]);
}

__device__ Rank rank_of(const Painting& p, int place, size_t plane) {
    const u8* scores = (const u8*)p.scores;
    int best = scores[place], second = 0, leader = 0;
    for (int index = 1; index < p.classes; ++index) {
        const int score = scores[index * plane + place];
        if (score > best) {
            second = best;
            best = score;
            leader = index;
        } else {
            second = max(second, score);
        }
    }
    return {(u8)best, (u8)second, (u16)leader};
}

// Grid: places of the largest score plane in x, frames in z.
extern "C" __global__ void rank(const __grid_constant__ Paintings batch) {
    const Painting& p = batch.frames[blockIdx.z];
    const int place = blockIdx.x * blockDim.x + threadIdx.x;
    const size_t plane = (size_t)p.rows * p.columns;
    if (place >= p.rows * p.columns || p.classes < 2 || p.boxes) return;
    if (p.view != OVERLAY && p.view != MASK) {
        ((u8*)p.layer)[place] = (u8)foreground_margin(p, place, plane);
        return;
    }
    const Rank found = rank_of(p, place, plane);
    ((Rank*)p.ranks)[place] = found;
    // All who write here write the same, so it does not matter who comes last; a stamp needs no clearing.
    u32* present = (u32*)batch.present + blockIdx.z * MAX_CLASSES + found.leader;
    if (*present != batch.stamp) *present = batch.stamp;
}
