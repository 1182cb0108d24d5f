// Sixteen floats at once, whatever the processor: the compiler splits them where it must.
//
// Every sum here has one order that depends on nothing but the positions summed, so a row's result
// is the same bits alone, in a batch, and however its prompt was cut.
#pragma once

#include <cstdint>
#include <cstring>

namespace beamline {

constexpr int LANES = 16;

typedef float Floats __attribute__((vector_size(LANES * 4)));
typedef uint8_t Bytes __attribute__((vector_size(LANES)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));

inline Floats load(const float* from) {
    Floats value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

inline void store(float* to, Floats value) { std::memcpy(to, &value, sizeof value); }

inline Floats all(float value) { return Floats{} + value; }

inline Floats largest(Floats one, Floats other) { return one > other ? one : other; }

inline Floats magnitude(Floats value) {
    return reinterpret_cast<Floats>(reinterpret_cast<Ints>(value) & 0x7fffffff);
}

inline float sum(Floats value) {
    float parts[LANES];
    store(parts, value);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane) parts[lane] += parts[lane + half];
    return parts[0];
}

inline float greatest(Floats value) {
    float parts[LANES];
    store(parts, value);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane)
            parts[lane] = parts[lane] > parts[lane + half] ? parts[lane] : parts[lane + half];
    return parts[0];
}

// To the nearest whole number, halves to the even one; for magnitudes below 2^22.
inline Floats rounded(Floats value) {
    const float shift = 12582912.0f;  // 1.5 * 2^23: no room is left for a fraction
    return (value + shift) - shift;
}

// e^value to within 2 units in the last place; below -87 it is that of -87, which is nearly 0.
inline Floats exponential(Floats value) {
    value = value > 88.0f ? all(88.0f) : value;
    value = value < -87.0f ? all(-87.0f) : value;
    const Floats whole = rounded(value * 1.44269504088896341f);
    Floats rest = value - whole * 0.693359375f;
    rest = rest + whole * 2.12194440e-4f;
    Floats power = all(1.9875691500e-4f);
    power = power * rest + 1.3981999507e-3f;
    power = power * rest + 8.3334519073e-3f;
    power = power * rest + 4.1665795894e-2f;
    power = power * rest + 1.6666665459e-1f;
    power = power * rest + 5.0000001201e-1f;
    power = power * rest * rest + rest + 1.0f;
    const Ints exponent = (__builtin_convertvector(whole, Ints) + 127) << 23;
    return power * reinterpret_cast<Floats>(exponent);
}

inline Floats sigmoid(Floats value) { return 1.0f / (1.0f + exponential(-value)); }

// The Gaussian error linear unit in its approximation by a hyperbolic tangent.
inline Floats tanh_gelu(Floats value) {
    const Floats inner = value + value * value * value * 0.044715f;
    return value * sigmoid(inner * 1.5957691216057308f);  // 2 * sqrt(2 / pi)
}

}  // namespace beamline
