#include "console.h"

#define COM1 0x3f8
enum { DATA = COM1, INTERRUPTS, FIFO, LINE_CONTROL, MODEM_CONTROL, LINE_STATUS };

#define PIC1_MASK 0x21

void console_open(void)
{
	outb(LINE_CONTROL, 0x80); /* the next two registers are the divisor */
	outb(DATA, 1);
	outb(INTERRUPTS, 0);
	outb(LINE_CONTROL, 0x03);
	/* A key ends the HLT of the main loop at once. SeaBIOS's handler for an interrupt that
	 * nobody claimed does all that is needed: it acknowledges it. */
	outb(INTERRUPTS, 0x01);
	outb(MODEM_CONTROL, 0x0b); /* DTR, RTS, and OUT2: the gate of the interrupt line */
	outb(PIC1_MASK, inb(PIC1_MASK) & ~(1 << 4));
}

int console_key(void)
{
	return inb(LINE_STATUS) & 0x01 ? inb(DATA) : -1;
}

void put_char(char c)
{
	while (!(inb(LINE_STATUS) & 0x20))
		;
	outb(DATA, c);
}

static void put_number(u32 value, u32 base, int width)
{
	char digits[10];
	int n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (n < width)
		digits[n++] = '0';
	while (n)
		put_char(digits[--n]);
}

void print(const char *format, ...)
{
	__builtin_va_list args;

	__builtin_va_start(args, format);
	for (; *format; format++) {
		int width = 0;

		if (*format == '\n')
			put_char('\r');
		if (*format != '%') {
			put_char(*format);
			continue;
		}
		for (format++; *format >= '0' && *format <= '9'; format++)
			width = width * 10 + *format - '0';
		if (*format == 's')
			for (const char *text = __builtin_va_arg(args, const char *); *text; text++)
				put_char(*text);
		else
			put_number(__builtin_va_arg(args, u32), *format == 'x' ? 16 : 10, width);
	}
	__builtin_va_end(args);
}
