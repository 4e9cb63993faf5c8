/* Virtio has two faces, and QEMU shows one or both.
 *
 * The legacy face is a block of I/O ports: easy from real mode. The modern one is a set of
 * structures in memory BARs, far above the megabyte that real mode reaches. But a modern device
 * also has the capability VIRTIO_PCI_CAP_PCI_CFG, a window in its configuration space: write
 * which BAR, offset and size are meant, then read or write the data register. Slow, and all that
 * is needed here, because frames and queues are in our own memory and only set-up and "look at
 * your queue" go through the window.
 *
 * The numbers are from the Virtual I/O Device specification 1.1, chapters 2.6, 4.1 and 5.1.
 */
#include "virtio_net.h"
#include "console.h"
#include "machine.h"
#include "memory.h"
#include "pci.h"

#define TRANSITIONAL_NET 0x10001af4 /* what QEMU's virtio-net-pci is by default on pc */
#define MODERN_NET 0x10411af4       /* with disable-legacy=on, and behind a pcie-root-port */
#define ENABLE_IO_MEMORY_DMA 0x0007

enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8 };
#define FEATURE_MAC (1 << 5)
#define FEATURE_VERSION_1 (1 << 0) /* of the second 32 bits */

enum { RX, TX, QUEUES };
#define RX_COUNT 8
#define BUFFER_SIZE 2048
#define MINIMUM_FRAME 60

struct descriptor {
	u64 address;
	u32 length;
	u16 flags, next;
};
#define DEVICE_WRITES 2

struct available {
	u16 flags, index, ring[];
};

struct used {
	u16 flags, index;
	struct {
		u32 id, length;
	} ring[];
};

static struct queue {
	struct descriptor *descriptors;
	volatile struct available *available;
	volatile struct used *used;
	u16 size, seen;
} queues[QUEUES];

static u32 device;
static u8 mac[6];
static u32 header_size; /* of the virtio_net_hdr before each frame */

/* The legacy face: I/O ports relative to BAR 0. */
enum {
	LEGACY_FEATURES = 4,
	LEGACY_QUEUE_PAGE = 8,
	LEGACY_QUEUE_SIZE = 12,
	LEGACY_QUEUE_SELECT = 14,
	LEGACY_NOTIFY = 16,
	LEGACY_STATUS = 18,
	LEGACY_MAC = 20,
};
static u16 legacy_ports; /* 0: the modern face is used */

/* The modern face: where the capabilities say its structures are. */
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_DEVICE = 4, CAP_WINDOW = 5 };
enum {
	COMMON_DRIVER_FEATURE_SELECT = 8,
	COMMON_DRIVER_FEATURE = 12,
	COMMON_STATUS = 20,
	COMMON_QUEUE_SELECT = 22,
	COMMON_QUEUE_SIZE = 24,
	COMMON_QUEUE_ENABLE = 28,
	COMMON_QUEUE_NOTIFY_OFFSET = 30,
	COMMON_QUEUE_DESCRIPTORS = 32,
	COMMON_QUEUE_DRIVER = 40,
	COMMON_QUEUE_DEVICE = 48,
};
static struct structure {
	u8 bar;
	u32 offset;
} common, notify, config;
static u8 window; /* offset of the window capability in configuration space */
static u32 notify_multiplier;
static u16 notify_offset[QUEUES];

static void aim_window(const struct structure *structure, u32 offset, u8 size)
{
	pci_write(device, window + 4, 1, structure->bar);
	pci_write(device, window + 8, 4, structure->offset + offset);
	pci_write(device, window + 12, 4, size);
}

static u32 modern_read(const struct structure *structure, u32 offset, u8 size)
{
	aim_window(structure, offset, size);
	return pci_read(device, window + 16, size);
}

static void modern_write(const struct structure *structure, u32 offset, u8 size, u32 value)
{
	aim_window(structure, offset, size);
	pci_write(device, window + 16, size, value);
}

static void modern_address(u32 offset, const volatile void *memory)
{
	modern_write(&common, offset, 4, (u32)memory);
	modern_write(&common, offset + 4, 4, 0);
}

