// Arrays that come from Python and go to it. What comes is looked at before its memory is: anything but the wanted type,
// shape and layout is refused with a ValueError, never converted by a silent copy.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace paddock {

namespace nb = nanobind;
using Array = nb::ndarray<nb::ro, nb::device::cpu>;
using Room = nb::ndarray<nb::device::cpu>;  // one that is written to

template <class T>
struct TypeName;
template <> struct TypeName<float> { static constexpr const char* value = "float32"; };
template <> struct TypeName<uint8_t> { static constexpr const char* value = "uint8"; };
template <> struct TypeName<int8_t> { static constexpr const char* value = "int8"; };
template <> struct TypeName<uint16_t> { static constexpr const char* value = "uint16"; };
template <> struct TypeName<int32_t> { static constexpr const char* value = "int32"; };
template <> struct TypeName<int64_t> { static constexpr const char* value = "int64"; };

constexpr int64_t ANY = -1;  // a length that the caller does not fix

[[noreturn]] inline void refuse(const std::string& text) { throw nb::value_error(text.c_str()); }

inline std::string shape_text(const std::vector<int64_t>& shape) {
    std::string text = "(";
    for (size_t axis = 0; axis < shape.size(); ++axis) {
        text += (axis ? ", " : "") + (shape[axis] == ANY ? std::string("any") : std::to_string(shape[axis]));
    }
    return text + ")";
}

template <class A>
std::vector<int64_t> shape_of(const A& array) {
    std::vector<int64_t> shape;
    for (size_t axis = 0; axis < array.ndim(); ++axis) shape.push_back(static_cast<int64_t>(array.shape(axis)));
    return shape;
}

// The memory of a C-contiguous array of type T and the given shape.
template <class T, class A>
auto data_of(const A& array, const char* name, const std::vector<int64_t>& shape) {
    if (array.dtype() != nb::dtype<T>()) refuse(std::string(name) + " must be " + TypeName<T>::value);
    std::vector<int64_t> found = shape_of(array);
    bool fits = found.size() == shape.size();
    for (size_t axis = 0; fits && axis < shape.size(); ++axis) fits = shape[axis] == ANY || shape[axis] == found[axis];
    if (!fits) refuse(std::string(name) + " has shape " + shape_text(found) + "; expected " + shape_text(shape));
    int64_t step = 1;
    for (size_t axis = found.size(); axis-- > 0; step *= found[axis]) {
        if (found[axis] > 1 && array.stride(axis) != step) refuse(std::string(name) + " must be contiguous");
    }
    using Pointer = std::conditional_t<std::is_same_v<A, Array>, const T*, T*>;
    return static_cast<Pointer>(array.data());
}

// A matrix (rows, columns); both lengths are at least 1.
template <class T>
const T* matrix(const Array& array, const char* name, int64_t& rows, int64_t& columns) {
    const T* data = data_of<T>(array, name, {ANY, ANY});
    rows = static_cast<int64_t>(array.shape(0)), columns = static_cast<int64_t>(array.shape(1));
    if (rows < 1 || columns < 1) refuse(std::string(name) + " is empty: " + shape_text({rows, columns}));
    return data;
}

// A new NumPy array, and its memory to be filled.
template <class T>
struct Made {
    T* data;
    nb::ndarray<nb::numpy, T> array;

    explicit Made(const std::vector<int64_t>& shape) : data(nullptr) {
        size_t count = 1;
        std::vector<size_t> lengths;
        for (int64_t length : shape) lengths.push_back(static_cast<size_t>(length)), count *= lengths.back();
        data = new T[count]();
        nb::capsule owner(data, [](void* memory) noexcept { delete[] static_cast<T*>(memory); });
        array = nb::ndarray<nb::numpy, T>(data, lengths.size(), lengths.data(), owner);
    }
};

}  // namespace paddock
