/* Eight lanes of AVX-512 IFMA. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512ifma,avx512vl,avx512dq,avx512bw"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512ifma,avx512vl,avx512dq,avx512bw,tune=icelake-server")
#endif
#define KERNEL_IFMA
#include "operations.h"

static int supported(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512ifma") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
}

KERNEL(kernel_ifma, "avx512ifma");
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int not_on_this_processor;
#endif
