#include "disk.h"
#include "console.h"
#include "machine.h"

#define COUNTER_SECTOR 2048 /* 1 MiB: behind any partition table and boot loader */
#define SECTOR_SIZE 512
enum { BIOS_READ = 0x42, BIOS_WRITE = 0x43, BIOS_PARAMETERS = 0x48 };

extern const volatile u8 bios_disk_count;

static u8 sector[SECTOR_SIZE];

static bool counter_sector(u8 drive, u8 function)
{
	static struct {
		u8 size, zero;
		u16 count;
		u32 buffer;
		u64 lba;
	} PACKED packet;
	struct bios_regs regs = {.eax = function << 8, .edx = drive, .esi = (u32)&packet};

	packet.size = sizeof(packet);
	packet.count = 1;
	packet.buffer = (u32)sector;
	packet.lba = COUNTER_SECTOR;
	return !bios_call(0x13, &regs);
}

static u32 counter(void)
{
	u32 value = 0;

	for (int i = 0; i < 4; i++)
		if (sector[i] >= '0' && sector[i] <= '9')
			value = value * 10 + sector[i] - '0';
	return value;
}

static void set_counter(u32 value)
{
	for (int i = 3; i >= 0; i--, value /= 10)
		sector[i] = '0' + value % 10;
}

static void print_size(u8 drive)
{
	static struct {
		u16 size, flags;
		u32 cylinders, heads, sectors_per_track;
		u64 sectors;
		u16 sector_size;
	} PACKED parameters;
	struct bios_regs regs = {.eax = BIOS_PARAMETERS << 8, .edx = drive, .esi = (u32)&parameters};

	parameters.size = sizeof(parameters);
	bios_call(0x13, &regs);
	print("GUEST-DISK %02x mb=%u", drive, (u32)(parameters.sectors >> 11));
}

static void check_disk(u8 drive)
{
	u32 count;

	print_size(drive);
	if (!counter_sector(drive, BIOS_READ)) {
		print(" unreadable\n");
		return;
	}
	count = (counter() + 1) % 10000;
	set_counter(count);
	if (!counter_sector(drive, BIOS_WRITE)) {
		print(" ro count=%u\n", count - 1);
		return;
	}
	memset(sector, 0, sizeof(sector)); /* so that what is compared was read */
	counter_sector(drive, BIOS_READ);
	print(" rw=%s count=%u\n", counter() == count ? "ok" : "BAD", counter());
}

void check_disks(void)
{
	for (u32 i = 0; i < bios_disk_count; i++)
		check_disk(0x80 + i);
}
