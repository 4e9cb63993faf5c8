#include "pci.h"

#define ADDRESS 0xcf8
#define DATA 0xcfc
#define ENABLE 0x80000000u

static u16 pci_port(u32 device, u8 offset)
{
	outl(ADDRESS, ENABLE | device | (offset & 0xfc));
	return DATA + (offset & 3);
}

u32 pci_read(u32 device, u8 offset, u8 size)
{
	u16 port = pci_port(device, offset);

	return size == 1 ? inb(port) : size == 2 ? inw(port) : inl(port);
}

void pci_write(u32 device, u8 offset, u8 size, u32 value)
{
	u16 port = pci_port(device, offset);

	if (size == 1)
		outb(port, value);
	else if (size == 2)
		outw(port, value);
	else
		outl(port, value);
}

/* The BIOS has numbered the buses. One behind a bridge (pcie-root-port) is known by the
 * bridge's header, so buses that do not exist are never asked: 8192 exits saved. */
u32 pci_find(const u32 *ids, u32 count)
{
	u32 last_bus = 0;

	for (u32 device = 0; device >> 16 <= last_bus; device += 1 << 8) {
		u32 id = pci_read(device, PCI_ID, 4);
		u8 header = pci_read(device, PCI_HEADER_TYPE, 1);
		bool first_function = !(device & 0x700);

		for (u32 i = 0; i < count; i++)
			if (id == ids[i])
				return device;
		if (id != PCI_NONE && (header & 0x7f) == 1) {
			u8 bus = pci_read(device, PCI_SUBORDINATE_BUS, 1);

			if (bus > last_bus)
				last_bus = bus;
		}
		if (first_function && (id == PCI_NONE || !(header & 0x80)))
			device += 0x700; /* the slot is empty or has a single function */
	}
	return PCI_NONE;
}
