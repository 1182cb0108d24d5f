// Attention of sequences of different lengths over keys and values that lie in blocks.
//
// A block holds sixteen positions in all layers: [layer][kv head][keys, values]. Keys are
// [dimension][position], so that sixteen scores come out of one pass; values [position][dimension].
// Scores are summed over dimensions in order and outputs over positions in order, whatever is
// computed beside them: a token's result depends on its sequence alone.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "packed_matrix.h"

namespace beamline {

struct HeadShape {
    size_t heads, kv_heads, size;  // size: dimensions of a head, a multiple of sixteen
    size_t layers, layer;
    size_t rotated;       // leading dimensions that turn with the position; 0: none
    bool is_interleaved;  // neighbours turn together, not the halves
    size_t window;        // positions that a query sees, its own included; 0: all
    float scale;

    size_t shared() const { return heads / kv_heads; }
    size_t part() const { return LANES * size; }  // floats of a block's keys, or values, of a head
    size_t block() const { return layers * kv_heads * 2 * part(); }  // floats of a block
};

// The blocks of one sequence, as one kv head of one layer sees them.
class HeadCache {
   public:
    HeadCache(const HeadShape& shape, float* blocks, const int32_t* table, size_t head)
        : start_(blocks + (shape.layer * shape.kv_heads + head) * 2 * shape.part()),
          table_(table),
          block_(shape.block()),
          part_(shape.part()) {}

    float* keys(size_t block) const { return start_ + static_cast<size_t>(table_[block]) * block_; }
    float* values(size_t block) const { return keys(block) + part_; }

   private:
    float* start_;
    const int32_t* table_;
    size_t block_, part_;
};

// Turns the leading dimensions of a head by the angles of its position.
inline void rotate(const HeadShape& shape, const float* from, const float* cosines,
                   const float* sines, float* to) {
    const size_t half = shape.rotated / 2;
    for (size_t pair = 0; pair < half; ++pair) {
        const size_t one = shape.is_interleaved ? 2 * pair : pair;
        const size_t other = shape.is_interleaved ? 2 * pair + 1 : pair + half;
        const float x = from[one], y = from[other];
        to[one] = x * cosines[pair] - y * sines[pair];
        to[other] = x * sines[pair] + y * cosines[pair];
    }
    for (size_t at = shape.rotated; at < shape.size; ++at) to[at] = from[at];
}

// Scores of ROWS queries [ROWS, size] with the keys of a block; fetches what comes next.
template <int ROWS>
void score_block(size_t size, const float* queries, const float* keys, const float* next,
                 float* scores, size_t stride) {
    Floats sums[ROWS] = {};
    for (size_t at = 0; at < size; ++at) {
        __builtin_prefetch(next + at * LANES);
        const Floats part = load(keys + at * LANES);
        for (int row = 0; row < ROWS; ++row) sums[row] += part * queries[row * size + at];
    }
    for (int row = 0; row < ROWS; ++row) store(scores + row * stride, sums[row]);
}

// Makes the scores of positions [begin, end) probabilities; up to whole blocks the rest is zero.
inline void normalise(float* scores, size_t begin, size_t end) {
    constexpr float NEVER = -std::numeric_limits<float>::infinity();
    const size_t first = begin / LANES * LANES, last = rounded_up(end, LANES);
    for (size_t at = first; at < begin; ++at) scores[at] = NEVER;
    for (size_t at = end; at < last; ++at) scores[at] = NEVER;
    Floats most = all(NEVER);
    for (size_t at = first; at < last; at += LANES) most = largest(most, load(scores + at));
    const float top = greatest(most);
    Floats total{};
    for (size_t at = first; at < last; at += LANES) {
        const Floats below = load(scores + at) - top;
        const Floats weight = below < -87.0f ? Floats{} : exponential(below);
        store(scores + at, weight);
        total += weight;
    }
    const float share = 1.0f / sum(total);
    for (size_t at = first; at < last; at += LANES) store(scores + at, load(scores + at) * share);
}

// Outputs of ROWS queries in WIDTH * 16 dimensions from `column` on: values of positions
// [begin, end), weighted and summed.
template <int ROWS, int WIDTH>
void mix_values(const HeadCache& cache, size_t size, size_t column, const float* weights,
                size_t stride, size_t begin, size_t end, float* outputs) {
    Floats sums[ROWS][WIDTH] = {};
    const size_t last = (end - 1) / LANES;
    for (size_t position = begin; position < end;) {
        const size_t block = position / LANES;
        const size_t until = (block + 1) * LANES < end ? (block + 1) * LANES : end;
        const float* values = cache.values(block) + column;
        const float* next = cache.values(block < last ? block + 1 : block) + column;
        for (; position < until; ++position) {
            const size_t offset = position % LANES * size;
            for (int part = 0; part < WIDTH; ++part) {
                __builtin_prefetch(next + offset + part * LANES);
                const Floats value = load(values + offset + part * LANES);
                for (int row = 0; row < ROWS; ++row)
                    sums[row][part] += value * weights[row * stride + position];
            }
        }
    }
    for (int row = 0; row < ROWS; ++row)
        for (int part = 0; part < WIDTH; ++part)
            store(outputs + row * size + column + part * LANES, sums[row][part]);
}

// Attends from `queries` [count, size], turned and scaled, to one kv head: `shared` queries at each
// position from `position` on. Writes outputs [count, size].
class Attention {
   public:
    Attention(const HeadShape& shape, const HeadCache& cache) : shape_(shape), cache_(cache) {}

