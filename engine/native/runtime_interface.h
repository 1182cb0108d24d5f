// The part of ONNX Runtime's C interface that custom operators need.
//
// Its Python package ships no headers. The interface is a table of functions that only ever grows
// at its end, so the places named here hold for every later version.
#pragma once

#include <cstddef>
#include <cstdint>

namespace beamline {

constexpr uint32_t INTERFACE_VERSION = 17;  // the first one with parallel loops

struct Status;
struct Value;
struct Shape;
struct KernelInfo;
struct KernelContext;
struct Domain;
struct SessionOptions;

using Table = void* const*;

struct InterfaceBase {
    Table (*get)(uint32_t version);
    const char* (*version)();
};

enum ElementType : int { FLOAT = 1, INT8 = 3, INT32 = 6 };
enum Presence : int { REQUIRED = 0, OPTIONAL = 1 };

// What the runtime asks of an operator, in the order in which it expects the answers.
struct Operator {
    uint32_t version;
    void* (*create_kernel)(const Operator*, Table, const KernelInfo*);
    const char* (*name)(const Operator*);
    const char* (*provider)(const Operator*);
    ElementType (*input_type)(const Operator*, size_t);
    size_t (*num_inputs)(const Operator*);
    ElementType (*output_type)(const Operator*, size_t);
    size_t (*num_outputs)(const Operator*);
    void (*compute)(void* kernel, KernelContext*);
    void (*destroy)(void* kernel);
    Presence (*input_presence)(const Operator*, size_t);
    Presence (*output_presence)(const Operator*, size_t);
    int (*input_memory)(const Operator*, size_t);
    void* not_used[8];  // variadic arguments, shapes in advance, versions: absent means the default
};

// Calls into the table by name. `api` is set once, when the operators are registered.
struct Interface {
    Table table = nullptr;

    template <typename Result, typename... Arguments>
    Result call(size_t place, Arguments... arguments) const {
        return reinterpret_cast<Result (*)(Arguments...)>(table[place])(arguments...);
    }

    Status* create_domain(const char* name, Domain** domain) const {
        return call<Status*>(26, name, domain);
    }
    Status* add_operator(Domain* domain, const Operator* op) const {
        return call<Status*>(27, domain, op);
    }
    Status* add_domain(SessionOptions* options, Domain* domain) const {
        return call<Status*>(28, options, domain);
    }
    void* data(const Value* value) const {
        void* data = nullptr;
        call<Status*>(51, value, &data);
        return data;
    }
    size_t dimensions(const Value* value, int64_t* dimensions, size_t most) const {
        Shape* shape = nullptr;
        size_t count = 0;
        call<Status*>(65, value, &shape);
        call<Status*>(61, shape, &count);
        call<Status*>(62, shape, dimensions, count < most ? count : most);
        call<void>(99, shape);
        return count;
    }
    float float_attribute(const KernelInfo* info, const char* name) const {
        float value = 0;
        call<Status*>(85, info, name, &value);
        return value;
    }
    int64_t int_attribute(const KernelInfo* info, const char* name) const {
        int64_t value = 0;
        call<Status*>(86, info, name, &value);
        return value;
    }
    const Value* constant_input(const KernelInfo* info, size_t index) const {
        int is_constant = 0;
        const Value* value = nullptr;
        call<Status*>(249, info, index, &is_constant, &value);
        return is_constant ? value : nullptr;
    }
    const Value* input(const KernelContext* context, size_t index) const {
        const Value* value = nullptr;
        call<Status*>(90, context, index, &value);
        return value;
    }
    void* output(KernelContext* context, size_t index, const int64_t* shape, size_t rank) const {
        Value* value = nullptr;
        call<Status*>(91, context, index, shape, rank, &value);
        return value == nullptr ? nullptr : data(value);
    }
    // Runs body(i) for i below `total` on the session's threads.
    template <typename Body>
    void parallel(const KernelContext* context, size_t total, const Body& body) const {
        if (total == 1) {
            body(size_t{0});
            return;
        }
        auto run = [](void* data, size_t index) { (*static_cast<const Body*>(data))(index); };
        void (*pointer)(void*, size_t) = run;
        call<Status*>(274, context, pointer, total, size_t{0},
                      const_cast<void*>(static_cast<const void*>(&body)));
    }
};

}  // namespace beamline
