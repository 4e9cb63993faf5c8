/* Types, port I/O and the three C library functions GCC expects to find. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef _Bool bool;

#define PACKED __attribute__((packed))
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* Devices read and write our memory behind the compiler's back; this makes it look again. */
#define memory_barrier() __asm__ volatile("" ::: "memory")

static inline void outb(u16 port, u8 value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
static inline void outw(u16 port, u16 value) { __asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port)); }
static inline void outl(u16 port, u32 value) { __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port)); }

static inline u8 inb(u16 port)
{
	u8 value;
	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline u16 inw(u16 port)
{
	u16 value;
	__asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline u32 inl(u16 port)
{
	u32 value;
	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

void *memset(void *to, int byte, u32 length);
void *memcpy(void *to, const void *from, u32 length);
int memcmp(const void *one, const void *other, u32 length);
