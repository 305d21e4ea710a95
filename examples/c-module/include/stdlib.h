/* What the generated bindings ask of a C library; memory.c has it. There is no C library here. */
#ifndef C_MODULE_STDLIB_H
#define C_MODULE_STDLIB_H

#include <stddef.h>

void *realloc(void *old, size_t size);
void free(void *memory);
_Noreturn void abort(void);

#endif
