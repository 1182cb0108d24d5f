// Matrices in the order in which the processor reads them, and products with them.
//
// Columns come in tiles of 64, four blocks of sixteen. A product of a row is summed over its inputs
// in order, so it is the same bits whatever rows are beside it.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#include "integer_dot.h"

namespace beamline {

constexpr int BLOCKS = 4;             // of sixteen columns, side by side in a tile
constexpr int TILE = BLOCKS * LANES;  // columns of a tile
constexpr int MIDDLE = 128;           // the unsigned zero of quantised inputs

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};

template <typename Element>
using Aligned = std::unique_ptr<Element[], Free>;

template <typename Element>
Aligned<Element> allocate(size_t count) {
    const size_t bytes = (count * sizeof(Element) + 63) / 64 * 64;
    void* memory = std::aligned_alloc(64, bytes == 0 ? 64 : bytes);
    if (memory == nullptr) throw std::bad_alloc();
    std::memset(memory, 0, bytes);
    return Aligned<Element>(static_cast<Element*>(memory));
}

inline size_t rounded_up(size_t number, size_t multiple) {
    return (number + multiple - 1) / multiple * multiple;
}

// Rows of inputs in eight bits, each with the scale that gives its values back.
struct QuantizedRows {
    const uint8_t* values;  // [rows, stride]
    const float* scales;    // [rows]
    size_t stride;
};

// Rounded to whole numbers around the middle.
inline Bytes to_bytes(Floats values) {
    return __builtin_convertvector(__builtin_convertvector(rounded(values), Ints) + MIDDLE, Bytes);
}

// One row's greatest magnitude becomes 127; a row of zeros stays one.
inline void quantize_row(const float* row, size_t count, uint8_t* values, float* scale) {
    Floats most{};
    size_t at = 0;
    for (; at + LANES <= count; at += LANES) most = largest(most, magnitude(load(row + at)));
    float top = greatest(most);
    for (size_t rest = at; rest < count; ++rest) {
        const float size = row[rest] < 0 ? -row[rest] : row[rest];
        top = size > top ? size : top;
    }
    *scale = top * (1.0f / 127.0f);
    const float divisor = *scale > 0 ? *scale : 1.0f;
    for (size_t begin = 0; begin < at; begin += LANES) {
        const Bytes whole = to_bytes(load(row + begin) / divisor);
        std::memcpy(values + begin, &whole, sizeof whole);
    }
    if (at < count) {
        float rest[LANES] = {};
        std::memcpy(rest, row + at, (count - at) * sizeof(float));
        const Bytes whole = to_bytes(load(rest) / divisor);
        std::memcpy(values + at, &whole, count - at);
    }
}

// Calls multiply<ROWS>(first row) for all rows, as many at a time as have room in registers.
template <typename Multiply>
void for_row_groups(size_t count, const Multiply& multiply) {
    size_t row = 0;
    for (; row + 4 <= count; row += 4) multiply(std::integral_constant<int, 4>(), row);
    switch (count - row) {
        case 3: multiply(std::integral_constant<int, 3>(), row); break;
        case 2: multiply(std::integral_constant<int, 2>(), row); break;
        case 1: multiply(std::integral_constant<int, 1>(), row); break;
        default: break;
    }
}

// Eight-bit weights. A tile holds, for every four inputs, its blocks with four weights a column.
// Inputs are unsigned around 128; what that adds to a column is taken off at its start.
class QuantizedMatrix {
   public:
    using Rows = QuantizedRows;

    // `weights` [inputs, columns]; `scales` [columns].
    QuantizedMatrix(const int8_t* weights, const float* scales, size_t inputs, size_t columns)
        : fours_(rounded_up(inputs, 4) / 4),
          tiles_(rounded_up(columns, TILE) / TILE),
          weights_(allocate<int8_t>(tiles_ * fours_ * STEP)),
          starts_(tiles_ * TILE),
          scales_(tiles_ * TILE) {
        for (size_t input = 0; input < inputs; ++input)
            for (size_t column = 0; column < columns; ++column) {
                const int8_t weight = weights[input * columns + column];
                weights_[place(input, column)] = weight;
                starts_[column] -= MIDDLE * weight;
            }
        std::memcpy(scales_.data(), scales, columns * sizeof(float));
    }

