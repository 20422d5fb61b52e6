/* One lane of 64-bit C: for processors without the vectors of the others. */
#define KERNEL_PORTABLE
#include "operations.h"

static int supported(void) { return 1; }

KERNEL(kernel_portable, "portable");