    void attend(const float* queries, size_t count, size_t position, float* outputs) const {
        const size_t shared = shape_.shared(), end = position + count / shared;
        const size_t stride = rounded_up(end, LANES);
        static thread_local std::vector<float> scores;
        if (scores.size() < count * stride) scores.resize(count * stride);
        const size_t last = (end - 1) / LANES;
        for (size_t block = begin(position) / LANES; block <= last; ++block)
            score(queries, count, block, block < last ? block + 1 : block,
                  scores.data() + block * LANES, stride);
        for (size_t row = 0; row < count; row += shared, ++position) {
            float* own = scores.data() + row * stride;
            for (size_t at = 0; at < shared; ++at)
                normalise(own + at * stride, begin(position), position + 1);
            mix(own, stride, shared, position, outputs + row * shape_.size);
        }
    }

   private:
    // The first position that a query sees.
    size_t begin(size_t position) const {
        const bool sees_all = shape_.window == 0 || position < shape_.window;
        return sees_all ? 0 : position + 1 - shape_.window;
    }

    void score(const float* queries, size_t count, size_t block, size_t next, float* scores,
               size_t stride) const {
        const size_t size = shape_.size;
        const float *keys = cache_.keys(block), *after = cache_.keys(next);
        size_t row = 0;
        for (; row + 8 <= count; row += 8)
            score_block<8>(size, queries + row * size, keys, after, scores + row * stride, stride);
        for (; row + 3 <= count; row += 3)
            score_block<3>(size, queries + row * size, keys, after, scores + row * stride, stride);
        for (; row < count; ++row)
            score_block<1>(size, queries + row * size, keys, after, scores + row * stride, stride);
    }

    void mix(const float* weights, size_t stride, size_t count, size_t position,
             float* outputs) const {
        size_t row = 0;
        for (; row + 3 <= count; row += 3)
            mix_rows<3>(weights + row * stride, stride, position, outputs + row * shape_.size);
        for (; row < count; ++row)
            mix_rows<1>(weights + row * stride, stride, position, outputs + row * shape_.size);
    }

    template <int ROWS>
    void mix_rows(const float* weights, size_t stride, size_t position, float* outputs) const {
        const size_t size = shape_.size, first = begin(position), end = position + 1;
        size_t column = 0;
        for (; column + 4 * LANES <= size; column += 4 * LANES)
            mix_values<ROWS, 4>(cache_, size, column, weights, stride, first, end, outputs);
        for (; column < size; column += LANES)
            mix_values<ROWS, 1>(cache_, size, column, weights, stride, first, end, outputs);
    }

    const HeadShape& shape_;
    const HeadCache& cache_;
};

}  // namespace beamline
