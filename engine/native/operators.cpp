// Operators for ONNX Runtime: what a decoder's step on a CPU spends its time in.
//
// QuantizedLinear   rows times an 8-bit matrix, each row quantised by itself
// QuantizedGate     silu(rows times one such matrix) * (rows times another)
// FloatLinear       rows times a matrix of floats
// FloatGate         the same with two of them
// Sigmoid, TanhGelu functions of each number by itself
// RowSummary        of each row of scores: the log of its summed exponentials, its largest's place
// PagedAttention    attention over keys and values that are kept in blocks, written in place; on the
//                   way it keeps what its layer was given, of the tokens that are asked for
//
// Built by `native_library.py`; graphs that use them are written by `optimize/onnx_native.py`.

#include <exception>

#include "attention.h"
#include "packed_matrix.h"
#include "row_summary.h"
#include "runtime_interface.h"

namespace beamline {

Interface api;

namespace {

constexpr size_t MOST_DIMENSIONS = 8;

struct Dimensions {
    int64_t sizes[MOST_DIMENSIONS] = {};
    size_t rank = 0;

    explicit Dimensions(const Value* value)
        : rank(api.dimensions(value, sizes, MOST_DIMENSIONS)) {}

    size_t operator[](size_t at) const { return static_cast<size_t>(sizes[at]); }

    // Of the matrix that the leading dimensions make.
    size_t rows() const {
        size_t count = 1;
        for (size_t at = 0; at + 1 < rank; ++at) count *= (*this)[at];
        return count;
    }
};

template <typename Element>
const Element* elements(const Value* value) {
    return static_cast<const Element*>(api.data(value));
}

// A matrix as the graph stores it: its values, and scales if they are quantised.
struct QuantizedSource {
    static constexpr size_t INPUTS = 2;
    using Matrix = QuantizedMatrix;

    const int8_t* weights;
    const float* scales;
    size_t inputs, columns;

    QuantizedSource(const KernelInfo* info, size_t first)
        : weights(elements<int8_t>(api.constant_input(info, first))),
          scales(elements<float>(api.constant_input(info, first + 1))) {
        const Dimensions shape(api.constant_input(info, first));
        inputs = shape[0], columns = shape[1];
    }

    static ElementType type(size_t index) { return index == 0 ? INT8 : FLOAT; }

    Matrix pack() const { return {weights, scales, inputs, columns}; }
};

struct FloatSource {
    static constexpr size_t INPUTS = 1;
    using Matrix = FloatMatrix;

    const float* weights;
    size_t inputs, columns;

    FloatSource(const KernelInfo* info, size_t first)
        : weights(elements<float>(api.constant_input(info, first))) {
        const Dimensions shape(api.constant_input(info, first));
        inputs = shape[0], columns = shape[1];
    }

    static ElementType type(size_t) { return FLOAT; }

    Matrix pack() const { return {weights, inputs, columns}; }
};

template <typename Element>
std::vector<Element> interleave(const Element* one, const Element* other, size_t rows,
                                size_t columns) {
    const size_t width = 2 * rounded_up(columns, LANES);
    std::vector<Element> both(rows * width);
    for (size_t row = 0; row < rows; ++row)
        for (size_t column = 0; column < columns; ++column) {
            Element* to = both.data() + row * width + column / LANES * 2 * LANES + column % LANES;
            to[0] = one[row * columns + column];
            to[LANES] = other[row * columns + column];
        }
    return both;
}

// Two matrices side by side, block by block: sixteen columns of the one, sixteen of the other.
QuantizedMatrix pack_both(const QuantizedSource& one, const QuantizedSource& other) {
    const auto weights = interleave(one.weights, other.weights, one.inputs, one.columns);
    const auto scales = interleave(one.scales, other.scales, 1, one.columns);
    return {weights.data(), scales.data(), one.inputs, scales.size()};
}

FloatMatrix pack_both(const FloatSource& one, const FloatSource& other) {
    const auto weights = interleave(one.weights, other.weights, one.inputs, one.columns);
    return {weights.data(), one.inputs, weights.size() / one.inputs};
}

FloatRows prepare_rows(const KernelContext*, const FloatMatrix&, const float* rows, size_t,
                       size_t width) {
    return {rows, width};
}

QuantizedRows prepare_rows(const KernelContext* context, const QuantizedMatrix& matrix,
                           const float* rows, size_t count, size_t width) {
    static thread_local std::vector<uint8_t> values;  // of the thread that calls, read by all
    static thread_local std::vector<float> scales;
    const size_t stride = matrix.row_stride();
    if (values.size() < count * stride) values.resize(count * stride);
    if (scales.size() < count) scales.resize(count);
    uint8_t* to = values.data();
    float* to_scales = scales.data();
    auto quantize = [=](size_t row) {
        quantize_row(rows + row * width, width, to + row * stride, to_scales + row);
    };
    if (count < 8)  // sharing out so little work takes longer
        for (size_t row = 0; row < count; ++row) quantize(row);
    else
        api.parallel(context, count, quantize);
    return {to, to_scales, stride};
}

// Writes sixteen results of a row, or as many as the matrix has columns left.
inline void store_columns(float* row, size_t column, size_t columns, Floats values) {
    if (column + LANES <= columns) {
        store(row + column, values);
    } else if (column < columns) {
        float part[LANES];
        store(part, values);
        std::memcpy(row + column, part, (columns - column) * sizeof(float));
    }
}

// The rows of a call's first input, and room for a result of `columns` for each.
struct RowsInOut {
    const float* rows;
    size_t count, width;
    float* output;

