// What all drawing shares: colours, mixing, and the four pixels that have one pair of chroma samples.

constexpr int MAX_FRAMES = 16;  // as in painting.py
constexpr int FULL = 128;       // the weight that shows only what is on top

struct Yuv { int y, cb, cr; };

// Mirrored by COLOUR in palette.py.
struct Colour {
    u8 y, cb, cr, background;
    u8 text_y, text_cb, text_cr, unused;
};

__device__ __forceinline__ Yuv yuv_of(const Colour& colour) { return {colour.y, colour.cb, colour.cr}; }

__device__ __forceinline__ int clamped(int value, int low, int high) { return min(max(value, low), high); }

// In integers, as in blend.py.
__device__ __forceinline__ int mixed(int below, int top, int weight) {
    return below + (((top - below) * weight + FULL / 2) >> 7);
}

__device__ __forceinline__ Yuv mixed(Yuv below, Yuv top, int weight) {
    return {mixed(below.y, top.y, weight), mixed(below.cb, top.cb, weight), mixed(below.cr, top.cr, weight)};
}

// Two rows of two pixels, on 8 bits, and the chroma that they share.
struct Quad { int y[4], cb, cr; };

__device__ __forceinline__ int eight_bits(u16 sample) { return min(255, (sample + 128) >> 8); }

// `left` and `top` are even.
__device__ __forceinline__ Quad quad_at(const Picture& picture, int left, int top) {
    const u64 first = picture.luma + (u64)top * picture.pitch, second = first + picture.pitch;
    const u64 pairs = picture.chroma + (u64)(top / 2) * picture.pitch;
    if (picture.sample_bytes == 1) {
        const uchar2 a = ((const uchar2*)first)[left / 2], b = ((const uchar2*)second)[left / 2];
        const uchar2 c = ((const uchar2*)pairs)[left / 2];
        return {{a.x, a.y, b.x, b.y}, c.x, c.y};
    }
    const ushort2 a = ((const ushort2*)first)[left / 2], b = ((const ushort2*)second)[left / 2];
    const ushort2 c = ((const ushort2*)pairs)[left / 2];
    return {{eight_bits(a.x), eight_bits(a.y), eight_bits(b.x), eight_bits(b.y)}, eight_bits(c.x), eight_bits(c.y)};
}

// Into planes of 8 bits whose rows are `width` bytes.
__device__ __forceinline__ void put(const Quad& quad, u64 luma, u64 chroma, int width, int left, int top) {
    uchar2* rows = (uchar2*)(luma + (u64)top * width + left);
    rows[0] = {(u8)quad.y[0], (u8)quad.y[1]};
    rows[width / 2] = {(u8)quad.y[2], (u8)quad.y[3]};
    *(uchar2*)(chroma + (u64)(top / 2) * width + left) = {(u8)quad.cb, (u8)quad.cr};
}
