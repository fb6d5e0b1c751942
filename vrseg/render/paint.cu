// Views of a batch: what was found of each frame, drawn in one pass over its picture.
// A thread takes a pile of quads; a quad is the four pixels that share one pair of chroma samples.
#include "pixels.cuh"
#include "painting.cuh"
#include "pile.cuh"

__device__ __forceinline__ Yuv class_colour(const Painting& p, int index) {
    return yuv_of(((const Colour*)p.palette)[index < 0 || index > p.classes ? p.classes : index]);
}

__device__ __forceinline__ Yuv in_class_colours(const Painting& p, Yuv below, int x, int y) {
    if (p.boxes) {
        const int found = box_at(p, x, y);
        return found < 0 ? below : class_colour(p, ((const int*)p.box_classes)[found]);
    }
    if (((const Colour*)p.palette)[0].background) return below;
    return mixed(below, class_colour(p, 0), weight_of(p, score_at(spot_at(p, x, y), p.layer)));
}

__device__ __forceinline__ int probability_as_luma(const Painting& p, int x, int y) {
    const int score = p.boxes ? (box_at(p, x, y) < 0 ? 0 : 255) : score_at(spot_at(p, x, y), p.layer);
    return p.full_range ? score : ((score * 55) >> 6) + 16;  // 55 / 64 is 219 / 255
}

// Four neighbours of a pixel along one axis of the small picture, and Keys' cubic weights with a = -0.6.
struct Curve { int at[4]; float share[4]; };

__device__ __forceinline__ Curve curve_at(int pixel, float step, int count) {
    const float place = (pixel + 0.5f) * step - 0.5f;
    const int first = (int)floorf(place);
    const float t = place - (float)first;
    Curve curve;
    for (int i = 0; i < 4; ++i) {
        const float d = fabsf(t + 1.0f - (float)i);
        curve.at[i] = clamped(first - 1 + i, 0, count - 1);
        curve.share[i] = d < 1.0f ? (1.4f * d - 2.4f) * d * d + 1.0f : -0.6f * (((d - 5.0f) * d + 8.0f) * d - 4.0f);
    }
    return curve;
}

// A sample of one plane of the blurred picture; `step` bytes lie from sample to sample.
__device__ __forceinline__ int curved(const u8* plane, const Curve& column, const Curve& row, int width, int step) {
    float sum = 0.5f;
    for (int j = 0; j < 4; ++j) {
        const u8* line = plane + row.at[j] * width * step;
        float part = 0.0f;
        for (int i = 0; i < 4; ++i) part += column.share[i] * (float)line[column.at[i] * step];
        sum += row.share[j] * part;
    }
    return clamped((int)floorf(sum), 0, 255);
}

// `with_chroma` where the pixel is the one that stands for its four.
__device__ __forceinline__ Yuv frosted(const Painting& p, int x, int y, bool with_chroma) {
    const u8* luma = (const u8*)p.blurred;
    const Curve column = curve_at(x, p.small_columns_per_pixel, p.small_width);
    const Curve row = curve_at(y, p.small_rows_per_pixel, p.small_height);
    Yuv pixel = {curved(luma, column, row, p.small_width, 1), 0, 0};
    if (with_chroma) {
        const u8* chroma = luma + p.small_width * p.small_height;
        const int width = p.small_width / 2;
        const Curve coarse = curve_at(x / 2, p.small_columns_per_pixel, width);
        const Curve coarse_row = curve_at(y / 2, p.small_rows_per_pixel, p.small_height / 2);
        pixel.cb = curved(chroma, coarse, coarse_row, width, 2);
        pixel.cr = curved(chroma + 1, coarse, coarse_row, width, 2);
    }
    return pixel;
}

__device__ __forceinline__ Yuv painted(const Painting& p, Yuv given, int x, int y, bool first) {
    switch (p.view) {
        case OVERLAY: return in_class_colours(p, given, x, y);
        case MASK: return in_class_colours(p, yuv_of(p.backdrop), x, y);
        case MATTE: return {probability_as_luma(p, x, y), 128, 128};
        case GREEN: return mixed(yuv_of(p.backdrop), given, foreground_weight(p, x, y));
        default: {
            const int weight = foreground_weight(p, x, y);
            return weight == FULL ? given : mixed(frosted(p, x, y, first), given, weight);
        }
    }
}

__device__ __forceinline__ void paint_quad(const Painting& p, int left, int top) {
    Quad quad = {};
    if (p.view != MASK && p.view != MATTE) quad = quad_at(p.source, left, top);
    const Quad shared = quad;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const Yuv given = {quad.y[i], shared.cb, shared.cr};
        const Yuv pixel = painted(p, given, left + (i & 1), top + (i >> 1), i == 0);
        quad.y[i] = pixel.y;
        if (i == 0) quad.cb = pixel.cb, quad.cr = pixel.cr;  // chroma takes the upper left of each four
    }
    put(quad, p.luma, p.chroma, p.source.width, left, top);
}

// Grid: piles of quads in x and y of the largest picture, frames in z.
extern "C" __global__ void __launch_bounds__(128, 7) paint(const __grid_constant__ Paintings batch) {
    const Painting& p = batch.frames[blockIdx.z];
    const int left = 2 * (blockIdx.x * blockDim.x + threadIdx.x);
    const int top = 2 * PILE * (blockIdx.y * blockDim.y + threadIdx.y);
    if (left >= p.source.width || top >= p.source.height) return;
    if (in_several_colours(p)) {
        paint_pile(p, left, top, (const u32*)batch.present + blockIdx.z * MAX_CLASSES, batch.stamp);
        return;
    }
#pragma unroll 1
    for (int row = top; row < min(top + ROWS, p.source.height); row += 2) paint_quad(p, left, row);
}
