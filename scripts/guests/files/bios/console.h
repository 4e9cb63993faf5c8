/* The first serial port, 115200 8N1. */
#pragma once
#include "base.h"

void console_open(void);
int console_key(void); /* the next key, or -1 */
void put_char(char c);
/* printf with %s, %u, %x and %0Nx. */
__attribute__((format(printf, 1, 2))) void print(const char *format, ...);
