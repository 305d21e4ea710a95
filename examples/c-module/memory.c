/* The memory that the host writes a call's arguments into. Everything else is static. */

#include <stdlib.h>
#include <string.h>

#include "module.h"

/* Room for the longest step that the contract allows (its headers, and 256 calls with a whole configuration each, come to
 * less than 900 KiB), and for the longest state that `save` writes. A longer state is none of ours, and traps. */
enum { ARENA = 1 << 20 };

static _Alignas(16) uint8_t arena[ARENA];
static size_t used;

/* The canonical ABI's way to get memory for arguments (`cabi_realloc` of the bindings calls it): taken from the front,
 * given back all at once at the end of each call. */
void *realloc(void *old, size_t size) {
    size_t rounded = (size + 15) & ~(size_t)15;
    /* Only strings of another encoding than ours would make the host ask for more of the same. */
    if (old != NULL || size > ARENA || rounded > ARENA - used) {
        abort();
    }
    void *given = arena + used;
    used += rounded;
    return given;
}

void forget_arguments(void) {
    used = 0;
}

/* What the module returns is static too, so the bindings free nothing. */
void free(void *memory) {
    (void)memory;
}

_Noreturn void abort(void) {
    __builtin_trap();
}
