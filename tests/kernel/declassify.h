/* Compiled in before the kernel by the checks that follow secrets with valgrind. */
#pragma once
#include <valgrind/memcheck.h>
#define KERNEL_DECLASSIFY(p, size) ((void)VALGRIND_MAKE_MEM_DEFINED(p, size))
