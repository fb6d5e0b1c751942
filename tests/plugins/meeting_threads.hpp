// __syncthreads on one host thread: each thread of a block has a stack of its own, and runs until it comes to the
// barrier or to its end. Included by cuda_on_cpu.hpp for sources that have barriers.
#include <memory>
#include <ucontext.h>
#include <vector>

struct Walker {
    ucontext_t context;
    uint3 index;
    std::unique_ptr<char[]> stack;
    bool ended;
};

static const size_t STACK_BYTES = 64 * 1024;
static ucontext_t conductor;
static Walker* walking;
static std::string stumble;
static void* walk;                 // what every thread does,
static void (*take_walk)(void*);   // and how to call it

inline void __syncthreads() { swapcontext(&walking->context, &conductor); }

inline void walk_to_the_end() {
    try {
        take_walk(walk);
    } catch (const std::runtime_error& error) {  // no exception crosses stacks
        stumble = error.what();
    }
    walking->ended = true;
    swapcontext(&walking->context, &conductor);
}

// Let every thread come to the next barrier; returns how many have ended instead.
inline size_t one_stretch(std::vector<Walker>& walkers) {
    size_t ended = 0;
    for (Walker& one : walkers) {
        walking = &one;
        threadIdx = one.index;
        if (!one.ended) swapcontext(&conductor, &one.context);
        ended += one.ended;
    }
    return ended;
}

template <typename Work> void run_block(dim3 block, Work work) {
    walk = &work;
    take_walk = [](void* at) { (*(Work*)at)(); };
    stumble.clear();
    static std::vector<Walker> walkers;
    walkers.resize(block.x * block.y * block.z);
    for (unsigned i = 0; i < walkers.size(); ++i) {
        Walker& one = walkers[i];
        one.ended = false;
        one.index = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
        if (!one.stack) one.stack.reset(new char[STACK_BYTES]);
        getcontext(&one.context);
        one.context.uc_stack.ss_sp = one.stack.get();
        one.context.uc_stack.ss_size = STACK_BYTES;
        one.context.uc_link = nullptr;
        makecontext(&one.context, walk_to_the_end, 0);
    }
    for (size_t ended = 0; ended < walkers.size();) {
        ended = one_stretch(walkers);
        if (!stumble.empty()) throw std::runtime_error(stumble);
        if (ended > 0 && ended < walkers.size())
            throw std::runtime_error("__syncthreads: some threads have ended, they cannot meet the others");
    }
}
