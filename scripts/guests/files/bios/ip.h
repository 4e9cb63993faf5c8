/* As much of the Internet as a test needs: DHCP, ARP, ping, and UDP echo on every port. */
#pragma once
#include "base.h"

void ip_start(void);
void ip_poll(void); /* answers what came in, asks DHCP again when it is time */
bool ip_ready(void);
void print_address(const u8 *address);
const u8 *ip_address(void);