    RowsInOut(KernelContext* context, size_t columns) {
        const Value* input = api.input(context, 0);
        Dimensions shape(input);
        rows = elements<float>(input);
        count = shape.rows(), width = shape[shape.rank - 1];
        shape.sizes[shape.rank - 1] = static_cast<int64_t>(columns);
        output = static_cast<float*>(api.output(context, 0, shape.sizes, shape.rank));
    }
};

template <typename Source>
class Linear {
   public:
    static constexpr size_t INPUTS = 1 + Source::INPUTS;
    static ElementType input_type(size_t index) {
        return index == 0 ? FLOAT : Source::type(index - 1);
    }

    explicit Linear(const KernelInfo* info) : Linear(Source(info, 1)) {}

    void compute(KernelContext* context) const {
        const RowsInOut call(context, columns_);
        const auto rows = prepare_rows(context, matrix_, call.rows, call.count, call.width);
        api.parallel(context, matrix_.tiles(), [&](size_t tile) {
            matrix_.multiply(rows, call.count, tile, [&](size_t row, size_t block, Floats values) {
                store_columns(call.output + row * columns_, tile * TILE + block * LANES, columns_,
                              values);
            });
        });
    }

   private:
    explicit Linear(const Source& source) : columns_(source.columns), matrix_(source.pack()) {}

    size_t columns_;
    typename Source::Matrix matrix_;
};

template <typename Source>
class Gate {
   public:
    static constexpr size_t INPUTS = 1 + 2 * Source::INPUTS;
    static ElementType input_type(size_t index) {
        return index == 0 ? FLOAT : Source::type((index - 1) % Source::INPUTS);
    }

    explicit Gate(const KernelInfo* info) : Gate(Source(info, 1), Source(info, 1 + Source::INPUTS)) {}

    void compute(KernelContext* context) const {
        const RowsInOut call(context, columns_);
        const auto rows = prepare_rows(context, matrix_, call.rows, call.count, call.width);
        api.parallel(context, matrix_.tiles(), [&](size_t tile) {
            Floats gate;
            matrix_.multiply(rows, call.count, tile, [&](size_t row, size_t block, Floats values) {
                if (block % 2 == 0) {  // a block of the gate comes before the one that it opens
                    gate = values * sigmoid(values);
                    return;
                }
                const size_t column = tile * (TILE / 2) + block / 2 * LANES;
                store_columns(call.output + row * columns_, column, columns_, gate * values);
            });
        });
    }

   private:
    Gate(const Source& gate, const Source& other)
        : columns_(gate.columns), matrix_(pack_both(gate, other)) {}

