// Scores of a segmentation network, turned into scores that cover exactly the frame: 8 bits for drawing, and 16 where
// somebody reads them on the host. A thread takes one pixel of the result, or two, at the network's resolution;
// blockIdx.y counts frames. Same arithmetic as segment.py: products and differences are rounded one by one, as NumPy
// does, so that both agree on which side of a step a score lies.

// What the network gave; strides in elements. Mirrored by SCORES in segment_plan.py.
struct Scores {
    u64 address;
    u64 frame_stride, channel_stride, pixel_stride;
    int width;     // elements in a row
    int channels;
    int half_floats;
};

// The part of a frame's scores that shows its picture, upright. Mirrored by WINDOW in segment_plan.py.
struct Window {
    u64 offset;  // scores from the start of the output to this frame's first plane
    int frame;   // in the batch
    int left, top, width, height;
    int quarter_turns;  // that turn upright scores back, counter-clockwise
};
struct Windows { Window of[64]; };

__device__ __forceinline__ float score_at(const Scores& scores, u64 element, int channel) {
    element += channel * scores.channel_stride;
    if (scores.half_floats) return of_half(((const u16*)scores.address)[element]);
    return ((const float*)scores.address)[element];
}

// The pixel of the upright scores that comes to lie at `place` (row by row) in the frame's own orientation.
__device__ __forceinline__ u64 element_for(const Scores& scores, const Window& window, int place) {
    const int columns = window.quarter_turns & 1 ? window.height : window.width;
    const int row = place / columns, column = place % columns;
    int x = column, y = row;
    if (window.quarter_turns == 1) { x = window.width - 1 - row; y = column; }
    if (window.quarter_turns == 2) { x = window.width - 1 - column; y = window.height - 1 - row; }
    if (window.quarter_turns == 3) { x = row; y = window.height - 1 - column; }
    const u64 pixel = (u64)(window.top + y) * scores.width + window.left + x;
    return window.frame * scores.frame_stride + pixel * scores.pixel_stride;
}

// 32767 for a half, so that a score exceeds 32767 exactly where the probability exceeds 0.5; 0 for NaN.
__device__ __forceinline__ u16 steps_of(float probability) {
    const float steps = __fsub_rn(__fmul_rn(probability, 65535.0f), 0.5f);
    return (u16)__float2int_ru(fminf(fmaxf(steps, 0.0f), 65535.0f));
}

// By the tangent, which cannot overflow.
__device__ __forceinline__ float sigmoid(float logit) { return tanhf(logit * 0.5f) * 0.5f + 0.5f; }

// One plane for each frame: the channel `something`, or with logits its lead over `nothing` (-1: there is none).
// `out` gets 8 bits of each score, `fine` 16, unless it is 0.
extern "C" __global__ void __launch_bounds__(256)
one_class(const Scores scores, int something, int nothing, int logits, u64 out, u64 fine, const Windows windows) {
    const Window& window = windows.of[blockIdx.y];
    const int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= window.width * window.height) return;
    const u64 element = element_for(scores, window, place);
    float value = score_at(scores, element, something);
    if (logits && nothing >= 0) value = __fsub_rn(value, score_at(scores, element, nothing));
    const u16 steps = steps_of(logits ? sigmoid(value) : value);
    ((u8*)out)[window.offset + place] = (u8)(steps >> 8);
    if (fine) ((u16*)fine)[window.offset + place] = steps;
}

constexpr int HELD = 24;  // channels that a thread keeps in registers: what most networks for scenes and bodies have
constexpr float LOG2_E = 1.44269504f;

__device__ __forceinline__ float number(u16 half) { return of_half(half); }
__device__ __forceinline__ float number(float value) { return value; }

// NaN wins over numbers and the first of equals over the rest, as NumPy has it.
__device__ __forceinline__ bool beats(float value, float highest) {
    return value > highest || (value != value && highest == highest);
}

// Where the planes of one frame go, and what is noted of them.
struct Target {
    u8* planes;
    u16* fine;          // 0: nobody asks
    int area;
    u32* wins;          // one bit for each class; 0: nobody asks
    int nothing_steps;  // of a plane in front; negative: there is none
};

// Scores of one class, of pixels side by side.
template <int PIXELS>
__device__ __forceinline__ void put(const Target& to, size_t at, const u16 (&steps)[PIXELS]) {
    struct alignas(PIXELS) Bytes { u8 of[PIXELS]; } bytes;
    struct alignas(2 * PIXELS) Steps { u16 of[PIXELS]; } fine;
#pragma unroll
    for (int i = 0; i < PIXELS; ++i) {
        bytes.of[i] = (u8)(steps[i] >> 8);
        fine.of[i] = steps[i];
    }
    *(Bytes*)(to.planes + at) = bytes;
    if (to.fine) *(Steps*)(to.fine + at) = fine;
}

__device__ __forceinline__ void note(u32* wins, int winner) {
    u32* word = wins + winner / 32;
    const u32 bit = 1u << (winner % 32);
    if (!(*(volatile u32*)word & bit)) atomicOr(word, bit);
}