    size_t tiles() const { return tiles_; }
    size_t row_stride() const { return fours_ * 4; }

    // Calls use(row, block of the tile, sixteen products) for all rows.
    template <typename Use>
    void multiply(const Rows& rows, size_t count, size_t tile, const Use& use) const {
        for_row_groups(count, [&](auto group, size_t first) {
            multiply_group<group.value>(rows, first, tile, use);
        });
    }

   private:
    static constexpr size_t STEP = TILE * 4;  // bytes of a tile for four inputs

    size_t place(size_t input, size_t column) const {
        return (column / TILE * fours_ + input / 4) * STEP + column % TILE * 4 + input % 4;
    }

    template <int ROWS, typename Use>
    void multiply_group(const Rows& rows, size_t first, size_t tile, const Use& use) const {
        Sums sums[ROWS][BLOCKS];
        const int32_t* starts = starts_.data() + tile * TILE;
        for (int row = 0; row < ROWS; ++row)
            for (int block = 0; block < BLOCKS; ++block)
                sums[row][block] = load_sums(starts + block * LANES);
        const int8_t* weights = weights_.get() + tile * fours_ * STEP;
        const uint8_t* inputs = rows.values + first * rows.stride;
        for (size_t four = 0; four < fours_; ++four, weights += STEP, inputs += 4)
            for (int row = 0; row < ROWS; ++row) {
                int32_t values;
                std::memcpy(&values, inputs + row * rows.stride, sizeof values);
                for (int block = 0; block < BLOCKS; ++block)
                    sums[row][block] =
                        add_products(sums[row][block], values, weights + block * LANES * 4);
            }
        const float* scales = scales_.data() + tile * TILE;
        for (int row = 0; row < ROWS; ++row)
            for (int block = 0; block < BLOCKS; ++block)
                use(first + row, block,
                    to_floats(sums[row][block]) * load(scales + block * LANES) *
                        rows.scales[first + row]);
    }

    size_t fours_, tiles_;
    Aligned<int8_t> weights_;
    std::vector<int32_t> starts_;
    std::vector<float> scales_;
};

struct FloatRows {
    const float* values;  // [rows, stride]
    size_t stride;
};

// Weights as they are. A tile holds its 64 columns for every input.
class FloatMatrix {
   public:
    using Rows = FloatRows;

    FloatMatrix(const float* weights, size_t inputs, size_t columns)
        : inputs_(inputs),
          tiles_(rounded_up(columns, TILE) / TILE),
          weights_(allocate<float>(tiles_ * inputs * TILE)) {
        for (size_t input = 0; input < inputs; ++input)
            for (size_t column = 0; column < columns; ++column)
                weights_[(column / TILE * inputs + input) * TILE + column % TILE] =
                    weights[input * columns + column];
    }

    size_t tiles() const { return tiles_; }

    template <typename Use>
    void multiply(const Rows& rows, size_t count, size_t tile, const Use& use) const {
        for_row_groups(count, [&](auto group, size_t first) {
            multiply_group<group.value>(rows, first, tile, use);
        });
    }

   private:
    template <int ROWS, typename Use>
    void multiply_group(const Rows& rows, size_t first, size_t tile, const Use& use) const {
        Floats sums[ROWS][BLOCKS] = {};
        const float* weights = weights_.get() + tile * inputs_ * TILE;
        const float* inputs = rows.values + first * rows.stride;
        for (size_t input = 0; input < inputs_; ++input, weights += TILE)
            for (int block = 0; block < BLOCKS; ++block) {
                const Floats part = load(weights + block * LANES);
                for (int row = 0; row < ROWS; ++row)
                    sums[row][block] += part * inputs[row * rows.stride + input];
            }
        for (int row = 0; row < ROWS; ++row)
            for (int block = 0; block < BLOCKS; ++block) use(first + row, block, sums[row][block]);
    }

    size_t inputs_, tiles_;
    Aligned<float> weights_;
};

}  // namespace beamline
