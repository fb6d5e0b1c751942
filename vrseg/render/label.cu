// Boxes with labels over the pictures of a batch, as label.py draws them, in the same pass that copies the pictures.
// How many boxes there are, only the device knows. All are opaque, so a pixel belongs to the best box that has it.
#include "pixels.cuh"

constexpr int PERCENTS = 101;  // 0 % to 100 %

struct Strip { int offset, columns; };  // where the ink of a piece of text begins; mirrored by STRIP in lettering.py

// One frame; mirrored by LABELLING in painting.py.
struct Labelling {
    u64 luma, chroma; // the picture to paint: 8 bits, rows of source.width bytes
    u64 boxes;        // (count, 4) float32: x0, y0, x1, y1 in the coded picture
    u64 scores;       // (count,) float32
    u64 box_classes;  // (count,) int32
    u64 count;        // one int32
    Picture source;   // its addresses, which come first, are the last that differ between frames of one kind
    u64 palette;      // Colour of each class; one more for all that are unknown
    u64 strips;       // Strip of each class, of the unknown one, and of each percentage
    u64 ink;          // rows of each strip below each other, uint8, 0 to 128
    int classes;
    int rotation_deg; // clockwise turn that shows the picture upright
    int line;         // width of the outline
    int ink_rows, max_columns;
};

struct Labellings { Labelling frames[MAX_FRAMES]; };

struct Place { int x, y; };
struct Edges { int left, top, right, bottom; };

__device__ __forceinline__ int even(int pixels) { return max(0, pixels) & ~1; }

__device__ __forceinline__ bool holds(const Edges& area, int x, int y) {
    return x >= area.left && x < area.right && y >= area.top && y < area.bottom;
}

__device__ __forceinline__ Place upright(const Labelling& p, int x, int y) {
    const int right = p.source.width - 1, bottom = p.source.height - 1;
    switch (p.rotation_deg) {
        case 90: return {bottom - y, x};
        case 180: return {right - x, bottom - y};
        case 270: return {y, right - x};
        default: return {x, y};
    }
}

__device__ __forceinline__ Edges upright_box(const Labelling& p, const float4& box) {
    const float width = (float)p.source.width, height = (float)p.source.height;
    float4 turned = box;
    if (p.rotation_deg == 90) turned = {height - box.w, box.x, height - box.y, box.z};
    if (p.rotation_deg == 180) turned = {width - box.z, height - box.w, width - box.x, height - box.y};
    if (p.rotation_deg == 270) turned = {box.y, width - box.z, box.w, width - box.x};
    return {(int)rintf(turned.x), (int)rintf(turned.y), (int)rintf(turned.z), (int)rintf(turned.w)};
}

// Everything of a box and its label lies within; a little more is no harm.
__device__ __forceinline__ Edges reach(const Labelling& p, const Edges& box, int width, int height) {
    return {min(box.left, width - p.max_columns) - 2, min(box.top, height) - p.ink_rows - 2,
            max(box.left + max(2 * p.line, p.max_columns), box.right) + 2,
            max(box.top + max(2 * p.line, p.ink_rows), box.bottom) + 2};
}

__device__ bool on_outline(const Edges& box, int line, int width, int height, int x, int y) {
    const int left = even(box.left), top = even(box.top);
    const int right = min(width, max(box.right, left + 2 * line));
    const int bottom = min(height, max(box.bottom, top + 2 * line));
    if (!holds({left, top, right, bottom}, x, y)) return false;
    return y < top + line || y >= even(bottom - line) || x < left + line || x >= even(right - line);
}

// The text of one label: its two strips, and where it lies.
struct Label { Strip name, percent; Edges area; };

__device__ Label label_of(const Labelling& p, const Edges& box, int index, int known, int width, int height) {
    const Strip* strips = (const Strip*)p.strips;
    const int percent = (int)rint((double)((const float*)p.scores)[index] * 100.0);
    Label label = {strips[known], strips[p.classes + 1 + min(max(percent, 0), PERCENTS - 1)], {}};
    const int columns = min(width, even(label.name.columns + label.percent.columns));
    const int rows = min(height, p.ink_rows);
    const int left = even(min(box.left, width - columns)), above = box.top - rows;
    const int top = even(above >= 0 ? above : min(box.top, height - rows));
    label.area = {left, top, left + columns, top + rows};
    return label;
}

__device__ __forceinline__ int ink_at(const Labelling& p, const Label& label, int x, int y) {
    const int row = y - label.area.top, column = x - label.area.left;
    const u8* ink = (const u8*)p.ink;
    if (column < label.name.columns) return ink[label.name.offset + row * label.name.columns + column];
    return ink[label.percent.offset + row * label.percent.columns + column - label.name.columns];
}

// What one box puts on a pixel of the upright picture; false when nothing.
__device__ bool drawn(const Labelling& p, const Edges& box, int index, int x, int y, int width, int height, Yuv& out) {
    const int id = ((const int*)p.box_classes)[index];
    const int known = id < 0 || id > p.classes ? p.classes : id;
    const Label label = label_of(p, box, index, known, width, height);
    const bool on_label = holds(label.area, x, y);
    if (!on_label && !on_outline(box, p.line, width, height, x, y)) return false;
    const Colour colour = ((const Colour*)p.palette)[known];
    const Yuv text = {colour.text_y, colour.text_cb, colour.text_cr};
    out = mixed(yuv_of(colour), text, on_label ? ink_at(p, label, x, y) : 0);
    return true;
}

// Grid: quads in x and y of the largest picture, frames in z.
extern "C" __global__ void label(const __grid_constant__ Labellings batch) {
    const Labelling& p = batch.frames[blockIdx.z];
    const int left = 2 * (blockIdx.x * blockDim.x + threadIdx.x), top = 2 * (blockIdx.y * blockDim.y + threadIdx.y);
    if (left >= p.source.width || top >= p.source.height) return;
    const bool turned = p.rotation_deg == 90 || p.rotation_deg == 270;
    const int width = turned ? p.source.height : p.source.width, height = turned ? p.source.width : p.source.height;
    const Place corner = upright(p, left, top);
    Quad quad = quad_at(p.source, left, top);
    const int count = *(const int*)p.count;
    int open = 15;  // one bit for each pixel that no box has yet
    for (int index = 0; index < count && open; ++index) {
        const Edges box = upright_box(p, ((const float4*)p.boxes)[index]);
        if (!holds(reach(p, box, width, height), corner.x, corner.y)) continue;
        for (int i = 0; i < 4; ++i) {
            const Place place = upright(p, left + (i & 1), top + (i >> 1));
            Yuv pixel;
            if (!(open >> i & 1) || !drawn(p, box, index, place.x, place.y, width, height, pixel)) continue;
            open &= ~(1 << i);
            quad.y[i] = pixel.y;
            if ((place.x | place.y) & 1) continue;  // chroma belongs to the upper left of each four, seen upright
            quad.cb = pixel.cb;
            quad.cr = pixel.cr;
        }
    }
    put(quad, p.luma, p.chroma, p.source.width, left, top);
}
