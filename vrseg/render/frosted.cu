// The background as through frosted glass, as in frosted.py: shrunken, then blurred while it is small.
// Painting enlarges it. The foreground does not bleed into it: what it covers hardly counts.
#include "pixels.cuh"
#include "painting.cuh"

constexpr int RADIUS = 8;         // as in painting.py
constexpr float HIDDEN = 1e-4f;  // not 0: deep inside, where it is hidden anyway, the division must be defined

struct Gaussian {
    float luma[RADIUS + 1];   // weight by distance in pixels of the small picture
    float chroma[RADIUS + 1]; // the same by distance in its chroma samples
};

// The pixels, or parts of them, that one pixel of a small picture covers along one axis.
struct Span { float first, last; };

__device__ __forceinline__ Span span_of(int small, int count, int full) {
    const float step = (float)full / (float)count;
    return {small * step, fminf((small + 1) * step, (float)full)};
}

__device__ __forceinline__ float share_of(const Span& span, int pixel) {
    return fminf(span.last, pixel + 1.0f) - fmaxf(span.first, (float)pixel);
}

__device__ float mean_luma(const Picture& picture, Span across, Span down) {
    float sum = 0.0f;
    for (int y = (int)down.first; y < down.last; ++y) {
        float row = 0.0f;
        for (int x = (int)across.first; x < across.last; ++x) row += share_of(across, x) * luma_at(picture, x, y);
        sum += share_of(down, y) * row;
    }
    return sum / ((across.last - across.first) * (down.last - down.first));
}

__device__ Chroma mean_chroma(const Picture& picture, Span across, Span down) {
    Chroma sum = {0.0f, 0.0f};
    for (int y = (int)down.first; y < down.last; ++y)
        for (int x = (int)across.first; x < across.last; ++x) {
            const float share = share_of(across, x) * share_of(down, y);
            const Chroma chroma = chroma_at(picture, x, y);
            sum.cb += share * chroma.cb;
            sum.cr += share * chroma.cr;
        }
    const float area = (across.last - across.first) * (down.last - down.first);
    return {sum.cb / area, sum.cr / area};
}

__device__ __forceinline__ u8 rounded(float sample) { return (u8)clamped((int)rintf(sample), 0, 255); }

__device__ __forceinline__ int centre_of(int small, int count, int full) {
    return min((int)((small + 0.5f) * ((float)full / (float)count)), full - 1);
}

// Whether foreground shows at the centre of a small pixel or of one beside it: samples say nothing of what lies
// between.
__device__ bool near_foreground(const Painting& p, int x, int y) {
    for (int j = max(y - 1, 0); j <= min(y + 1, p.small_height - 1); ++j)
        for (int i = max(x - 1, 0); i <= min(x + 1, p.small_width - 1); ++i) {
            const int column = centre_of(i, p.small_width, p.source.width);
            if (foreground_weight(p, column, centre_of(j, p.small_height, p.source.height)) > 0) return true;
        }
    return false;
}

// Grid: pixels of the largest small picture in x and y, frames in z.
extern "C" __global__ void shrink(const __grid_constant__ Paintings batch) {
    const Painting& p = batch.frames[blockIdx.z];
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (p.view != BLUR || x >= p.small_width || y >= p.small_height) return;
    u8* luma = (u8*)p.small;
    u8* chroma = luma + p.small_width * p.small_height;
    u8* covered = chroma + p.small_width * p.small_height / 2;
    const int place = y * p.small_width + x;
    luma[place] = rounded(mean_luma(p.source, span_of(x, p.small_width, p.source.width),
                                    span_of(y, p.small_height, p.source.height)));
    covered[place] = near_foreground(p, x, y);
    if (x % 2 || y % 2) return;
    const Chroma mean = mean_chroma(p.source, span_of(x / 2, p.small_width / 2, p.source.width / 2),
                                    span_of(y / 2, p.small_height / 2, p.source.height / 2));
    u8* pair = chroma + (y / 2) * p.small_width + x;
    pair[0] = rounded(mean.cb);
    pair[1] = rounded(mean.cr);
}

// A normalised convolution: each sample counts by nearness and certainty. `step` bytes lie from sample to sample;
// coverage is that of every `coarse`-th pixel.
__device__ u8 convolved(const u8* plane, int step, const u8* covered, int coarse, int width, int height, int x, int y,
                        const float* gaussian) {
    float sum = 0.0f, total = 0.0f;
    for (int j = max(y - RADIUS, 0); j <= min(y + RADIUS, height - 1); ++j)
        for (int i = max(x - RADIUS, 0); i <= min(x + RADIUS, width - 1); ++i) {
            const float certainty = covered[(j * width * coarse + i) * coarse] ? HIDDEN : 1.0f;
            const float weight = gaussian[abs(j - y)] * gaussian[abs(i - x)] * certainty;
            sum += weight * (float)plane[(j * width + i) * step];
            total += weight;
        }
    return rounded(sum / total);
}

// Grid: as `shrink`.
extern "C" __global__ void blur(const __grid_constant__ Paintings batch, const __grid_constant__ Gaussian gaussian) {
    const Painting& p = batch.frames[blockIdx.z];
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    const int width = p.small_width, height = p.small_height;
    if (p.view != BLUR || x >= width || y >= height) return;
    const u8* luma = (const u8*)p.small;
    const u8* chroma = luma + width * height;
    const u8* covered = chroma + width * height / 2;
    u8* target = (u8*)p.blurred;
    target[y * width + x] = convolved(luma, 1, covered, 1, width, height, x, y, gaussian.luma);
    if (x % 2 || y % 2) return;
    u8* pair = target + width * height + (y / 2) * width + x;
    for (int part = 0; part < 2; ++part)
        pair[part] = convolved(chroma + part, 2, covered, 2, width / 2, height / 2, x / 2, y / 2, gaussian.chroma);
}
