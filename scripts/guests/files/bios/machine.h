/* The BIOS, QEMU's fw_cfg, and the ACPI registers of QEMU's pc and q35 machines. */
#pragma once
#include "base.h"

struct bios_regs {
	u32 eax, ebx, ecx, edx, esi, edi;
};
bool bios_call(int number, struct bios_regs *regs); /* true: the BIOS reports an error */

#define TICKS_PER_SECOND 18
u32 ticks(void); /* 18.2 in a second */

void print_cpus(void);
void print_memory(void);

void power_button_enable(void);
bool power_button_pressed(void);
void power_off(void);
void reset(void);
