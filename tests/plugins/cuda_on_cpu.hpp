// What CUDA C++ has beyond C++, for one host thread: a kernel's blocks and threads run one after the other.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __constant__ static const
#define __shared__ static
#define __grid_constant__
#define __launch_bounds__(...)

#define VECTOR2(T, name, align) \
    struct alignas(align) name { T x, y; }; \
    inline name make_##name(T x, T y) { return {x, y}; }
#define VECTOR3(T, name) \
    struct name { T x, y, z; }; \
    inline name make_##name(T x, T y, T z) { return {x, y, z}; }
#define VECTOR4(T, name, align) \
    struct alignas(align) name { T x, y, z, w; }; \
    inline name make_##name(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTOR2(unsigned char, uchar2, 2) VECTOR3(unsigned char, uchar3) VECTOR4(unsigned char, uchar4, 4)
VECTOR2(unsigned short, ushort2, 4) VECTOR3(unsigned short, ushort3) VECTOR4(unsigned short, ushort4, 8)
VECTOR2(short, short2, 4) VECTOR3(short, short3) VECTOR4(short, short4, 8)
VECTOR2(int, int2, 8) VECTOR3(int, int3) VECTOR4(int, int4, 16)
VECTOR2(unsigned, uint2, 8) VECTOR3(unsigned, uint3) VECTOR4(unsigned, uint4, 16)
VECTOR2(long long, longlong2, 16) VECTOR2(unsigned long long, ulonglong2, 16)
VECTOR2(float, float2, 8) VECTOR3(float, float3) VECTOR4(float, float4, 16)
struct dim3 { unsigned x = 1, y = 1, z = 1; };

static thread_local uint3 threadIdx, blockIdx;
static thread_local dim3 blockDim, gridDim;
static const int warpSize = 32;

#define MIN_MAX(T) \
    inline T min(T a, T b) { return b < a ? b : a; } \
    inline T max(T a, T b) { return a < b ? b : a; }
MIN_MAX(int) MIN_MAX(unsigned) MIN_MAX(long) MIN_MAX(unsigned long) MIN_MAX(long long) MIN_MAX(unsigned long long)
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline unsigned min(int a, unsigned b) { return min((unsigned)a, b); }
inline unsigned min(unsigned a, int b) { return min(a, (unsigned)b); }
inline unsigned max(int a, unsigned b) { return max((unsigned)a, b); }
inline unsigned max(unsigned a, int b) { return max(a, (unsigned)b); }

inline float __saturatef(float v) { return fminf(fmaxf(v, 0.0f), 1.0f); }
inline int __float2int_rn(float v) { return (int)rintf(v); }
inline int __float2int_rd(float v) { return (int)floorf(v); }
inline int __float2int_ru(float v) { return (int)ceilf(v); }
inline int __float2int_rz(float v) { return (int)v; }
inline unsigned __float2uint_rn(float v) { return v <= 0 ? 0u : (unsigned)rintf(v); }
inline unsigned __float2uint_rd(float v) { return v <= 0 ? 0u : (unsigned)v; }
inline unsigned __float2uint_rz(float v) { return v <= 0 ? 0u : (unsigned)v; }
inline float __int2float_rn(int v) { return (float)v; }
inline float __uint2float_rn(unsigned v) { return (float)v; }
inline float __expf(float v) { return expf(v); }
inline float __logf(float v) { return logf(v); }
inline float __powf(float a, float b) { return powf(a, b); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __frcp_rn(float v) { return 1.0f / v; }
inline float __fsqrt_rn(float v) { return sqrtf(v); }
inline float rsqrtf(float v) { return 1.0f / sqrtf(v); }
inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
inline int __clzll(long long v) { return v ? __builtin_clzll((unsigned long long)v) : 64; }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)(((unsigned long long)a * b) >> 32); }
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
    const unsigned long long both = ((unsigned long long)b << 32) | a;
    unsigned out = 0;
    for (int i = 0; i < 4; ++i) out |= (unsigned)((both >> (8 * ((selector >> (4 * i)) & 7))) & 255) << (8 * i);
    return out;
}

inline unsigned __dp2a_lo(unsigned a, unsigned b, unsigned sum) {
    return sum + (a & 0xffff) * (b & 255) + (a >> 16) * (b >> 8 & 255);
}
inline unsigned __dp2a_hi(unsigned a, unsigned b, unsigned sum) { return __dp2a_lo(a, b >> 16, sum); }
inline unsigned __dp4a(unsigned a, unsigned b, unsigned sum) {
    for (int i = 0; i < 32; i += 8) sum += (a >> i & 255) * (b >> i & 255);
    return sum;
}

template <typename To, typename From> inline To bits_as(From v) {
    static_assert(sizeof(To) == sizeof(From), "the same bits");
    To out;
    memcpy(&out, &v, sizeof out);
    return out;
}
inline int __float_as_int(float v) { return bits_as<int>(v); }
inline unsigned __float_as_uint(float v) { return bits_as<unsigned>(v); }
inline float __int_as_float(int v) { return bits_as<float>(v); }
inline float __uint_as_float(unsigned v) { return bits_as<float>(v); }

