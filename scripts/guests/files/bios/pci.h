/* PCI configuration space through ports 0xcf8 and 0xcfc. A device is its bus, slot and
 * function as they stand in 0xcf8: bus << 16 | slot << 11 | function << 8. */
#pragma once
#include "base.h"

#define PCI_NONE 0xffffffff

enum {
	PCI_ID = 0x00,
	PCI_COMMAND = 0x04,
	PCI_HEADER_TYPE = 0x0e,
	PCI_BAR0 = 0x10,
	PCI_SUBORDINATE_BUS = 0x1a,
	PCI_CAPABILITIES = 0x34,
};

u32 pci_read(u32 device, u8 offset, u8 size); /* size: 1, 2 or 4 bytes */
void pci_write(u32 device, u8 offset, u8 size, u32 value);
/* The first device with one of these ids (device << 16 | vendor), on any bus. */
u32 pci_find(const u32 *ids, u32 count);