    size_t columns_;
    typename Source::Matrix matrix_;
};

struct QuantizedLinear : Linear<QuantizedSource> {
    static constexpr const char* NAME = "QuantizedLinear";
    using Linear::Linear;
};

struct QuantizedGate : Gate<QuantizedSource> {
    static constexpr const char* NAME = "QuantizedGate";
    using Gate::Gate;
};

struct FloatLinear : Linear<FloatSource> {
    static constexpr const char* NAME = "FloatLinear";
    using Linear::Linear;
};

struct FloatGate : Gate<FloatSource> {
    static constexpr const char* NAME = "FloatGate";
    using Gate::Gate;
};

// A function of each number by itself, where the runtime's own treats the last few otherwise.
template <Floats (*FUNCTION)(Floats)>
class Elementwise {
   public:
    static constexpr size_t INPUTS = 1;
    static ElementType input_type(size_t) { return FLOAT; }

    explicit Elementwise(const KernelInfo*) {}

    void compute(KernelContext* context) const {
        const Value* input = api.input(context, 0);
        const Dimensions shape(input);
        const float* from = elements<float>(input);
        auto* to = static_cast<float*>(api.output(context, 0, shape.sizes, shape.rank));
        const size_t count = shape.rows() * shape[shape.rank - 1];
        api.parallel(context, rounded_up(count, PART) / PART, [=](size_t part) {
            const size_t end = (part + 1) * PART < count ? (part + 1) * PART : count;
            for (size_t at = part * PART; at < end; at += LANES) {
                float some[LANES] = {};
                const size_t width = end - at < LANES ? end - at : LANES;
                std::memcpy(some, from + at, width * sizeof(float));
                store(some, FUNCTION(load(some)));
                std::memcpy(to + at, some, width * sizeof(float));
            }
        });
    }

   private:
    static constexpr size_t PART = 4096;  // numbers of a task
};

struct Sigmoid : Elementwise<sigmoid> {
    static constexpr const char* NAME = "Sigmoid";
    using Elementwise::Elementwise;
};

struct TanhGelu : Elementwise<tanh_gelu> {
    static constexpr const char* NAME = "TanhGelu";
    using Elementwise::Elementwise;
};

// What choosing a token needs of a row's scores, while they are still in the processor's cache.
class RowSummary {
   public:
    static constexpr const char* NAME = "RowSummary";
    static constexpr size_t INPUTS = 1;
    static ElementType input_type(size_t) { return FLOAT; }

    explicit RowSummary(const KernelInfo*) {}

    void compute(KernelContext* context) const {
        const RowsInOut call(context, 2);
        api.parallel(context, call.count, [&](size_t row) {
            const Summary found = summary(call.rows + row * call.width, call.width);
            call.output[row * 2] = found.log_of_sum;
            call.output[row * 2 + 1] = found.place;
        });
    }
};

class PagedAttention {
   public:
    static constexpr const char* NAME = "PagedAttention";
    static constexpr size_t INPUTS = 12;
    enum Input : size_t {
        QUERY, KEY, VALUE, CACHE, TABLES, STARTS, LENGTHS, COSINES, SINES, STREAM, KEPT_AT, KEPT
    };

    static ElementType input_type(size_t index) {
        const bool is_number = index == TABLES || index == STARTS || index == LENGTHS;
        return is_number || index == KEPT_AT ? INT32 : FLOAT;
    }

    explicit PagedAttention(const KernelInfo* info) {
        const auto number = [&](const char* name) {
            return static_cast<size_t>(api.int_attribute(info, name));
        };
        shape_.heads = number("num_heads"), shape_.kv_heads = number("kv_num_heads");
        shape_.size = number("head_size");
        shape_.layers = number("num_layers"), shape_.layer = number("layer");
        shape_.scale = api.float_attribute(info, "scale");
        shape_.is_interleaved = number("rotary_interleaved") != 0;
        is_rotated_ = number("do_rotary") != 0;
        const int64_t window = api.int_attribute(info, "local_window_size");
        shape_.window = window > 0 ? static_cast<size_t>(window) : 0;
    }