// PIXELS side by side, in memory too: each score is read once, and turned into its power once.
template <typename Score, int PIXELS>
__device__ __forceinline__ void few_channels(const Scores& scores, u64 element, int logits, const Target& to,
                                             int place) {
    struct alignas(PIXELS * sizeof(Score)) Read { Score of[PIXELS]; };
    float held[HELD][PIXELS];
    const Score* from = (const Score*)scores.address + element;
#pragma unroll
    for (int channel = 0; channel < HELD; ++channel, from += scores.channel_stride) {
        if (channel >= scores.channels) break;
        const Read read = *(const Read*)from;
#pragma unroll
        for (int i = 0; i < PIXELS; ++i) held[channel][i] = number(read.of[i]);
    }
    if (to.wins) {
#pragma unroll
        for (int i = 0; i < PIXELS; ++i) {
            int winner = 0;
            float highest = held[0][i];
#pragma unroll
            for (int channel = 1; channel < HELD; ++channel) {
                if (channel >= scores.channels) break;
                if (beats(held[channel][i], highest)) { winner = channel; highest = held[channel][i]; }
            }
            note(to.wins, winner);
        }
    }
    float scale[PIXELS];
    if (logits) {
#pragma unroll
        for (int i = 0; i < PIXELS; ++i) {
            float highest = held[0][i], sum = 0.0f;
#pragma unroll
            for (int channel = 1; channel < HELD; ++channel) {
                if (channel >= scores.channels) break;
                highest = fmaxf(highest, held[channel][i]);  // passes over NaN, which then is in the sum
            }
#pragma unroll
            for (int channel = 0; channel < HELD; ++channel) {
                if (channel >= scores.channels) break;
                sum += held[channel][i] = exp2f((held[channel][i] - highest) * LOG2_E);
            }
            scale[i] = 1.0f / sum;
        }
    }
    u16 steps[PIXELS];
    size_t at = place;
    if (to.nothing_steps >= 0) {
#pragma unroll
        for (int i = 0; i < PIXELS; ++i) steps[i] = (u16)to.nothing_steps;
        put(to, at, steps);
        at += to.area;
    }
#pragma unroll
    for (int channel = 0; channel < HELD; ++channel, at += to.area) {
        if (channel >= scores.channels) break;
#pragma unroll
        for (int i = 0; i < PIXELS; ++i) steps[i] = steps_of(logits ? held[channel][i] * scale[i] : held[channel][i]);
        put(to, at, steps);
    }
}

// Any number of channels, read as often as needed.
__device__ void many_channels(const Scores& scores, u64 element, int logits, const Target& to, int place) {
    int winner = 0;
    float highest = score_at(scores, element, 0);
    for (int channel = 1; channel < scores.channels; ++channel) {
        const float value = score_at(scores, element, channel);
        if (beats(value, highest)) { winner = channel; highest = value; }
    }
    if (to.wins) note(to.wins, winner);
    float sum = 0.0f;
    for (int channel = 0; logits && channel < scores.channels; ++channel)
        sum += exp2f((score_at(scores, element, channel) - highest) * LOG2_E);

    size_t at = place;
    if (to.nothing_steps >= 0) {
        put(to, at, {(u16)to.nothing_steps});
        at += to.area;
    }
    for (int channel = 0; channel < scores.channels; ++channel, at += to.area) {
        const float value = score_at(scores, element, channel);
        put(to, at, {steps_of(logits ? exp2f((value - highest) * LOG2_E) / sum : value)});
    }
}

// Whether every two pixels, counted from the start of a row, can be read and written at once.
__device__ __forceinline__ bool in_pairs(const Scores& scores, const Window& window) {
    return scores.pixel_stride == 1 && window.quarter_turns == 0 && scores.address % 8 == 0 &&
           ((scores.width | window.left | window.width) & 1) == 0;
}

template <typename Score>
__device__ __forceinline__ void two_places(const Scores& scores, const Window& window, int logits, const Target& to,
                                           int place) {
    if (scores.channels <= HELD && in_pairs(scores, window)) {
        few_channels<Score, 2>(scores, element_for(scores, window, place), logits, to, place);
        return;
    }
    const int end = min(place + 2, to.area);
#pragma unroll 1
    for (; place < end; ++place) {
        const u64 element = element_for(scores, window, place);
        if (scores.channels <= HELD) few_channels<Score, 1>(scores, element, logits, to, place);
        else many_channels(scores, element, logits, to, place);
    }
}

// All classes, one plane each; in front of them a plane of `nothing_steps`, unless that is negative. With logits the
// planes are their softmax. `out` and `fine` as above. Sets the bit of each class that is the highest somewhere, 32
// classes in a word of `wins` and `win_words` words for each frame, unless `wins` is 0. A thread takes two pixels.
extern "C" __global__ void __launch_bounds__(256)
several_classes(const Scores scores, int logits, int nothing_steps, u64 out, u64 fine, u64 wins, int win_words,
                const Windows windows) {
    const Window& window = windows.of[blockIdx.y];
    const int place = 2 * (blockIdx.x * blockDim.x + threadIdx.x);
    const int area = window.width * window.height;
    if (place >= area) return;
    u32* words = wins ? (u32*)wins + window.frame * win_words : nullptr;
    u16* const fine_planes = fine ? (u16*)fine + window.offset : nullptr;
    const Target to = {(u8*)out + window.offset, fine_planes, area, words, nothing_steps};
    if (scores.half_floats) two_places<u16>(scores, window, logits, to, place);
    else two_places<float>(scores, window, logits, to, place);
}
