#include "ip.h"
#include "console.h"
#include "machine.h"
#include "virtio_net.h"

#define HOST_NAME "biosguest"

/* Numbers in frames are big-endian. */
#define BE16(value) ((u16)((value) << 8 & 0xff00) | ((value) >> 8 & 0xff))

struct ethernet {
	u8 to[6], from[6];
	u16 type;
} PACKED;
#define TYPE_IP BE16(0x0800)
#define TYPE_ARP BE16(0x0806)

struct arp {
	struct ethernet ethernet;
	u16 hardware, protocol;
	u8 hardware_size, protocol_size;
	u16 operation;
	u8 sender_mac[6], sender[4], target_mac[6], target[4];
} PACKED;
enum { ARP_REQUEST = BE16(1), ARP_REPLY = BE16(2) };

struct ip {
	struct ethernet ethernet;
	u8 version, service;
	u16 length, id, fragment;
	u8 ttl, protocol;
	u16 checksum;
	u8 from[4], to[4];
} PACKED;
#define VERSION_4_NO_OPTIONS 0x45
#define FRAGMENT_MASK BE16(0x3fff) /* "more fragments" and the offset */
enum { ICMP = 1, UDP = 17 };

struct icmp {
	struct ip ip;
	u8 type, code;
	u16 checksum;
	u8 data[];
} PACKED;
enum { ECHO_REPLY = 0, ECHO_REQUEST = 8 };

struct udp {
	struct ip ip;
	u16 from, to, length, checksum;
} PACKED;
enum { DHCP_SERVER = BE16(67), DHCP_CLIENT = BE16(68) };

struct dhcp {
	struct udp udp;
	u8 operation, hardware, hardware_size, hops;
	u32 transaction;
	u16 seconds, flags;
	u8 client[4], yours[4], server[4], relay[4], client_mac[16], unused[192];
	u8 magic[4];
	u8 options[64];
} PACKED;
static const u8 dhcp_magic[4] = {0x63, 0x82, 0x53, 0x63};
enum { DISCOVER = 1, OFFER = 2, REQUEST = 3, ACK = 5, NAK = 6 };
enum {
	OPTION_PAD = 0,
	OPTION_MASK = 1,
	OPTION_ROUTER = 3,
	OPTION_DNS = 6,
	OPTION_HOST_NAME = 12,
	OPTION_ADDRESS = 50,
	OPTION_LEASE_TIME = 51,
	OPTION_TYPE = 53,
	OPTION_SERVER = 54,
	OPTION_ASK_FOR = 55,
	OPTION_END = 255,
};

static enum { SELECTING, REQUESTING, BOUND } state;
static u32 transaction, last_asked, renew_after; /* the last two in ticks */
static u8 address[4], netmask[4], router[4], server[4];

