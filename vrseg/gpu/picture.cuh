// What every kernel knows: what a picture in device memory is, and how its samples and colours are read.
// Kept free of headers: NVRTC then needs nothing but this text.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// A 4:2:0 picture with interleaved chroma. Mirrored by PICTURE in picture.py.
struct Picture {
    u64 luma;          // address of the first row
    u64 chroma;        // address of the first row of (Cb, Cr) pairs
    int pitch;         // bytes from row to row, of both planes
    int width, height; // pixels of luma
    int sample_bytes;  // 1: 8 bits; 2: 16 bits, the value in the high ones
    // On the scale of 8 bits: R = luma_scale * (Y - luma_offset) + red_cr * (Cr - 128), and so on.
    float luma_offset, luma_scale;
    float red_cr, green_cb, green_cr, blue_cb;
};

struct Chroma { float cb, cr; };

// Samples on the scale of 8 bits. Coordinates must lie within the plane.
__device__ __forceinline__ float luma_at(const Picture& picture, int x, int y) {
    const u64 row = picture.luma + (u64)y * picture.pitch;
    if (picture.sample_bytes == 1) return (float)((const u8*)row)[x];
    return (float)((const u16*)row)[x] * (1.0f / 256.0f);
}

__device__ __forceinline__ Chroma chroma_at(const Picture& picture, int x, int y) {  // in chroma samples
    const u64 row = picture.chroma + (u64)y * picture.pitch;
    if (picture.sample_bytes == 1) {
        const uchar2 pair = ((const uchar2*)row)[x];
        return {(float)pair.x, (float)pair.y};
    }
    const ushort2 pair = ((const ushort2*)row)[x];
    return {(float)pair.x * (1.0f / 256.0f), (float)pair.y * (1.0f / 256.0f)};
}

// Numbers of 16 bits (IEEE binary16), rounded to nearest even. PTX, because cuda_fp16.h is a header.
// Who compiles this for another machine brings both along.
#ifdef __CUDACC__
__device__ __forceinline__ u16 half_of(float value) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

__device__ __forceinline__ float of_half(u16 bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
#endif
