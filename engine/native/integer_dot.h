// Sixteen sums of four 8-bit products each, on what the processor has for it.
//
// Weights are those of the `w8a8` scheme: no two neighbours exceed 128 together, so adding a pair
// of products in 16 bits, as older processors do, is exact. All versions give the same integers.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "vectors.h"

namespace beamline {

#if defined(__AVX512VNNI__)

using Sums = __m512i;

inline Sums zero_sums() { return _mm512_setzero_si512(); }

inline Sums load_sums(const int32_t* from) { return _mm512_loadu_si512(from); }

inline Sums add_products(Sums sums, int32_t four_inputs, const int8_t* weights) {
    return _mm512_dpbusd_epi32(sums, _mm512_set1_epi32(four_inputs), _mm512_load_si512(weights));
}

inline Floats to_floats(Sums sums) { return reinterpret_cast<Floats>(_mm512_cvtepi32_ps(sums)); }

#elif defined(__AVX2__)

struct Sums {
    __m256i lower, upper;
};

inline Sums zero_sums() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }

inline Sums load_sums(const int32_t* from) {
    const auto* at = reinterpret_cast<const __m256i*>(from);
    return {_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
}

inline __m256i add_half(__m256i sums, __m256i inputs, __m256i weights) {
#if defined(__AVXVNNI__)
    return _mm256_dpbusd_avx_epi32(sums, inputs, weights);
#else
    const __m256i pairs = _mm256_maddubs_epi16(inputs, weights);
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
}

inline Sums add_products(Sums sums, int32_t four_inputs, const int8_t* weights) {
    const __m256i inputs = _mm256_set1_epi32(four_inputs);
    const auto* at = reinterpret_cast<const __m256i*>(weights);
    return {add_half(sums.lower, inputs, _mm256_load_si256(at)),
            add_half(sums.upper, inputs, _mm256_load_si256(at + 1))};
}

inline Floats to_floats(Sums sums) {
    Ints whole;
    std::memcpy(&whole, &sums, sizeof whole);
    return __builtin_convertvector(whole, Floats);
}

#else

using Sums = Ints;

inline Sums zero_sums() { return Sums{}; }

inline Sums load_sums(const int32_t* from) {
    Sums sums;
    std::memcpy(&sums, from, sizeof sums);
    return sums;
}

inline Sums add_products(Sums sums, int32_t four_inputs, const int8_t* weights) {
    uint8_t inputs[4];
    std::memcpy(inputs, &four_inputs, sizeof inputs);
    for (int lane = 0; lane < LANES; ++lane) {
        const int8_t* four = weights + 4 * lane;
        sums[lane] += inputs[0] * four[0] + inputs[1] * four[1] + inputs[2] * four[2] +
                      inputs[3] * four[3];
    }
    return sums;
}

inline Floats to_floats(Sums sums) { return __builtin_convertvector(sums, Floats); }

#endif

}  // namespace beamline
