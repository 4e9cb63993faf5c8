/* A guest that never leaves real mode, so that it runs wherever SeaBIOS does: under TCG, under
 * KVM, and under a KVM whose emulator is too small for a stock kernel. On the serial line:
 *
 *   GUEST-BOOT bios
 *   GUEST-CPU n=2 uuid=11112222-3333-4444-5555-666677778888
 *   GUEST-MEM kb=65023
 *   GUEST-DISK 80 mb=2 rw=ok count=1      one for each disk; "ro", "unreadable"
 *   GUEST-NIC mac=52:54:00:77:00:02 modern
 *   GUEST-IP 10.77.0.52 mask=255.255.255.0 gw=10.77.0.1 server=10.77.0.1
 *   GUEST-UP bios                         everything above is done
 *   GUEST-POWERDOWN                       the power button was pressed
 *
 * Keys: q powers off, r resets, d checks the disks again, w starts and stops writing records to all
 * disks, n prints how far it has come, v verifies them (see disk.h), p prints the status, the rest
 * is echoed.
 */
#include "console.h"
#include "disk.h"
#include "ip.h"
#include "machine.h"
#include "virtio_net.h"

static void print_status(void)
{
	print("GUEST-STATUS ");
	print_address(ip_address());
	print(" ticks=%u\n", ticks());
}

static void handle_key(char key)
{
	switch (key) {
	case 'q':
		power_off();
		break;
	case 'r':
		reset();
		break;
	case 'd':
		check_disks();
		break;
	case 'w':
		toggle_writer();
		break;
	case 'n':
		print_writer("at");
		break;
	case 'v':
		verify_disks();
		break;
	case 'p':
		print_status();
		break;
	default:
		put_char(key);
	}
}

static void wait_for_interrupt(void)
{
	/* The timer's 18 times a second are often enough for the network; keys interrupt too. */
	__asm__ volatile("hlt");
}

void guest_main(void)
{
	bool have_nic, up = 0;

	console_open();
	print("GUEST-BOOT bios\n");
	print_cpus();
	print_memory();
	check_disks();
	power_button_enable();
	have_nic = nic_open();
	if (have_nic)
		ip_start();
	for (;;) {
		int key;

		if (have_nic)
			ip_poll();
		if (!up && (!have_nic || ip_ready())) {
			up = 1;
			print("GUEST-UP bios\n");
		}
		if (power_button_pressed()) {
			print("GUEST-POWERDOWN\n");
			power_off();
		}
		while ((key = console_key()) >= 0)
			handle_key(key);
		write_some();
		if (!is_writing())
			wait_for_interrupt();
	}
}
