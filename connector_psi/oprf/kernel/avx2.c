/* Four lanes of AVX2. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx2,bmi2,tune=icelake-server")
#endif
#define KERNEL_AVX2
#include "operations.h"

static int supported(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2"); }

KERNEL(kernel_avx2, "avx2");
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int not_on_this_processor;
#endif
