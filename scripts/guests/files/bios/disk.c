#include "disk.h"
#include "console.h"
#include "machine.h"
#include "memory.h"

#define COUNTER_SECTOR 2048 /* 1 MiB: behind any partition table and boot loader */
#define SECTOR_SIZE 512
enum { BIOS_READ = 0x42, BIOS_WRITE = 0x43, BIOS_PARAMETERS = 0x48 };

extern const volatile u8 bios_disk_count;

static u8 *const sector = (u8 *)DISK_SECTOR;

/* Records are written so far apart that each has a cluster of its own in a qcow2 image, or nearly:
 * copying takes a while then, and every piece of metadata is at stake. */
#define RECORDS_SECTOR 8192 /* 4 MiB */
#define RECORDS 32
#define STRIDE 320 /* sectors, 160 KiB */
#define AT_ONCE 8

static u32 written;
static bool writing;

static bool transfer(u8 drive, u8 function, u32 lba)
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
	packet.lba = lba;
	return !bios_call(0x13, &regs);
}

static bool counter_sector(u8 drive, u8 function)
{
	return transfer(drive, function, COUNTER_SECTOR);
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
	memset(sector, 0, SECTOR_SIZE); /* so that what is compared was read */
	counter_sector(drive, BIOS_READ);
	print(" rw=%s count=%u\n", counter() == count ? "ok" : "BAD", counter());
}

void check_disks(void)
{
	for (u32 i = 0; i < bios_disk_count; i++)
		check_disk(0x80 + i);
}

static u32 place_of(u32 number)
{
	return RECORDS_SECTOR + number % RECORDS * STRIDE;
}

static u32 word_of(u32 number, u32 index)
{
	return index == 0 ? number : index == 1 ? ~number : number * 2654435761u + index;
}

static void make_record(u32 number)
{
	for (u32 i = 0; i < SECTOR_SIZE / 4; i++)
		((u32 *)sector)[i] = word_of(number, i);
}

/* The number of the record that was read last, or 0 if it is none. */
static u32 record(void)
{
	u32 number = *(u32 *)sector;

	for (u32 i = 0; i < SECTOR_SIZE / 4; i++)
		if (((u32 *)sector)[i] != word_of(number, i))
			return 0;
	return number;
}

static u32 read_record(u8 drive, u32 place)
{
	memset(sector, 0xee, SECTOR_SIZE);
	return transfer(drive, BIOS_READ, place) ? record() : 0;
}

static u32 newest(u8 drive)
{
	u32 most = 0;

	for (u32 i = 0; i < RECORDS; i++) {
		u32 number = read_record(drive, place_of(i));

		if (number > most)
			most = number;
	}
	return most;
}

void print_writer(const char *what)
{
	print("GUEST-WRITER %s n=%u\n", what, written);
}

void toggle_writer(void)
{
	if (!writing)
		for (u32 i = 0; i < bios_disk_count; i++) {
			u32 most = newest(0x80 + i);

			if (most > written)
				written = most;
		}
	writing = !writing;
	print_writer(writing ? "on" : "off");
}

bool is_writing(void)
{
	return writing;
}

static bool write_next(void)
{
	for (u32 i = 0; i < bios_disk_count; i++) {
		make_record(written + 1);
		if (!transfer(0x80 + i, BIOS_WRITE, place_of(written + 1)))
			return 0;
	}
	written++;
	return 1;
}

void write_some(void)
{
	for (u32 i = 0; writing && i < AT_ONCE; i++)
		if (!write_next()) {
			writing = 0;
			print_writer("failed");
		}
}

static void verify_disk(u8 drive)
{
	u32 most = newest(drive), bad = 0;

	for (u32 number = most > RECORDS ? most - RECORDS + 1 : 1; number <= most; number++)
		bad += read_record(drive, place_of(number)) != number;
	print("GUEST-VERIFY %02x n=%u bad=%u\n", drive, most, bad);
}

void verify_disks(void)
{
	for (u32 i = 0; i < bios_disk_count; i++)
		verify_disk(0x80 + i);
}
