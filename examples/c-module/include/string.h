/* Built into the compiler: with -mbulk-memory each is one instruction, and nothing has to be linked. */
#ifndef C_MODULE_STRING_H
#define C_MODULE_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
size_t strlen(const char *text);

#endif