// In place of the PTX of picture.cuh; both round to nearest even.
inline unsigned short half_of(float v) { return bits_as<unsigned short>((_Float16)v); }
inline float of_half(unsigned short v) { return (float)bits_as<_Float16>(v); }

template <typename T> inline T __ldg(const T* p) {
    if ((uintptr_t)p % sizeof(T)) throw std::runtime_error("__ldg: misaligned address");
    return *p;
}
template <typename T> inline T __ldcs(const T* p) { return *p; }
template <typename T> inline T __ldca(const T* p) { return *p; }
template <typename T> inline void __stcs(T* p, std::common_type_t<T> v) { *p = v; }
template <typename T> inline void __stcg(T* p, std::common_type_t<T> v) { *p = v; }

// There is one thread, so every operation is atomic.
#define ATOMIC(name, expression) \
    template <typename T> inline T name(T* at, std::common_type_t<T> v) { \
        const T old = *at; \
        *at = expression; \
        return old; \
    }
ATOMIC(atomicAdd, old + v) ATOMIC(atomicSub, old - v) ATOMIC(atomicExch, v)
ATOMIC(atomicMax, old < v ? v : old) ATOMIC(atomicMin, v < old ? v : old)
ATOMIC(atomicOr, old | v) ATOMIC(atomicAnd, old & v) ATOMIC(atomicXor, old ^ v)
template <typename T> inline T atomicCAS(T* at, std::common_type_t<T> expected, std::common_type_t<T> v) {
    const T old = *at;
    if (old == expected) *at = v;
    return old;
}
inline void __threadfence() {}
inline void __threadfence_block() {}

[[noreturn]] inline void need_neighbours(const char* what) {
    throw std::runtime_error(std::string(what) + ": threads run one after the other here, they cannot meet");
}
inline int __syncthreads_or(int) { need_neighbours("__syncthreads_or"); }
inline int __syncthreads_count(int) { need_neighbours("__syncthreads_count"); }
inline void __syncwarp(unsigned = ~0u) { need_neighbours("__syncwarp"); }
inline unsigned __ballot_sync(unsigned, int) { need_neighbours("__ballot_sync"); }
inline unsigned __activemask() { need_neighbours("__activemask"); }
template <typename T> inline T __shfl_sync(unsigned, T, int, int = 32) { need_neighbours("__shfl_sync"); }
template <typename T> inline T __shfl_down_sync(unsigned, T, unsigned, int = 32) { need_neighbours("__shfl_down_sync"); }
template <typename T> inline T __shfl_up_sync(unsigned, T, unsigned, int = 32) { need_neighbours("__shfl_up_sync"); }
template <typename T> inline T __shfl_xor_sync(unsigned, T, int, int = 32) { need_neighbours("__shfl_xor_sync"); }

#ifdef HAS_BARRIERS
#include "meeting_threads.hpp"
#else
template <typename Work> void run_block(dim3 block, Work work) {
    for (threadIdx.z = 0; threadIdx.z < block.z; ++threadIdx.z)
        for (threadIdx.y = 0; threadIdx.y < block.y; ++threadIdx.y)
            for (threadIdx.x = 0; threadIdx.x < block.x; ++threadIdx.x) work();
}
#endif

template <typename T> inline T taken(const void* from) {
    static_assert(std::is_trivially_copyable_v<T>, "CUDA passes arguments as bytes");
    T value;
    memcpy(&value, from, sizeof value);
    return value;
}

template <typename... P, size_t... I>
void run_all(void (*kernel)(P...), dim3 grid, dim3 block, void** arguments, std::index_sequence<I...>) {
    gridDim = grid;
    blockDim = block;
    for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x)
                run_block(block, [&] { kernel(taken<P>(arguments[I])...); });
}

// Returns an empty text, or what is wrong; it stays valid until the next launch.
template <typename... P>
const char* launch(void (*kernel)(P...), const unsigned* sizes, void** arguments, const size_t* bytes, size_t count) {
    static std::string problem;
    problem.clear();
    const size_t wanted[] = {sizeof(P)..., 0};
    if (count != sizeof...(P))
        problem = "takes " + std::to_string(sizeof...(P)) + " arguments, got " + std::to_string(count);
    for (size_t i = 0; problem.empty() && i < count; ++i)
        if (bytes[i] != wanted[i])
            problem = "argument " + std::to_string(i) + " has " + std::to_string(wanted[i]) + " bytes, got " +
                      std::to_string(bytes[i]);
    if (!problem.empty()) return problem.c_str();
    try {
        run_all(kernel, {sizes[0], sizes[1], sizes[2]}, {sizes[3], sizes[4], sizes[5]}, arguments,
                std::index_sequence_for<P...>());
    } catch (const std::runtime_error& error) {
        problem = error.what();
    }
    return problem.c_str();
}
