#include "machine.h"
#include "console.h"

#define FW_CFG_SELECTOR 0x510
#define FW_CFG_DATA 0x511
enum { FW_CFG_UUID = 2, FW_CFG_NB_CPUS = 5 };

/* SeaBIOS puts the ACPI power management block of pc and q35 at 0x600. */
#define PM1_STATUS 0x600
#define PM1_ENABLE 0x602
#define PM1_CONTROL 0x604
#define POWER_BUTTON 0x0100
#define SLEEP_ENABLE 0x2000 /* with sleep type 0, which is S5 in QEMU's DSDT */

#define RESET_CONTROL 0xcf9

extern const volatile u32 bios_ticks; /* kept by the BIOS's timer interrupt */

u32 ticks(void)
{
	return bios_ticks;
}

void print_cpus(void)
{
	u32 cpus;

	outw(FW_CFG_SELECTOR, FW_CFG_NB_CPUS);
	cpus = inb(FW_CFG_DATA);
	cpus |= inb(FW_CFG_DATA) << 8;
	print("GUEST-CPU n=%u uuid=", cpus);
	outw(FW_CFG_SELECTOR, FW_CFG_UUID);
	for (int i = 0; i < 16; i++)
		print(i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", inb(FW_CFG_DATA));
	print("\n");
}

void print_memory(void)
{
	static struct {
		u64 base, length;
		u32 type;
	} PACKED range;
	struct bios_regs regs = {.ebx = 0};
	u32 kib = 0;

	do { /* E820: one range per call; the BIOS counts in %ebx, which is 0 after the last */
		regs.eax = 0xe820;
		regs.edx = 0x534d4150; /* "SMAP" */
		regs.ecx = sizeof(range);
		regs.edi = (u32)&range;
		if (bios_call(0x15, &regs))
			break;
		if (range.type == 1)
			kib += (u32)(range.length >> 10);
	} while (regs.ebx);
	print("GUEST-MEM kb=%u\n", kib);
}

void power_button_enable(void) { outw(PM1_ENABLE, POWER_BUTTON); }

bool power_button_pressed(void)
{
	if (!(inw(PM1_STATUS) & POWER_BUTTON))
		return 0;
	outw(PM1_STATUS, POWER_BUTTON); /* writing a one clears it */
	return 1;
}

void power_off(void) { outw(PM1_CONTROL, SLEEP_ENABLE); }

void reset(void) { outb(RESET_CONTROL, 0x06); }

void *memset(void *to, int byte, u32 length)
{
	for (u8 *out = to; length--;)
		*out++ = byte;
	return to;
}

void *memcpy(void *to, const void *from, u32 length)
{
	const u8 *in = from;

	for (u8 *out = to; length--;)
		*out++ = *in++;
	return to;
}

int memcmp(const void *one, const void *other, u32 length)
{
	const u8 *a = one, *b = other;

	for (; length; length--, a++, b++)
		if (*a != *b)
			return *a - *b;
	return 0;
}