static void kick(int queue)
{
	memory_barrier();
	if (legacy_ports)
		outw(legacy_ports + LEGACY_NOTIFY, queue);
	else
		modern_write(&notify, notify_offset[queue] * notify_multiplier, 2, queue);
}

/* The layout that a legacy device takes for granted: the used ring starts on a new page. A modern
 * device is told the addresses, so it gets the same. Returns where the next queue can start. */
static u32 place_queue(int index, u32 memory, u16 size)
{
	struct queue *queue = &queues[index];
	u32 available = memory + size * sizeof(struct descriptor);
	u32 used = (available + sizeof(struct available) + (size + 1) * sizeof(u16) + 4095) & ~4095u;
	u32 end = (used + sizeof(struct used) + size * 8 + 2 + 4095) & ~4095u;

	memset((void *)memory, 0, end - memory);
	queue->size = size;
	queue->seen = 0;
	queue->descriptors = (struct descriptor *)memory;
	queue->available = (volatile struct available *)available;
	queue->used = (volatile struct used *)used;
	return end;
}

static bool open_legacy(void)
{
	u32 memory = VIRTQUEUES;

	legacy_ports = pci_read(device, PCI_BAR0, 4) & ~3u;
	header_size = 10;
	outb(legacy_ports + LEGACY_STATUS, 0);
	outb(legacy_ports + LEGACY_STATUS, ACKNOWLEDGE);
	outb(legacy_ports + LEGACY_STATUS, ACKNOWLEDGE | DRIVER);
	outl(legacy_ports + LEGACY_FEATURES, FEATURE_MAC);
	for (int i = 0; i < QUEUES; i++) {
		u16 size;

		outw(legacy_ports + LEGACY_QUEUE_SELECT, i);
		size = inw(legacy_ports + LEGACY_QUEUE_SIZE);
		if (!size || size > 256) /* rx_queue_size=1024 does not fit here */
			return 0;
		outl(legacy_ports + LEGACY_QUEUE_PAGE, memory >> 12);
		memory = place_queue(i, memory, size);
	}
	for (u32 i = 0; i < sizeof(mac); i++)
		mac[i] = inb(legacy_ports + LEGACY_MAC + i);
	outb(legacy_ports + LEGACY_STATUS, ACKNOWLEDGE | DRIVER | DRIVER_OK);
	return 1;
}

static bool find_structures(void)
{
	u8 capability = pci_read(device, PCI_CAPABILITIES, 1);

	for (; capability; capability = pci_read(device, capability + 1, 1)) {
		struct structure here = {
			.bar = pci_read(device, capability + 4, 1),
			.offset = pci_read(device, capability + 8, 4),
		};

		if (pci_read(device, capability, 1) != 0x09) /* vendor specific: virtio's own */
			continue;
		switch (pci_read(device, capability + 3, 1)) {
		case CAP_COMMON:
			common = here;
			break;
		case CAP_NOTIFY:
			notify = here;
			notify_multiplier = pci_read(device, capability + 16, 4);
			break;
		case CAP_DEVICE:
			config = here;
			break;
		case CAP_WINDOW:
			window = capability;
			break;
		}
	}
	return window != 0;
}

static void set_feature(u32 half, u32 bits)
{
	modern_write(&common, COMMON_DRIVER_FEATURE_SELECT, 4, half);
	modern_write(&common, COMMON_DRIVER_FEATURE, 4, bits);
}

static u32 open_modern_queue(int index, u32 memory)
{
	struct queue *queue = &queues[index];

	modern_write(&common, COMMON_QUEUE_SELECT, 2, index);
	modern_write(&common, COMMON_QUEUE_SIZE, 2, 2 * RX_COUNT);
	memory = place_queue(index, memory, 2 * RX_COUNT);
	modern_address(COMMON_QUEUE_DESCRIPTORS, queue->descriptors);
	modern_address(COMMON_QUEUE_DRIVER, queue->available);
	modern_address(COMMON_QUEUE_DEVICE, queue->used);
	notify_offset[index] = modern_read(&common, COMMON_QUEUE_NOTIFY_OFFSET, 2);
	modern_write(&common, COMMON_QUEUE_ENABLE, 2, 1);
	return memory;
}