    void compute(KernelContext* context) const {
        keep_stream(context);
        const Call call(*this, context);
        const size_t heads = call.shape.kv_heads;
        if (call.is_decoding()) {
            api.parallel(context, call.rows * heads, [&](size_t task) {
                call.keep(task / heads, task % heads);
                call.attend(task / heads, task % heads, 0);
            });
            return;
        }
        api.parallel(context, call.rows * heads,
                     [&](size_t task) { call.keep(task / heads, task % heads); });
        // A row after another: the pieces of each, and of each piece all heads.
        static thread_local std::vector<Piece> pieces;
        pieces.clear();
        for (size_t row = 0; row < call.rows; ++row)
            for (size_t token = 0; token < call.tokens(row); token += QUERIES)
                pieces.push_back({row, token});
        const Piece* all_pieces = pieces.data();
        api.parallel(context, pieces.size() * heads, [&call, all_pieces, heads](size_t task) {
            const Piece piece = all_pieces[task / heads];
            call.attend(piece.row, task % heads, piece.token);
        });
    }

   private:
    // Copies what the layer was given, at the places that somebody wants to know of.
    void keep_stream(const KernelContext* context) const {
        const Value* kept_at = api.input(context, KEPT_AT);
        if (kept_at == nullptr) return;
        const size_t count = Dimensions(kept_at)[0];
        if (count == 0) return;
        const Value* stream = api.input(context, STREAM);
        const size_t width = Dimensions(stream)[2];
        const auto* places = elements<int32_t>(kept_at);
        // Like the cache, it is given to be written.
        float* kept = const_cast<float*>(elements<float>(api.input(context, KEPT))) +
                      shape_.layer * count * width;
        for (size_t at = 0; at < count; ++at)
            std::memcpy(kept + at * width, elements<float>(stream) + places[at] * width,
                        width * sizeof(float));
    }

    static constexpr size_t QUERIES = 8;  // positions of a prompt that are attended from at once

    struct Piece {
        size_t row, token;
    };

    // One call's inputs and output. Row r brings tokens [starts[r], starts[r + 1]) of the flat
    // batch, which are the last ones of its `lengths[r]`.
    struct Call {
        HeadShape shape;
        size_t rows, table_width;
        const float *query, *key, *value, *cosines = nullptr, *sines = nullptr;
        size_t query_stride, key_stride;
        const int32_t *tables, *starts, *lengths;
        float *blocks, *output;

        Call(const PagedAttention& op, KernelContext* context) : shape(op.shape_) {
            const Value* queries = api.input(context, QUERY);
            const Value* keys = api.input(context, KEY);
            const Dimensions dimensions(queries), table(api.input(context, TABLES));
            rows = table[0], table_width = table[1];
            query = elements<float>(queries);
            query_stride = dimensions[2];
            if (keys != nullptr) {
                key = elements<float>(keys), value = elements<float>(api.input(context, VALUE));
                key_stride = shape.kv_heads * shape.size;
            } else {
                key = query + shape.heads * shape.size;
                value = key + shape.kv_heads * shape.size;
                key_stride = query_stride;
            }
            // The cache is the one input that is written: the engine gives it for that.
            blocks = const_cast<float*>(elements<float>(api.input(context, CACHE)));
            tables = elements<int32_t>(api.input(context, TABLES));
            starts = elements<int32_t>(api.input(context, STARTS));
            lengths = elements<int32_t>(api.input(context, LENGTHS));
            shape.rotated = 0;
            if (op.is_rotated_) {
                const Value* table_of_angles = api.input(context, COSINES);
                shape.rotated = 2 * Dimensions(table_of_angles)[1];
                cosines = elements<float>(table_of_angles);
                sines = elements<float>(api.input(context, SINES));
            }
            const int64_t sizes[3] = {1, dimensions.sizes[1],
                                      static_cast<int64_t>(shape.heads * shape.size)};
            output = static_cast<float*>(api.output(context, 0, sizes, 3));
        }

        size_t tokens(size_t row) const {
            return static_cast<size_t>(starts[row + 1] - starts[row]);
        }

        bool is_decoding() const { return static_cast<size_t>(starts[rows]) == rows; }

        size_t position(size_t row, size_t token) const {
            return static_cast<size_t>(lengths[row]) - tokens(row) + token;
        }

        HeadCache cache(size_t row, size_t head) const {
            return {shape, blocks, tables + row * table_width, head};
        }

        void turn(const float* from, size_t at, float* to) const {
            const size_t half = shape.rotated / 2;
            rotate(shape, from, cosines + at * half, sines + at * half, to);
        }