/* The ones' complement sum is the same in either byte order, so no swapping. */
static u16 checksum(const void *data, u32 length)
{
	const u8 *bytes = data;
	u32 sum = 0;

	for (; length > 1; length -= 2, bytes += 2)
		sum += bytes[0] | bytes[1] << 8;
	if (length)
		sum += bytes[0];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static void finish_ip(struct ip *ip, u32 frame_length)
{
	ip->length = BE16(frame_length - sizeof(struct ethernet));
	ip->checksum = 0;
	ip->checksum = checksum(&ip->version, sizeof(*ip) - sizeof(struct ethernet));
	nic_send((u8 *)ip, frame_length);
}

static u8 *put_option(u8 *option, u8 code, const void *data, u8 length)
{
	option[0] = code;
	option[1] = length;
	memcpy(option + 2, data, length);
	return option + 2 + length;
}

static void dhcp_ask(u8 type)
{
	static const u8 ask_for[] = {OPTION_MASK, OPTION_ROUTER, OPTION_DNS, OPTION_LEASE_TIME};
	struct dhcp *dhcp = (struct dhcp *)nic_buffer();
	struct udp *udp = &dhcp->udp;
	u8 *option = dhcp->options;

	memset(dhcp, 0, sizeof(*dhcp));
	option = put_option(option, OPTION_TYPE, &type, 1);
	if (type == REQUEST) {
		option = put_option(option, OPTION_ADDRESS, address, sizeof(address));
		option = put_option(option, OPTION_SERVER, server, sizeof(server));
	}
	option = put_option(option, OPTION_ASK_FOR, ask_for, sizeof(ask_for));
	option = put_option(option, OPTION_HOST_NAME, HOST_NAME, sizeof(HOST_NAME) - 1);
	*option = OPTION_END;

	memcpy(dhcp->magic, dhcp_magic, sizeof(dhcp_magic));
	dhcp->operation = dhcp->hardware = 1;
	dhcp->hardware_size = 6;
	dhcp->transaction = transaction;
	dhcp->flags = BE16(0x8000); /* answer by broadcast: we have no address yet */
	memcpy(dhcp->client_mac, nic_mac(), 6);
	udp->from = DHCP_CLIENT;
	udp->to = DHCP_SERVER;
	udp->length = BE16(sizeof(*dhcp) - sizeof(struct ip)); /* no checksum: IPv4 allows that */
	udp->ip.version = VERSION_4_NO_OPTIONS;
	udp->ip.ttl = 64;
	udp->ip.protocol = UDP;
	memset(udp->ip.to, 0xff, 4);
	udp->ip.ethernet.type = TYPE_IP;
	memset(udp->ip.ethernet.to, 0xff, 6);
	memcpy(udp->ip.ethernet.from, nic_mac(), 6);
	last_asked = ticks();
	finish_ip(&udp->ip, sizeof(*dhcp));
}

static void set_renewal(const u8 *lease_time)
{
	u32 seconds = lease_time[0] << 24 | lease_time[1] << 16 | lease_time[2] << 8 | lease_time[3];

	if (seconds > 86400) /* "for ever" would overflow below */
		seconds = 86400;
	renew_after = seconds / 2 * TICKS_PER_SECOND;
}

/* Keeps what the options say, returns the type of the message. */
static u8 read_options(const u8 *option, const u8 *end)
{
	u8 type = 0;

	while (option + 2 <= end && *option != OPTION_END) {
		if (*option == OPTION_PAD) {
			option++;
			continue;
		}
		if (option + 2 + option[1] > end)
			break;
		if (*option == OPTION_TYPE)
			type = option[2];
		else if (*option == OPTION_MASK)
			memcpy(netmask, option + 2, 4);
		else if (*option == OPTION_ROUTER)
			memcpy(router, option + 2, 4);
		else if (*option == OPTION_SERVER)
			memcpy(server, option + 2, 4);
		else if (*option == OPTION_LEASE_TIME)
			set_renewal(option + 2);
		option += 2 + option[1];
	}
	return type;
}

static void print_lease(void)
{
	print("GUEST-IP ");
	print_address(address);
	print(" mask=");
	print_address(netmask);
	print(" gw=");
	print_address(router);
	print(" server=");
	print_address(server);
	print("\n");
}

static void receive_dhcp(const struct dhcp *dhcp, u32 length)
{
	u8 type;

	if (length <= sizeof(*dhcp) - sizeof(dhcp->options) || dhcp->transaction != transaction)
		return;
	type = read_options(dhcp->options, (const u8 *)dhcp + length);
	if (type == OFFER && state == SELECTING) {
		memcpy(address, dhcp->yours, sizeof(address));
		state = REQUESTING;
		dhcp_ask(REQUEST);
	} else if (type == ACK && state == REQUESTING) {
		state = BOUND;
		print_lease();
	} else if (type == NAK) {
		state = SELECTING;
	}
}

static void receive_arp(struct arp *arp, u32 length)
{
	if (length < sizeof(*arp) || arp->operation != ARP_REQUEST || memcmp(arp->target, address, 4))
		return;
	arp->operation = ARP_REPLY;
	memcpy(arp->target_mac, arp->sender_mac, 6);
	memcpy(arp->target, arp->sender, 4);
	memcpy(arp->sender_mac, nic_mac(), 6);
	memcpy(arp->sender, address, 4);
	memcpy(arp->ethernet.to, arp->ethernet.from, 6);
	memcpy(arp->ethernet.from, nic_mac(), 6);
	nic_send((u8 *)arp, sizeof(*arp));
}

/* The same packet back to where it came from. */
static void send_back(struct ip *ip, u32 length)
{
	memcpy(ip->ethernet.to, ip->ethernet.from, 6);
	memcpy(ip->ethernet.from, nic_mac(), 6);
	memcpy(ip->to, ip->from, 4);
	memcpy(ip->from, address, 4);
	ip->ttl = 64;
	finish_ip(ip, length);
}

static void receive_ping(struct icmp *icmp, u32 length)
{
	if (length < sizeof(*icmp) || icmp->type != ECHO_REQUEST)
		return;
	icmp->type = ECHO_REPLY;
	icmp->checksum = 0;
	icmp->checksum = checksum(&icmp->type, length - sizeof(struct ip));
	send_back(&icmp->ip, length);
}

static void echo_udp(struct udp *udp, u32 length)
{
	u16 port = udp->to;

	udp->to = udp->from; /* swapped ports and addresses add up to the same checksum */
	udp->from = port;
	send_back(&udp->ip, length);
}

static void receive_ip(struct ip *ip, u32 received)
{
	u32 length = sizeof(struct ethernet) + BE16(ip->length); /* without Ethernet's padding */

	if (received < sizeof(struct udp) || length > received || length < sizeof(*ip))
		return;
	if (ip->version != VERSION_4_NO_OPTIONS || ip->fragment & FRAGMENT_MASK)
		return;
	if (ip->protocol == UDP && ((struct udp *)ip)->to == DHCP_CLIENT)
		receive_dhcp((struct dhcp *)ip, length);
	else if (state != BOUND || memcmp(ip->to, address, 4))
		return;
	else if (ip->protocol == ICMP)
		receive_ping((struct icmp *)ip, length);
	else if (ip->protocol == UDP)
		echo_udp((struct udp *)ip, length);
}

void ip_start(void)
{
	const u8 *mac = nic_mac();

	transaction = mac[2] << 24 | mac[3] << 16 | mac[4] << 8 | mac[5];
	state = SELECTING;
	dhcp_ask(DISCOVER);
}

void ip_poll(void)
{
	struct ethernet *frame;
	u32 length, waited;

	while ((frame = (struct ethernet *)nic_receive(&length))) {
		if (frame->type == TYPE_IP)
			receive_ip((struct ip *)frame, length);
		else if (frame->type == TYPE_ARP && state == BOUND)
			receive_arp((struct arp *)frame, length);
		nic_release();
	}
	waited = ticks() - last_asked;
	if (state == BOUND ? renew_after && waited > renew_after : waited > 2 * TICKS_PER_SECOND) {
		if (state == BOUND) {
			dhcp_ask(REQUEST); /* a later ACK or NAK is read like the first */
		} else {
			state = SELECTING;
			dhcp_ask(DISCOVER);
		}
	}
}

bool ip_ready(void) { return state == BOUND; }

const u8 *ip_address(void) { return address; }

void print_address(const u8 *octets)
{
	print("%u.%u.%u.%u", octets[0], octets[1], octets[2], octets[3]);
}