static bool open_modern(void)
{
	u32 memory = VIRTQUEUES;

	if (!find_structures())
		return 0;
	header_size = 12;
	modern_write(&common, COMMON_STATUS, 1, 0);
	modern_write(&common, COMMON_STATUS, 1, ACKNOWLEDGE);
	modern_write(&common, COMMON_STATUS, 1, ACKNOWLEDGE | DRIVER);
	set_feature(0, FEATURE_MAC);
	set_feature(1, FEATURE_VERSION_1);
	modern_write(&common, COMMON_STATUS, 1, ACKNOWLEDGE | DRIVER | FEATURES_OK);
	if (!(modern_read(&common, COMMON_STATUS, 1) & FEATURES_OK))
		return 0;
	for (int i = 0; i < QUEUES; i++)
		memory = open_modern_queue(i, memory);
	for (u32 i = 0; i < sizeof(mac); i++)
		mac[i] = modern_read(&config, i, 1);
	modern_write(&common, COMMON_STATUS, 1, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
	return 1;
}

static void make_available(int index, u16 id)
{
	struct queue *queue = &queues[index];

	queue->available->ring[queue->available->index % queue->size] = id;
	memory_barrier();
	queue->available->index++;
}

bool nic_open(void)
{
	static const u32 ids[] = {TRANSITIONAL_NET, MODERN_NET};
	bool legacy;

	device = pci_find(ids, ARRAY_SIZE(ids));
	if (device == PCI_NONE)
		return 0;
	pci_write(device, PCI_COMMAND, 2, ENABLE_IO_MEMORY_DMA);
	/* A transitional card behind a root port has no ports of its own: use its modern face. */
	legacy = pci_read(device, PCI_ID, 4) == TRANSITIONAL_NET && pci_read(device, PCI_BAR0, 4) & 1;
	if (!(legacy ? open_legacy() : open_modern()))
		return 0;
	for (int i = 0; i < RX_COUNT; i++) {
		struct descriptor *descriptor = &queues[RX].descriptors[i];

		descriptor->address = RX_BUFFERS + i * BUFFER_SIZE;
		descriptor->length = BUFFER_SIZE;
		descriptor->flags = DEVICE_WRITES;
		make_available(RX, i);
	}
	/* We look ourselves: the device need not interrupt. */
	queues[RX].available->flags = queues[TX].available->flags = 1;
	kick(RX);
	print("GUEST-NIC mac=%02x:%02x:%02x:%02x:%02x:%02x %s\n", mac[0], mac[1], mac[2], mac[3],
	      mac[4], mac[5], legacy ? "legacy" : "modern");
	return 1;
}

const u8 *nic_mac(void) { return mac; }

u8 *nic_buffer(void) { return (u8 *)TX_BUFFER + header_size; }

void nic_send(u8 *frame, u32 length)
{
	struct queue *queue = &queues[TX];
	u8 *start = frame - header_size;
	u32 begin = ticks();

	if (length < MINIMUM_FRAME) {
		memset(frame + length, 0, MINIMUM_FRAME - length);
		length = MINIMUM_FRAME;
	}
	memset(start, 0, header_size);
	queue->descriptors[0] = (struct descriptor){(u32)start, header_size + length, 0, 0};
	make_available(TX, 0);
	kick(TX);
	while (queue->used->index != queue->available->index && ticks() - begin < TICKS_PER_SECOND)
		memory_barrier();
}

u8 *nic_receive(u32 *length)
{
	struct queue *queue = &queues[RX];
	u16 slot = queue->seen % queue->size;

	if (queue->seen == queue->used->index)
		return 0;
	*length = queue->used->ring[slot].length - header_size;
	return (u8 *)RX_BUFFERS + queue->used->ring[slot].id * BUFFER_SIZE + header_size;
}

void nic_release(void)
{
	struct queue *queue = &queues[RX];

	make_available(RX, queue->used->ring[queue->seen++ % queue->size].id);
	kick(RX);
}
