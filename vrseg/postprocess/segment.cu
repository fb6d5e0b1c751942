// Scores of a segmentation network, turned into 8-bit scores that cover exactly the frame. One thread for each pixel
// of the result, at the network's resolution; blockIdx.y counts frames. Same arithmetic as segment.py: products and
// differences are rounded one by one, as NumPy does, so that both agree on which side of a level a score lies.

// What the network gave; strides in elements. Mirrored by SCORES in segment_cuda.py.
struct Scores {
    u64 address;
    u64 frame_stride, channel_stride, pixel_stride;
    int width;     // elements in a row
    int channels;
    int half_floats;
};

// The part of a frame's scores that shows its picture, upright. Mirrored by WINDOW in segment_cuda.py.
struct Window {
    u64 offset;  // bytes from the start of the output to this frame's first plane
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

// 127 for a half, so that a byte exceeds 127 exactly where the probability exceeds 0.5; 0 for NaN.
__device__ __forceinline__ u8 byte_of(float probability) {
    const float level = ceilf(__fsub_rn(__fmul_rn(probability, 255.0f), 0.5f));
    return (u8)fminf(fmaxf(level, 0.0f), 255.0f);
}

// By the tangent, which cannot overflow.
__device__ __forceinline__ float sigmoid(float logit) { return tanhf(logit * 0.5f) * 0.5f + 0.5f; }

// One plane for each frame: the channel `something`, or with logits its lead over `nothing` (-1: there is none).
extern "C" __global__ void __launch_bounds__(256)
one_class(const Scores scores, int something, int nothing, int logits, u64 out, const Windows windows) {
    const Window& window = windows.of[blockIdx.y];
    const int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= window.width * window.height) return;
    const u64 element = element_for(scores, window, place);
    float value = score_at(scores, element, something);
    if (logits && nothing >= 0) value = __fsub_rn(value, score_at(scores, element, nothing));
    ((u8*)(out + window.offset))[place] = byte_of(logits ? sigmoid(value) : value);
}

// All classes, one plane each; in front of them a plane of `nothing_level`, unless that is negative. With logits the
// planes are their softmax. Sets the bit of each class that is the highest somewhere, 32 classes in a word of `wins`
// and `win_words` words for each frame, unless `wins` is 0.
extern "C" __global__ void __launch_bounds__(256)
several_classes(const Scores scores, int logits, int nothing_level, u64 out, u64 wins, int win_words,
                const Windows windows) {
    const Window& window = windows.of[blockIdx.y];
    const int place = blockIdx.x * blockDim.x + threadIdx.x;
    const int area = window.width * window.height;
    if (place >= area) return;
    const u64 element = element_for(scores, window, place);

    int winner = 0;
    float highest = score_at(scores, element, 0);
    for (int channel = 1; channel < scores.channels; ++channel) {
        const float value = score_at(scores, element, channel);
        // NaN wins over numbers and the first of equals over the rest, as NumPy has it.
        if (value > highest || (value != value && highest == highest)) { winner = channel; highest = value; }
    }
    if (wins) {
        u32* word = (u32*)wins + window.frame * win_words + winner / 32;
        const u32 bit = 1u << (winner % 32);
        if (!(*(volatile u32*)word & bit)) atomicOr(word, bit);
    }
    float sum = 0.0f;
    for (int channel = 0; logits && channel < scores.channels; ++channel)
        sum += expf(score_at(scores, element, channel) - highest);

    u8* plane = (u8*)(out + window.offset) + place;
    if (nothing_level >= 0) {
        *plane = (u8)nothing_level;
        plane += area;
    }
    for (int channel = 0; channel < scores.channels; ++channel, plane += area) {
        const float value = score_at(scores, element, channel);
        *plane = byte_of(logits ? expf(value - highest) / sum : value);
    }
}
