// The largest of a row of scores, its place, and the log of the sum of the exponentials.
#pragma once

#include <cmath>
#include <limits>

#include "vectors.h"

namespace beamline {

struct Summary {
    float log_of_sum;  // not finite if a score is no number or infinite, or if all are -infinity
    float place;       // of the largest, the first of equals; exact below 2^24
};

// Sixteen scores from `at` on; beyond the end, what changes nothing.
inline Floats scores_at(const float* scores, size_t count, size_t at) {
    if (at + LANES <= count) return load(scores + at);
    float some[LANES];
    for (size_t lane = 0; lane < LANES; ++lane)
        some[lane] = at + lane < count ? scores[at + lane] : -std::numeric_limits<float>::infinity();
    return load(some);
}

inline Summary summary(const float* scores, size_t count) {
    const float infinity = std::numeric_limits<float>::infinity();
    Floats best = all(-infinity);
    Ints places = {}, are_numbers = Ints{} - 1;
    for (size_t at = 0; at < count; at += LANES) {
        const Floats value = scores_at(scores, count, at);
        const Ints is_better = value > best;
        best = is_better ? value : best;
        places = is_better ? Ints{} + static_cast<int32_t>(at) : places;
        are_numbers &= value < infinity;  // neither infinite nor NaN
    }
    const float top = greatest(best);
    float lane_best[LANES];
    store(lane_best, best);
    size_t place = count;
    bool is_usable = true;
    for (size_t lane = 0; lane < LANES; ++lane) {
        is_usable &= are_numbers[lane] != 0;
        const size_t own = static_cast<size_t>(places[lane]) + lane;
        if (lane_best[lane] == top && own < place) place = own;
    }
    if (!is_usable || top == -infinity) return {std::numeric_limits<float>::quiet_NaN(), 0};
    Floats sums = {};
    for (size_t at = 0; at < count; at += LANES)
        sums += exponential(scores_at(scores, count, at) - top);
    return {top + std::log(sum(sums)), static_cast<float>(place)};
}

}  // namespace beamline