        // Puts the keys and values of a row's tokens where they belong.
        void keep(size_t row, size_t head) const {
            const HeadCache own = cache(row, head);
            static thread_local std::vector<float> turned;
            turned.resize(shape.size);
            for (size_t token = 0; token < tokens(row); ++token) {
                const size_t at = position(row, token), lane = at % LANES;
                const size_t from = (starts[row] + token) * key_stride + head * shape.size;
                turn(key + from, at, turned.data());
                float* keys = own.keys(at / LANES) + lane;
                for (size_t i = 0; i < shape.size; ++i) keys[i * LANES] = turned[i];
                std::memcpy(own.values(at / LANES) + lane * shape.size, value + from,
                            shape.size * sizeof(float));
            }
        }

        // Attends from at most QUERIES tokens of a row with the heads that share a kv head.
        void attend(size_t row, size_t head, size_t token) const {
            const size_t shared = shape.shared(), left = tokens(row) - token;
            const size_t count = (left < QUERIES ? left : QUERIES) * shared;
            static thread_local std::vector<float> queries, outputs;
            queries.resize(count * shape.size);
            outputs.resize(count * shape.size);
            const auto place = [&](size_t at, size_t stride) {
                return (starts[row] + token + at / shared) * stride +
                       (head * shared + at % shared) * shape.size;
            };
            for (size_t at = 0; at < count; ++at) {
                float* to = queries.data() + at * shape.size;
                turn(query + place(at, query_stride), position(row, token + at / shared), to);
                for (size_t i = 0; i < shape.size; ++i) to[i] *= shape.scale;
            }
            Attention(shape, cache(row, head))
                .attend(queries.data(), count, position(row, token), outputs.data());
            for (size_t at = 0; at < count; ++at)
                std::memcpy(output + place(at, shape.heads * shape.size),
                            outputs.data() + at * shape.size, shape.size * sizeof(float));
        }
    };

    HeadShape shape_{};
    bool is_rotated_ = false;
};

// Presents a kernel class to the runtime as an operator with one output.
template <typename Kernel>
struct OperatorOf : Operator {
    OperatorOf() : Operator{} {
        version = INTERFACE_VERSION;
        create_kernel = [](const Operator*, Table, const KernelInfo* info) -> void* {
            return new Kernel(info);
        };
        name = [](const Operator*) { return Kernel::NAME; };
        provider = [](const Operator*) -> const char* { return "CPUExecutionProvider"; };
        input_type = [](const Operator*, size_t index) { return Kernel::input_type(index); };
        num_inputs = [](const Operator*) { return Kernel::INPUTS + 0; };
        output_type = [](const Operator*, size_t) { return FLOAT; };
        num_outputs = [](const Operator*) { return size_t{1}; };
        compute = [](void* kernel, KernelContext* context) {
            static_cast<const Kernel*>(kernel)->compute(context);
        };
        destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
        input_presence = [](const Operator*, size_t) { return OPTIONAL; };
        output_presence = [](const Operator*, size_t) { return REQUIRED; };
        input_memory = [](const Operator*, size_t) { return 0; };
    }
};

}  // namespace
}  // namespace beamline

extern "C" beamline::Status* RegisterCustomOps(beamline::SessionOptions* options,
                                               const beamline::InterfaceBase* base) {
    using namespace beamline;
    static const OperatorOf<QuantizedLinear> quantized_linear;
    static const OperatorOf<QuantizedGate> quantized_gate;
    static const OperatorOf<FloatLinear> float_linear;
    static const OperatorOf<FloatGate> float_gate;
    static const OperatorOf<Sigmoid> sigmoid_of;
    static const OperatorOf<TanhGelu> tanh_gelu_of;
    static const OperatorOf<PagedAttention> attention;
    static const OperatorOf<RowSummary> row_summary;
    const Operator* operators[] = {&quantized_linear, &quantized_gate, &float_linear, &float_gate,
                                   &sigmoid_of,       &tanh_gelu_of,   &row_summary,  &attention};
    api.table = base->get(INTERFACE_VERSION);
    Domain* domain = nullptr;
    if (Status* failed = api.create_domain("beamline", &domain)) return failed;
    for (const Operator* op : operators)
        if (Status* failed = api.add_operator(domain, op)) return failed;
    return api.add_domain(options, domain);
}
